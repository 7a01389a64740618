"""The socket as clients meet it: good ones, confused ones, and bad ones beside others."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import json
import os
import pwd
import resource
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dlqueue.protocol.caller import Caller
from dlqueue.protocol.errors import Code
from dlqueue.protocol.framing import MAX_LINE
from dlqueue.transports import connection as connection_module
from dlqueue.transports.dispatch import Dispatcher
from dlqueue.transports.socketfile import SocketError
from dlqueue.transports.unix import UnixServer
from tests.transports.stub_service import StubService

pytestmark = pytest.mark.anyio

PATIENCE = 30.0
INFO = b'{"jsonrpc":"2.0","id":1,"method":"daemon.info"}\n'


@pytest.fixture
async def service() -> StubService:
    return StubService()


@pytest.fixture
async def server(service: StubService, tmp_path: Path) -> AsyncIterator[UnixServer]:
    made = UnixServer(Dispatcher(service), tmp_path / "run" / "s.sock", max_connections=20, stall=0.3)
    await made.start()
    yield made
    await made.stop(grace=1)


class Peer:
    """One client, by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, server: UnixServer) -> Peer:
        return cls(*await asyncio.open_unix_connection(str(server._path), limit=64 * 1024 * 1024))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def line(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readline()

    async def answer(self) -> Any:
        return json.loads(await self.line())

    async def ask(self, method: str, identity: int = 1, **params: Any) -> Any:
        await self.send(call(method, identity, **params))
        return await self.answer()

    async def rest(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()

    def close(self) -> None:
        self.writer.close()


def call(method: str, identity: int = 1, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": identity, "method": method, "params": params}).encode() + b"\n"


def pair(second: bytes) -> bytes:
    """A batch that begins with a list."""
    return b"[" + call("queues.list").strip() + b"," + second.strip() + b"]\n"


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


# ----------------------------------------------------------------------------------------------------------- answers


async def test_caller_is_who_the_kernel_says(server: UnixServer, service: StubService) -> None:
    peer = await Peer.connect(server)
    assert (await peer.ask("daemon.info"))["result"]["node"] == "stub"
    caller = service.calls[0][1]
    assert (caller.uid, caller.gid) == (os.getuid(), os.getgid())
    assert caller.name == pwd.getpwuid(os.getuid()).pw_name and caller.trusted_cwd
    assert caller.groups == set(os.getgroups())
    peer.close()


async def test_many_at_once_answered_as_they_end(server: UnixServer, service: StubService) -> None:
    task = service.make()
    peer = await Peer.connect(server)
    await peer.send(call("tasks.wait", 1, id=task["id"]) + call("daemon.info", 2) + call("tasks.wait", 3, id=99))
    assert {(await peer.answer())["id"], (await peer.answer())["id"]} == {2, 3}
    await service.update(task["id"], status="completed")
    assert (await peer.answer())["result"]["status"] == "completed"
    peer.close()


async def test_pipelining(server: UnixServer) -> None:
    peer = await Peer.connect(server)
    count = 3000
    await peer.send(b"".join(call("daemon.info", number) for number in range(count)))
    assert [(await peer.answer())["id"] for _ in range(count)] == list(range(count)), "reads are answered in turn"
    await peer.send(b"".join(call("tasks.submit", number, type="a", params={}) for number in range(count)))
    assert sorted([(await peer.answer())["id"] for _ in range(count)]) == list(range(count))
    peer.close()


async def test_request_in_pieces(server: UnixServer) -> None:
    peer = await Peer.connect(server)
    for part in (INFO[:1], INFO[1:20], INFO[20:] + INFO[:30], INFO[30:]):
        await peer.send(part)
        await asyncio.sleep(0)
    assert (await peer.answer())["id"] == 1 and (await peer.answer())["id"] == 1
    peer.close()


async def test_half_closed_clients_get_their_answers(server: UnixServer, service: StubService) -> None:
    task = service.make()
    peer = await Peer.connect(server)
    await peer.send(INFO + call("tasks.wait", 2, id=task["id"]))
    peer.writer.write_eof()
    assert (await peer.answer())["id"] == 1
    await until(lambda: service.waiting == 1)
    await service.update(task["id"], status="error")
    assert (await peer.answer())["result"]["status"] == "error"
    assert await peer.rest() == b""
    peer.close()


async def test_last_request_without_newline(server: UnixServer) -> None:
    peer = await Peer.connect(server)
    await peer.send(INFO.rstrip())
    peer.writer.write_eof()
    assert json.loads(await peer.rest())["id"] == 1
    peer.close()


async def test_socat(server: UnixServer) -> None:
    arguments = ["socat", "-t60", "-", f"UNIX:{server._path}"]
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
    except FileNotFoundError:
        pytest.skip("needs socat")
    async with asyncio.timeout(PATIENCE):
        out, _ = await process.communicate(INFO)
    assert json.loads(out)["result"]["node"] == "stub"


# ----------------------------------------------------------------------------------------------------------- batches


async def test_batch(server: UnixServer, service: StubService) -> None:
    peer = await Peer.connect(server)
    items = [
        {"jsonrpc": "2.0", "id": 1, "method": "daemon.info"},
        {"jsonrpc": "2.0", "method": "tasks.submit", "params": {"type": "silent", "params": {}}},
        {"jsonrpc": "2.0", "id": 2, "method": "tasks.submit", "params": {"type": "a", "params": {}}},
        {"jsonrpc": "2.0", "id": 3, "method": "nope"},
        5,
    ]
    await peer.send(json.dumps(items).encode() + b"\n")
    answers = await peer.answer()
    assert [answer["id"] for answer in answers] == [1, 2, 3, None]
    assert answers[1]["result"]["type"] == "a"
    assert [answer["error"]["code"] for answer in answers[2:]] == [Code.NO_METHOD, Code.INVALID_REQUEST]
    assert {task["type"] for task in service.tasks.values()} == {"silent", "a"}
    peer.close()


async def test_batch_of_notifications_gets_no_answer(server: UnixServer, service: StubService) -> None:
    peer = await Peer.connect(server)
    note = {"jsonrpc": "2.0", "method": "tasks.submit", "params": {"type": "silent", "params": {}}}
    await peer.send(
        json.dumps([note, note]).encode()
        + b"\n"
        + json.dumps(note).encode()
        + b"\n"
        + b'{"jsonrpc":"2.0","method":"nope"}\n'
    )
    await until(lambda: len(service.tasks) == 3)
    await peer.send(INFO)
    assert (await peer.answer())["id"] == 1, "nothing came before it"
    peer.close()


async def test_batch_sizes(server: UnixServer) -> None:
    peer = await Peer.connect(server)
    await peer.send(b"[]\n")
    assert (await peer.answer())["error"]["code"] == Code.INVALID_REQUEST
    one = json.loads(INFO)
    await peer.send(json.dumps([one] * 1001).encode() + b"\n")
    answer = await peer.answer()
    assert (answer["id"], answer["error"]["code"]) == (None, Code.LIMIT)
    await peer.send(json.dumps([one] * 1000).encode() + b"\n")
    assert len(await peer.answer()) == 1000
    peer.close()


async def test_batch_answer_is_bounded(
    server: UnixServer, service: StubService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "MAX_BATCH_ANSWER", 1000)
    peer = await Peer.connect(server)
    await peer.send(json.dumps([json.loads(INFO)] * 20).encode() + b"\n")
    answers = await peer.answer()
    assert "result" in answers[0] and answers[-1]["error"]["code"] == Code.LIMIT
    peer.close()


class Long(StubService):
    """Counts the batches of `queues.list` and `tasks.count` that are half done."""

    half = most = 0

    async def queues_list(self, caller: Caller, params: Any) -> Any:
        self.half += 1
        self.most = max(self.most, self.half)
        return await super().queues_list(caller, params)

    async def tasks_count(self, caller: Caller, params: Any) -> Any:
        for _ in range(10):
            await asyncio.sleep(0)  # others have every opportunity to begin
        self.half -= 1
        return 0


async def test_long_answers_of_many_batches_are_put_together_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trap: each of fifty held its first answer of 2 MB while it waited to be let in with its second."""
    monkeypatch.setattr(connection_module, "HIGH_WATER", 10)
    service = Long()
    server = UnixServer(Dispatcher(service), tmp_path / "s.sock")
    await server.start()
    peers = [await Peer.connect(server) for _ in range(5)]
    waiting = await Peer.connect(server)
    task = await waiting.ask("tasks.submit", type="open", params={})
    await waiting.send(pair(call("tasks.wait", 2, id=task["result"]["id"])))
    await until(lambda: service.half == 1)
    service.half = service.most = 0
    for peer in peers:
        await peer.send(pair(call("tasks.count", 2)))
    for peer in peers:
        assert [answer["id"] for answer in await peer.answer()] == [1, 2], "who waits beside holds up nobody"
        peer.close()
    assert service.most == 1
    waiting.close()
    await server.stop(grace=1)


# --------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"nonsense\n", Code.PARSE),
        (b"\n", Code.PARSE),
        (b"\xff\xfe\x00\n", Code.PARSE),
        (b"[" * 100_000 + b"\n", Code.PARSE),
        (b'{"jsonrpc":"2.0","id":1,"method":"tasks.get","params":{"id":NaN}}\n', Code.PARSE),
        (b'{"jsonrpc":"2.0","id":1,"method":"tasks.get","params":{"id":1,"id":1}}\n', Code.PARSE),
        (b'{"jsonrpc":"2.0","id":1,"method":"tasks.list","params":{"text":"\\ud800"}}\n', Code.PARSE),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"tasks.get","params":{"id":123456789012345678901234567890}}\n',
            Code.INVALID_PARAMS,
        ),
        (b'{"jsonrpc":"2.0","id":1,"method":"tasks.get","params":[1]}\n', Code.INVALID_PARAMS),
        (b'{"jsonrpc":"2.0","id":1,"method":"__class__"}\n', Code.NO_METHOD),
        (b"7\n", Code.INVALID_REQUEST),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_bad_messages_disturb_nobody(server: UnixServer, bad: bytes, code: Code) -> None:
    peer, other = await Peer.connect(server), await Peer.connect(server)
    await other.send(INFO[:25])
    await peer.send(bad)
    assert (await peer.answer())["error"]["code"] == code
    assert (await peer.ask("daemon.info", 5))["id"] == 5, "the same connection goes on"
    await other.send(INFO[25:])
    assert (await other.answer())["id"] == 1
    peer.close()
    other.close()


async def test_line_over_the_limit_ends_the_connection(server: UnixServer, service: StubService) -> None:
    peer, other = await Peer.connect(server), await Peer.connect(server)
    tail = call("tasks.submit", type="tail", params={})
    sending = asyncio.create_task(peer.send(INFO + b"x" * (MAX_LINE + 1) + b"\n" + tail * 50_000))
    assert (await peer.answer())["id"] == 1, "what came before it is answered"
    answer = await peer.answer()
    assert (answer["id"], answer["error"]["code"]) == (None, Code.LIMIT)
    assert await peer.rest() == b""
    await sending
    peer.close()
    assert not service.tasks, "the tail is never a message"
    assert (await other.ask("daemon.info"))["id"] == 1
    other.close()


async def test_line_at_the_limit_is_a_message(server: UnixServer, service: StubService) -> None:
    peer = await Peer.connect(server)
    frame = call("tasks.submit", type="a", params={"text": ""})
    text = "x" * (MAX_LINE - len(frame) + 1)
    await peer.send(call("tasks.submit", type="a", params={"text": text}))
    assert (await peer.answer())["result"]["params"]["text"] == text
    peer.close()


async def test_client_that_does_not_read_is_dropped(server: UnixServer, service: StubService) -> None:
    for _ in range(1000):
        service.make()
    slow, other = await Peer.connect(server), await Peer.connect(server)
    slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
    slow.writer.write(call("tasks.list", limit=1000) * 200)
    await until(lambda: len(service.calls) > 0)
    assert (await other.ask("daemon.info"))["id"] == 1
    await until(lambda: server.connections == 1)
    assert len([name for name, _, _ in service.calls if name == "tasks.list"]) < 10, (
        "back-pressure: it was not served on"
    )
    slow.writer.transport.abort()
    other.close()


class FakeTransport:
    """A write buffer whose size a test dictates."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes
        self.aborted = False

    def set_write_buffer_limits(self, high: int) -> None: ...

    def get_write_buffer_size(self) -> int:
        return self.sizes.pop(0) if len(self.sizes) > 1 else self.sizes[0]

    def abort(self) -> None:
        self.aborted = True


class FakeWriter:
    """Never drained: every wait for it times out."""

    def __init__(self, transport: FakeTransport) -> None:
        self.transport = transport

    async def drain(self) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("sizes", "dropped"), [([900_000, 800_000, 800_000, 700_000, 700_000, 0], False), ([900_000, 900_000], True)]
)
async def test_slow_reader_is_kept_while_it_takes_something(
    service: StubService, sizes: list[int], dropped: bool
) -> None:
    transport = FakeTransport(sizes)
    made: Any = connection_module.Connection
    caller = Caller(uid=1, gid=1, name="tester")
    slow = made(Dispatcher(service), caller, None, FakeWriter(transport), stall=0.001)
    async with asyncio.timeout(PATIENCE):
        await slow._until_taken()
    assert transport.aborted is dropped


async def test_client_that_vanishes_leaves_no_wait_behind(server: UnixServer, service: StubService) -> None:
    task = service.make()
    peer = await Peer.connect(server)
    await peer.send(call("tasks.wait", id=task["id"]) * 5)
    await until(lambda: service.waiting == 5)
    peer.writer.transport.abort()
    await until(lambda: service.waiting == 0 and server.connections == 0)


async def test_write_is_done_though_its_client_left(server: UnixServer, service: StubService) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()
    original = service.tasks_submit

    async def slow(caller: Any, params: Any) -> dict[str, Any]:
        entered.set()
        await go_on.wait()
        return await original(caller, params)

    service.tasks_submit = slow  # type: ignore[method-assign]
    peer = await Peer.connect(UnixServerOf(server, service))
    await peer.send(call("tasks.submit", type="a", params={}))
    async with asyncio.timeout(PATIENCE):
        await entered.wait()
    peer.writer.transport.abort()
    await asyncio.sleep(0.05)
    go_on.set()
    await until(lambda: len(service.tasks) == 1 and server.connections == 0)


def UnixServerOf(server: UnixServer, service: StubService) -> UnixServer:
    """The server, dispatching to what the service's methods are now."""
    server._dispatcher = Dispatcher(service)
    return server


# ------------------------------------------------------------------------------------------------------------ events


async def test_events(server: UnixServer, service: StubService) -> None:
    peer = await Peer.connect(server)
    name = (await peer.ask("events.subscribe", topics=["task"]))["result"]["subscription"]
    service.streams[0].put("task", 1, 7, {"status": "queued"})
    service.streams[0].put("missed", None, None, {"count": 3})
    first, second = await peer.answer(), await peer.answer()
    assert first["method"] == "event" and "id" not in first
    assert first["params"].pop("at")
    assert first["params"] == {
        "subscription": name,
        "sequence": 1,
        "topic": "task",
        "data": {"status": "queued"},
        "task_id": 7,
    }
    assert second["params"]["topic"] == "missed"
    assert (await peer.ask("events.unsubscribe", 2, subscription=name))["result"] == {"subscription": name}
    assert service.streams[0].closed
    assert (await peer.ask("events.unsubscribe", 3, subscription=name))["error"]["code"] == Code.NOT_FOUND
    peer.close()


@pytest.mark.parametrize("batch", [False, True])
async def test_answer_of_subscribe_comes_before_its_events(
    server: UnixServer, service: StubService, batch: bool
) -> None:
    original = service.events_subscribe

    async def eager(caller: Any, params: Any) -> Any:
        stream = await original(caller, params)
        stream.put("task", 1, 7, {})
        return stream

    service.events_subscribe = eager  # type: ignore[method-assign]
    peer = await Peer.connect(UnixServerOf(server, service))
    request = json.loads(call("events.subscribe"))
    write = json.loads(call("tasks.submit", 2, type="a", params={}))  # takes a turn of the loop
    await peer.send(json.dumps([request, write] if batch else request).encode() + b"\n")
    answer, event = await peer.answer(), await peer.answer()
    assert (answer[0] if batch else answer)["result"]["subscription"] == event["params"]["subscription"]
    peer.close()


async def test_subscription_belongs_to_its_connection(server: UnixServer, service: StubService) -> None:
    peer, other = await Peer.connect(server), await Peer.connect(server)
    name = (await peer.ask("events.subscribe"))["result"]["subscription"]
    assert (await other.ask("events.unsubscribe", subscription=name))["error"]["code"] == Code.NOT_FOUND
    peer.close()
    await until(lambda: service.streams[0].closed)
    other.close()


async def test_subscriptions_are_bounded(server: UnixServer, service: StubService) -> None:
    peer = await Peer.connect(server)
    codes = [(await peer.ask("events.subscribe")).get("error", {}).get("code") for _ in range(65)]
    assert codes == [None] * 64 + [Code.LIMIT]
    peer.close()
    await until(lambda: all(stream.closed for stream in service.streams))


# ------------------------------------------------------------------------------------------------ coming and going


async def test_too_many_clients_are_told(server: UnixServer) -> None:
    peers = [await Peer.connect(server) for _ in range(20)]
    for peer in peers:
        await peer.ask("daemon.info")
    refused = await Peer.connect(server)
    answer = await refused.answer()
    assert (answer["id"], answer["error"]["code"]) == (None, Code.LIMIT)
    assert await refused.rest() == b""
    peers[0].close()
    await until(lambda: server.connections == 19)
    again = await Peer.connect(server)
    assert (await again.ask("daemon.info"))["id"] == 1
    for peer in (*peers, refused, again):
        peer.close()


async def test_out_of_files_is_told_and_passes(server: UnixServer, service: StubService) -> None:
    peer = await Peer.connect(server)
    await peer.ask("daemon.info")
    late, later = (socket.socket(socket.AF_UNIX) for _ in range(2))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # No gap may be left below the file that the server spares: it would be above the limit, and not to be had again.
    filled = [os.open(os.devnull, os.O_RDONLY)]
    while filled[-1] < server._spare:
        filled.append(os.open(os.devnull, os.O_RDONLY))
    resource.setrlimit(resource.RLIMIT_NOFILE, (filled[-1] + 1, hard))
    try:
        late.setblocking(False)
        late.connect(str(server._path))
        async with asyncio.timeout(PATIENCE):
            line = await asyncio.get_running_loop().sock_recv(late, 65536)
        assert json.loads(line)["error"]["code"] == Code.LIMIT
        assert (await peer.ask("daemon.info"))["id"] == 1, "who is in is served on"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for number in filled:
            os.close(number)
    later.setblocking(False)
    later.connect(str(server._path))
    await until(lambda: server.connections == 2)
    late.close()
    later.close()
    peer.close()


async def test_idle_since(service: StubService, tmp_path: Path) -> None:
    now = [100.0]
    server = UnixServer(Dispatcher(service), tmp_path / "s.sock", monotonic=lambda: now[0])
    await server.start()
    assert server.idle_since == 100.0
    peer = await Peer.connect(server)
    await peer.ask("daemon.info")
    assert server.connections == 1
    idle: float | None = server.idle_since
    assert idle is None
    now[0] = 200.0
    peer.close()
    await until(lambda: server.connections == 0)
    assert server.idle_since == 200.0
    await server.stop()


async def test_file_and_its_folder(service: StubService, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "s.sock"
    server = UnixServer(Dispatcher(service), path, mode=0o660)
    await server.start()
    assert stat.S_IMODE(path.stat().st_mode) == 0o660 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    await server.stop()
    assert not path.exists()


async def test_stale_file_is_replaced(service: StubService, tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = UnixServer(Dispatcher(service), path)
    await server.start()
    peer = await Peer.connect(server)
    assert (await peer.ask("daemon.info"))["id"] == 1
    peer.close()
    await server.stop()


async def test_live_socket_is_never_taken(server: UnixServer, service: StubService, tmp_path: Path) -> None:
    peer = await Peer.connect(server)
    with pytest.raises(SocketError, match="another dlqueue daemon"):
        await UnixServer(Dispatcher(service), server._path).start()
    assert (await peer.ask("daemon.info"))["id"] == 1
    peer.close()
    foreign = tmp_path / "foreign.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(foreign))
        listening.listen()
        with pytest.raises(SocketError, match="another program"):
            await UnixServer(Dispatcher(service), foreign).start()
    assert foreign.exists()


async def test_what_is_not_a_socket_stays(service: StubService, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    for path in (tmp_path / "file", tmp_path / "link"):
        with pytest.raises(SocketError, match="not a socket"):
            await UnixServer(Dispatcher(service), path).start()
    assert (tmp_path / "file").read_text() == "mine" and (tmp_path / "link").is_symlink()


async def test_unusable_places(service: StubService, tmp_path: Path) -> None:
    with pytest.raises(SocketError, match="longer than"):
        await UnixServer(Dispatcher(service), tmp_path / ("x" * 200)).start()
    with pytest.raises(SocketError, match="no group"):
        await UnixServer(Dispatcher(service), tmp_path / "s.sock", group="no-such-group-here").start()
    (tmp_path / "file").write_text("")
    with pytest.raises(SocketError, match="cannot listen"):
        await UnixServer(Dispatcher(service), tmp_path / "file" / "s.sock").start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to any group")
async def test_the_group_gets_to_the_socket(service: StubService, tmp_path: Path) -> None:
    group = next(one for one in grp.getgrall() if one.gr_gid != os.getegid())
    path = tmp_path / "run" / "s.sock"
    server = UnixServer(Dispatcher(service), path, mode=0o660, group=group.gr_name)
    before = os.umask(0o077)
    try:
        await server.start()
    finally:
        os.umask(before)
    folder, made = path.parent.stat(), path.stat()
    await server.stop()
    assert (stat.S_IMODE(folder.st_mode), folder.st_gid) == (0o750, group.gr_gid)
    assert (stat.S_IMODE(made.st_mode), made.st_gid) == (0o660, group.gr_gid)
    path.parent.chmod(0o755)
    os.chown(path.parent, -1, os.getegid())
    again = UnixServer(Dispatcher(service), path, mode=0o660, group=group.gr_name)
    await again.start()
    await again.stop()
    assert path.parent.stat().st_gid == os.getegid(), "a folder that was there is somebody else's affair"


async def test_stop_answers_what_is_in_flight(service: StubService, tmp_path: Path) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def slow(caller: Any, params: Any) -> dict[str, Any]:
        entered.set()
        await go_on.wait()
        return service.make(type=params.type)

    service.tasks_submit = slow  # type: ignore[method-assign]
    server = UnixServer(Dispatcher(service), tmp_path / "s.sock")
    await server.start()
    task = service.make()
    peer = await Peer.connect(server)
    await peer.send(call("tasks.submit", 1, type="slow", params={}) + call("tasks.wait", 2, id=task["id"]))
    async with asyncio.timeout(PATIENCE):
        await entered.wait()
    await until(lambda: service.waiting == 1)
    stopping = asyncio.create_task(server.stop(grace=PATIENCE))
    answer = await peer.answer()
    assert (answer["id"], answer["error"]["code"]) == (2, Code.STOPPING), "a wait ends at once"
    assert (await peer.ask("daemon.info", 3))["error"]["code"] == Code.STOPPING
    go_on.set()
    assert (await peer.answer())["result"]["type"] == "slow"
    assert await peer.rest() == b""
    await stopping
    with contextlib.suppress(ConnectionError):
        peer.close()
    with pytest.raises(OSError):
        await Peer.connect(server)


async def test_who_comes_at_the_end_is_told(service: StubService, tmp_path: Path) -> None:
    for turns in range(4):
        server = UnixServer(Dispatcher(service), tmp_path / "s.sock")
        await server.start()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(server._path))
            client.setblocking(False)
            for _ in range(turns):
                await asyncio.sleep(0)
            await server.stop(grace=1)
            data = client.recv(65536)  # a connection that was served already just ends
            assert json.loads(data)["error"]["code"] == Code.STOPPING if data else turns > 1


async def test_stop_has_a_deadline(service: StubService, tmp_path: Path) -> None:
    async def never(caller: Any, params: Any) -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    service.tasks_submit = never  # type: ignore[method-assign]
    server = UnixServer(Dispatcher(service), tmp_path / "s.sock")
    await server.start()
    peer = await Peer.connect(server)
    await peer.send(call("tasks.submit", type="a", params={}))
    assert (await peer.ask("daemon.info", 2))["id"] == 2
    async with asyncio.timeout(PATIENCE):
        await server.stop(grace=0.05)
    assert (await peer.answer())["error"]["code"] == Code.STOPPING
    peer.close()
