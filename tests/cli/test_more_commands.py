"""`events`, `edit`, `downloader`, `task submit`, `completions`: what is sent, what is printed, what is refused."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dlqueue.cli import exits
from dlqueue.protocol.errors import Conflict
from tests.cli.conftest import Run
from tests.transports.stub_service import DOWNLOADER, WHEN, StubDaemon


@pytest.fixture(autouse=True)
def two_downloaders(daemon: StubDaemon) -> None:
    daemon.service.downloaders = {name: {"name": name} | DOWNLOADER for name in ("box", "web")}


def asked(daemon: StubDaemon, method: str) -> list[Any]:
    return [params for name, _, params in daemon.service.calls if name == method]


# -- events -----------------------------------------------------------------------------------------------------------


def test_events_that_are_kept(daemon: StubDaemon, dlqueue: Run) -> None:
    kept = [{"sequence": i, "topic": "task", "task_id": 1, "at": WHEN, "data": {}} for i in range(1, 2502)]
    daemon.service.events = kept
    code, out, _ = dlqueue("events")
    assert code == 0 and [json.loads(line) for line in out.splitlines()] == kept
    assert len(asked(daemon, "events.list")) == 3, "page by page"
    assert len(dlqueue("events", "--since", "2500")[1].splitlines()) == 1
    daemon.service.make()
    dlqueue("events", "1", "--topic", "task")
    assert asked(daemon, "events.list")[-1].task_ids == [1]


def test_events_wrong_usage(daemon: StubDaemon, dlqueue: Run) -> None:
    assert "--follow" in dlqueue("events", "--topic", "progress")[2]
    for arguments in (["--topic", "nope"], ["--since", "-1"], ["x"]):
        assert dlqueue("events", *arguments)[0] == exits.USAGE
    assert dlqueue("events", "7-8")[0] == exits.NOT_FOUND


def test_events_as_they_come(daemon: StubDaemon, dlqueue: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon.service.make()

    def happen() -> None:
        deadline = time.monotonic() + 30
        while not daemon.service.streams:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        for _ in range(2):
            daemon.run(daemon.service.update(1, status="processing"))

    from dlqueue.cli import events

    seen: list[dict[str, Any]] = []

    def stop_after_two(value: dict[str, Any], *, stream: bool) -> None:
        seen.append(value)
        if len(seen) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(events, "put_json", stop_after_two)
    thread = threading.Thread(target=happen)
    thread.start()
    code, _, _ = dlqueue("events", "--follow")
    thread.join()
    assert code == exits.INTERRUPTED
    assert [(event["topic"], event["task_id"]) for event in seen] == [("task", 1)] * 2
    assert all("subscription" not in event for event in seen)


# -- edit -------------------------------------------------------------------------------------------------------------


def test_edit(daemon: StubDaemon, dlqueue: Run) -> None:
    daemon.service.make(labels={"tag": ["old"], "mine": ["kept"]})
    daemon.service.make()
    code, out, _ = dlqueue("edit", "1-2", "--priority", "7", "--tag", "a", "--tag", "b")
    assert code == 0 and len(out.splitlines()) == 2
    assert daemon.service.tasks[1]["labels"] == {"mine": ["kept"], "tag": ["a", "b"]}
    assert (daemon.service.tasks[1]["priority"], daemon.service.tasks[2]["priority"]) == (7, 7)
    assert dlqueue("edit", "1", "--tag", "")[0] == 0
    assert daemon.service.tasks[1]["labels"] == {"mine": ["kept"]}
    assert json.loads(dlqueue("edit", "1", "--priority", "1", "--json")[1])["priority"] == 1


def test_edit_beside_a_change(daemon: StubDaemon, dlqueue: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that has changed between our look and our edit is looked at again."""
    daemon.service.make(labels={"tag": ["old"]})
    from dlqueue.client import verbs

    changed: list[int] = []
    call = verbs.given

    def meanwhile(params: dict[str, Any]) -> dict[str, Any]:
        if "if_revision" in params and not changed:
            changed.append(1)
            daemon.run(daemon.service.update(1, labels={"tag": ["old"], "new": ["x"]}))
        return call(params)

    monkeypatch.setattr(verbs, "given", meanwhile)
    assert dlqueue("edit", "1", "--tag", "b")[0] == 0
    assert daemon.service.tasks[1]["labels"] == {"tag": ["b"], "new": ["x"]}


def test_edit_that_is_refused(daemon: StubDaemon, dlqueue: Run) -> None:
    daemon.service.make()
    assert dlqueue("edit", "1")[0] == exits.USAGE
    assert "--url is about one" in dlqueue("edit", "1-2", "--url", "http://h/a")[2]
    assert dlqueue("edit", "9", "--priority", "1")[0] == exits.NOT_FOUND
    daemon.fail("tasks.update", Conflict("task 1 is completed"))
    code, _, err = dlqueue("edit", "1", "--tag", "x")
    assert code == exits.REFUSED and err.count("task 1 is completed") == 1


# -- downloader -------------------------------------------------------------------------------------------------------


def test_downloader_ls_and_show(daemon: StubDaemon, dlqueue: Run) -> None:
    daemon.service.downloaders["web"] |= {"health": "down", "last_error": "refused\x1b[0m", "paused": True}
    daemon.service.downloaders["box"] |= {"paused": True, "download_speed": 5}
    rows = [line.split("\t") for line in dlqueue("downloader", "ls")[1].splitlines()]
    assert rows[0] == ["box", "http", "paused", "1", "0", "5", "5", "0", ""]
    assert rows[1][2] == "down" and rows[1][-1] == "refused\ufffd[0m"
    assert [one["name"] for one in json.loads(dlqueue("downloader", "ls", "--json")[1])] == ["box", "web"]
    out = dlqueue("downloader", "show", "box")[1]
    assert "paused\tyes" in out and "transfers\t0 of at most 5" in out
    assert json.loads(dlqueue("downloader", "--json", "show", "box")[1])["name"] == "box"
    daemon.service.downloaders.clear()
    code, out, err = dlqueue("downloader", "ls")
    assert (code, out) == (0, "") and "dlqueue downloader kinds" in err


def test_downloader_test(daemon: StubDaemon, dlqueue: Run) -> None:
    good = {"name": "reach", "ok": True, "message": "it answers"}
    bad = {"name": "path map", "ok": False, "message": "no such folder", "cure": "make it"}
    daemon.service.tested = {"ok": True, "version": "1", "checks": [good]}
    assert dlqueue("downloader", "test", "box") == (0, "box\tok\treach\tit answers\n", "")
    daemon.service.tested = {"ok": False, "version": "1", "checks": [good, bad]}
    code, out, _ = dlqueue("downloader", "test", "box", "web")
    assert code == exits.FAILURE and "web\tnot ok\tpath map\tno such folder\tmake it\n" in out
    code, out, _ = dlqueue("downloader", "test", "box", "--json")
    assert code == exits.FAILURE and json.loads(out) == daemon.service.tested
    both = json.loads(dlqueue("downloader", "test", "box", "web", "--json")[1])
    assert [one["name"] for one in both] == ["box", "web"]
    assert [one["name"] for one in json.loads(dlqueue("downloader", "test", "--json")[1])] == ["box", "web"], "all"


def test_downloader_pause_and_resume(daemon: StubDaemon, dlqueue: Run) -> None:
    assert dlqueue("downloader", "pause", "box", "web")[1] == "box\tpaused\nweb\tpaused\n"
    assert json.loads(dlqueue("downloader", "resume", "box", "--json")[1])["paused"] is False
    assert daemon.service.downloaders["web"]["paused"] is True
    code, out, err = dlqueue("downloader", "pause", "none", "box")
    assert code == exits.NOT_FOUND and out == "box\tpaused\n" and "dlqueue downloader ls" in err


def test_downloader_kinds(daemon: StubDaemon, dlqueue: Run) -> None:
    daemon.service.kinds = [
        {"kind": "a", "usable": True, "schemes": ["http", "magnet"], "downloaders": ["box"], "problem": None},
        {"kind": "b", "usable": False, "schemes": [], "downloaders": [], "problem": "needs the module c"},
    ]
    assert dlqueue("downloader", "kinds")[1] == "a\tyes\tbox\thttp magnet\nb\tno\t\tneeds the module c\n"
    assert json.loads(dlqueue("downloader", "kinds", "--json")[1]) == daemon.service.kinds


def test_groups_name_the_nearest_command(daemon: StubDaemon, dlqueue: Run) -> None:
    code, _, err = dlqueue("downloader", "tset", "box")
    assert code == exits.USAGE and 'did you mean "test"' in err and "dlqueue downloader --help" in err
    code, _, err = dlqueue("task", "xyz")
    assert code == exits.USAGE and "there is submit" in err
    assert dlqueue("downloader")[0] == exits.USAGE
    assert dlqueue("downloader", "--help")[0] == 0


# -- task submit ------------------------------------------------------------------------------------------------------


def test_task_submit(daemon: StubDaemon, dlqueue: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon.service.make(status="completed")
    code, out, err = dlqueue(
        "task", "submit", "probe", "--params", '{"url": "x"}', "--queue", "q", "--priority", "2", "--tag", "t",
        "--label", "a=b", "--label", "a=c=d", "--delay", "1h", "--max-retry", "3", "--retry-delay", "5s", "--timeout",
        "10s", "--max-execution", "2h", "--after", "1", "--on-dependency-failure", "run", "--parent", "1",
        "--unique-key", "k", "--correlation-id", "c", "--paused",
        "--estimate", "memory=2GiB, cpu=1.5,seconds=2h,temp=5k",
    )  # fmt: skip
    assert (code, out, err) == (0, "2\tqueued\tprobe\n", "")
    params = daemon.service.calls[-1][2]
    assert (params.type, params.params, params.queue, params.priority) == ("probe", {"url": "x"}, "q", 2)
    assert params.labels == {"tag": ["t"], "a": ["b", "c=d"]}
    assert (params.delay, params.max_retry, params.retry_delay, params.timeout) == (3600.0, 3, 5.0, 10.0)
    assert (params.max_execution, params.depends_on, params.parent_id) == (7200.0, [1], 1)
    assert (params.on_dependency_failure, params.unique_key, params.correlation_id) == ("run", "k", "c")
    assert params.paused is True
    assert params.estimate.parts() == {"memory": 2 * 2**30, "cpu": 1.5, "seconds": 7200, "temp": 5000}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"n": 1}')))
    assert dlqueue("task", "submit", "probe", "--params", "-", "-q")[1] == "3\n"
    assert daemon.service.calls[-1][2].params == {"n": 1}
    assert json.loads(dlqueue("task", "submit", "probe", "--json")[1])["id"] == 4


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["probe", "--params", "{"],
        ["probe", "--params", "[1]"],
        ["probe", "--label", "x"],
        ["probe", "--notify", "x"],
        ["probe", "--parent", "1-2"],
        ["probe", "--timeout", "soon"],
        ["probe", "--estimate", "memory"],
        ["probe", "--estimate", "disk=1"],
        ["probe", "--estimate", "memory=much"],
        ["probe", "--estimate", "cpu=two"],
        ["probe", "--estimate", "cpu=1,cpu=2"],
    ],
)
def test_task_submit_wrong_usage(daemon: StubDaemon, dlqueue: Run, arguments: list[str]) -> None:
    code, out, _ = dlqueue("task", "submit", *arguments)
    assert (code, out) == (exits.USAGE, "") and not daemon.service.tasks


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"id": NaN}', "NaN is not JSON"),
        ('{"id": 1, "id": 2}', 'the key "id" is given twice'),
        ('{"id": "\\ud800"}', "lone surrogate"),
        ('{"id": ' + "[" * 50 + "]" * 50 + "}", "nested deeper"),
        ('{"id": 99999999999999999999}', "64 bits"),
        ("{", "not JSON"),
        ("[1]", "must be a JSON object"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        ("rpc", "tasks.get"),
        ("task", "submit", "probe", "--params"),
        ("schedule", "create", "s", "--every", "1h", "--type", "probe", "--params"),
    ],
    ids=lambda words: words[0],
)
def test_json_that_a_person_types_is_read_strictly(
    daemon: StubDaemon, dlqueue: Run, command: tuple[str, ...], text: str, said: str
) -> None:
    code, out, err = dlqueue(*command, text)
    assert (code, out) == (exits.USAGE, "") and said in err and "defect" not in err
    assert not daemon.service.calls


def test_task_submit_of_a_download_goes_into_the_folder_here(daemon: StubDaemon, dlqueue: Run) -> None:
    for given in ({}, {"directory": "/srv"}, {"cwd": "/tmp"}):
        params = json.dumps({"url": "http://h/a", **given})
        assert dlqueue("task", "submit", "remote_download", "--params", params)[0] == 0
        expected = given or {"cwd": str(Path.cwd())}
        assert daemon.service.calls[-1][2].params == {"url": "http://h/a", **expected}


def test_task_submit_and_wait(daemon: StubDaemon, dlqueue: Run) -> None:
    def end() -> None:
        deadline = time.monotonic() + 30
        while not daemon.service.streams:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        daemon.run(daemon.service.update(1, status="completed"))

    thread = threading.Thread(target=end)
    thread.start()
    code, out, _ = dlqueue("task", "submit", "probe", "--wait", "--json")
    thread.join()
    assert code == 0 and json.loads(out)["status"] == "completed"


def test_what_we_may_not_read_is_for_the_daemon_to_judge(
    daemon: StubDaemon, dlqueue: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    words = ("add", "http://h/a", "-d", str(tmp_path), "--socket", str(daemon.socket))
    assert dlqueue(*words)[0] == 0 and daemon.service.calls[-1][2].directory == str(tmp_path)


def test_home_behind_an_equals_sign(
    daemon: StubDaemon, dlqueue: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert dlqueue("--socket=~/s.sock", "ls")[0] == 0, "where a daemon with the same words listens"
    (tmp_path / "c.toml").write_text("[daemon]\nworkers = 3\n")
    code, _, err = dlqueue("config", "check", "--config=~/c.toml")
    assert code == 0 and str(tmp_path / "c.toml") in err


# -- completions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(dlqueue: Run, shell: str) -> None:
    code, out, err = dlqueue("completions", shell)
    assert (code, err) == (0, "") and f"_COMPLETE={shell}_complete" in out and "dlqueue" in out


def complete(daemon: StubDaemon, *words: str) -> list[str]:
    """What fish would be offered for the last word."""
    environ = {
        **os.environ, "_DLQUEUE_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(("dlqueue", *words)),
        "COMP_CWORD": str(len(words)), "DLQUEUE_SOCKET": str(daemon.socket),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "dlqueue"], env=environ, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def offered(daemon: StubDaemon, expected: list[str], *words: str) -> None:
    """What the daemon knows is left out if it does not answer within a second: then it is asked again."""
    deadline = time.monotonic() + 60
    while (found := complete(daemon, *words)) != expected:
        assert time.monotonic() < deadline, found


def test_completions(daemon: StubDaemon) -> None:
    daemon.service.make_download()
    daemon.service.make()
    assert complete(daemon, "downl") == ["downloader"]
    assert complete(daemon, "downloader", "te") == ["test"]
    offered(daemon, ["box"], "downloader", "test", "b")
    offered(daemon, ["box", "web"], "add", "--on", "")
    assert "--checksum" in complete(daemon, "get", "--ch")
    offered(daemon, ["@last", "2", "1"], "pause", "")
    offered(daemon, ["1,@last", "1,2", "1,1"], "pause", "1,")
    assert complete(daemon, "ls", "--status", "do") == ["downloading"]
    assert complete(daemon, "resume", "") == ["@last"], "none is paused"
    assert complete(daemon, "nothing-like-it", "") is not None
