"""`dlqueue queue`, and submits that wait for room."""

from __future__ import annotations

import json

import pytest

from dlqueue.protocol.errors import Forbidden, LimitExceeded
from tests.cli.conftest import Run
from tests.transports.stub_service import StubDaemon, a_queue


def test_ls(daemon: StubDaemon, dlqueue: Run) -> None:
    daemon.service.page = 2
    for name, more in (
        ("default", {}),
        ("downloads", {"pending": 3, "running": 1, "size": 4, "capacity": 4, "completed": 7, "failed": 2}),
        ("slow", {"paused": True, "rate": "10/s", "concurrency": 1}),
    ):
        daemon.service.queues[name] = a_queue(name, **more)
    code, out, err = dlqueue("queue", "ls")
    assert (code, err) == (0, "")
    assert [line.split("\t") for line in out.splitlines()] == [
        ["default", "open", "0", "0", "0", "0", "8", "", ""],
        ["downloads", "full", "3", "1", "2", "7", "8", "4", ""],
        ["slow", "paused", "0", "0", "0", "0", "1", "", "10/s"],
    ]
    assert [one["name"] for one in json.loads(dlqueue("queue", "ls", "--json")[1])] == ["default", "downloads", "slow"]


def test_create_set_and_show(daemon: StubDaemon, dlqueue: Run) -> None:
    code, out, _ = dlqueue(
        "queue", "create", "slow", "--concurrency", "2", "--capacity", "50", "--rate", "10/m", "--ageing", "0.5",
        "--max-retry", "3", "--retry-delay", "500ms", "--backoff-factor", "3", "--backoff-max", "2h30m",
    )  # fmt: skip
    assert (code, out) == (0, "slow\tcreated\n")
    assert daemon.service.calls[-1][2].settings() == {
        "concurrency": 2, "capacity": 50, "rate": "10/m", "ageing": 0.5, "max_retry": 3, "retry_delay": 0.5,
        "backoff_factor": 3.0, "backoff_max": 9000.0,
    }  # fmt: skip
    assert dlqueue("queue", "set", "slow", "--capacity", "9", "--reset", "rate", "--reset", "ageing")[:2] == (
        0,
        "slow\tchanged\n",
    )
    params = daemon.service.calls[-1][2]
    assert (params.settings(), params.reset) == ({"capacity": 9}, ["rate", "ageing"])
    code, out, _ = dlqueue("queue", "show", "slow")
    assert code == 0
    for line in ("capacity\t9", "concurrency\t2", "ageing\t0.5 points a minute"):
        assert line in out.splitlines()
    assert json.loads(dlqueue("queue", "show", "slow", "--json")[1])["capacity"] == 9
    assert json.loads(dlqueue("queue", "create", "other", "--json")[1])["name"] == "other"


def test_pause_and_resume(daemon: StubDaemon, dlqueue: Run) -> None:
    for name in ("a", "b"):
        daemon.service.queues[name] = a_queue(name)
    assert dlqueue("queue", "pause", "a", "b")[:2] == (0, "a\tpaused\nb\tpaused\n")
    code, out, err = dlqueue("queue", "resume", "a", "none", "b")
    assert (code, out) == (4, "a\tresumed\nb\tresumed\n")
    assert "no queue 'none'" in err and "dlqueue queue ls" in err
    assert [one["paused"] for one in json.loads(dlqueue("queue", "pause", "a", "b", "--json")[1])] == [True, True]


def test_exit_codes(daemon: StubDaemon, dlqueue: Run) -> None:
    assert dlqueue("queue", "show", "none")[0] == 4
    assert dlqueue("queue", "create", "a")[0] == 0
    assert dlqueue("queue", "create", "a")[0] == 7
    daemon.service.fail["queues.update"] = Forbidden("not you")
    assert dlqueue("queue", "set", "a", "--capacity", "3")[0] == 8


@pytest.mark.parametrize(
    "arguments",
    [
        ("set", "a"),
        ("set", "a", "--rate", "often"),
        ("set", "a", "--capacity", "many"),
        ("set", "a", "--reset", "name"),
        ("create",),
        ("pause",),
        ("lst",),
    ],
)
def test_wrong_usage(daemon: StubDaemon, dlqueue: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = dlqueue("queue", *arguments)
    assert (code, out) == (2, "") and "see: dlqueue queue" in err


def test_on_full(daemon: StubDaemon, dlqueue: Run) -> None:
    assert dlqueue("add", "http://127.0.0.1/a", "--on-full", "wait")[0] == 0
    assert daemon.service.calls[-1][2].on_full == "wait"
    assert dlqueue("add", "http://127.0.0.1/a", "http://127.0.0.1/b", "--on-full", "wait")[0] == 0
    (together,) = [params for name, _, params in daemon.service.calls if name == "tasks.submit_many"]
    assert [one.on_full for one in together.tasks] == ["wait", "wait"]
    assert dlqueue("task", "submit", "probe", "--on-full", "refuse")[0] == 0
    assert daemon.service.calls[-1][2].on_full == "refuse"
    assert dlqueue("add", "http://127.0.0.1/a", "--on-full", "drop")[0] == 2
    daemon.service.fail["downloads.add"] = LimitExceeded("queue 'downloads' is full", kind="capacity")
    code, _, err = dlqueue("add", "http://127.0.0.1/a")
    assert code == 7 and "--on-full wait" in err
