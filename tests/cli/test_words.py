"""What a task is said to do: never the name of a status that it does not have, and what is shown can be asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dlqueue.cli.show import STATUSES
from dlqueue.cli.taskrow import WORDS, cells_for_people, cells_for_programs, state_of
from tests.cli.conftest import Run
from tests.cli.test_panel import task, waiting
from tests.transports.stub_service import StubDaemon


def later(**delta: float) -> str:
    return (datetime.now(UTC) + timedelta(**delta)).isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize("hold", ["slot:http", "downloader:http", "paused:http", "route", "space", "transfer:k", None])
@pytest.mark.parametrize("state", ["queued", "paused", "completed", "error", "unknown", "downloading", None])
def test_no_word_is_the_name_of_another_status(hold: str | None, state: str | None) -> None:
    assert state_of(task(1, state=state, hold=hold)) in WORDS
    assert not set(WORDS) & set(STATUSES)


@pytest.mark.parametrize(
    "stopped",
    [
        task(1, status="canceled"),
        task(1, status="error"),
        task(1, status="paused"),
        task(1, state="unknown"),
        task(1, state="seeding"),
        task(1, hold="downloader:http"),
        waiting(1),
    ],
)
def test_what_does_not_come_in_has_neither_speed_nor_time_left(stopped: dict[str, Any]) -> None:
    assert cells_for_people(stopped)[4:6] == ["-", "-"]
    assert cells_for_programs({**stopped, "queue": "downloads", "owner": "me"})[4:6] == [None, None]
    assert cells_for_people(task(1))[4:6] == ["1.0 MiB/s", "2m30s"]


def test_when_it_is_due() -> None:
    due: dict[str, Any] = {"id": 1, "type": "probe", "status": "queued", "resume_at": later(days=3)}
    there = datetime.fromisoformat(due["resume_at"]).astimezone()
    assert state_of(due) == f"at {there:%m-%d %H:%M}"
    assert state_of({**due, "resume_at": later(seconds=-5)}) == state_of({**due, "resume_at": None}) == "queued"


def test_ls_takes_the_words_that_it_shows(daemon: StubDaemon, dlqueue: Run) -> None:
    made = [daemon.service.make_download() for _ in range(4)]
    for one, (status, hold, state) in zip(
        made,
        [
            ("suspending", "transfer:k", "downloading"),
            ("suspending", "slot:http", None),
            ("queued", None, None),
            ("completed", None, None),
        ],
        strict=True,
    ):
        one.update(status=status, hold=hold, resume_at=None)
        one["download"]["state"] = state
    for asked, found in (
        ("downloading", [1]),
        ("waiting", [2]),
        ("queued", [3]),
        ("suspending", [2, 1]),
        ("waiting,completed", [4, 2]),
        ("seeding", []),
    ):
        code, out, err = dlqueue("ls", "--status", asked)
        assert (code, [int(line.split("\t")[0]) for line in out.splitlines()]) == (0, found), (asked, err)
    code, out, err = dlqueue("ls", "--status", "downloading,waiting", "--limit", "1")
    assert (len(out.splitlines()), "there are more than these 1" in err) == (1, True)
