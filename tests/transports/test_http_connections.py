"""What lasts, and what must not: event streams, waits, slow and silent clients, the end of the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from dlqueue.downloads import task as download_task
from dlqueue.protocol.errors import Code
from dlqueue.queue.record import Event
from dlqueue.service import streams
from dlqueue.transports import body, calls, protocol, sse
from dlqueue.transports.socketfile import SocketError
from tests.transports.gateway_world import PATIENCE, World, world


@pytest.fixture
def http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(download_task, "LINGER", 0.0)
    with world(tmp_path) as made:
        yield made


def add(http: World, name: str) -> int:
    url = f"http://host.invalid/{name}"
    number: int = http.api("POST", "/downloads", json_body={"url": url, "paused": True}).body["id"]
    return number


def until(http: World, condition: Callable[[], object]) -> None:
    """The gateway's loop sees the end of a connection a moment after the client."""

    async def look() -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.005)

    http.run(look())


def hears(peer: socket.socket, wanted: bytes) -> bytes:
    """What comes, until ``wanted`` is in it."""
    data = b""
    while wanted not in data:
        chunk = peer.recv(65536)
        assert chunk, data
        data += chunk
    return data


def received(peer: socket.socket) -> bytes:
    """Everything until the other end closes."""
    data = b""
    try:
        while chunk := peer.recv(65536):
            data += chunk
    except ConnectionError:
        pass
    return data


# --------------------------------------------------------------------------------------------------------------- events


def test_events_come_as_they_happen_and_go_on_where_they_ended(http: World) -> None:
    stream = http.events()
    number = add(http, "a")
    first = stream.next()
    assert first is not None
    assert (first["event"], first["data"]["task_id"], first["data"]["topic"]) == ("task", number, "task")
    assert int(first["id"]) == first["data"]["sequence"]
    assert "subscription" not in first["data"]
    stream.close()

    second = add(http, "b")
    again = http.events(headers={"Last-Event-ID": first["id"]})
    told = again.next()
    assert told is not None
    assert (told["data"]["task_id"], int(told["id"]) > int(first["id"])) == (second, True)
    again.close()
    since = http.events(f"?since={first['id']}&task_ids={number}&task_ids={second}&topics=task")
    same = since.next()
    assert same is not None
    assert same["id"] == told["id"]
    since.close()


def test_only_what_was_asked_for(http: World) -> None:
    number = add(http, "a")
    stream = http.events(f"?topics=task&task_ids={number}")
    add(http, "b")
    assert http.api("POST", f"/tasks/{number}/cancel").status == 200
    told = stream.next()
    assert told is not None
    assert (told["data"]["task_id"], told["data"]["data"]["status"]) == (number, "canceled")
    stream.close()


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("?since=-1", {}),
        ("?since=x", {}),
        ("?topics=nope", {}),
        ("?task_ids=0", {}),
        ("?nope=1", {}),
        ("", {"Last-Event-ID": "x"}),
        ("", {"Last-Event-ID": "9" * 30}),
    ],
)
def test_a_stream_that_cannot_be(http: World, query: str, headers: dict[str, str]) -> None:
    answer = http.ask("GET", f"/events{query}", headers=headers)
    assert answer.status == 400
    assert answer.kind in ("invalid_params", "unknown_param")


def test_a_silent_stream_shows_that_it_lives(http: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "KEEP_ALIVE", 0.02)
    stream = http.events()
    line = stream.line()
    assert line is not None
    assert line.startswith(":")
    stream.close()


def test_streams_are_counted_and_let_go(http: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MOST", 8)
    streams = [http.events(token="read"), http.events(token="read")]
    answer = http.ask("GET", "/events", "read")
    assert (answer.status, answer.kind) == (429, "subscriptions")
    assert "for this token" in answer.body["detail"]
    streams += [http.events(token=role) for role in ("submit", "submit", "operate", "operate", "admin", "admin")]
    answer = http.ask("GET", "/events", "read")
    assert (answer.status, answer.kind) == (429, "subscriptions")
    assert answer.body["detail"] == "8 event streams are open already"
    for stream in streams:
        stream.close()
    until(http, lambda: not http.gateway._calls.streams)
    http.events().close()


# ---------------------------------------------------------------------------------------------------------------- waits


def waiting(http: World, number: int) -> socket.socket:
    """A connection on which a wait for a task is under way."""
    envelope = b'{"jsonrpc":"2.0","id":1,"method":"tasks.wait","params":{"id":%d}}' % number
    peer = http.raw()
    head = f"POST /rpc HTTP/1.1\r\nHost: 127.0.0.1:{http.gateway.address.port}\r\n"
    head += f"Authorization: Bearer {http.tokens['read']}\r\nContent-Length: {len(envelope)}\r\n\r\n"
    peer.sendall(head.encode() + envelope)
    until(http, lambda: http.gateway._calls._waiting)
    return peer


def test_a_wait_ends_when_its_client_leaves(http: World) -> None:
    waiting(http, add(http, "a")).close()
    until(http, lambda: not http.gateway._calls._waiting)


def test_a_wait_is_answered_when_the_task_ends(http: World) -> None:
    number = add(http, "a")
    peer = waiting(http, number)
    http.api("POST", f"/tasks/{number}/cancel")
    hears(peer, b'"status":"canceled"')
    peer.close()


def test_waits_have_a_limit_whatever_batch_they_come_in(http: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MOST_WAITING", 8)
    number = add(http, "a")
    wait = {"jsonrpc": "2.0", "method": "tasks.wait", "params": {"id": number}}
    batch = http.connection()
    data = json.dumps([{**wait, "id": index} for index in range(5)])
    batch.request("POST", "/rpc", data, {"Authorization": f"Bearer {http.tokens['read']}"})
    until(http, lambda: len(http.gateway._calls._waiting) == 2)
    refused = http.rpc("tasks.wait", "read", id=number).body["error"]
    assert (refused["code"], refused["data"]["kind"]) == (Code.LIMIT, "waits")
    other = http.connection()
    other.request("POST", "/rpc", json.dumps({**wait, "id": 9}), {"Authorization": f"Bearer {http.tokens['submit']}"})
    until(http, lambda: len(http.gateway._calls._waiting) == 3)
    assert http.api("POST", f"/tasks/{number}/cancel").status == 200
    answers = json.loads(batch.getresponse().read())
    assert sorted("result" in one for one in answers) == [False] * 3 + [True] * 2
    assert "result" in json.loads(other.getresponse().read())
    other.close()
    until(http, lambda: not http.gateway._calls._waiting)
    batch.close()


def test_a_revoked_token_waits_for_nothing_any_more(http: World) -> None:
    number = add(http, "a")
    secret = http.run(http.token("short", "operate"))
    waiting = http.connection()
    told = {"jsonrpc": "2.0", "id": 1, "method": "tasks.wait", "params": {"id": number}}
    waiting.request("POST", "/rpc", json.dumps(told), {"Authorization": f"Bearer {secret}"})
    until(http, lambda: len(http.gateway._calls._waiting) == 1)
    slow = http.connection()  # its head came in time, its body is still to come
    slow.putrequest("POST", f"/api/v1/tasks/{number}/cancel")
    slow.putheader("Authorization", f"Bearer {secret}")
    slow.putheader("Content-Length", "2")
    slow.endheaders(b"{")
    until(http, lambda: http.gateway._calls.intake._held == 1)
    assert http.rpc("tokens.revoke", name="short").status == 200
    assert json.loads(waiting.getresponse().read())["error"]["code"] == Code.UNAUTHENTICATED
    slow.send(b"}")
    assert slow.getresponse().status == 401
    assert http.api("GET", f"/tasks/{number}").body["status"] == "paused"
    waiting.close()
    slow.close()


def test_a_revoked_token_hears_no_more_of_the_past(http: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "REPLAY", 1)
    for name in "abc":
        add(http, name)
    secret = http.run(http.token("short", "read"))
    goes_on = asyncio.Event()
    events = http.house.queue.events

    async def slowly(after: int, limit: int) -> Sequence[Event]:
        if after:
            await goes_on.wait()
        return await events(after, limit)

    async def go_on() -> None:
        goes_on.set()

    monkeypatch.setattr(http.house.queue, "events", slowly)
    stream = http.events("?since=0", secret)
    assert stream.next() is not None
    assert http.rpc("tokens.revoke", name="short").status == 200
    http.run(go_on())
    assert stream.next() is None
    stream.close()


def test_a_batch_may_hold_what_its_wait_is_for(http: World) -> None:
    number = add(http, "a")
    batch = [
        {"jsonrpc": "2.0", "id": n, "method": f"tasks.{verb}", "params": {"id": number}}
        for n, verb in enumerate(("wait", "cancel", "wait"))
    ]
    told = http.ask("POST", "/rpc", json_body=batch).body
    assert [(one["id"], one["result"]["status"]) for one in told] == [(n, "canceled") for n in range(3)]


def test_a_stop_ends_streams_and_waits_and_answers_them(http: World) -> None:
    stream = http.events()
    peer = waiting(http, add(http, "a"))
    assert stream.next() is not None
    idle = http.raw()
    until(http, lambda: http.gateway.connections == 3)
    http.stop()
    assert stream.next() is None
    assert str(int(Code.STOPPING)).encode() in received(peer)
    assert received(idle) == b""
    for one in (peer, idle):
        one.close()
    stream.close()
    with pytest.raises(ConnectionRefusedError):
        http.raw()


def test_a_stop_waits_for_no_client_that_does_not_read(http: World) -> None:
    peer = http.raw()
    request = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{http.gateway.address.port}\r\n\r\n"
    peer.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            peer.send(request.encode() * 100)
    until(http, lambda: http.gateway.connections == 1)
    http.stop()
    peer.close()


# ------------------------------------------------------------------------------------------------------ slow and silent


def test_a_head_that_drips_in_is_cut_off(http: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:  # whoever asks afterwards has the time that it takes here
        patch.setattr(protocol, "HEAD_SECONDS", 0.2)
        silent, slow = http.raw(), http.raw()
        slow.sendall(b"GET / HTTP/1.1\r\nX-A: ")
        assert received(silent) == b""
        assert received(slow) == b""
    silent.close()
    slow.close()
    assert http.ask("GET", "/healthz").status == 200


def test_a_head_that_drips_in_behind_an_answer_is_cut_off(http: World, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = http.raw()
    until(http, lambda: http.gateway.connections == 1)  # the first head has its ten seconds
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    request = f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{http.gateway.address.port}\r\n\r\n".encode()
    peer.sendall(request + b"GET /heal")
    assert received(peer).count(b"HTTP/1.1 200") == 1
    peer.close()


def test_a_body_that_drips_in_is_refused(http: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "SECONDS", 0.2)
    peer = http.raw()
    head = f"POST /rpc HTTP/1.1\r\nHost: 127.0.0.1:{http.gateway.address.port}\r\n"
    peer.sendall(f"{head}Authorization: Bearer {http.tokens['read']}\r\nContent-Length: 50\r\n\r\n{{".encode())
    answer = hears(peer, b'"status":408')
    assert b"application/problem+json" in answer
    peer.close()


def test_a_body_over_the_limit(http: World) -> None:
    data = b'"' + b"x" * (4 * 1024 * 1024) + b'"'
    for path in ("/rpc", "/api/v1/downloads"):
        answer = http.ask("POST", path, data=data)
        assert (answer.status, answer.kind) == (413, "message_size")
    big = {"url": "http://host.invalid/x", "options": {"o": "x" * 300_000}}
    assert http.api("POST", "/downloads", json_body=big).status in (400, 413)


def test_all_bodies_together_have_a_limit(http: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "MOST_BYTES", 100_000)
    peer = http.raw()
    head = f"POST /rpc HTTP/1.1\r\nHost: 127.0.0.1:{http.gateway.address.port}\r\n"
    peer.sendall(f"{head}Authorization: Bearer {http.tokens['read']}\r\nContent-Length: 90000\r\n\r\n".encode())
    peer.sendall(b" " * 80_000)
    until(http, lambda: http.gateway._calls.intake._held == 80_000)
    answer = http.ask("POST", "/rpc", data=b" " * 50_000)
    assert (answer.status, answer.kind) == (429, "bodies")
    assert http.rpc("daemon.info").status == 200
    peer.close()
    until(http, lambda: http.gateway._calls.intake._held == 0)
    assert http.ask("POST", "/rpc", data=b" " * 50_000).status == 200


def test_a_body_without_an_end_is_cut_off(http: World, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = http.raw()
    until(http, lambda: http.gateway.connections == 1)
    head = f"POST /rpc HTTP/1.1\r\nHost: 127.0.0.1:{http.gateway.address.port}\r\n"
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    end = time.monotonic() + PATIENCE
    with monkeypatch.context() as patch:
        patch.setattr(protocol, "HEAD_SECONDS", 0.3)
        peer.sendall(
            f"{head}Authorization: Bearer {http.tokens['read']}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )
        with pytest.raises(ConnectionError):
            while time.monotonic() < end:
                peer.sendall(chunk)
    peer.close()
    assert http.ask("GET", "/healthz").status == 200


def test_who_does_not_take_the_answers_is_dropped(http: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "STALL_SECONDS", 0.2)
    peer = http.raw()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    request = f"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1:{http.gateway.address.port}\r\n"
    request += f"Authorization: Bearer {http.tokens['read']}\r\n\r\n"
    with pytest.raises(ConnectionError):
        while True:
            peer.sendall(request.encode() * 20)
    peer.close()
    until(http, lambda: http.gateway.connections == 0)


def test_what_is_no_http_is_told_so(http: World) -> None:
    for sent in (b"\x16\x03\x01\x02\x00", b"SSH-2.0-x\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"):
        peer = http.raw()
        peer.sendall(sent)
        peer.shutdown(socket.SHUT_WR)
        answer = received(peer)
        assert answer == b"" or (b" 400 " in answer and b"application/problem+json" in answer)
        peer.close()
    huge = http.raw()
    with contextlib.suppress(ConnectionError):  # the answer may be there before all of it has left
        huge.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000)
    assert b" 400 " in received(huge)
    huge.close()


def test_a_body_of_two_lengths_is_refused_and_nothing_behind_it_is_read(http: World) -> None:
    peer = http.raw()
    head = f"Host: 127.0.0.1:{http.gateway.address.port}\r\nAuthorization: Bearer {http.tokens['admin']}\r\n"
    lengths = "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"
    smuggled = f"GET /healthz HTTP/1.1\r\n{head}\r\n"
    peer.sendall(f"POST /rpc HTTP/1.1\r\n{head}{lengths}\r\n2\r\n{{}}\r\n0\r\n\r\n{smuggled}".encode())
    answers = received(peer)
    assert answers.startswith(b"HTTP/1.1 400 ") and answers.count(b"HTTP/1.1 ") == 1
    peer.close()


def test_more_clients_than_there_may_be(http: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MOST", 3)
    peers = [http.raw() for _ in range(3)]
    until(http, lambda: http.gateway.connections == 3)
    refused = http.raw()
    answer = received(refused)
    refused.close()
    assert b" 503 " in answer
    assert b'"kind":"connections"' in answer
    peers.pop().close()
    until(http, lambda: http.gateway.connections == 2)
    assert http.ask("GET", "/healthz").status == 200
    for peer in peers:
        peer.close()


# -------------------------------------------------------------------------------------------------------------- sockets


def test_a_unix_socket_is_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "run" / "http.sock"
    with world(tmp_path / "house", f"unix:{path}") as http:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert http.ask("GET", "/healthz").status == 200
        assert http.ask("GET", "/healthz", headers={"Host": "evil.example"}).status == 403
        statuses = [http.ask("GET", "/metrics", "wrong").status for _ in range(11)]
        assert statuses == [401] * 10 + [429]
        with pytest.raises(SocketError, match="another program"):
            World(tmp_path / "second", f"unix:{path}").start()
        assert http.ask("GET", "/healthz").status == 200
    assert not path.exists()


def test_a_socket_that_a_crash_left_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    with world(tmp_path / "house", f"unix:{path}", mode=0o660) as http:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert http.ask("GET", "/healthz").status == 200


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    path.write_text("mine")
    with pytest.raises(SocketError, match="not a socket"):
        World(tmp_path / "house", f"unix:{path}").start()
    assert path.read_text() == "mine"


def test_a_path_or_a_group_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(SocketError, match="longer than"):
        World(tmp_path / "house", f"unix:{tmp_path / ('x' * 200)}").start()
    with pytest.raises(SocketError, match="no group"):
        World(tmp_path / "other", f"unix:{tmp_path / 'http.sock'}", group="no-such-group-here").start()


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(SocketError, match=r"http\.listen"):
            World(tmp_path, f"127.0.0.1:{taken.getsockname()[1]}").start()


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="needs IPv6")
def test_the_loopback_of_ipv6(tmp_path: Path) -> None:
    with world(tmp_path, "[::1]:0") as http:
        port = http.gateway.address.port
        assert str(http.gateway.address) == f"http://[::1]:{port}"
        with socket.create_connection(("::1", port), PATIENCE) as peer:
            peer.sendall(f"GET /healthz HTTP/1.1\r\nHost: [::1]:{port}\r\nConnection: close\r\n\r\n".encode())
            assert b" 200 " in received(peer)
