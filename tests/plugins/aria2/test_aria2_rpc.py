"""The way to an aria2: secrets, proxies, hostile and silent endpoints, notifications; and the keys of the section."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dlqueue.sdk import AuthFailed, Handle, Request, Unavailable
from dlqueue_aria2 import Aria2Config, Aria2Downloader
from tests.plugins.aria2.live import Aria2, free_port, opened, until, wait, whole
from tests.serving import nobody
from tests.webserver import WebServer, pattern

KEY = "00c0ffee00c0ffee"


@pytest.fixture
def fake() -> Iterator[Callable[[bytes], str]]:
    """An endpoint that answers every request with these bytes, and remembers what it was asked in `asked`."""
    listeners: list[socket.socket] = []

    def serve(answer: bytes) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def run() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    asked.append(request(connection))
                    try:
                        connection.sendall(answer)
                    except OSError:
                        continue

        threading.Thread(target=run, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/jsonrpc"

    asked: list[bytes] = []
    serve.asked = asked  # type: ignore[attr-defined]
    yield serve
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def request(connection: socket.socket) -> bytes:
    """All of it: a connection that is closed with something unread takes the answer back."""
    found = b""
    while b"\r\n\r\n" not in found and (piece := connection.recv(65536)):
        found += piece
    head, _, body = found.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line[:15].lower() == b"content-length:"), 0)
    while len(body) < length and (piece := connection.recv(65536)):
        body += piece
    return head + body


def http(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}Connection: close\r\n\r\n".encode() + body


# -- secrets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", ["wr0ng", None])
def test_a_wrong_secret_is_one_clear_message(aria2: Aria2, tmp_path: Path, secret: str | None) -> None:
    downloader = opened(Aria2Config(url=aria2.url, secret=secret), tmp_path / "control")
    request = Request(urls=("http://127.0.0.1:9/x",), directory=tmp_path / "transfer")
    calls: list[Callable[[], object]] = [
        downloader.test,  # aria2 lets each wait for a second
        lambda: downloader.create(request, KEY),
    ]
    for call in calls:
        with pytest.raises(AuthFailed) as caught:
            call()
        assert "`secret`" in str(caught.value)
        assert aria2.url in str(caught.value)
        assert "wr0ng" not in str(caught.value)
    downloader.close()


def test_a_proxy_of_the_environment_sees_nothing(
    aria2: Aria2, tmp_path: Path, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = fake(http(b"", "502 Bad Gateway"))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.removesuffix("/jsonrpc"))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    downloader = opened(Aria2Config(url=aria2.url, secret=aria2.secret), tmp_path / "control")
    assert downloader.test().startswith("aria2 1.3")
    events = iter(downloader.events())
    next(events)
    downloader.close()
    assert list(events) == []
    assert fake.asked == []


def test_a_redirect_does_not_get_the_secret(tmp_path: Path, fake: Any) -> None:
    elsewhere = fake(http(b"{}"))
    url = fake(http(b"", "307 Temporary Redirect", f"Location: {elsewhere}\r\n"))
    downloader = opened(Aria2Config(url=url, secret="s3cret"), tmp_path / "control")
    with pytest.raises(Unavailable, match="HTTP 307"):
        downloader.test()
    assert len(fake.asked) == 1
    downloader.close()


# -- endpoints ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        http(b"<html>"),
        http(b""),
        http(b"[]"),
        http(b"{}"),
        http(b"null"),
        http(b"NaN"),
        http(b"[" * 100_000),
        http(b"\xff\xfe"),
        http(b'{"result": 1}'),
        http(b'{"result": []}'),
        http(b'{"result": [[1], [2], [3], [4], [5], [6]]}'),
        http(b'{"result": [{"code": "x"}]}'),
        http(b'{"error": 1}'),
        http(b'{"error": {"code": 1, "message": "strange"}}'),
        http(b"{}", "500 Internal Server Error"),
        http(b"not here", "404 Not Found"),
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{",
    ],
)
def test_what_is_no_aria2(tmp_path: Path, fake: Any, answer: bytes) -> None:
    downloader = opened(Aria2Config(url=fake(answer), secret="s3cret"), tmp_path / "control")
    request = Request(urls=("http://127.0.0.1:9/x",), directory=tmp_path / "transfer")
    for call in (downloader.test, lambda: downloader.create(request, KEY), lambda: downloader.poll([Handle(KEY)])):
        with pytest.raises(Unavailable) as caught:
            call()
        assert "s3cret" not in str(caught.value)
        assert "\n" not in str(caught.value)
    downloader.close()


def test_an_endless_answer_is_cut_off(tmp_path: Path, fake: Any) -> None:
    huge = b'{"result": [["' + b"x" * (17 << 20) + b'"]]}'
    downloader = opened(Aria2Config(url=fake(http(huge))), tmp_path / "control")
    with pytest.raises(Unavailable, match="larger than 16 MiB"):
        downloader.test()
    downloader.close()


def test_silence_ends_at_the_deadline(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/jsonrpc"
        downloader = opened(Aria2Config(url=url), tmp_path / "control", deadline=lambda: 0.2)
        with pytest.raises(Unavailable, match="did not answer in time"):
            downloader.test()
        downloader.close()


def test_nobody_there(tmp_path: Path) -> None:
    with nobody() as address:
        url = f"http://{address}/jsonrpc"
        downloader = opened(Aria2Config(url=url), tmp_path / "control")
        with pytest.raises(Unavailable, match="cannot be reached: Connection refused"):
            downloader.poll([Handle(KEY)])
    downloader.close()
    with pytest.raises(Unavailable):
        downloader.test()


def test_a_kept_connection_that_was_closed_is_no_failure(downloader: Aria2Downloader, aria2: Aria2) -> None:
    downloader.test()
    aria2.restart()
    downloader.test()


# -- looks -------------------------------------------------------------------------------------------------------------


def test_one_request_per_look(downloader: Aria2Downloader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dlqueue_aria2.rpc import Rpc

    gate = threading.Event()
    calls = []
    multicall = Rpc.multicall
    with WebServer() as server:
        url = server.put("file.bin", pattern(100_000), gate=gate, gate_at=50_000)
        handles = []
        for number in range(8):
            key = f"{number + 1:016x}"
            handles.append(downloader.create(Request(urls=(url,), directory=tmp_path / key), key))
        for handle in handles[:3]:
            wait(downloader, handle, lambda status: status.name == "file.bin", "named")
        until(lambda: sum(bool(status.name) for status in downloader.poll(handles).values()) >= 5, "five active")

        def counted(self: Rpc, given: Any) -> Any:
            calls.append(len(given))
            return multicall(self, given)

        monkeypatch.setattr(Rpc, "multicall", counted)
        for _ in range(3):
            assert len(downloader.poll(handles)) == 8
            assert downloader.instance() is not None
        assert len(calls) == 3
        # With many strangers it asks by name.
        calls.clear()
        downloader._look._crowd = 1000
        assert len(downloader.poll(handles[:2])) == 2
        assert calls == [4]
        gate.set()
        for handle in handles:
            whole(downloader, handle)


def test_more_than_a_look_takes_in(
    downloader: Aria2Downloader, aria2: Aria2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dlqueue_aria2 import look

    monkeypatch.setattr(look, "LIMIT", 2)
    with WebServer() as server:
        url = server.put("file.bin", pattern(1000))
        handles = []
        for number in range(6):
            key = f"{number + 1:016x}"
            handles.append(downloader.create(Request(urls=(url,), directory=tmp_path / key), key))
        for handle in handles:
            whole(downloader, handle)
        assert set(downloader.poll([*handles, Handle("f" * 16)])) == set(handles)


# -- notifications -----------------------------------------------------------------------------------------------------


def test_notices_come_back_after_a_restart(downloader: Aria2Downloader, aria2: Aria2, tmp_path: Path) -> None:
    heard = threading.Semaphore(0)

    def listen() -> None:
        for _ in downloader.events():
            heard.release()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    assert heard.acquire(timeout=20)
    aria2.restart()
    assert heard.acquire(timeout=20)  # on connecting again
    with WebServer() as server:
        downloader.create(Request(urls=(server.put("x", b"x"),), directory=tmp_path / "transfer"), KEY)
        assert heard.acquire(timeout=20)
    downloader.close()
    thread.join(20)
    assert not thread.is_alive()


def test_events_end_when_nobody_is_there(tmp_path: Path) -> None:
    downloader = opened(Aria2Config(url=f"http://127.0.0.1:{free_port()}/"), tmp_path / "control")
    thread = threading.Thread(target=lambda: list(downloader.events()), daemon=True)
    thread.start()
    downloader.close()
    thread.join(20)
    assert not thread.is_alive()


def test_many_notices_are_few_hints() -> None:
    """A look may cost a while, and notices come in hundreds."""
    from websocket import WebSocketTimeoutException

    from dlqueue_aria2.notices import Notices

    heard: list[str] = []

    class Socket:
        def __init__(self) -> None:
            self.left = 200

        def settimeout(self, seconds: float | None) -> None:
            self.patience = seconds

        def recv(self) -> str:
            if not self.left:
                if self.patience is None:
                    raise ConnectionResetError
                raise WebSocketTimeoutException
            self.left -= 1
            time.sleep(0.0002)
            return json.dumps({"method": "aria2.onDownloadComplete", "params": [{"gid": str(self.left)}]})

        def shutdown(self) -> None:
            pass

    endpoints = iter([object(), None])
    notices = Notices(lambda: next(endpoints), heard.append, lambda: 0.01)  # type: ignore[arg-type,return-value]
    notices._connect = lambda rpc: Socket()  # type: ignore[assignment,method-assign,return-value]
    assert 1 < len(list(notices)) < 50
    assert len(heard) == 200


# -- configuration -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "begins"),
    [
        ({"url": "127.0.0.1:6800"}, "url "),
        ({"url": "ftp://127.0.0.1/"}, "url "),
        ({"url": "http://"}, "url "),
        ({"url": "http://127.0.0.1:99999/"}, "url "),
        ({"url": "http://[::1/"}, "url "),
        ({"url": "http://127.0.0.1:6800/json rpc"}, "url "),
        ({"url": "http://token:hunter2@127.0.0.1:6800/jsonrpc"}, "url "),
        ({"url": "http://127.0.0.1:6800/jsonrpc?token=hunter2"}, "url "),
        ({"secret": "hunter2"}, "secret "),
        ({"url": "http://127.0.0.1:6800/jsonrpc", "command": Path("/usr/bin/aria2c")}, "command "),
        ({"url": "http://127.0.0.1:6800/jsonrpc", "dht": False}, "dht "),
    ],
)
def test_keys_that_cannot_be(keys: dict[str, Any], begins: str) -> None:
    with pytest.raises(ValueError) as caught:
        Aria2Config(**keys)
    assert str(caught.value).startswith(begins)
    assert "hunter2" not in str(caught.value)


def test_the_path_of_the_endpoint_may_be_left_out() -> None:
    assert Aria2Config(url="http://box:6800").endpoint == "http://box:6800/jsonrpc"
    assert Aria2Config(url="https://box/aria2/jsonrpc").endpoint == "https://box/aria2/jsonrpc"


def test_no_secret_is_logged(aria2: Aria2, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        downloader = opened(Aria2Config(url=aria2.url, secret=aria2.secret), tmp_path / "control")
        downloader.test()
        downloader.poll([Handle(KEY)])
        downloader.close()
    assert aria2.secret not in caplog.text
