"""Answers whose headers are cut off or cannot be trusted: never a complete file, always a passing error."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from dlqueue.sdk import TransferState
from tests.plugins.http.conftest import Bench

Serve = Callable[[bytes], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Answers every request with these bytes, then closes."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(20)
    answer = b""

    def work() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(20)
                asked = b""
                while b"\r\n\r\n" not in asked and (piece := connection.recv(65536)):
                    asked += piece
                with contextlib.suppress(ConnectionError):  # who has had enough hangs up
                    connection.sendall(answer)

    thread = threading.Thread(target=work)
    thread.start()

    def begin(data: bytes) -> str:
        nonlocal answer
        answer = data
        return f"http://127.0.0.1:{listening.getsockname()[1]}/a.bin"

    yield begin
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join()


OK = b"HTTP/1.1 200 OK\r\n"
BAD = {
    "in the status line": b"HTTP/1.1 200",
    "after the status line": OK,
    "in a header name": OK + b"Content-Ty",
    "after a header": OK + b"Server: x\r\n",
    "in the length": OK + b"Content-Length: 6",
    "negative length": OK + b"Content-Length: -5\r\n\r\nabc",
    "length with words": OK + b"Content-Length: 600000 x\r\n\r\nabc",
    "space before the colon": OK + b"Content-Length : 600000\r\n\r\nabc",
    "huge length": OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nabc",
    "two lengths": OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "a line that is no header": OK + b"no colon here\r\nContent-Length: 600000\r\n\r\nabc",
    "packed and chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "packed as br": OK + b"Content-Encoding: br\r\nContent-Length: 3\r\n\r\nabc",
    "packed twice": OK + b"Content-Encoding: gzip, gzip\r\nContent-Length: 3\r\n\r\nabc",
    "endless interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 5000,
}


@pytest.mark.parametrize("what", BAD)
def test_is_no_file(bench: Bench, serve: Serve, what: str) -> None:
    bench.open()
    status = bench.fetch(serve(BAD[what]))
    assert status.state is TransferState.ERROR
    assert status.error is not None
    assert status.error.final is None
    assert status.error.kind in ("connection", "bad_answer")


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Content-Length: 3\r\n\r\nabc",
        OK + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nabc",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 3\r\n\r\nabc",
    ],
)
def test_is_a_file(bench: Bench, serve: Serve, answer: bytes) -> None:
    bench.open()
    status = bench.fetch(serve(answer))
    assert status.state is TransferState.COMPLETED, status.error
    assert (bench.folder / "transfer" / "a.bin").read_bytes() == b"abc"
