"""Named queues as a person has them: a real daemon, restarts and reloads of its configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlqueue.client import Client, RpcError
from tests.daemon.instance import DEADLINE, Instance, as_json, fake_section, until


def test_what_was_set_at_run_time_outlives_restarts_until_the_file_says_something_new(tmp_path: Path) -> None:
    with Instance(tmp_path, fake_section(tmp_path) + "[queues.downloads]\nconcurrency = 4\n") as daemon:
        daemon.start()
        assert daemon.cli("queue", "create", "slow", "--rate", "1/m").returncode == 0
        assert daemon.cli("queue", "set", "downloads", "--concurrency", "9", "--capacity", "50").returncode == 0
        assert daemon.cli("queue", "pause", "slow").returncode == 0
        daemon.stop()
        daemon.start()
        seen = daemon.call("queues.get", name="downloads")
        assert (seen["concurrency"], seen["capacity"], seen["changed"]) == (9, 50, ["capacity", "concurrency"])
        assert daemon.call("queues.get", name="slow")["paused"] is True
        shown = daemon.call("daemon.config")["queues"]
        assert (shown["downloads"]["concurrency"], shown["slow"]["rate"]) == (9, "1/m")
        assert daemon.call("daemon.reload")["changed"] == []
        assert daemon.call("queues.get", name="downloads")["concurrency"] == 9
        daemon.config.write_text(daemon.config.read_text().replace("concurrency = 4", "concurrency = 5"))
        assert [one["key"] for one in daemon.call("daemon.reload")["changed"]] == ["queues.downloads.concurrency"]
        seen = daemon.call("queues.get", name="downloads")
        assert (seen["concurrency"], seen["capacity"], seen["changed"]) == (5, 50, ["capacity"])
        daemon.stop()
        daemon.config.write_text(daemon.config.read_text() + "capacity = 60\n")
        daemon.start()
        assert daemon.call("queues.get", name="downloads")["capacity"] == 60


def test_pause_why_and_resume(tmp_path: Path) -> None:
    with Instance(tmp_path, fake_section(tmp_path)) as daemon:
        daemon.start()
        daemon.call("queues.pause", name="downloads")
        number = daemon.add("http://host.invalid/a.bin")
        assert as_json(daemon.cli("why", str(number), "--json"))["reason"] == "queue_paused"
        daemon.kill()
        daemon.start()
        assert daemon.call("tasks.why", id=number)["reason"] == "queue_paused"
        assert daemon.cli("queue", "resume", "downloads").stdout == "downloads\tresumed\n"
        assert daemon.finished(number)["status"] == "completed"


def test_a_submit_waits_until_its_client_leaves_or_the_daemon_stops(tmp_path: Path) -> None:
    with Instance(tmp_path, fake_section(tmp_path) + "[queues.downloads]\ncapacity = 1\n") as daemon:
        daemon.start()
        first = daemon.add("http://host.invalid/a.bin", paused=True)
        refused = daemon.cli("add", "http://host.invalid/b.bin")
        assert refused.returncode == 7 and "its capacity is 1" in refused.stderr and "--on-full wait" in refused.stderr
        leaving = daemon.begin_cli("add", "http://host.invalid/leaves.bin", "--on-full", "wait")
        _in_line(daemon)
        leaving.terminate()
        leaving.communicate(timeout=DEADLINE)
        _in_line(daemon, nobody=True)
        waiting = daemon.begin_cli("add", "http://host.invalid/waits.bin", "--on-full", "wait", "-q")
        _in_line(daemon)
        daemon.call("tasks.cancel", id=first)
        out, _ = waiting.communicate(timeout=DEADLINE)
        assert waiting.returncode == 0
        assert daemon.finished(int(out))["download"]["name"] == "waits.bin"
        assert daemon.call("tasks.count") == 2
        daemon.add("http://host.invalid/c.bin", paused=True)
        stopped = daemon.begin_cli("add", "http://host.invalid/d.bin", "--on-full", "wait")
        _in_line(daemon)
        assert daemon.stop() == 0
        _, said = stopped.communicate(timeout=DEADLINE)
        assert stopped.returncode == 1 and "stopping" in said
        daemon.start()
        assert daemon.call("tasks.count") == 3


def _in_line(daemon: Instance, nobody: bool = False) -> None:
    """Wait until somebody (or nobody) waits for room: others are refused because of that."""

    def waits() -> bool:
        with Client(daemon.socket) as client:
            try:
                client.downloads.add(url="http://host.invalid/x.bin")
            except RpcError as error:
                return ("wait for room" in error.message) is not nobody
        pytest.fail("there was room")

    until(waits, "a submit waits")
