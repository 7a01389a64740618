"""An aria2c of our own: started when it is first needed, looked after, ended with us.

There is one at a time: it holds a lock on its session that it inherits from us, and whoever comes after a crash of
this process waits until that one has noticed and ended. Its secret and port are new at every start.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from logging import Logger, LoggerAdapter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlqueue.sdk import AuthFailed, Unavailable
from dlqueue_aria2.config import find_command

if TYPE_CHECKING:
    from dlqueue_aria2.rpc import Rpc

ATTEMPTS = 5
"""Ports that are tried: another program may take one between our looking and aria2c's."""
START_TIMEOUT = 10.0
LOCK_TIMEOUT = 20.0
BACKOFF_FIRST, BACKOFF_MAX = 1.0, 60.0
STEADY = 30.0
"""Seconds after which an aria2c that ends is not taken for one that cannot run."""
MAX_OUTPUT = 256 * 1024

_SETTINGS = """\
enable-rpc=true
rpc-listen-all=false
rpc-allow-origin-all=false
rpc-max-request-size=16M
save-session-interval=1
auto-save-interval=1
force-save=false
max-concurrent-downloads=10000
max-download-result=10000
bt-detach-seed-only=true
no-netrc=true
file-allocation=none
disk-cache=16M
show-console-readout=false
summary-interval=0
download-result=hide
console-log-level=error
enable-color=false
"""


class Managed:
    """
    :param command: the aria2c to run; ``None`` = look for one at every start.
    :param folder: private; session, lock and settings are in it.
    :param deadline: seconds left for the call of the present thread.
    """

    def __init__(
        self,
        command: Path | None,
        folder: Path,
        logger: Logger | LoggerAdapter[Any],
        deadline: Callable[[], float],
        *,
        dht: bool = True,
    ) -> None:
        self._command = command
        self._folder = folder
        self._logger = logger
        self._deadline = deadline
        self._dht = dht
        self._lock = threading.Lock()
        self._started = threading.Condition()
        self._closed = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._rpc: Rpc | None = None
        self._began = 0.0
        self._failures = 0
        self._not_before = 0.0

    # -- for the downloader -------------------------------------------------------------------------------------------

    def version(self) -> str:
        """Of the program, without starting a downloader. Raises `Unavailable`."""
        command = self._find()
        try:
            done = subprocess.run(
                [command, "--version"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=min(self._deadline(), START_TIMEOUT),
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise Unavailable(f"{command} cannot be run: {_cause(error)}") from error
        return done.stdout.decode(errors="replace").partition("\n")[0].strip().replace(" version ", " ")

    @property
    def untried(self) -> bool:
        """Nobody has needed it yet."""
        return self._process is None and not self._failures

    @property
    def running(self) -> Rpc | None:
        """The way to it, if it runs."""
        process = self._process
        return self._rpc if process is not None and process.poll() is None else None

    def rpc(self) -> Rpc:
        """The way to it; it is started if it does not run. Raises `Unavailable`."""
        until = time.monotonic() + self._deadline()
        if not self._lock.acquire(timeout=self._deadline()):
            raise Unavailable("aria2c is still being started")
        try:
            running = self.running
            if running is not None:
                self._bound_output()
                return running
            return self._start(until)
        finally:
            self._lock.release()

    def wait_running(self) -> Rpc | None:
        """Block until it runs; ``None`` = it is closed."""
        with self._started:
            while not self._closed.is_set():
                running = self.running
                if running is not None:
                    return running
                self._started.wait()
        return None

    def close(self) -> None:
        """End it: it saves its session, and no process is left."""
        self._closed.set()
        with self._lock:
            self._stop()
        with self._started:
            self._started.notify_all()

    # -- starting -----------------------------------------------------------------------------------------------------

    def _start(self, until: float) -> Rpc:
        if self._closed.is_set():
            raise Unavailable("aria2c has been stopped")
        self._note_end()
        wait = self._not_before - time.monotonic()
        if wait > 0:
            raise Unavailable(f"aria2c ended and is started again in {wait:.0f} s: {self._last_words()}")
        command = self._find()
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = self._take_lock(until)
            try:
                rpc = self._try_ports(command, lock, until)
            finally:
                os.close(lock)  # aria2c has its own hold on it
        except Unavailable:
            self._fail()
            raise
        except OSError as error:
            self._fail()
            raise Unavailable(f"aria2c cannot be started: {_cause(error)}") from error
        with self._started:
            self._rpc = rpc
            self._started.notify_all()
        self._logger.info("started aria2c as process %s", self._process.pid if self._process else None)
        return rpc

    def _try_ports(self, command: Path, lock: int, until: float) -> Rpc:
        from dlqueue_aria2.rpc import Rpc

        for _ in range(ATTEMPTS):
            port, secret = _free_port(), secrets.token_urlsafe(32)
            settings = self._write_settings(port, secret)
            output = os.open(self._folder / "aria2.out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
            try:
                # A session of its own, so that Ctrl-C in our terminal does not reach it.
                process = subprocess.Popen(
                    [command, f"--conf-path={settings}", f"--stop-with-process={os.getpid()}"],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=self._folder,
                    pass_fds=(lock,),
                    start_new_session=True,
                )
            finally:
                os.close(output)
            self._process, self._began = process, time.monotonic()
            rpc = Rpc(f"http://127.0.0.1:{port}/jsonrpc", secret, self._deadline)
            if self._answers(rpc, process, until):
                return rpc
            rpc.close()
            if process.poll() is None:
                self._stop()
                raise Unavailable("aria2c does not answer after its start")
        raise Unavailable(f"aria2c does not start: {self._last_words()}")

    def _answers(self, rpc: Rpc, process: subprocess.Popen[bytes], until: float) -> bool:
        until = min(until, time.monotonic() + START_TIMEOUT)
        while time.monotonic() < until and process.poll() is None:
            with contextlib.suppress(Unavailable, AuthFailed):
                rpc.call("getVersion")
                return process.poll() is None
            if self._closed.wait(0.02):
                break
        return False

    def _write_settings(self, port: int, secret: str) -> Path:
        session = self._folder / "session"
        path = self._folder / "aria2.conf"
        own = f"rpc-listen-port={port}\nrpc-secret={secret}\n"
        own += f"save-session={session}\ninput-file={session}\n"
        own += f"dht-file-path={self._folder / 'dht.dat'}\ndht-file-path6={self._folder / 'dht6.dat'}\n"
        if not self._dht:
            own += "enable-dht=false\nenable-dht6=false\n"
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        for name, content in ((path, _SETTINGS + own), (session, None)):
            # A file, because arguments can be read by everybody on the machine.
            file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(file, "w", encoding="utf-8") as opened:
                if content is not None:
                    opened.write(content)
        return path

    def _take_lock(self, until: float) -> int:
        lock = os.open(self._folder / "aria2.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        until = min(until - 1.0, time.monotonic() + LOCK_TIMEOUT)
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock
            except BlockingIOError:
                if time.monotonic() > until or self._closed.wait(0.02):
                    os.close(lock)
                    raise Unavailable("the aria2c of an earlier run has not ended yet") from None

    # -- ending -------------------------------------------------------------------------------------------------------

    def _note_end(self) -> None:
        """It was running and does not any more."""
        process, self._process = self._process, None
        if process is None:
            return
        if self._rpc is not None:
            self._rpc.close()
            self._rpc = None
        self._logger.warning("aria2c ended with status %s: %s", process.poll(), self._last_words())
        if time.monotonic() - self._began < STEADY:
            self._fail()
        else:
            self._failures = 0

    def _fail(self) -> None:
        self._not_before = time.monotonic() + min(BACKOFF_FIRST * 2**self._failures, BACKOFF_MAX)
        self._failures += 1

    def _stop(self) -> None:
        process, self._process = self._process, None
        if self._rpc is not None:
            self._rpc.close()
            self._rpc = None
        if process is None:
            return
        # It looks at its signals once a second. After the second one it does not wait for trackers any more; the
        # session is saved all the same.
        for number, patience in ((signal.SIGTERM, 1.4), (signal.SIGTERM, 1.2), (signal.SIGKILL, 5.0)):
            if process.poll() is not None:
                return
            process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)

    def _find(self) -> Path:
        command = self._command or find_command()
        if command is None:
            raise Unavailable(
                "no aria2c is found: install the package aria2 of your system, or dlqueue[bundled], or set `command`"
            )
        return command

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = (self._folder / "aria2.out").read_bytes()[-2000:].decode(errors="replace").split("\n")
            told = [line.strip() for line in lines if line.strip()]
            if told:
                return told[-1][:200]
        return "it does not say why"

    def _bound_output(self) -> None:
        path = self._folder / "aria2.out"
        with contextlib.suppress(OSError):
            if path.stat().st_size > MAX_OUTPUT:
                os.truncate(path, 0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _cause(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
