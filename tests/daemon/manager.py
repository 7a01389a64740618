"""As much of systemd as a service sees of it: the notify socket, the watchdog, a socket that is opened for it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.daemon.instance import DEADLINE, Instance

# sd_listen_fds(3): LISTEN_PID is the process that is executed, and its sockets begin at 3. Like systemd, the process is
# made, told its own number, and only then becomes the daemon.
_EXEC = (
    "import os, sys; given = int(sys.argv[1]);"
    "[os.dup2(given, 3), os.close(given)] if given != 3 else None;"
    "os.set_inheritable(3, True);"
    "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='dlqueue.socket');"
    "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
)


class Manager:
    """Runs one daemon as a service of ``Type=notify``.

    :param watchdog: seconds, as in ``WatchdogSec``; ``None`` = it is not watched.
    :param activated: make the daemon's socket, and hand it over at each start.
    """

    def __init__(self, daemon: Instance, *, watchdog: float | None = None, activated: bool = False) -> None:
        self.daemon = daemon
        self.states: list[dict[str, str]] = []
        """Every datagram since the start."""
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = daemon.folder / "notify"
        self._notify.bind(str(path))
        daemon.environ["NOTIFY_SOCKET"] = str(path)
        if watchdog is not None:
            daemon.environ["WATCHDOG_USEC"] = str(round(watchdog * 1_000_000))
        self.listening: socket.socket | None = None
        if activated:
            daemon.socket.parent.mkdir(parents=True)
            self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.listening.bind(str(daemon.socket))
            daemon.socket.chmod(0o600)
            self.listening.listen(64)

    def start(self, failpoint: str | None = None) -> None:
        """Start it; does not wait for anything."""
        arguments = ["-m", "dlqueue", "daemon", "--user", "--config", str(self.daemon.config)]
        pass_fds: tuple[int, ...] = ()
        if self.listening is not None:
            pass_fds = (self.listening.fileno(),)
            arguments = ["-c", _EXEC, str(self.listening.fileno()), *arguments]
        environ = self.daemon.environ | ({"DLQUEUE_FAILPOINT": failpoint} if failpoint else {})
        self.states = []
        with self.daemon.log.open("ab") as log:
            self.daemon.process = subprocess.Popen(
                [sys.executable, *arguments],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.daemon.folder,
                pass_fds=pass_fds,
            )

    def receive(self, seconds: float = DEADLINE) -> dict[str, str]:
        """The next datagram. :raises TimeoutError: none came."""
        self._notify.settimeout(seconds)
        lines = self._notify.recv(65536).decode().split("\n")
        state = dict(line.split("=", 1) for line in lines)
        self.states.append(state)
        return state

    def heard(self, condition: Callable[[dict[str, str]], bool], what: str) -> dict[str, str]:
        """The next datagram of this kind; others in between are in `states`."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            try:
                state = self.receive(end - time.monotonic())
            except TimeoutError:
                break
            if condition(state):
                return state
        raise AssertionError(f"not heard within {DEADLINE:g} s: {what}; but {self.states}\n{self.log()}")

    def ready(self) -> dict[str, str]:
        return self.heard(lambda state: state.get("READY") == "1", "READY=1")

    def fed(self) -> None:
        self.heard(lambda state: state.get("WATCHDOG") == "1", "WATCHDOG=1")

    def log(self) -> str:
        return self.daemon.log.read_text() if self.daemon.log.exists() else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.daemon.__exit__(kind, error, trace)
        for opened in (self._notify, self.listening):
            if opened is not None:
                opened.close()


def is_alive(process: int) -> bool:
    """Is there a process of this number?"""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
