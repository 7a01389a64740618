"""From start to stop. Bottom-up: lock, store, downloaders, socket; ready only when the socket answers."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import logging
import os
import resource
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Literal

from dlqueue.config import Config, ConfigError
from dlqueue.daemon import journal, logs, settings
from dlqueue.daemon.extras import MissingExtra
from dlqueue.daemon.reading import Reader, default_mode
from dlqueue.daemon.systemd import Notifier, inherited_sockets
from dlqueue.daemon.watchdog import report
from dlqueue.daemon.wiring import House, build
from dlqueue.downloads.recovery import adopt_transfers, look_again, sweep_uploads, sweep_uses
from dlqueue.queue import Filter, QueueError, Status, StorageError
from dlqueue.transports.socketfile import SocketError
from dlqueue.transports.unix import UnixServer

log = logging.getLogger(__name__)

IDLE_EXIT = 10.0
"""Seconds after its last client and its last unfinished work that a daemon that `get` started ends."""
STOP_GRACE = 5.0
STORE_RETRY = 1.0
SAME_SIGNAL = 1.0
START_LOOK, START_MORE, START_LIMIT = 10.0, 60.0, 3600.0
"""Seconds between two words to the service manager during a long start, for how long each asks, and until the last."""
STOP_LIMIT = 13.0
"""Seconds until a stop is cut short; systemd and users expect the end within 15 s."""

FILES = 16_384
"""Files that may be open at once."""

EXIT_FAILED = 1
EXIT_BUSY = 75
EXIT_CONFIG = 78
"""As in sysexits.h: try again later; configuration error."""

_WORKING = (Status.QUEUED, Status.BLOCKED, Status.PROCESSING, Status.SUSPENDING)


def main(
    *, config: str | None, socket: str | None, mode: Literal["user", "system"] | None, ends_when_idle: bool = False
) -> int:
    """Run the daemon in the foreground; answers the exit code.

    :param ends_when_idle: end some seconds after the last client and the last unfinished work.
    """
    # A service manager that finds us hanging ends us with SIGABRT: then the log shall say where we were.
    faulthandler.enable()
    redaction = logs.configure()
    read = Reader(config, socket, mode or default_mode(), learn=redaction.learn)
    try:
        loaded = read()
    except ConfigError as error:
        for problem in error.problems:
            _say(problem)
        return EXIT_CONFIG
    logs.adapt(loaded.daemon.log, loaded.daemon.log_level)
    _allow_files()
    for warning in loaded.warnings:
        log.warning("%s", warning)
    code = asyncio.run(_Daemon(loaded, read, ends_when_idle).run())
    # Threads of a plug-in that hangs must not hold up the exit: everything that matters is on disk.
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class _Daemon:
    def __init__(self, config: Config, read: Reader, ends_when_idle: bool) -> None:
        self._config = config
        self._read = read
        self._socket = config.places.socket
        self._inherited: socket.socket | None = None
        self._ends_when_idle = ends_when_idle
        self._notifier = Notifier()
        self._stop = asyncio.Event()

    async def run(self) -> int:
        try:
            self._inherit()
        except OSError as error:
            _say(f"the sockets that LISTEN_FDS announces cannot be used: {error.strerror}")
            return EXIT_FAILED
        try:
            self._config.places.state.mkdir(mode=0o700, parents=True, exist_ok=True)
            house = build(self._config, self._read, self._stop.set, self._notifier)
            # Before the socket: two daemons must never share one database, nor the second take the first one's socket.
            house.store.lock()
        except StorageError as error:
            _say(error)
            return EXIT_BUSY
        except MissingExtra as error:
            _say(error)
            return EXIT_CONFIG
        except OSError as error:
            _say(f"{error.filename}: {error.strerror}")
            return EXIT_FAILED
        self._handle_signals(house)
        try:
            return await self._serve(house)
        except (QueueError, SocketError) as error:
            _say(error)
            return EXIT_FAILED

    def _inherit(self) -> None:
        """Take the socket that the service manager has opened for us, if it has."""
        for name, given in inherited_sockets().items():
            listens = given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            if given.family != socket.AF_UNIX or given.type != socket.SOCK_STREAM or not listens or self._inherited:
                log.warning("the inherited socket %s is not used: one Unix stream socket that listens is", name)
                given.close()
                continue
            self._inherited, self._socket = given, Path(os.fsdecode(given.getsockname()))
            if self._socket != self._config.places.socket:
                log.warning("clients will look for the daemon on %s", self._config.places.socket)

    def _handle_signals(self, house: House) -> None:
        loop = asyncio.get_running_loop()

        asked_at: list[float] = []

        def stop() -> None:
            asked_at.append(time.monotonic())
            # Some programs signal a process and then its group: what comes at the same moment is the same wish.
            if asked_at[-1] - asked_at[0] > SAME_SIGNAL:
                log.warning("second signal: stopping at once; what was interrupted goes on at the next start")
                os._exit(0)
            self._stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        loop.add_signal_handler(signal.SIGHUP, house.reloader.hang_up)

    async def _serve(self, house: House) -> int:
        server = UnixServer(
            house.dispatcher,
            self._socket,
            mode=0o660 if self._config.mode == "system" else 0o600,
            group=settings.system_group() if self._config.mode == "system" else None,
            inherited=self._inherited,
        )
        starting = asyncio.create_task(self._ask_for_time(), name="dlqueue-starting")
        try:
            await house.queue.open()
        except BaseException:
            starting.cancel()
            raise
        try:
            await house.endpoints.open()
            await adopt_transfers(house.queue, house.endpoints)
            house.queue.start()
            if house.gateway is not None:
                await house.gateway.start()  # before the socket: who sees that answer may use this one too
            await server.start()
            await self._look_again(house)
            starting.cancel()
            house.postman.start()
            # What the imports have made stays for good: the collector of cycles need not look through it each time.
            gc.freeze()
            log.info("ready: socket %s, node %s", self._socket, house.queue.node)
            self._notifier.ready(self._status(house, server))
            house.reloader.started()
            watching = asyncio.create_task(
                report(self._notifier, house.store.probe, lambda: self._status(house, server)), name="dlqueue-watchdog"
            )
            sweeping = asyncio.create_task(self._sweep(house), name="dlqueue-sweep")
            idle = asyncio.create_task(self._end_when_idle(house, server)) if self._ends_when_idle else None
            await self._stop.wait()
            sweeping.cancel()
            watching.cancel()
            if idle is not None:
                idle.cancel()
        finally:
            starting.cancel()
            self._notifier.stopping("stopping; what is interrupted goes on at the next start")
            log.info("stopping")
            asyncio.get_running_loop().call_later(STOP_LIMIT, _cut_short)
            await house.reloader.stop()
            await asyncio.gather(server.stop(STOP_GRACE), _stop_gateway(house), house.postman.stop())
            await house.queue.shutdown(STOP_GRACE)
            await house.endpoints.close()
        log.info("stopped")
        return 0

    async def _look_again(self, house: House) -> None:
        """A database that is locked, or full, at this moment only is no reason to end: clients are served already."""
        while not self._stop.is_set():
            try:
                return await look_again(house.queue, house.endpoints)
            except StorageError as error:
                log.warning("what came while nobody was there cannot be looked for (%s); trying again", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STORE_RETRY):
                    await self._stop.wait()

    async def _ask_for_time(self) -> None:
        """A database that is migrated, or very large, is no start that hangs; but what takes hours is."""
        for _ in range(round(START_LIMIT / START_LOOK) if self._notifier.active else 0):
            self._notifier.starting("opening the database and the downloaders", START_MORE)
            await asyncio.sleep(START_LOOK)

    def _status(self, house: House, server: UnixServer) -> str:
        doors = house.endpoints
        down = [name for name in doors.names() if name in doors and doors[name].health == "down"]
        return (
            f"{house.queue.counters.busy_workers} of {house.queue.workers} workers busy, clients: {server.connections}"
            + (f"; down: {', '.join(down)}" if down else "")
            + (f"; {house.reloader.refused}" if house.reloader.refused else "")
        )

    async def _sweep(self, house: House) -> None:
        try:
            await sweep_uploads(house.queue, house.downloads.uploads)
            await sweep_uses(house.queue, house.endpoints.uses)
        except (QueueError, OSError) as error:
            log.warning("the uploads cannot be looked through now: %s", error)

    async def _end_when_idle(self, house: House, server: UnixServer) -> None:
        """Looks once a second: cheap, and nobody minds a second."""
        idle_since: float | None = None
        while True:
            await asyncio.sleep(1.0)
            with contextlib.suppress(StorageError):
                clients = server.connections or (house.gateway.connections if house.gateway is not None else 0)
                busy = clients > 0 or await self._has_work(house)
                now = time.monotonic()
                idle_since = None if busy else idle_since or now
                if idle_since is not None and now - idle_since >= IDLE_EXIT:
                    log.info("no client and no unfinished work for %g s", IDLE_EXIT)
                    self._stop.set()

    async def _has_work(self, house: House) -> bool:
        page = await house.queue.find(Filter(status=_WORKING), limit=100)
        unfinished = any(record.delivered_at is None for record in page.items) or page.next_cursor is not None
        return unfinished or await house.queue.schedules.any_due() or not await house.postman.idle(IDLE_EXIT)


def _say(problem: object) -> None:
    """To whoever started us: before the daemon is ready, its standard error is the place."""
    # In the journal it is an error; elsewhere nobody wants to see the priority.
    priority = "<3>" if journal.is_stderr(os.environ.get("JOURNAL_STREAM", "")) else ""
    sys.stderr.write(f"{priority}dlqueue: {problem}\n")


async def _stop_gateway(house: House) -> None:
    if house.gateway is not None:
        await house.gateway.stop(STOP_GRACE)


def _allow_files() -> None:
    """As many open files as a few thousand clients need, where that is allowed: often 1,024 are given."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _cut_short() -> None:
    log.error(
        "stopping took longer than %g s and is cut short; nothing is lost, it goes on at the next start", STOP_LIMIT
    )
    os._exit(0)
