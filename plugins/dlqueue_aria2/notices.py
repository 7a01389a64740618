"""aria2's notifications over its WebSocket: hints that a look is worth while."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import websocket

if TYPE_CHECKING:
    from dlqueue_aria2.rpc import Rpc


GATHER = 0.01
"""Seconds in which further notices belong to the same hint."""
RECONNECT_FIRST, RECONNECT_MAX = 0.2, 10.0
CONNECT_TIMEOUT = 10.0
STEADY = 10.0
"""Seconds after which a connection that ends was a good one."""
MAX_NOTICE = 1 << 20
"""Bytes of one notice, in however many frames."""
_COMPLETE = frozenset({"aria2.onDownloadComplete", "aria2.onBtDownloadComplete"})


class Notices:
    """
    :param endpoint: blocks until there is an aria2 to listen to; ``None`` = there will be none any more.
    :param completed: is given the GID of every download that is whole.
    :param pause: seconds to leave between two hints.
    """

    def __init__(
        self, endpoint: Callable[[], Rpc | None], completed: Callable[[str], None], pause: Callable[[], float]
    ) -> None:
        self._endpoint = endpoint
        self._completed = completed
        self._pause = pause
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._socket: websocket.WebSocket | None = None

    def __iter__(self) -> Iterator[None]:
        failures = 0
        while not self._closed.is_set():
            rpc = self._endpoint()
            if rpc is None:
                return
            listening = self._connect(rpc)
            if listening is None:
                self._closed.wait(min(RECONNECT_FIRST * 2**failures, RECONNECT_MAX))
                failures = min(failures + 1, 10)
                continue
            began = time.monotonic()
            try:
                yield  # what happened before has not been heard
                while True:
                    if not self._gather(listening, self._pause()):
                        self._receive(listening, None)
                    self._gather(listening, GATHER)
                    yield
            except _Ended:
                failures = 0 if time.monotonic() - began > STEADY else min(failures + 1, 10)
                self._closed.wait(min(RECONNECT_FIRST * 2**failures, RECONNECT_MAX) if failures else 0)
                continue
            finally:
                with self._lock:
                    self._socket = None
                    with contextlib.suppress(OSError, websocket.WebSocketException):
                        listening.shutdown()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            if self._socket is not None and self._socket.sock is not None:
                with contextlib.suppress(OSError):
                    self._socket.sock.shutdown(socket.SHUT_RDWR)

    def _connect(self, rpc: Rpc) -> websocket.WebSocket | None:
        parts = urlsplit(rpc.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            # The library asks the environment for a proxy, whatever it is told, unless it is given a connection.
            plain = socket.create_connection((parts.hostname or "", port), CONNECT_TIMEOUT)
        except OSError:
            return None
        try:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            secure = ssl.create_default_context().wrap_socket if parts.scheme == "https" else None
            connection = secure(plain, server_hostname=parts.hostname) if secure else plain
            made = websocket.create_connection(
                f"ws{rpc.url[len('http') :]}", CONNECT_TIMEOUT, _Bounded, socket=connection, redirect_limit=0
            )
        except (OSError, websocket.WebSocketException):
            plain.close()
            return None
        with self._lock:
            self._socket = made
            if self._closed.is_set():
                made.shutdown()  # type: ignore[no-untyped-call]
                return None
        return made

    def _gather(self, listening: websocket.WebSocket, patience: float) -> bool:
        """Take in what comes in this time. Did anything?"""
        any_came = False
        until = time.monotonic() + patience
        while (left := until - time.monotonic()) > 0:
            any_came |= self._receive(listening, left)
        return any_came

    def _receive(self, listening: websocket.WebSocket, patience: float | None) -> bool:
        """Take in one notice; False if none comes in time. Raises `_Ended`."""
        try:
            listening.settimeout(patience)
            text = listening.recv()
            if isinstance(listening, _Bounded):
                listening.taken = 0
        except websocket.WebSocketTimeoutException:
            return False
        except (OSError, websocket.WebSocketException) as error:
            raise _Ended from error
        if not text or self._closed.is_set():
            raise _Ended
        with contextlib.suppress(ValueError, TypeError, KeyError, IndexError, RecursionError):
            notice = json.loads(text)
            if notice["method"] in _COMPLETE:
                self._completed(str(notice["params"][0]["gid"]))
        return True


class _Bounded(websocket.WebSocket):
    """Gives up when a notice does not end."""

    taken = 0

    def _recv(self, bufsize: int) -> bytes:
        piece: bytes = super()._recv(bufsize)  # type: ignore[no-untyped-call]
        self.taken += len(piece)
        if self.taken > MAX_NOTICE:
            raise websocket.WebSocketException("a notice is too large")
        return piece


class _Ended(Exception):
    """The connection is gone."""
