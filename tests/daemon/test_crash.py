"""kill -9 of the daemon, wherever it hurts: acknowledged tasks exist, one transfer each, right bytes, nothing left."""

from __future__ import annotations

import subprocess
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dlqueue.client import Client, DaemonUnreachable
from dlqueue.sdk.testing import fake_content
from tests.daemon.aria2_world import Valve
from tests.daemon.instance import DEADLINE, Instance, everything, fake_section, until
from tests.webserver import WebServer, pattern

POINTS = ["keyed", "created", "handled", "whole", "manifest", "renamed", "removed", "cleaned"]
FIRST_TRANSFER = {"keyed", "created", "handled"}


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_every_point_with_an_outside_downloader(tmp_path: Path, point: str) -> None:
    with Instance(tmp_path, fake_section(tmp_path)) as daemon:
        daemon.start(failpoint=point)
        number = daemon.add("http://host.invalid/file.bin?size=5000")
        daemon.wait_killed()
        daemon.start()
        done = daemon.finished(number)
        assert done["status"] == "completed", done["error"]
        assert done["retries"] == 0
        assert daemon.delivered() == {"file.bin": fake_content(5000)}
        assert len(daemon.created()) == 1
        assert daemon.fake_transfers() == []
        assert daemon.call("tasks.count") == 1
        assert done["download"]["location"] == str(daemon.destination / "file.bin")


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_every_point_with_the_built_in_engine(tmp_path: Path, point: str) -> None:
    body = pattern(300_000)
    with WebServer() as server, Instance(tmp_path) as daemon:
        url = server.put("file.bin", body)
        daemon.start(failpoint=point)
        number = daemon.add(url)
        daemon.wait_killed()
        daemon.start()
        done = daemon.finished(number)
        assert done["status"] == "completed", done["error"]
        assert done["retries"] == 0
        assert daemon.delivered() == {"file.bin": body}
        # One transfer: once it was whole, or its daemon had died with none of it, no byte was fetched again.
        assert server.served("file.bin") <= len(body) * (2 if point in FIRST_TRANSFER else 1)


def test_killed_twice_at_one_point(tmp_path: Path) -> None:
    with Instance(tmp_path, fake_section(tmp_path)) as daemon:
        daemon.start(failpoint="created")
        number = daemon.add("http://host.invalid/file.bin")
        daemon.wait_killed()
        daemon.start(failpoint="created")
        daemon.wait_killed()
        daemon.start()
        assert daemon.finished(number)["status"] == "completed"
        assert len(daemon.created()) == 1


def test_three_kills_in_one_slow_transfer(tmp_path: Path) -> None:
    body = pattern(2_000_000)
    with WebServer() as server, Instance(tmp_path) as daemon:
        url = server.put("slow.bin", body, rate=400_000)
        daemon.start()
        number = daemon.add(url)
        had = []
        for wanted in (400_000, 900_000, 1_400_000):
            until(partial(_has_served, server, "slow.bin", wanted), f"{wanted} bytes came")
            daemon.kill()
            (part,) = (path for path in everything(daemon.destination) if path.is_file())
            had.append(part.stat().st_size)
            daemon.start()
        done = daemon.finished(number)
        assert done["status"] == "completed", done["error"]
        assert done["retries"] == 0
        assert daemon.delivered() == {"slow.bin": body}
        # What the server had sent into sockets that died does not count: the engine may never have seen it.
        _, *starts = [_first_byte(asked.headers.get("Range", "")) for asked in server.asked("slow.bin")]
        again = [size - start for size, start in zip(had, starts, strict=True)]
        assert sum(again) <= 0.05 * len(body), "it went on from where it was"


def _has_served(server: WebServer, name: str, size: int) -> bool:
    return server.served(name) > size


def _first_byte(header: str) -> int:
    return int(header.removeprefix("bytes=").partition("-")[0]) if header else 0


def test_concurrent_submits_with_a_kill_in_the_middle(tmp_path: Path) -> None:
    """120 submits from 12 threads; those that got no answer are sent again with their key."""
    with Instance(tmp_path, fake_section(tmp_path, "max_active = 20\n")) as daemon:
        daemon.start()
        acknowledged: dict[str, int] = {}
        half = threading.Semaphore(0)
        killed = threading.Event()

        def submit(names: list[str]) -> None:
            try:
                with daemon.client() as client:
                    for name in names:
                        if len(acknowledged) > 60:  # however slow the killer is, some must be left
                            killed.wait(DEADLINE)
                        acknowledged[name] = _submit(client, name)["id"]
                        half.release()
            except DaemonUnreachable:
                return

        names = [f"{number:03}.bin" for number in range(120)]
        threads = [threading.Thread(target=submit, args=(names[start::12],)) for start in range(12)]
        for thread in threads:
            thread.start()
        for _ in range(40):
            half.acquire()
        daemon.kill()
        killed.set()
        for thread in threads:
            thread.join()
        before = dict(acknowledged)
        assert 40 <= len(before) < 120
        daemon.start()
        for name, number in before.items():
            assert daemon.task(number)["download"]["url"].startswith(f"http://host.invalid/{name}")
        with daemon.client() as client:
            again = {name: _submit(client, name)["id"] for name in names}
        assert {name: again[name] for name in before} == before
        assert len(set(again.values())) == 120
        for number in again.values():
            assert daemon.finished(number)["status"] == "completed"
        assert set(daemon.delivered()) == set(names)
        assert len(daemon.created()) == 120
        assert daemon.call("tasks.count") == 120


def _submit(client: Client, name: str) -> dict[str, Any]:
    return dict(client.downloads.add(url=f"http://host.invalid/{name}?size=100", unique_key=f"key-{name}"))


def test_kill_while_paused_and_queued(tmp_path: Path) -> None:
    with Instance(tmp_path, fake_section(tmp_path, "max_active = 1\n")) as daemon:
        daemon.start()
        running = daemon.add("http://host.invalid/1.bin?manual=1")
        waiting = daemon.add("http://host.invalid/2.bin")
        paused = daemon.add("http://host.invalid/3.bin", paused=True)
        until(lambda: daemon.task(waiting)["hold"] == "slot:fake", "the second waits for a slot")
        daemon.kill()
        daemon.start()
        until(lambda: daemon.call("tasks.why", id=waiting)["reason"] == "slot", "it waits for the slot again")
        assert daemon.task(paused)["status"] == "paused"
        until(lambda: len(daemon.created()) == 1, "the first is running")
        (daemon.fake_folder / f"{daemon.created()[0]}.finish").touch()
        assert daemon.finished(running)["status"] == "completed"
        assert daemon.finished(waiting)["status"] == "completed"
        daemon.call("tasks.resume", id=paused)
        assert daemon.finished(paused)["status"] == "completed"
        assert len(daemon.created()) == 3


def test_cancel_is_worked_off_after_a_crash(tmp_path: Path) -> None:
    """Canceled while its downloader is away: final for the user at once, removed when it is back."""
    with Instance(tmp_path, fake_section(tmp_path)) as daemon:
        daemon.start()
        number = daemon.add("http://host.invalid/1.bin?manual=1")
        until(lambda: daemon.task(number)["download"]["state"] == "downloading", "it is downloading")
        (daemon.fake_folder / "down").touch()
        assert daemon.call("tasks.cancel", id=number, delete_data=True)["status"] == "canceled"
        daemon.kill()
        daemon.start()
        assert daemon.task(number)["status"] == "canceled"
        assert daemon.fake_transfers() != []
        (daemon.fake_folder / "down").unlink()
        until(lambda: daemon.fake_transfers() == [], "the transfer is gone")
        until(lambda: daemon.delivered() == {}, "nothing is left in staging")


def test_second_daemon_ends_at_once(tmp_path: Path) -> None:
    with Instance(tmp_path, fake_section(tmp_path)) as daemon:
        daemon.start()
        number = daemon.add("http://host.invalid/1.bin?manual=1")
        second = daemon.cli("daemon", "--user", "--config", str(daemon.config))
        assert second.returncode not in (0, None)
        assert "in use by process" in second.stderr
        assert "Traceback" not in second.stderr
        other = daemon.cli("daemon", "--user", "--config", str(daemon.config), "--socket", str(tmp_path / "other.sock"))
        assert other.returncode not in (0, None)
        assert daemon.task(number)["id"] == number


def test_stale_socket_is_replaced(tmp_path: Path) -> None:
    with Instance(tmp_path) as daemon:
        daemon.start()
        daemon.kill()
        assert daemon.socket.is_socket()
        daemon.start()
        assert daemon.call("daemon.info")["counters"]["submitted"] == 0


def test_get_survives_the_death_of_its_daemon(tmp_path: Path) -> None:
    """`get` starts a daemon; that one is killed; the file arrives all the same."""
    body = pattern(600_000)
    with WebServer() as server, Instance(tmp_path) as daemon:
        page = Valve(server, "a.bin", body)
        page.let(100_000)
        command = daemon.begin_cli("get", page.url)
        until(lambda: server.served("a.bin") >= 100_000, "it is on its way")
        lock = next((tmp_path / "state" / "dlqueue").glob("*.lock"))
        subprocess.run(["kill", "-9", lock.read_text()], check=True)
        page.open()
        out, err = command.communicate(timeout=DEADLINE)
        assert command.returncode == 0, err
        assert out.strip() == str(daemon.destination / "a.bin")
        assert daemon.delivered() == {"a.bin": body}
        subprocess.run(["kill", lock.read_text()], check=False)  # some seconds later it has ended by itself
