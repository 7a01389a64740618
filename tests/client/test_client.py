"""Both clients against the real socket."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from dlqueue.client import AsyncClient, Client, DaemonForbidden, DaemonUnreachable, verbs
from dlqueue.client.connection import unreachable
from dlqueue.protocol.errors import Conflict, InvalidParams, LimitExceeded, NotFound, TimedOut
from dlqueue.protocol.methods import METHODS
from tests.transports.stub_service import StubDaemon, stub_daemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[StubDaemon]:
    with stub_daemon(tmp_path / "s.sock") as running:
        yield running


@pytest.fixture
def client(daemon: StubDaemon) -> Iterator[Client]:
    with Client(daemon.socket) as made:
        yield made


def test_calls(client: Client, daemon: StubDaemon) -> None:
    task = client.downloads.add(url="http://127.0.0.1/a", labels={"tag": "x"}, name=None)
    assert client.tasks.get(id=task["id"])["labels"] == {"tag": ["x"]}
    assert client.tasks.list(status=["queued"])["items"][0]["id"] == task["id"]
    assert client.tasks.count() == 1
    assert client.tasks.pause(id=task["id"])["status"] == "paused"
    assert client.tasks.resume(all=True) == {"count": 1}
    assert client.daemon.info()["node"] == "stub"
    assert client.call("downloaders.list")["items"] == []
    assert client.path == daemon.socket


def test_errors_are_raised(client: Client) -> None:
    with pytest.raises(NotFound) as caught:
        client.tasks.get(id=99)
    assert caught.value.task_id == 99
    assert (caught.value.code, caught.value.data["kind"], caught.value.data["task_id"]) == (-32003, "not_found", 99)
    with pytest.raises(InvalidParams, match="prioritty"):
        client.tasks.submit(type="a", params={}, prioritty=1)
    with pytest.raises(TimedOut):
        client.tasks.wait(id=client.tasks.submit(type="a", params={})["id"], timeout=0.01)
    with pytest.raises(ValueError, match="surrogates"):
        client.downloads.add(url="http://127.0.0.1/", directory="/\udcff")


def test_every_method_of_the_table_is_there(client: Client) -> None:
    work = (client.tasks, client.downloads, client.downloaders, client.queues, client.schedules)
    spaces = (client.daemon, *work, client.tokens, client.notify)
    listed = {
        f"{space._name}.{verb}"
        for space in spaces
        for owner in type(space).__mro__
        for verb, value in vars(owner).items()
        if isinstance(value, verbs.Verb)
    }
    assert listed == {name for name in METHODS if not name.startswith(("events.", "rpc."))}


def test_threads_share_a_client(client: Client) -> None:
    names: list[str] = []
    threads = [
        threading.Thread(target=lambda: names.extend(client.daemon.info()["node"] for _ in range(50))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert names == ["stub"] * 200


def test_events(client: Client, daemon: StubDaemon) -> None:
    with client.events(topics=["task"]) as events:
        stream = daemon.service.streams[0]

        async def put() -> None:
            stream.put("task", 1, 7, {"status": "queued"})
            stream.put("missed", None, None, {"count": 2})

        daemon.run(put())
        first, second = events.next(30), events.next(30)
        assert first is not None and (first["sequence"], first["task_id"]) == (1, 7)
        assert second is not None and second["topic"] == "missed"
        assert events.next(0.01) is None
        daemon.run(put())
        assert next(iter(events))["topic"] == "task"
        assert client.daemon.info()["node"] == "stub", "calls go on beside it"


def test_daemon_that_leaves(tmp_path: Path) -> None:
    with stub_daemon(tmp_path / "s.sock"):
        client = Client(tmp_path / "s.sock")
        events = client.events()
    with pytest.raises(DaemonUnreachable, match="ended the connection"):
        client.daemon.info()
    with pytest.raises(DaemonUnreachable, match="ended the connection"):
        next(iter(events))
    client.close()
    events.close()


def test_daemon_that_is_silent(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "s.sock"))
        mute.listen()
        with Client(tmp_path / "s.sock", timeout=0.05) as client:
            with pytest.raises(DaemonUnreachable, match="did not answer within"):
                client.daemon.info()


def test_refusal_of_the_connection_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(tmp_path / "s.sock"))
        busy.listen()
        with Client(tmp_path / "s.sock") as client:
            accepted, _ = busy.accept()
            error = {"jsonrpc": "2.0", "id": None, "error": LimitExceeded("too many clients").error()}
            accepted.sendall(json.dumps(error).encode() + b"\n")
            accepted.close()
            with pytest.raises(LimitExceeded, match="too many clients"):
                client.daemon.info()


def test_where_it_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DLQUEUE_SOCKET", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    with pytest.raises(DaemonUnreachable) as caught:
        Client()
    assert str(tmp_path / "run") in str(caught.value) and "/run/dlqueue/dlqueue.sock" in str(caught.value)
    with stub_daemon(tmp_path / "run" / "dlqueue" / "dlqueue.sock"):
        with Client() as client:
            assert client.daemon.info()["node"] == "stub"
        monkeypatch.setenv("DLQUEUE_SOCKET", str(tmp_path / "other.sock"))
        with pytest.raises(DaemonUnreachable, match=r"other\.sock"):
            Client()
        with Client(tmp_path / "run" / "dlqueue" / "dlqueue.sock") as client:
            assert client.daemon.info()["node"] == "stub", "the flag beats the environment"


def test_forbidden_socket_is_another_error() -> None:
    error = unreachable([(Path("/a"), FileNotFoundError()), (Path("/b"), PermissionError(13, "Permission denied"))])
    assert isinstance(error, DaemonForbidden) and "/b" in str(error)


@pytest.mark.parametrize("module", ["dlqueue.client", "dlqueue.client.asynchronous"])
def test_imports_stay_light(module: str) -> None:
    heavy = "{'pydantic', 'sqlalchemy', 'anyio', 'msgspec', 'asyncio', 'dlqueue.protocol.messages'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"


# ------------------------------------------------------------------------------------------------------- asynchronous


@pytest.mark.anyio
async def test_async_calls_at_once(daemon: StubDaemon) -> None:
    async with AsyncClient(daemon.socket) as client:
        assert client.path == daemon.socket
        task = await client.downloads.add(url="http://127.0.0.1/a")
        ended: list[str] = []

        async def wait() -> None:
            ended.append((await client.tasks.wait(id=task["id"]))["status"])

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            with anyio.fail_after(30):
                while not daemon.service.waiting:
                    await client.daemon.info()
            await anyio.to_thread.run_sync(daemon.run, daemon.service.update(task["id"], status="completed"))
        assert ended == ["completed"]


@pytest.mark.anyio
async def test_async_errors(daemon: StubDaemon) -> None:
    with pytest.raises(NotFound):
        async with AsyncClient(daemon.socket) as client:
            await client.tasks.get(id=99)
    daemon.service.make(status="completed")
    async with AsyncClient(daemon.socket) as client:
        with pytest.raises(Conflict):
            await client.tasks.pause(id=1)
    with pytest.raises(DaemonUnreachable):
        async with AsyncClient(daemon.socket.with_name("nothing")):
            pass


@pytest.mark.anyio
async def test_async_events(daemon: StubDaemon) -> None:
    async with AsyncClient(daemon.socket) as client:
        async with client.events(topics=["task"]) as events:
            stream = daemon.service.streams[0]

            async def put() -> None:
                for number in range(3):
                    stream.put("task", number, 7, {})

            await anyio.to_thread.run_sync(daemon.run, put())
            with anyio.fail_after(30):
                assert [(await anext(events))["sequence"] for _ in range(3)] == [0, 1, 2]
        with anyio.fail_after(30):
            while not stream.closed:
                await client.daemon.info()


@pytest.mark.anyio
async def test_async_slow_reader_is_told_what_it_missed(daemon: StubDaemon) -> None:
    async with AsyncClient(daemon.socket) as client:
        async with client.events() as events:

            async def put() -> None:
                for number in range(1500):
                    daemon.service.streams[0].put("task", number, 7, {})

            await anyio.to_thread.run_sync(daemon.run, put())
            with anyio.fail_after(30):
                while client._inbox("s1").missed < 500:
                    await client.daemon.info()
                seen = [await anext(events) for _ in range(1001)]
        assert seen[999]["sequence"] == 999
        assert (seen[1000]["topic"], seen[1000]["data"]) == ("missed", {"count": 500})


@pytest.mark.anyio
async def test_async_daemon_that_leaves(tmp_path: Path) -> None:
    daemon = StubDaemon(tmp_path / "s.sock")
    daemon.start()
    async with AsyncClient(daemon.socket) as client:
        await client.daemon.info()
        await anyio.to_thread.run_sync(daemon.stop)
        with pytest.raises(DaemonUnreachable):
            await client.daemon.info()
