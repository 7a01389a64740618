"""`schedule`: what is sent, what is printed, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dlqueue.cli import exits, schedules, table
from dlqueue.protocol.errors import Conflict
from tests.cli.conftest import Run
from tests.transports.stub_service import SCHEDULE, WHEN, StubDaemon

URL = "https://example.org/dump.gz"


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")


def asked(daemon: StubDaemon, verb: str) -> dict[str, Any]:
    params = [params for name, _, params in daemon.service.calls if name == f"schedules.{verb}"][-1]
    return {key: value for key, value in vars(params).items() if value is not None}


def there(daemon: StubDaemon, *names: str, **fields: Any) -> None:
    daemon.service.schedules = {name: {**SCHEDULE, "name": name, "cron": "0 3 * * *", **fields} for name in names}


def test_a_download_every_night(daemon: StubDaemon, dlqueue: Run, tmp_path: Path) -> None:
    code, out, _ = dlqueue("schedule", "create", "nightly", "--cron", "0 3 * * *", "--url", URL, "-d", "dumps")
    assert code == 0
    assert asked(daemon, "create") == {
        "name": "nightly",
        "type": "remote_download",
        "cron": "0 3 * * *",
        "timezone": "Europe/Berlin",
        "params": {"url": URL, "directory": str(tmp_path / "dumps"), "cwd": str(tmp_path)},
    }
    assert out == f"nightly\tactive\t{WHEN}\t0 3 * * * Europe/Berlin\n"


def test_everything_that_a_schedule_takes(daemon: StubDaemon, dlqueue: Run, tmp_path: Path) -> None:
    code, out, _ = dlqueue(
        "schedule", "create", "s", "--cron", "@daily", "--timezone", "UTC", "--missed", "all", "--overlap", "replace",
        "--queue", "q", "--url", URL, "--url", "https://mirror.invalid/x", "-o", "x", "--on", "box", "--header", "A: b",
        "--checksum", "md5=00", "--on-exists", "overwrite", "--json",
    )  # fmt: skip
    assert (code, json.loads(out)["name"]) == (0, "s")
    assert asked(daemon, "create") == {
        "name": "s", "type": "remote_download", "cron": "@daily", "timezone": "UTC", "missed": "all",
        "overlap": "replace", "queue": "q",
        "params": {
            "urls": [URL, "https://mirror.invalid/x"], "name": "x", "downloader": "box", "headers": {"A": "b"},
            "checksum": "md5=00", "on_exists": "overwrite", "cwd": str(tmp_path),
        },
    }  # fmt: skip


def test_any_type_of_task(daemon: StubDaemon, dlqueue: Run) -> None:
    code, out, _ = dlqueue("schedule", "create", "s", "--every", "1h30m", "--type", "probe", "--params", '{"a": 1}')
    assert (code, out) == (0, f"s\tactive\t{WHEN}\tevery 1h30m\n")
    assert asked(daemon, "create") == {"name": "s", "type": "probe", "every": 5400.0, "params": {"a": 1}}
    dlqueue("schedule", "create", "t", "--cron", "@every 5s", "--type", "probe")
    assert asked(daemon, "create") == {"name": "t", "type": "probe", "cron": "@every 5s", "params": {}}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "say when"),
        (["--cron", "@daily"], "say what"),
        (["--every", "5x", "--url", URL], "not a duration"),
        (["--every", "5s", "--cron", "@daily", "--url", URL], "either --cron or --every"),
        (["--every", "5s", "--url", "nope"], "not a URL"),
        (["--every", "5s", "--url", URL, "--type", "probe"], "without --type and --params"),
        (["--every", "5s", "--url", URL, "--params", "{}"], "without --type and --params"),
        (["--every", "5s", "--type", "probe", "-d", "x"], "-d is about a download"),
        (["--every", "5s", "--type", "probe", "--params", "[]"], "must be a JSON object"),
        (["--every", "5s", "--url", URL, "--header", "x"], "--header"),
        (["--every", "5s", "--url", URL, "--missed", "x"], "--missed"),
        (["--every", "5s", "--url", URL, "--overlap", "x"], "--overlap"),
    ],
)
def test_wrong_usage(daemon: StubDaemon, dlqueue: Run, arguments: list[str], told: str) -> None:
    code, out, err = dlqueue("schedule", "create", "s", *arguments)
    assert (code, out) == (exits.USAGE, "")
    assert told in err
    assert not daemon.service.schedules


def test_set_sends_what_is_given(daemon: StubDaemon, dlqueue: Run) -> None:
    there(daemon, "s")
    assert dlqueue("schedule", "set", "s", "--cron", "5 4 * * *", "--missed", "once")[0] == 0
    assert asked(daemon, "update") == {"name": "s", "cron": "5 4 * * *", "missed": "once"}, "the zone stays"
    assert dlqueue("schedule", "set", "s")[0] == exits.USAGE
    code, _, err = dlqueue("schedule", "set", "x", "--every", "5s")
    assert code == exits.NOT_FOUND
    assert "dlqueue schedule ls" in err


def test_ls_for_programs(daemon: StubDaemon, dlqueue: Run) -> None:
    there(daemon, "b", "a")
    code, out, _ = dlqueue("schedule", "ls")
    assert code == 0
    assert out.splitlines() == [
        f"{name}\tactive\t{WHEN}\t\t0\tremote_download\t0 3 * * * UTC\t\tme" for name in ("a", "b")
    ]
    assert [one["name"] for one in json.loads(dlqueue("schedule", "ls", "--json")[1])] == ["a", "b"]
    daemon.service.schedules = {}
    code, out, err = dlqueue("schedule", "ls")
    assert (code, out) == (0, "") and "dlqueue schedule create" in err


def test_ls_asks_page_by_page(daemon: StubDaemon, dlqueue: Run) -> None:
    there(daemon, *(f"s{n:04}" for n in range(1001)))
    assert len(dlqueue("schedule", "ls")[1].splitlines()) == 1001


def test_a_table_fits_eighty_columns(daemon: StubDaemon, dlqueue: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (table, schedules):
        monkeypatch.setattr(module, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    there(daemon, "nightly-dump-of-everything", "b", timezone="America/Argentina/Buenos_Aires", last_status="completed")
    daemon.service.schedules["b"] |= {"active": False, "next_run": None}
    lines = dlqueue("schedule", "ls")[1].splitlines()
    assert lines[0].startswith("NAME") and all(len(line) <= 80 for line in lines)
    assert "paused" in lines[1] and "nightly-dump-of-everything" in lines[2]
    daemon.service.schedule_log = [RUN | {"message": "m" * 200}]
    lines = dlqueue("schedule", "show", "b")[1].splitlines()
    assert all(len(line) <= 80 for line in lines)


RUN: dict[str, Any] = {
    "id": 3, "schedule": "s", "kind": "tick", "due_at": WHEN, "started_at": WHEN, "task_id": 7, "status": "completed",
    "message": None, "finished_at": WHEN, "seconds": 1.5,
}  # fmt: skip


def test_show(daemon: StubDaemon, dlqueue: Run) -> None:
    there(daemon, "s", params={"url": URL}, runs=12)
    daemon.service.schedule_log = [RUN, RUN | {"task_id": None, "status": "skipped", "seconds": None, "message": "why"}]
    code, out, _ = dlqueue("schedule", "show", "s", "--limit", "2")
    assert code == 0 and asked(daemon, "stats") == {"name": "s", "limit": 2}
    assert "runs\t12 (2 running, 2 completed, 2 failed, 2 canceled, 2 skipped, 2 refused)" in out
    assert f"{WHEN}\ttick\t7\tcompleted\t1.5\t\n{WHEN}\ttick\t\tskipped\t\twhy\n" in out
    shown = json.loads(dlqueue("schedule", "show", "s", "--json")[1])
    assert (shown["name"], shown["stats"]["items"][0]["task_id"]) == ("s", 7)
    assert dlqueue("schedule", "show", "x")[0] == exits.NOT_FOUND


def test_pause_resume_run_rm(daemon: StubDaemon, dlqueue: Run) -> None:
    there(daemon, "a", "b")
    assert dlqueue("schedule", "pause", "a", "b")[:2] == (0, "a\tpaused\nb\tpaused\n")
    assert dlqueue("schedule", "resume", "a")[:2] == (0, "a\tactive\n")
    assert dlqueue("schedule", "run", "a")[:2] == (0, "a\ttask 7\n")
    code, out, err = dlqueue("schedule", "rm", "x", "a", "b")
    assert (code, out) == (exits.NOT_FOUND, "a\tremoved\nb\tremoved\n") and "no schedule 'x'" in err
    there(daemon, "a")
    assert json.loads(dlqueue("schedule", "run", "a", "--json")[1])["last_task_id"] == 7
    daemon.fail("schedules.run", Conflict("task 7 of an earlier run is not over"))
    assert dlqueue("schedule", "run", "a")[0] == exits.REFUSED


def test_names_are_completed(daemon: StubDaemon) -> None:
    import click

    from dlqueue.cli.complete import complete_schedules

    there(daemon, "nightly", "other")
    option = click.Option(["--x"])
    assert [item.value for item in complete_schedules(click.Context(click.Command("x")), option, "n")] == ["nightly"]


@pytest.mark.parametrize(
    ("named", "answer"), [("Asia/Tokyo", "Asia/Tokyo"), (":Asia/Tokyo", "Asia/Tokyo"), ("CET-1CEST", "UTC")]
)
def test_the_zone_of_this_machine(monkeypatch: pytest.MonkeyPatch, named: str, answer: str) -> None:
    monkeypatch.setenv("TZ", named)
    assert schedules.zone_here() == answer
