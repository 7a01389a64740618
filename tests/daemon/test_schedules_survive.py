"""Schedules of a real daemon, killed between ticks and in the middle of one: no run is made twice, none forgotten."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.instance import Instance, as_json, fake_section, until


def create(daemon: Instance, name: str, **more: Any) -> dict[str, Any]:
    params = {"url": f"http://host.invalid/{name}.bin", "on_exists": "overwrite"}
    made: dict[str, Any] = daemon.call(
        "schedules.create", **{"name": name, "type": "remote_download", "params": params, "every": 1, **more}
    )
    return made


def runs(daemon: Instance, name: str) -> int:
    count: int = daemon.call("schedules.get", name=name)["runs"]
    return count


def log(daemon: Instance, name: str) -> list[dict[str, Any]]:
    """The oldest first."""
    items: list[dict[str, Any]] = daemon.call("schedules.stats", name=name, limit=1000)["items"]
    return items[::-1]


def instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def check_once(daemon: Instance, name: str) -> list[dict[str, Any]]:
    """Every run was made once, and has one task."""
    tasks = daemon.call("tasks.list", label=f"schedule={name}", limit=1000, order="id")["items"]
    # Another tick may come between the two looks, so the log is read last.
    lines = [line for line in log(daemon, name) if line["task_id"] is not None]
    assert max(Counter(line["due_at"] for line in lines).values(), default=1) == 1
    assert [line["task_id"] for line in lines][: len(tasks)] == [task["id"] for task in tasks]
    assert {task["owner"] for task in tasks} <= {daemon.call("schedules.get", name=name)["owner"]}
    return lines


def test_killed_between_ticks(tmp_path: Path) -> None:
    with Instance(tmp_path, fake_section(tmp_path)) as daemon:
        daemon.start()
        policies = ("skip", "once", "all")
        for missed in policies:
            create(daemon, missed, missed=missed)
        until(lambda: all(runs(daemon, missed) >= 2 for missed in policies), "two runs of each")
        daemon.kill()
        before = dict.fromkeys(policies, 0.0)
        killed_at = datetime.now().timestamp()
        until(lambda: datetime.now().timestamp() > killed_at + 3.2, "runs have been missed")
        started_at = datetime.now().timestamp()
        daemon.start()
        counts = {missed: runs(daemon, missed) for missed in policies}
        until(lambda: all(runs(daemon, missed) >= counts[missed] + 2 for missed in policies), "two more of each")
        for missed in policies:
            lines = check_once(daemon, missed)
            dues = [instant(line["due_at"]) for line in lines]
            gone = [due for due in dues if killed_at + 1 < due < started_at]
            before[missed] = len(gone)
            kinds = [line["kind"] for line in lines if instant(line["due_at"]) in gone]
            assert set(kinds) <= {"missed"}
            if missed == "all":
                assert [later - earlier for earlier, later in pairwise(dues)] == pytest.approx(
                    [1] * (len(dues) - 1), abs=0.01
                )
        assert before["skip"] == 0
        assert before["all"] >= 2
        made_up = [line for line in log(daemon, "once") if line["kind"] == "missed"]
        assert len(made_up) == 1
        assert [line["status"] for line in log(daemon, "skip") if line["kind"] == "missed"] == ["skipped"]
        assert daemon.stop() == 0


def test_killed_in_the_middle_of_a_tick(tmp_path: Path) -> None:
    """Before the commit: nothing of the run is there, and it is made up for. It is due once, so that it is seen."""
    with Instance(tmp_path, fake_section(tmp_path)) as daemon:
        daemon.start(failpoint="ticking")
        due = create(daemon, "s", every=2, missed="once")["next_run"]
        daemon.wait_killed()
        daemon.start()
        until(lambda: runs(daemon, "s") >= 1, "it is made up for")
        lines = check_once(daemon, "s")
        assert (lines[0]["due_at"], lines[0]["kind"]) == (due, "missed")


def test_killed_after_a_tick(tmp_path: Path) -> None:
    """After the commit: the run is there, once, and its task is done by the next daemon."""
    with Instance(tmp_path, fake_section(tmp_path)) as daemon:
        daemon.start(failpoint="ticked")
        due = create(daemon, "s", every=2, missed="all")["next_run"]
        daemon.wait_killed()
        daemon.start()
        (first, *_) = check_once(daemon, "s")
        assert (first["due_at"], first["kind"]) == (due, "tick")
        assert daemon.finished(first["task_id"])["status"] == "completed"
        until(lambda: log(daemon, "s")[0]["status"] == "completed", "its end is in the log")


def test_the_whole_life_on_the_command_line(tmp_path: Path) -> None:
    with Instance(tmp_path, fake_section(tmp_path)) as daemon:
        daemon.start()
        url = "http://host.invalid/file.bin?size=500"
        # Once a year, so that no run of its own comes in between.
        made = daemon.cli("schedule", "create", "nightly", "--cron", "0 3 1 1 *", "--url", url, TZ="Europe/Berlin")
        assert made.returncode == 0, made.stderr
        (item,) = as_json(daemon.cli("schedule", "ls", "--json"))
        assert (item["timezone"], item["type"], item["params"]["url"]) == ("Europe/Berlin", "remote_download", url)
        ran = as_json(daemon.cli("schedule", "run", "nightly", "--json"))
        assert daemon.finished(ran["last_task_id"])["status"] == "completed"
        assert set(daemon.delivered()) == {"file.bin"}, "in the folder in which the schedule was made"
        assert daemon.cli("schedule", "set", "nightly", "--cron", "61 * * * *").returncode == 2
        assert daemon.cli("schedule", "create", "nightly", "--every", "5m", "--url", url).returncode == 7
        assert daemon.cli("schedule", "pause", "nightly").stdout == "nightly\tpaused\n"
        daemon.kill()
        daemon.start()
        shown = as_json(daemon.cli("schedule", "show", "nightly", "--json"))
        assert (shown["active"], shown["runs"], shown["stats"]["completed"]) == (False, 1, 1)
        assert daemon.cli("schedule", "resume", "nightly").returncode == 0
        assert daemon.cli("schedule", "rm", "nightly").returncode == 0
        assert daemon.cli("schedule", "show", "nightly").returncode == 4
        refused = daemon.cli("schedule", "create", "bad", "--cron", "* * * *", "--url", url)
        assert refused.returncode == 2 and "cron" in refused.stderr
