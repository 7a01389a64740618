"""Start, stop, and everyday use, as a person or a service manager sees it."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.aria2_world import Valve
from tests.daemon.instance import DEADLINE, Instance, as_json, counted, everything, fake_section, until
from tests.webserver import WebServer, pattern


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_and_nothing_fails(tmp_path: Path, number: signal.Signals) -> None:
    body = pattern(1_000_000)
    with WebServer() as server, Instance(tmp_path) as daemon:
        page = Valve(server, "slow.bin", body)
        page.let(100_000)
        daemon.start()
        task = daemon.add(page.url)
        until(lambda: counted(daemon, task) > 0, "it is on its way")
        assert daemon.stop(number) == 0
        assert not daemon.socket.exists()
        page.open()
        daemon.start()
        done = daemon.finished(task)
        assert (done["status"], done["retries"], done["crashes"]) == ("completed", 0, 0)
        assert daemon.delivered() == {"slow.bin": body}
        assert any(asked.headers.get("Range") for asked in server.asked("slow.bin"))


def test_shutdown_by_a_call(tmp_path: Path) -> None:
    with Instance(tmp_path) as daemon:
        daemon.start()
        assert daemon.call("daemon.shutdown") == {"stopping": True}
        assert daemon.process is not None
        assert daemon.process.wait(DEADLINE) == 0


def test_a_hanging_downloader_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    with Instance(tmp_path, fake_section(tmp_path)) as daemon:
        daemon.start()
        daemon.add("http://host.invalid/1.bin?manual=1")
        until(lambda: daemon.created(), "it has begun")
        (daemon.fake_folder / "hang").touch()
        daemon.add("http://host.invalid/2.bin")
        assert daemon.stop() == 0


def test_a_downloader_that_is_down_is_waited_for(tmp_path: Path) -> None:
    with Instance(tmp_path, fake_section(tmp_path)) as daemon:
        daemon.fake_folder.mkdir()
        (daemon.fake_folder / "down").touch()
        daemon.start()
        task = daemon.add("http://host.invalid/1.bin")
        until(lambda: daemon.task(task)["hold"] == "downloader:fake", "it waits")
        why = daemon.call("tasks.why", id=task)
        assert why["reason"] == "downloader_unavailable"
        assert "fake" in why["message"]
        (listed,) = daemon.call("downloaders.list")["items"]
        assert (listed["health"], listed["breaker"]["state"]) == ("down", "open")
        (daemon.fake_folder / "down").unlink()
        done = daemon.finished(task)
        assert (done["status"], done["retries"]) == ("completed", 0)
        assert sum("is down" in line for line in daemon.log_lines()) == 1
        assert sum("is back" in line for line in daemon.log_lines()) == 1


def test_every_problem_of_the_config_at_once(tmp_path: Path) -> None:
    with Instance(tmp_path, "wrokers = 3\n[retention]\nfinished = 'x'\n[downloaders.x]\nkind = 'htpt'\n") as daemon:
        told = daemon.cli("daemon", "--user", "--config", str(daemon.config))
        assert told.returncode == 78
        for part in ("wrokers", "workers", "retention", "htpt", "http", f"{daemon.config}:3"):
            assert part in told.stderr, part
        assert "Traceback" not in told.stderr


def test_get_from_nothing(tmp_path: Path) -> None:
    """No daemon, no config: one command, one file."""
    body = pattern(200_000)
    with WebServer() as server, Instance(tmp_path) as daemon:
        url = server.put("file%20one.bin", body)
        server.pages["file one.bin"] = server.pages["file%20one.bin"]
        got = daemon.cli("get", url)
        assert got.returncode == 0, got.stderr
        assert got.stdout == f"{daemon.destination}/file one.bin\n"
        assert daemon.delivered() == {"file one.bin": body}
        (task,) = as_json(daemon.cli("ls", "--json"))
        assert task["status"] == "completed"
        pid = next((tmp_path / "state" / "dlqueue").glob("*.db.lock")).read_text()
        # Ten seconds after its last client and its last work it ends by itself.
        until(lambda: not Path(f"/proc/{pid}").exists(), "it ends by itself")
        assert daemon.cli("ls").returncode == 3


def test_interrupted_get_goes_on(tmp_path: Path) -> None:
    body = pattern(300_000)
    with WebServer() as server, Instance(tmp_path) as daemon:
        page = Valve(server, "a.bin", body)
        page.let(10_000)
        daemon.start()
        command = daemon.begin_cli("get", page.url)
        assert command.stderr is not None
        assert command.stderr.readline(), "it knows its task, and tells how far it is"
        command.send_signal(signal.SIGINT)
        _, err = command.communicate(timeout=DEADLINE)
        assert command.returncode == 130
        assert "dlqueue watch 1" in err
        assert "dlqueue cancel 1" in err
        page.open()
        assert daemon.finished(1)["status"] == "completed"
        assert daemon.delivered() == {"a.bin": body}


def test_everyday_commands(tmp_path: Path) -> None:
    with Instance(tmp_path, fake_section(tmp_path, "max_active = 1\n")) as daemon:
        daemon.start()
        added = daemon.cli("add", "-q", "http://host.invalid/1.bin?manual=1", "http://host.invalid/2.bin", "--tag", "x")
        assert added.stdout.split() == ["1", "2"]
        until(lambda: daemon.task(2)["hold"] == "slot:fake", "the second waits for a slot")
        assert daemon.cli("why", "2").stdout.startswith("2\tsuspending\tslot\t")
        assert daemon.cli("pause", "1").returncode == 0
        assert daemon.task(1)["status"] == "paused"
        assert daemon.finished(2)["status"] == "completed"  # the slot of the paused one is free
        assert daemon.cli("resume", "1").returncode == 0
        (daemon.fake_folder / f"{daemon.created()[0]}.finish").touch()
        waited = daemon.cli("wait", "1-2")
        assert waited.returncode == 0, waited.stderr
        assert daemon.cli("show", "7").returncode == 4
        assert daemon.cli("cancel", "1").returncode == 7
        assert as_json(daemon.cli("rpc", "tasks.count", '{"label": {"tag": "x"}}')) == 2
        assert daemon.cli("rm", "1", "--delete-data").returncode == 0
        assert set(daemon.delivered()) == {"2.bin"}
        assert daemon.cli("show", "1").returncode == 4
        failed = daemon.cli("add", "--wait", "http://host.invalid/3.bin?fail=request")
        assert failed.returncode == 5
        assert daemon.cli("retry", "--failed").returncode == 0
        assert daemon.call("tasks.cancel", all=True)["count"] <= 1
        assert daemon.call("daemon.info")["counters"]["completed"] == 2


def test_cancel_and_its_data(tmp_path: Path) -> None:
    with Instance(tmp_path, fake_section(tmp_path)) as daemon:
        daemon.start()
        kept, dropped = (daemon.add(f"http://host.invalid/{name}.bin?manual=1&size=50") for name in "ab")
        until(
            lambda: sum(path.suffix == ".bin" for path in everything(daemon.destination)) == 2,
            "both have bytes in staging",
        )
        assert daemon.cli("cancel", str(kept)).returncode == 0
        assert daemon.cli("cancel", "--delete-data", str(dropped)).returncode == 0
        until(lambda: daemon.fake_transfers() == [], "both transfers are gone")
        left = [path.name for path in everything(daemon.destination) if path.is_file()]
        assert left == ["a.bin"]
        assert daemon.task(kept)["status"] == daemon.task(dropped)["status"] == "canceled"
        assert daemon.cli("cancel", str(kept)).returncode == 0  # once more is no error


HOSTILE = {
    b"not json": -32700,
    b'{"jsonrpc":"2.0","id":1,"method":"daemon.info","params":{"x":NaN}}': -32700,
    b'{"jsonrpc":"2.0","id":1,"id":2,"method":"daemon.info"}': -32700,
    b"[" * 100_000: -32700,
    b'{"jsonrpc":"2.0","id":1,"method":"tasks.get","params":{"id":' + b"9" * 30 + b"}}": -32602,
    b'{"jsonrpc":"2.0","id":1,"method":"tasks.list","params":{"text":"\\ud800"}}': -32700,
    b'{"jsonrpc":"2.0","id":1,"method":"tasks.list","params":{"text":"\\u0000"}}': -32602,
    b'{"jsonrpc":"2.0","id":1,"method":"tasks.get","params":[1]}': -32602,
    b'{"jsonrpc":"2.0","id":1,"method":"__class__"}': -32601,
    b'{"jsonrpc":"2.0","id":1,"method":"tasks.get","params":{"idd":1}}': -32602,
    b"[]": -32600,
    b"x" * (4 * 1024 * 1024 + 10): -32005,
}


def test_hostile_messages_get_the_documented_error(tmp_path: Path) -> None:
    with Instance(tmp_path) as daemon:
        daemon.start()
        with daemon.client() as witness:
            for line, code in HOSTILE.items():
                assert _answer(daemon.socket, line)["error"]["code"] == code, line[:80]
                assert witness.daemon.info()["counters"]["submitted"] == 0
        assert "Traceback" not in daemon.log.read_text()


def _answer(path: Path, line: bytes) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(DEADLINE)
        connection.connect(str(path))
        connection.sendall(line + b"\n")
        with connection.makefile("rb") as answers:
            answer: dict[str, Any] = json.loads(answers.readline())
            return answer
