"""What a person meets on the way: ranges, joined tasks, times, home folders, tasks that are not there."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dlqueue.cli.config import _before_and_now
from dlqueue.cli.options import folder
from dlqueue.cli.sources import sources
from dlqueue.cli.taskrow import joined
from tests.cli.conftest import Run
from tests.transports.stub_service import StubDaemon


def test_of_a_range_those_are_meant_with_which_it_can_be_done(daemon: StubDaemon, dlqueue: Run) -> None:
    for status in ("queued", "completed", "queued", "completed"):
        daemon.service.make(status=status)
    code, out, err = dlqueue("pause", "1-4")
    assert (code, [line.split("\t")[:2] for line in out.splitlines()]) == (0, [["1", "paused"], ["3", "paused"]])
    assert err == "2 done; 2 of the range passed over, where it means nothing\n"
    code, _, err = dlqueue("pause", "2,4")
    assert (code, err.count("cannot be paused")) == (7, 2), "those that are named are told of"
    daemon.service.make(status="completed")
    code, _, err = dlqueue("pause", "4-5")
    assert (code, err.count("cannot be paused")) == (7, 1) and "1 more of the range" in err


@pytest.mark.parametrize(("command", "verb"), [("cancel", "canceled"), ("rm", "removed")])
def test_all(daemon: StubDaemon, dlqueue: Run, command: str, verb: str) -> None:
    daemon.service.make(), daemon.service.make()
    code, out, err = dlqueue(command, "--all", "--delete-data")
    assert (code, out, err) == (0, "", f"2 {verb}\n")
    assert dlqueue(command)[0] == dlqueue(command, "1", "--all")[0] == 2


def test_joining_what_begins_later() -> None:
    begin = datetime.now(UTC) + timedelta(hours=1)
    task: dict[str, Any] = {"id": 29, "type": "probe", "status": "queued", "resume_at": begin.isoformat()}
    assert joined(task).startswith("joined task 29, which begins at ")
    assert joined(task).endswith("; to begin it now: dlqueue edit 29 --at now")
    assert re.search(r"\(in (1h|59m\d+s)\)", joined(task)), "less than a minute has passed meanwhile"
    assert joined({**task, "resume_at": None}) == "joined task 29, which was there already (queued)"


def test_edit_when_it_begins(daemon: StubDaemon, dlqueue: Run) -> None:
    daemon.service.make()
    for option, value in (("--at", "now"), ("--delay", "2h")):
        code, _, err = dlqueue("edit", "1", option, value)
        assert code == 0, err
        asked = next(params for name, _, params in reversed(daemon.service.calls) if name == "tasks.update")
        assert asked.run_at is not None
    assert dlqueue("edit", "1", "--at", "now", "--delay", "1s")[0] == 2
    assert dlqueue("edit", "1")[0] == 2


def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    assert folder("~/x") == Path("/home/alice/x") and folder("~") == Path("/home/alice")
    listed = Path(tmp_path, "list")
    listed.write_text("http://h/a\n  dir=~/isos\n")
    assert sources([], [str(listed)])[0].params["directory"] == "/home/alice/isos"
    assert folder("~bob/x") == Path("~bob/x") and folder("a~/x") == Path("a~/x")


def test_events_of_a_task_that_is_not_there(daemon: StubDaemon, dlqueue: Run) -> None:
    assert dlqueue("events", "999")[0] == 4
    assert dlqueue("events", "999", "--follow")[0] == 4


def test_why_of_several(daemon: StubDaemon, dlqueue: Run) -> None:
    daemon.service.make(), daemon.service.make()
    code, out, _ = dlqueue("why", "1", "2")
    assert (code, [line.split("\t")[0] for line in out.splitlines()]) == (0, ["1", "2"])
    code, out, _ = dlqueue("why", "1", "7")
    assert (code, len(out.splitlines())) == (4, 1)


def test_show_cuts_history_and_knows_another_url(daemon: StubDaemon, dlqueue: Run) -> None:
    made = daemon.service.make_download(status="suspending")
    made["download"]["attempts"] = [
        {"downloader": "http", "kind": "http", "key": "k", "started_at": "now", "ended_at": "now", "bytes": 5,
         "error_class": None, "message": "it got another URL", "next": None}
    ]  # fmt: skip
    code, out, err = dlqueue("show", "1")
    assert code == 0, err
    assert "it got another URL" in out and "None" not in out


def test_what_a_reload_changed_in_short() -> None:
    assert _before_and_now("***", "***") == ("", "changed")
    assert _before_and_now({"kind": "aria2"}, None) == ("", "removed")
    assert _before_and_now(None, {"kind": "aria2", "url": "http://h", "poll": 2}) == ("", "added (aria2, http://h)")
    assert _before_and_now(1, 2) == ("1", "2")
