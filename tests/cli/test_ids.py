"""Ids as people write them: which tasks are meant, and what is not asked for by accident."""

from __future__ import annotations

import pytest

from dlqueue.cli import exits
from dlqueue.cli.ids import MOST, as_ranges, numbers
from tests.cli.conftest import Run
from tests.transports.stub_service import StubDaemon


@pytest.fixture(autouse=True)
def three(daemon: StubDaemon) -> None:
    for _ in range(3):
        daemon.service.make(status="completed")


def ids(out: str) -> list[int]:
    return [int(line.split("\t")[0]) for line in out.splitlines()]


@pytest.mark.parametrize("command", ["retry", "cancel", "wait", "watch"])
def test_of_a_range_those_that_exist_are_meant(daemon: StubDaemon, dlqueue: Run, command: str) -> None:
    del daemon.service.tasks[2]
    code, out, err = dlqueue(command, "1-9")
    assert (code, ids(out), err) == (0, [1, 3], "")
    code, out, err = dlqueue(command, "5-9")
    assert (code, out) == (exits.NOT_FOUND, "") and "there is no task in 5-9" in err
    code, out, err = dlqueue(command, "1,2")
    assert code == exits.NOT_FOUND and "there is no task 2" in err, "this one was named"


def test_a_range_of_one_is_a_name(daemon: StubDaemon, dlqueue: Run) -> None:
    assert dlqueue("cancel", "7-7")[0] == exits.NOT_FOUND
    assert "there is no task 7" in dlqueue("cancel", "7-7")[2]


def test_json_is_one_value(daemon: StubDaemon, dlqueue: Run) -> None:
    assert dlqueue("wait", "1", "--json")[1].startswith("{")
    assert dlqueue("wait", "1-1", "--json")[1].startswith("{")
    assert dlqueue("wait", "1-2", "--json")[1].startswith("[")


def test_after_a_range(daemon: StubDaemon, dlqueue: Run) -> None:
    del daemon.service.tasks[2]
    assert dlqueue("add", "http://h/a", "--after", "1-9")[0] == 0
    assert daemon.service.calls[-1][2].depends_on == [1, 3]


@pytest.mark.parametrize(
    "words", [["1-20001"], ["1-9999999999999999"], ["1-9000", "10000-15000"], ["1-9000,10000-15000"]]
)
def test_huge_ranges_are_refused_at_once(daemon: StubDaemon, dlqueue: Run, words: list[str]) -> None:
    code, out, err = dlqueue("cancel", *words)
    assert (code, out) == (exits.USAGE, "") and f"more than {MOST} tasks" in err
    assert not any(name == "tasks.cancel" for name, _, _ in daemon.service.calls)


def test_numbers_and_back() -> None:
    assert numbers("1,3-5, 4", "the number of a file", 100) == [1, 3, 4, 5]
    for text in ("", "0", "a", "1-", "-1", "2-1", "1-101", "1,,2", "1-99999999999999999999"):
        with pytest.raises(ValueError):
            numbers(text, "the number of a file", 100)
    assert as_ranges([7, 1, 2, 3, 9, 10]) == "1-3,7,9-10" and as_ranges([]) == ""
