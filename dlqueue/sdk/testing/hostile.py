"""For plug-ins that ask another program over HTTP: what if something else answers there, or never stops?"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from dlqueue.sdk.downloader import Downloader
from dlqueue.sdk.errors import Unavailable
from dlqueue.sdk.model import Handle
from dlqueue.sdk.testing.conformance import PATIENCE

ENDLESS_MAX = 96 * 1024 * 1024
"""Bytes of an answer that no call may take in."""
_HEADERS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


class HostileServer:
    """Answers every request on loopback with the same pieces, whatever it is asked. A context manager."""

    def __init__(self, pieces: Callable[[threading.Event], Iterator[bytes]]) -> None:
        self._pieces = pieces
        self._closing = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.requests = 0
        self.sent = 0
        """Bytes that were taken from it, over all requests."""
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def _accept(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(OSError):
                peer, _ = self._socket.accept()
                threading.Thread(target=self._answer, args=(peer,), daemon=True).start()

    def _answer(self, peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            self.requests += bool(peer.recv(65536))
            for piece in self._pieces(self._closing):
                peer.sendall(piece)
                self.sent += len(piece)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(PATIENCE)


def _whole(body: bytes) -> bytes:
    return _HEADERS + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body


class HostileConformance:
    """Subclass it, and give a fixture ``connected``: a function that takes the URL of a program's root, such as
    ``http://127.0.0.1:4711``, and opens a downloader on it. Each of its calls has a deadline of a second or so."""

    def assert_unavailable(
        self, connected: Callable[[str], Downloader], pieces: Callable[[threading.Event], Iterator[bytes]]
    ) -> None:
        """Every call ends in `Unavailable`, soon, and having taken in no more than is reasonable. (A look may know by
        itself that there is no such transfer: then it need not ask.)"""
        with HostileServer(pieces) as server:
            downloader = connected(server.url)
            for call in (downloader.test, lambda: downloader.poll([Handle("feedfeedfeedfeed")])):
                ended: list[object] = []
                sent, asked = server.sent, server.requests
                thread = threading.Thread(target=self._note, args=(call, ended), daemon=True)
                thread.start()
                thread.join(PATIENCE)
                assert ended, f"no end after {PATIENCE:g} s: {call}"
                unasked = ended[0] == {} and server.requests == asked
                assert unasked or isinstance(ended[0], Unavailable), f"not Unavailable but {ended[0]!r}"
                assert "\n" not in str(ended[0])
                assert server.sent - sent < ENDLESS_MAX, f"took in {server.sent - sent} bytes"

    @staticmethod
    def _note(call: Callable[[], object], ended: list[object]) -> None:
        try:
            ended.append(call())
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test tells
            ended.append(error)

    def test_what_is_no_http(self, connected: Callable[[str], Downloader]) -> None:
        self.assert_unavailable(connected, lambda closing: iter([bytes(range(256)) * 4]))

    def test_a_web_page(self, connected: Callable[[str], Downloader]) -> None:
        page = _whole(b"<!doctype html><title>Welcome</title>").replace(b"application/json", b"text/html")
        self.assert_unavailable(connected, lambda closing: iter([page]))

    def test_half_of_an_answer(self, connected: Callable[[str], Downloader]) -> None:
        self.assert_unavailable(connected, lambda closing: iter([_whole(b'{"result": {"version": "1')]))

    def test_an_answer_of_another_shape(self, connected: Callable[[str], Downloader]) -> None:
        for body in (b"[]", b"NaN", b'"ok"', b'{"result": [[], 7], "id": {}}', b"[" * 100_000):
            self.assert_unavailable(connected, lambda closing, body=body: iter([_whole(body)]))  # type: ignore[misc]

    def test_nobody_speaks(self, connected: Callable[[str], Downloader]) -> None:
        self.assert_unavailable(connected, lambda closing: iter([]))

    def test_an_endless_answer(self, connected: Callable[[str], Downloader]) -> None:
        def pieces(closing: threading.Event) -> Iterator[bytes]:
            yield _HEADERS + b'\r\n{"result": "'
            while not closing.is_set():
                yield b"a" * 65536

        self.assert_unavailable(connected, pieces)

    def test_silence(self, connected: Callable[[str], Downloader]) -> None:
        def pieces(closing: threading.Event) -> Iterator[bytes]:
            closing.wait(4 * PATIENCE)
            yield from ()

        self.assert_unavailable(connected, pieces)

    def test_an_answer_that_drips(self, connected: Callable[[str], Downloader]) -> None:
        """Each byte comes before any time-out of a socket has passed."""

        def pieces(closing: threading.Event) -> Iterator[bytes]:
            yield _HEADERS + b"Content-Length: 1000000\r\n\r\n"
            while not closing.wait(0.05):
                yield b" "

        self.assert_unavailable(connected, pieces)
