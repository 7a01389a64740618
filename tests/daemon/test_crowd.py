"""Clients that say nothing and clients that never read, beside one that does its work. The figures are in
`benchmarks/service/clients.py`; here it is what has to be so on any machine."""

from __future__ import annotations

import contextlib
import json
import resource
import selectors
import socket
from pathlib import Path
from typing import Any

from tests.daemon.instance import DEADLINE, Instance, until
from tests.daemon.test_fuzz_socket import memory

IDLE, DEAF, TASKS = 200, 20, 300
MEMORY = 128 * 2**20


def line(method: str, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\n"


def connect(daemon: Instance, blocking: bool = True) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(DEADLINE)
    connection.connect(str(daemon.socket))
    connection.setblocking(blocking)
    return connection


def is_gone(connection: socket.socket) -> bool:
    """Without taking anything: has the other end hung up?"""
    with selectors.PollSelector() as selector:
        selector.register(connection, selectors.EVENT_WRITE)
        if not selector.select(0):
            return False
    try:
        connection.send(b"\n")
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False


def test_those_who_never_read_are_dropped_and_nobody_else_minds(tmp_path: Path) -> None:
    with Instance(tmp_path) as daemon, contextlib.ExitStack() as stack:
        daemon.start()
        urls = [f"http://host.invalid/{n}-{'x' * 800}" for n in range(TASKS)]
        tasks = [{"type": "remote_download", "params": {"url": url}, "delay": 3e6} for url in urls]
        first = daemon.call("tasks.submit_many", tasks=tasks)[0]["id"]
        before = memory(daemon)
        idle = [stack.enter_context(connect(daemon)) for _ in range(IDLE)]
        deaf = [stack.enter_context(connect(daemon, blocking=False)) for _ in range(DEAF)]
        asked = line("tasks.list", limit=1000)
        batch = b"[" + b",".join([asked.strip()] * 100) + b"]\n"
        for number, connection in enumerate(deaf):
            connection.send(line("events.subscribe"))
            connection.send(batch if number % 2 else asked * 100)
        most = 0

        def others_are_served() -> None:
            nonlocal most
            with daemon.client() as client:
                assert client.tasks.get(id=first)["id"] == first
                assert len(client.tasks.list(limit=1000)["items"]) == TASKS
                client.tasks.update(id=first, priority=most % 10)
            most = max(most, memory(daemon))

        def all_deaf_are_gone() -> bool:
            others_are_served()
            return all(is_gone(connection) for connection in deaf)

        until(all_deaf_are_gone, "whoever never reads is dropped", DEADLINE * 3)
        assert most - before < MEMORY
        for connection in idle:  # they may stay as long as they like
            connection.sendall(line("daemon.info"))
        for connection in idle:
            with connection.makefile("rb") as answers:
                assert "result" in json.loads(answers.readline())


def test_without_open_files_clients_are_told_and_it_passes(tmp_path: Path) -> None:
    """reliability: limit error, spare file, and no loop that burns the processor."""
    with Instance(tmp_path) as daemon:
        daemon.start()
        assert daemon.process is not None
        opened = len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir()))
        _, hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (opened + 10, hard))
        with contextlib.ExitStack() as stack:
            told = 0
            for _ in range(30):
                connection = stack.enter_context(connect(daemon))
                connection.sendall(line("daemon.info"))
                with connection.makefile("rb") as answers:
                    answer = json.loads(answers.readline())
                if "error" in answer:
                    assert (answer["error"]["code"], answer["error"]["data"]["kind"]) == (-32005, "connections")
                    told += 1
            assert told >= 10
            spent = cpu(daemon.process.pid)
            waiting = [stack.enter_context(connect(daemon)) for _ in range(5)]
            for connection in waiting:
                with connection.makefile("rb") as answers:
                    assert json.loads(answers.readline())["error"]["code"] == -32005
            assert cpu(daemon.process.pid) - spent < 0.5
        until(lambda: "result" in ask(daemon), "it has passed")


def ask(daemon: Instance) -> dict[str, Any]:
    with connect(daemon) as connection, connection.makefile("rb") as answers:
        connection.sendall(line("daemon.info"))
        answer: dict[str, Any] = json.loads(answers.readline())
        return answer


def cpu(pid: int) -> float:
    """Seconds of processor that it has used."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / 100
