"""One per downloader: asks once for everybody, keeps the newest answer, and wakes whom it concerns.

A downloader that does not answer is *down*: its tasks wait and spend no retries, and it is tried again with growing
pauses. One line is logged when it goes and one when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

from dlqueue.downloads.cadence import next_look
from dlqueue.downloads.calls import Calls
from dlqueue.downloads.hints import listen
from dlqueue.downloads.meters import DownloaderMeters
from dlqueue.downloads.pathmap import PathMap
from dlqueue.downloads.pauses import Pause
from dlqueue.downloads.watch import Sight, Watch
from dlqueue.runtime.clock import Clock, sleep, sleep_until
from dlqueue.runtime.failpoint import reach
from dlqueue.sdk import (
    AuthFailed,
    Context,
    Downloader,
    DownloaderError,
    Handle,
    NotFound,
    Rejected,
    Request,
    TransferState,
    TransferStatus,
    Unavailable,
)

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

CALL_TIMEOUT = 30.0
"""Seconds that one call of a plug-in may take."""
CLOSE_TIMEOUT = 3.0
DOWN_FIRST, DOWN_MAX = 1.0, 60.0
"""Seconds until a downloader that is down is asked again, doubling."""
TOLD_AT_ONCE = 250
"""Tasks that are woken together: about one transaction."""

Health = Literal["up", "degraded", "down", "unknown"]
Turn = Literal["down", "refused", "back"]


class _OwnError(Exception):
    """What failed was ours, around the call, and no defect of the plug-in."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


def _own(function: Callable[[], object]) -> None:
    try:
        function()
    except OSError as error:
        raise _OwnError(error) from error


def _heard(creation: asyncio.Future[Any]) -> None:
    """Whoever wanted it may have been cancelled, and then nobody else hears that it failed."""
    if not creation.cancelled():
        creation.exception()


@dataclass
class Coordinator:
    """
    :param wake: is given a hold (``transfer:KEY``, ``downloader:NAME``) whenever the tasks that hold it should look.
    :param report: is given (task id, owner, status) at every poll, for people who watch.
    :param turned: is told when it stops to answer, refuses our login, or is back.
    """

    name: str
    downloader: Downloader
    poll_interval: float
    clock: Clock
    wake: Callable[[str], Awaitable[object]]
    report: Callable[[int, str, TransferStatus], None]
    watched_live: Callable[[], bool]
    stall: float | None = None
    """Seconds without a byte after which a task looks whether its transfer had better be elsewhere; None = never."""
    failover_after: float | None = None
    """Seconds of being down after which its transfers had better be elsewhere; None = never."""
    paths: PathMap = field(default_factory=PathMap)
    """Its names for what we see: plug-ins speak these, and from here on upwards nobody does."""
    meters: DownloaderMeters = field(default_factory=DownloaderMeters)
    turned: Callable[[Turn], None] = lambda turn: None
    health: Health = "unknown"
    version: str | None = None
    last_error: str | None = None
    down_until: float | None = None
    down_since: float | None = None
    auth_failed: bool = False
    paused: Pause | None = None
    """A person wants nothing new to begin here."""
    opened: bool = False
    turn: Turn | None = "back"
    """What was told of it last; None = whatever it turns out to be is to be told."""
    _watches: dict[str, Watch] = field(default_factory=dict)
    """By creation key: two tasks may watch one transfer that was there before them."""
    _poke: asyncio.Event = field(default_factory=asyncio.Event)
    _busy: dict[str, asyncio.Lock] = field(default_factory=dict)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _failures: int = 0
    _took: float = 0.0
    """Seconds that the last look took."""
    _patience: asyncio.Task[None] | None = None
    _closing: bool = False

    def __post_init__(self) -> None:
        self._calls = Calls(self.name)
        # One thread is left for the others: neither a look nor an end waits behind all that would begin.
        self._creating = asyncio.Semaphore(1)

    # -- life ---------------------------------------------------------------------------------------------------------

    async def open(self, config: object, context: Context) -> None:
        """Open the plug-in and begin to look after it."""
        await self.call(
            self.downloader.open, config, replace(context, deadline=self._calls.deadline, local=self._local_path)
        )
        self.opened = True
        self._tasks.append(asyncio.create_task(self._look(), name=f"dlqueue-look-{self.name}"))
        if type(self.downloader).events is not Downloader.events:
            hints = listen(self.name, self.downloader.events, self._poke.set, self.clock)
            self._tasks.append(asyncio.create_task(hints, name=f"dlqueue-listen-{self.name}"))

    def broken(self, error: Exception) -> None:
        """It could not be opened, and is not asked again."""
        self.health, self.last_error, self.auth_failed = "down", str(error), True
        self.down_since = self.clock.time()
        self._be_patient(self.down_since)
        self._turns("refused" if isinstance(error, AuthFailed) else "down")

    def adapt(self, poll: float, stall: float | None, failover_after: float | None, paths: PathMap) -> None:
        """From now on."""
        self.paths = paths
        same = (stall, failover_after) == (self.stall, self.failover_after)
        self.poll_interval, self.stall, self.failover_after = poll, stall, failover_after
        self._poke.set()
        if not same:
            for watch in self._watches.values():
                watch.told_still = False
            if self.down_since is not None:
                self._be_patient(self.down_since)

    def take_over(self, former: Coordinator) -> None:
        """Go on watching what ``former`` watched: the same downloader, opened anew."""
        for key, watch in former._watches.items():
            self._watches.setdefault(key, replace(watch, looked=False, moved=None, seen_at=None))
        self._poke.set()

    async def dismiss(self) -> None:
        """Nobody looks any more: whoever waits for a transfer here must see that for itself."""
        for key in list(self._watches):
            await self._tell(f"transfer:{key}")
        await self._tell(f"downloader:{self.name}")
        await self._tell(f"paused:{self.name}")

    async def close(self) -> None:
        self._closing = True
        tasks = self._tasks if self._patience is None else [*self._tasks, self._patience]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._creations_through()
        try:
            await self._calls.run(self.downloader.close, CLOSE_TIMEOUT)
        except Exception as error:  # noqa: BLE001 - whatever happens while it closes, we go on closing
            log.warning("downloader %s: did not close well: %s", self.name, error)
        self._calls.close()

    async def _creations_through(self) -> None:
        """What is being created is known to somebody before the plug-in closes."""
        for lock in [lock for lock in self._busy.values() if lock.locked()]:
            async with lock:
                pass

    # -- calls --------------------------------------------------------------------------------------------------------

    async def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a method of the plug-in with a deadline.

        :raises Unavailable: no answer; also noted here. If it refuses our credentials it is not asked again.
        :raises Rejected: it says so; or a defect of the plug-in, which may pass.
        """
        if self.auth_failed:
            raise Unavailable(self.last_error or f"{self.name} refuses our credentials")
        if self._closing:
            raise Unavailable(f"{self.name} is being closed")
        try:
            return await self._calls.run(lambda: function(*args, **kwargs), CALL_TIMEOUT)
        except (Rejected, NotFound):
            raise
        except AuthFailed as error:
            self.auth_failed = True
            self._went_down(error)
            raise Unavailable(str(error)) from error
        except Unavailable as error:
            self._went_down(error)
            raise
        except _OwnError as error:
            raise error.error from None
        except Exception as error:
            log.exception("downloader %s: a defect of its plug-in", self.name)
            raise Rejected(
                f"the plug-in {self.downloader.kind} failed: {type(error).__name__}", kind="plugin"
            ) from error

    async def create(self, request: Request, key: str, prepare: Callable[[], object]) -> tuple[Handle, str | None]:
        """See `Downloader.create`; the second is `Downloader.instance` just before. Not before an earlier call with
        this key has come back, and not given up half-way when the caller is cancelled: a removal that follows must find
        what was created. What has not begun by then never will.

        :param prepare: run before, in the same thread (what blocks is better done in one thread than in two).
        """

        def prepared() -> tuple[Handle, str | None]:
            asked = self.paths.sent(request)
            _own(prepare)
            # Before, not after: if it restarts in between, the transfer rather counts as lost than as removed.
            instance = self.downloader.instance()
            return self.downloader.create(asked, key), instance

        begun = False

        async def alone() -> tuple[Handle, str | None]:
            nonlocal begun
            async with self._busy.setdefault(key, asyncio.Lock()), self._creating:
                self._require_up()  # it may have gone down while this waited
                begun = True
                return await self.call(prepared)

        creation = asyncio.ensure_future(alone())
        creation.add_done_callback(_heard)
        try:
            return await asyncio.shield(creation)
        except asyncio.CancelledError:
            if not begun:
                creation.cancel()
            raise

    async def whole_content(self, request: Request, key: str, total: int | None, restarted: bool) -> tuple[str, ...]:
        """See `Downloader.whole_content`."""

        def look() -> tuple[str, ...]:
            asked = self.paths.sent(request)
            return self.paths.found(self.downloader.whole_content(asked, key, total=total, restarted=restarted))

        return await self.call(look)

    async def remove(self, key: str, handle: Handle, delete_data: bool, finish: Callable[[], object]) -> None:
        """See `Downloader.remove`; afterwards nobody watches it.

        :param finish: run after it, in the same thread.
        """

        def finished() -> None:
            with contextlib.suppress(NotFound):  # gone already is what was wanted
                self.downloader.remove(handle, delete_data)
            reach("removed")
            _own(finish)

        self.unwatch(key)
        async with self._busy.setdefault(key, asyncio.Lock()):
            await self.call(finished)
        self._busy.pop(key, None)

    # -- watching -----------------------------------------------------------------------------------------------------

    def watch(self, task_id: int, owner: str, key: str, handle: Handle, instance: str | None = None) -> None:
        """Tell this task of what matters from now on. What was seen before is forgotten: the transfer has just begun
        (again).

        :param instance: the running downloader that knew it.
        """
        self._watches[key] = Watch(task_id, owner, handle, fresh=not handle.attached, instance=instance)
        self._poke.set()

    async def settled(self, key: str, patience: float) -> bool:
        """Wait a moment for a transfer that has just begun: a small file is whole before it would pay to be woken for
        it. True if its state is another than downloading by then. Not worth it without events."""
        watch = self._watches.get(key)
        if watch is None or type(self.downloader).events is Downloader.events:
            return False
        watch.moved = asyncio.Event()
        timer = self.clock.call_at(self.clock.time() + patience, watch.moved.set)
        try:
            await watch.moved.wait()
        finally:
            timer.cancel()
            watch.moved = None
        return watch.known is not TransferState.DOWNLOADING

    def unwatch(self, key: str) -> None:
        self._watches.pop(key, None)

    async def look(self, task_id: int, owner: str, key: str, handle: Handle, instance: str | None = None) -> Sight:
        """The newest that is known of it. Asks if it has not been asked about it yet.

        :param instance: the running downloader in which the task last saw it.
        :raises Unavailable: it does not answer.
        """
        watch = self._watches.get(key)
        if watch is None or watch.handle != handle:
            self.watch(task_id, owner, key, handle, instance)
            watch = self._watches[key]
            watch.fresh = False
        if not watch.looked:
            self._require_up()
            await self._poll([key], asker=watch)
        return watch.tell()

    async def glance(self, handle: Handle) -> TransferStatus | None:
        """One look, without watching, and its paths in the downloader's own terms; None = it is gone. Raises as
        `call`."""

        def look() -> TransferStatus | None:
            seen = self.downloader.poll([handle]).get(handle)
            self.downloader.instance()  # right after every poll: it belongs to it
            return seen

        return await self.call(look)

    def latest(self, key: str) -> TransferStatus | None:
        """What was seen last, without asking."""
        watch = self._watches.get(key)
        return None if watch is None else watch.latest

    def still(self, key: str) -> float:
        """Seconds for which it ought to have moved and did not."""
        watch = self._watches.get(key)
        return 0.0 if watch is None else watch.still

    @property
    def down(self) -> bool:
        return self.auth_failed or self.down_until is not None or self._closing

    def _require_up(self) -> None:
        """:raises Unavailable: it is down."""
        if self.down:
            raise Unavailable(self.last_error or f"{self.name} is down")

    @property
    def ailment(self) -> str:
        """What is wrong with one that is down, to be said behind its name."""
        what = ("refuses our login" if self.opened else "cannot be used") if self.auth_failed else "does not answer"
        return f"{what}: {self.last_error or 'it is asked now'}"

    @property
    def given_up(self) -> bool:
        """Has it been down for so long that its transfers had better be elsewhere?"""
        return (
            self.down_since is not None
            and self.failover_after is not None
            and self.clock.time() - self.down_since >= self.failover_after
        )

    @property
    def takes_new(self) -> bool:
        """May a transfer be begun here now?"""
        return not self.down and self.paused is None

    def speeds(self) -> tuple[float, float]:
        """Down, up: bytes per second over everything watched."""
        seen = [watch.latest for watch in self._watches.values() if watch.latest is not None]
        return sum(status.download_speed for status in seen), sum(status.upload_speed for status in seen)

    # -- the look-out -------------------------------------------------------------------------------------------------

    def seeding(self) -> list[tuple[int, str]]:
        """Task and owner of the transfers that seed."""
        states = ((watch, watch.latest.state) for watch in self._watches.values() if watch.latest is not None)
        return [(watch.task_id, watch.owner) for watch, state in states if state is TransferState.SEEDING]

    async def _look(self) -> None:
        """Poll while anybody waits; when it is down, ask for its version now and then."""
        while True:
            if self.auth_failed:
                self._poke.clear()
                await self._poke.wait()
                continue
            if self.down_until is not None:
                await sleep(self.clock, self.down_until - self.clock.time())
                await self._probe()
                continue
            if self.version is None:
                await self._probe()
                continue
            self._poke.clear()
            if self._watches:
                try:
                    await self._poll(list(self._watches))
                except Unavailable:
                    continue
                except DownloaderError as error:
                    self.last_error = str(error)
            await self._pause()

    async def _pause(self) -> None:
        wait = next_look(self._watches.values(), self.poll_interval, self.watched_live(), self._took)
        timer = self.clock.call_at(self.clock.time() + wait, self._poke.set) if self._watches else None
        try:
            await self._poke.wait()
        finally:
            if timer is not None:
                timer.cancel()

    async def _probe(self) -> None:
        try:
            await self.ask()
        except DownloaderError as error:
            self._went_down(error)

    async def ask(self) -> str:
        """Ask for its version now; also if it has refused our credentials before, so only because a person wants to
        know. :raises DownloaderError: what is wrong; from `AuthFailed` if it is the credentials."""
        self.auth_failed = False
        version = self.version = await self.call(self.downloader.test)
        back = self.health == "down"
        self.health, self.down_until, self._failures, self.last_error = "up", None, 0, None
        self.down_since = None
        if self._patience is not None:
            self._patience.cancel()
        if back:
            log.info("downloader %s is back", self.name)
        self._turns("back")
        self._poke.set()
        await self._tell(f"downloader:{self.name}")
        return version

    def _went_down(self, error: Exception) -> None:
        if self._closing:
            return  # that is no news about the other side
        if self.health != "down":
            log.warning("downloader %s is down: %s", self.name, error)
            self.meters.openings += 1
            self._failures = 0
            for watch in self._watches.values():
                watch.seen_at, watch.untold = None, True
        if self.down_since is None:
            self.down_since = self.clock.time()
            self._be_patient(self.down_since)
        self.health, self.last_error = "down", str(error)
        if self.down_until is None or self.down_until <= self.clock.time():
            self.down_until = self.clock.time() + min(DOWN_FIRST * 2**self._failures, DOWN_MAX)
            self._failures += 1
        self._turns("refused" if self.auth_failed else "down")
        self._poke.set()

    def _turns(self, turn: Turn) -> None:
        if turn != self.turn:
            self.turn = turn
            self.turned(turn)

    def _be_patient(self, since: float) -> None:
        """Until it has been down for too long; then everybody with a transfer here looks where else it might go."""
        if self._patience is not None:
            self._patience.cancel()
        if self.failover_after is None:
            return
        until = since + self.failover_after

        async def tell() -> None:
            await sleep_until(self.clock, until)
            await self._tell(f"downloader:{self.name}")
            for key in list(self._watches):
                await self._tell(f"transfer:{key}")

        self._patience = asyncio.create_task(tell(), name=f"dlqueue-patience-{self.name}")

    async def _poll(self, keys: list[str], asker: Watch | None = None) -> None:
        asked = {key: watch for key in keys if (watch := self._watches.get(key)) is not None}
        began = time.monotonic()
        try:
            seen, instance, as_of = await self.call(self._seen, list({watch.handle: True for watch in asked.values()}))
        except DownloaderError:
            self.meters.failed_polls += 1
            raise
        self._took = time.monotonic() - began
        self.meters.polls.observe(self._took)
        if not self.down:  # what was asked before it went down tells nothing of now
            self.health, self.last_error = "up", None
        news: list[str] = []
        for key, watch in asked.items():
            if self._watches.get(key) is not watch:
                continue  # begun anew meanwhile: the answer may be about what was before
            if as_of < watch.as_of:
                continue  # two looked at once, and the one that began later was through first
            watch.as_of = as_of
            new = seen.get(watch.handle)
            if watch.note(new, instance, self.clock.time(), self.poll_interval) and new is not None:
                self.meters.saw(key, new, watch.fresh)
                self.report(watch.task_id, watch.owner, new)
            if watch is asker:
                continue
            too_still = self.stall is not None and watch.still >= self.stall and not watch.told_still
            if watch.is_news() or too_still:
                watch.told_still = watch.told_still or too_still
                if watch.moved is not None:
                    watch.moved.set()
                else:
                    news.append(f"transfer:{key}")
        for start in range(0, len(news), TOLD_AT_ONCE):
            await asyncio.gather(*map(self._tell, news[start : start + TOLD_AT_ONCE]))

    def _seen(self, handles: list[Handle]) -> tuple[Mapping[Handle, TransferStatus], str | None, float]:
        as_of = time.monotonic()
        seen, instance = self.downloader.poll(handles), self.downloader.instance()
        return {handle: self.paths.seen(status) for handle, status in seen.items()}, instance, as_of

    def _local_path(self, path: str) -> Path:
        return self.paths.to_local(path)

    async def _tell(self, hold: str) -> None:
        try:
            await self.wake(hold)
        except Exception as error:  # noqa: BLE001 - the tasks look by themselves later; the look-out must go on
            log.warning("could not wake %s: %s", hold, error)
