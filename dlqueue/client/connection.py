"""Finding the daemon's socket, and one blocking conversation over it. Standard library only."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

from dlqueue.places import socket_candidates
from dlqueue.protocol import envelope
from dlqueue.protocol.errors import from_error

_CHUNK = 256 * 1024
_CONNECT_SECONDS = 10.0


class DaemonUnreachable(Exception):
    """No daemon answers, or it left in the middle of the conversation. The message says where it was looked for."""


class DaemonForbidden(DaemonUnreachable):
    """There is a daemon, but its socket is not ours to use."""


def candidates(path: str | Path | None) -> list[Path]:
    """The sockets to try, in order: the named one, else `DLQUEUE_SOCKET`, else the user's and the system's."""
    return socket_candidates(str(path) if path is not None else None)


def unreachable(tried: list[tuple[Path, OSError]]) -> DaemonUnreachable:
    """The error for sockets that did not answer."""
    denied = [path for path, error in tried if isinstance(error, PermissionError)]
    if denied:
        return DaemonForbidden(
            f"not allowed to use the socket {denied[0]}; ask to become a member of the group that owns it"
        )
    where = " and ".join(f"{path} ({_reason(error)})" for path, error in tried)
    return DaemonUnreachable(f"no daemon answers on {where}; start one with: dlqueue daemon --user")


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no socket there"
    if isinstance(error, ConnectionRefusedError):
        return "left over from a daemon that is gone"
    return error.strerror or str(error)


class Connection:
    """Requests and answers in turn; notifications that arrive meanwhile are kept for `notification`."""

    def __init__(self, path: str | Path | None = None) -> None:
        """Connect. Raises :class:`DaemonUnreachable`."""
        tried: list[tuple[Path, OSError]] = []
        for candidate in candidates(path):
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            made.settimeout(_CONNECT_SECONDS)
            try:
                made.connect(str(candidate))
            except OSError as error:
                made.close()
                tried.append((candidate, error))
                continue
            self._socket = made
            self.path = candidate
            break
        else:
            raise unreachable(tried)
        self._received = bytearray()
        self._scanned = 0
        self._next_id = 0
        self._notifications: list[dict[str, Any]] = []

    def close(self) -> None:
        self._socket.close()

    def call(self, method: str, params: dict[str, Any], timeout: float | None) -> Any:
        """The result. ``timeout`` bounds the whole exchange in seconds.

        Raises :class:`RpcError` for the daemon's refusals, :class:`DaemonUnreachable` when it is gone or silent.
        """
        self._next_id += 1
        deadline = None if timeout is None else time.monotonic() + timeout
        self._socket.settimeout(timeout)
        try:
            self._socket.sendall(envelope.request(self._next_id, method, params))
        except TimeoutError:
            raise self._silent(timeout) from None
        except OSError:
            pass  # a refusal may be waiting to be read: who is refused is told why
        while True:
            message = self._message(deadline)
            if message is None:
                raise self._silent(timeout)
            if "method" in message:
                self._notifications.append(message["params"])
            elif message.get("id") == self._next_id or (message.get("id") is None and "error" in message):
                if "error" in message:
                    raise from_error(message["error"])
                return message["result"]

    def notification(self, timeout: float | None) -> dict[str, Any] | None:
        """The params of the next notification, or ``None`` if none came in time."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._notifications:
            message = self._message(deadline)
            if message is None:
                return None
            if "method" in message:
                return dict(message["params"])
        return self._notifications.pop(0)

    def _message(self, deadline: float | None) -> dict[str, Any] | None:
        while (end := self._received.find(b"\n", self._scanned)) < 0:
            self._scanned = len(self._received)
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                return None
            self._socket.settimeout(remaining)
            try:
                chunk = self._socket.recv(_CHUNK)
            except TimeoutError:
                return None
            except OSError:
                chunk = b""
            if not chunk:
                raise DaemonUnreachable(f"the daemon on {self.path} ended the connection; is it stopping?")
            self._received += chunk
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        self._scanned = 0
        message: dict[str, Any] = json.loads(line)
        return message

    def _silent(self, timeout: float | None) -> DaemonUnreachable:
        return DaemonUnreachable(f"the daemon on {self.path} did not answer within {timeout:g} s")
