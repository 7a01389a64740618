"""Telling systemd how the daemon is doing: the `sd_notify` datagrams. Without systemd nothing happens."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping, MutableMapping
from itertools import zip_longest

_log = logging.getLogger(__name__)

_FIRST_FD = 3  # SD_LISTEN_FDS_START
_PATIENCE = 1.0  # seconds: a lost READY=1 would get the daemon killed, a manager that hangs must not hang the daemon


class Notifier:
    """Sends states to the service manager named by ``NOTIFY_SOCKET``, if there is one. Never raises: a manager that
    does not listen must not stop a download."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        env = os.environ if environ is None else environ
        self._address = _address(env.get("NOTIFY_SOCKET", ""))
        self.watchdog_interval = _watchdog_interval(env) if self._address else None
        """Seconds between two calls of `watchdog`: half of what the manager allows. ``None`` = it does not watch."""

    @property
    def active(self) -> bool:
        """Is there a manager that listens?"""
        return self._address is not None

    def ready(self, status: str = "") -> None:
        """Started, or done with a reload."""
        self._send("READY=1", status)

    def reloading(self) -> None:
        """A reload has begun; `ready` ends it."""
        self._send("RELOADING=1", extra=f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def starting(self, status: str, seconds: float) -> None:
        """The start takes its time: do not give it up within ``seconds``."""
        self._send("", status, extra=f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}")

    def stopping(self, status: str = "") -> None:
        """The stop has begun."""
        self._send("STOPPING=1", status)

    def status(self, text: str) -> None:
        """A line for ``systemctl status``."""
        self._send("", text)

    def watchdog(self) -> None:
        """Alive. To be sent from the code whose life is in question, not from a timer beside it."""
        self._send("WATCHDOG=1")

    def _send(self, state: str, status: str = "", *, extra: str = "") -> None:
        if self._address is None:
            return
        # A line feed would begin another variable.
        shown = "STATUS=" + " ".join(status.split()) if status else ""
        message = "\n".join(filter(None, (state, extra, shown)))
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(_PATIENCE)
                sender.connect(self._address)
                sender.sendall(message.encode("utf-8", "replace"))
        except OSError as error:
            _log.warning("systemd was not told %s: %s", state or "the status", error.strerror or error)


def inherited_sockets(environ: MutableMapping[str, str] | None = None) -> dict[str, socket.socket]:
    """The sockets that the service manager has opened for this process (``sd_listen_fds(3)``), by their names. The
    variables that told of them are removed: no program that we start shall take the sockets for its own.

    :raises OSError: what was announced is not there.
    """
    env = os.environ if environ is None else environ
    pid, count, names = (env.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if pid != str(os.getpid()) or not count.isdecimal():
        return {}
    sockets = {}
    for number, name in zip_longest(range(int(count)), names.split(":")[: int(count)], fillvalue=""):
        assert isinstance(number, int)
        os.set_inheritable(_FIRST_FD + number, False)
        found = socket.socket(fileno=_FIRST_FD + number)
        sockets[str(name) if name and name not in sockets else f"{name}#{number}"] = found
    return sockets


def _address(value: str) -> str | None:
    if value.startswith("@"):
        return "\0" + value[1:]  # the abstract namespace
    return value if value.startswith("/") else None


def _watchdog_interval(environ: Mapping[str, str]) -> float | None:
    try:
        microseconds = int(environ.get("WATCHDOG_USEC", "0"))
        watched = int(environ.get("WATCHDOG_PID") or os.getpid())
    except ValueError:
        return None
    return microseconds / 2_000_000 if microseconds > 0 and watched == os.getpid() else None
