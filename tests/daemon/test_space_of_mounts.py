"""Real file systems: small ones, and ones that are not there."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.daemon.aria2_world import Valve, committed_state, world
from tests.daemon.instance import Instance, until
from tests.webserver import WebServer, pattern

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def waits_for_space(daemon: Instance, number: int) -> str:
    said: list[str] = []

    def waits() -> bool:
        # Now and then it is woken, looks, and waits again.
        reason = daemon.call("tasks.why", id=number)
        said.append(str(reason["message"]))
        return bool(reason["reason"] == "space")

    until(waits, "it waits for space")
    return said[-1]


def test_what_does_not_fit_goes_on_by_itself_when_it_does(tmp_path: Path, server: WebServer) -> None:
    body = pattern(6_000_000)
    # No more than its beginning comes: it would fill the disk before somebody who is slow could pause it.
    gate = threading.Event()
    url = server.put("big.bin", body, gate=gate, gate_at=100_000)
    small = server.put("small.bin", b"small")
    with Instance(tmp_path) as daemon, mounted(daemon.destination, "4m"):
        daemon.start()
        number = daemon.add(url)
        message = waits_for_space(daemon, number)
        assert f"the file system of {daemon.destination} has" in message
        assert daemon.task(number)["download"]["attempts"][-1]["error_class"] == "space"
        assert daemon.finished(daemon.add(small))["status"] == "completed", "others fit all the same"
        gate.set()
        subprocess.run(["mount", "-o", "remount,size=32m", daemon.destination], check=True)
        done = daemon.finished(number)
        assert (done["status"], done["retries"]) == ("completed", 0)
        assert daemon.delivered() == {"big.bin": body, "small.bin": b"small"}
        daemon.stop()


def test_a_missing_mount_does_not_fill_the_disk_below(tmp_path: Path, server: WebServer) -> None:
    url = server.put("a.bin", b"content")
    with Instance(tmp_path) as daemon:
        with mounted(daemon.destination, "16m"):
            daemon.start()
            number = daemon.add(url, paused=True)
        daemon.call("tasks.resume", id=number)
        assert f"nothing is mounted on {daemon.destination} now" in waits_for_space(daemon, number)
        daemon.stop()
        daemon.start()
        waits_for_space(daemon, number)
        assert list(daemon.destination.iterdir()) == []
        with mounted(daemon.destination, "16m"):
            assert daemon.finished(number)["status"] == "completed"
            assert daemon.delivered() == {"a.bin": b"content"}
            daemon.stop()
        assert list(daemon.destination.iterdir()) == []


def test_two_downloaders_share_one_disk(tmp_path: Path) -> None:
    """Either has room for its own, and there is not room for both: one waits, paused, until the other has gone."""
    body = pattern(6_000_000)
    with world(tmp_path, config='[downloaders.web]\nkind = "http"\n') as w, mounted(w.daemon.destination, "10m"):
        valve, other = Valve(w.server, "a.bin", body), Valve(w.server, "b.bin", body)
        w.daemon.start()
        first = w.daemon.add(valve.url, downloader="web")
        valve.let(100_000)
        until(lambda: committed_state(w.daemon, first).get("total") == len(body), "it has been promised its size")
        second = w.daemon.add(other.url, downloader="box")
        other.let(100_000)
        message = waits_for_space(w.daemon, second)
        assert "for transfers that run" in message
        gid = w.daemon.task(second)["download"]["handle"]["id"]
        assert w.aria2.call("tellStatus", gid)["status"] == "paused"
        w.daemon.call("tasks.cancel", id=first, delete_data=True)
        other.let(len(body))
        done = w.daemon.finished(second)
        assert (done["status"], done["retries"]) == ("completed", 0)
        assert w.daemon.delivered() == {"b.bin": body}
        w.daemon.stop()
