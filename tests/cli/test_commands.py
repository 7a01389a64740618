"""Commands against a stub daemon behind a real socket: data on stdout, the rest on stderr, exit codes as documented."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from dlqueue.cli import add, exits, follow, submit
from dlqueue.cli.main import program, run
from dlqueue.protocol.errors import Code, RpcError
from tests.test_docs import commands
from tests.transports.stub_service import WHEN, StubDaemon, stub_daemon

Output = pytest.CaptureFixture[str]


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubDaemon]:
    with stub_daemon(tmp_path / "s.sock") as running:
        monkeypatch.setenv("DLQUEUE_SOCKET", str(running.socket))
        yield running


class Answer:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        return [line.split("\t") for line in self.out.splitlines()]


@pytest.fixture
def dlqueue(capsys: Output) -> Callable[..., Answer]:
    def call(*arguments: str) -> Answer:
        code = run(arguments)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Answer(code, captured.out, captured.err)

    return call


Program = Callable[..., Answer]


def soon(daemon: StubDaemon, when: Callable[[], Any], **fields: Any) -> threading.Thread:
    """Change task 1 as soon as the condition holds."""

    def change() -> None:
        deadline = time.monotonic() + 30
        while not when():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        daemon.run(daemon.service.update(1, **fields))

    thread = threading.Thread(target=change)
    thread.start()
    return thread


def start(thread: threading.Thread) -> None:
    """`soon` has started it; `on_add` wants nothing back."""


def delivered(task: dict[str, Any], location: str = "/srv/file") -> dict[str, Any]:
    download = {**task["download"], "location": location, "delivered_at": WHEN}
    return {"status": "completed", "download": download}


# ---------------------------------------------------------------------------------------------------------------- add


def test_add(daemon: StubDaemon, dlqueue: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    daemon.service.make()
    answer = dlqueue(
        "add", "http://127.0.0.1/a", "-d", "sub", "-o", "b", "--on", "box", "--priority", "5", "--queue", "q",
        "--tag", "x", "--tag", "y", "--checksum", "sha-256=00", "--mirror", "http://127.0.0.2/a",
        "--header", "K: v: w ", "--after", "1",
        "--delay", "2h30m", "--max-retry", "3", "--unique-key", "k", "--paused", "--on-exists", "skip",
    )  # fmt: skip
    assert (answer.code, answer.err) == (0, "")
    assert answer.rows == [["2", "paused", "a"]]
    params = daemon.service.calls[-1][2]
    assert params.urls == ["http://127.0.0.1/a", "http://127.0.0.2/a"] and params.url is None
    assert (params.directory, params.cwd) == (str(tmp_path / "sub"), str(tmp_path))
    assert (params.name, params.downloader, params.priority, params.queue) == ("b", "box", 5, "q")
    assert params.labels == {"tag": ["x", "y"]} and params.headers == {"K": "v: w"}
    assert (params.depends_on, params.delay, params.max_retry) == ([1], 9000.0, 3)
    assert (params.unique_key, params.paused, params.on_exists, params.checksum) == ("k", True, "skip", "sha-256=00")


def test_add_several(daemon: StubDaemon, dlqueue: Program) -> None:
    assert dlqueue("add", "-q", "http://127.0.0.1/a", "http://127.0.0.1/b").out == "1\n2\n"
    assert [task["id"] for task in dlqueue("--json", "add", "http://127.0.0.1/a", "http://127.0.0.1/b").data] == [3, 4]
    assert dlqueue("add", "--json", "http://127.0.0.1/a").data["id"] == 5


def test_add_at(daemon: StubDaemon, dlqueue: Program) -> None:
    assert dlqueue("add", "http://127.0.0.1/a", "--at", "2030-01-31T18:00:00+02:00").code == 0
    assert daemon.service.calls[-1][2].run_at == "2030-01-31T16:00:00Z"


def test_joined_task_is_no_error(daemon: StubDaemon, dlqueue: Program) -> None:
    daemon.service.on_add = lambda task: task.update(created=False)
    answer = dlqueue("add", "-q", "http://127.0.0.1/a")
    assert (answer.code, answer.out) == (0, "1\n") and "joined task 1" in answer.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["foo"],
        ["http://a", "--at", "tomorrow"],
        ["http://a", "--delay", "soon"],
        ["http://a", "--delay", "1h", "--at", "2030-01-01"],
        ["http://a", "--on-exists", "maybe"],
        ["http://a", "--priority", "high"],
        ["http://a", "--header", "novalue"],
        ["http://a", "--after", "x"],
        ["http://a", "http://b", "-o", "name"],
        ["http://a", "http://b", "--mirror", "http://c"],
        ["http://a", "http://b", "--select", "1"],
        ["http://a", "--select", "0"],
        ["http://a", "--seed-ratio", "-1"],
        [],
    ],
)
def test_add_wrong_usage(daemon: StubDaemon, dlqueue: Program, arguments: list[str]) -> None:
    answer = dlqueue("add", *arguments)
    assert (answer.code, answer.out) == (exits.USAGE, "")
    assert answer.err.startswith("dlqueue: ") and len(answer.err.splitlines()) == 2
    assert not daemon.service.tasks


def test_directory_that_is_not_utf8(daemon: StubDaemon, dlqueue: Program) -> None:
    answer = dlqueue("add", "http://127.0.0.1/a", "-d", "/\udcff")
    assert answer.code == exits.USAGE and "UTF-8" in answer.err


def test_add_wait(daemon: StubDaemon, dlqueue: Program) -> None:
    daemon.service.on_add = lambda task: start(soon(daemon, lambda: daemon.service.streams, **delivered(task)))
    answer = dlqueue("add", "--wait", "http://127.0.0.1/a")
    assert (answer.code, answer.rows) == (0, [["1", "queued", "a"]]) and "1 delivered: /srv/file" in answer.err


# ---------------------------------------------------------------------------------------------------------------- get


def test_get_prints_where_the_file_is(daemon: StubDaemon, dlqueue: Program) -> None:
    daemon.service.on_add = lambda task: start(soon(daemon, lambda: daemon.service.streams, **delivered(task)))
    answer = dlqueue("get", "http://127.0.0.1/a")
    assert (answer.code, answer.out) == (0, "/srv/file\n")


def test_quiet_get_prints_ids_only(daemon: StubDaemon, dlqueue: Program) -> None:
    daemon.service.on_add = lambda task: task.update(delivered(task))
    answer = dlqueue("get", "-q", "http://127.0.0.1/a", "http://127.0.0.1/b")
    assert (answer.code, answer.out, answer.err) == (0, "1\n2\n", "")


def test_get_json(daemon: StubDaemon, dlqueue: Program) -> None:
    daemon.service.on_add = lambda task: task.update(delivered(task))
    assert dlqueue("get", "--json", "http://127.0.0.1/a").data["download"]["location"] == "/srv/file"
    both = dlqueue("get", "--json", "-q", "http://127.0.0.1/a", "http://127.0.0.1/b").data
    assert [task["status"] for task in both] == ["completed", "completed"]


def test_get_that_fails(daemon: StubDaemon, dlqueue: Program) -> None:
    error = {"kind": "http", "message": "the server answered 404", "at": WHEN}
    daemon.service.on_add = lambda task: task.update(status="error", error=error)
    answer = dlqueue("get", "http://127.0.0.1/a")
    assert (answer.code, answer.out) == (exits.TASK_FAILED, "")
    assert "404" in answer.err and "dlqueue show 1" in answer.err


def test_passing_error_is_told_at_once(daemon: StubDaemon, dlqueue: Program) -> None:
    def fail_first(task: dict[str, Any]) -> None:
        attempt = {
            "downloader": "http", "kind": "http", "key": "k", "started_at": WHEN, "ended_at": WHEN, "bytes": 0,
            "error_class": "passing", "message": "connection refused", "next": "retry",
        }  # fmt: skip
        task["download"]["attempts"] = [attempt]
        task.update(status="suspending", resume_at="2026-01-31T12:00:05.000Z")
        soon(
            daemon,
            lambda: any(name == "tasks.get" for name, _, _ in daemon.service.calls),
            **delivered(task),
        )

    daemon.service.on_add = fail_first
    answer = dlqueue("get", "-q", "http://127.0.0.1/a")
    assert answer.code == 0
    assert answer.err.count("connection refused") == 1 and "2026-01-31T12:00:05" in answer.err


def test_reason_for_standing_still_is_told(
    daemon: StubDaemon, dlqueue: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "TICK", 0.01)
    daemon.service.why = {"reason": "space", "message": "the disk is full"}

    def asked() -> bool:
        return any(name == "tasks.why" for name, _, _ in daemon.service.calls)

    daemon.service.on_add = lambda task: start(soon(daemon, asked, **delivered(task)))
    answer = dlqueue("get", "-q", "http://127.0.0.1/a")
    assert answer.code == 0 and answer.err == "dlqueue: 1: waits: the disk is full\n"


def test_refused_download(daemon: StubDaemon, dlqueue: Program) -> None:
    daemon.fail("downloads.add", RpcError("file: is not allowed", code=Code.POLICY, kind="scheme", field="url"))
    answer = dlqueue("get", "file:///etc/passwd")
    assert (answer.code, answer.out) == (exits.REFUSED, "") and "dlqueue: file: is not allowed" in answer.err


def test_ctrl_c_in_get_says_how_to_go_on(daemon: StubDaemon, dlqueue: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any, **named: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(add, "until_delivered", interrupted)
    answer = dlqueue("get", "http://127.0.0.1/a")
    assert answer.code == exits.INTERRUPTED
    for words in ("goes on as task 1", "dlqueue watch 1", "dlqueue pause 1", "dlqueue cancel 1"):
        assert words in answer.err


@pytest.mark.parametrize("command", ["get", "add"])
def test_ctrl_c_before_the_answer_says_where_to_look(
    daemon: StubDaemon, dlqueue: Program, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def interrupted(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(submit, "_together", interrupted)
    answer = dlqueue(command, "http://127.0.0.1/a")
    assert (answer.code, answer.out) == (exits.INTERRUPTED, "")
    assert "may have been added" in answer.err and "dlqueue ls" in answer.err


# ------------------------------------------------------------------------------------------------------------ looking


def test_ls(daemon: StubDaemon, dlqueue: Program) -> None:
    counters = {"downloaded": 1024, "total": 4096, "download_speed": 1024}
    progress = {"percent": 25.0, "message": None, "step": None, "counters": counters}
    made = daemon.service.make_download("http://127.0.0.1/a\x1b[31m\tb", progress=progress, status="suspending")
    made["download"]["state"] = "downloading"
    daemon.service.make(type="probe", status="error", labels={"tag": ["x"]})
    second, first = dlqueue("ls").rows
    assert first == ["1", "suspending", "25.0", "4096", "1024", "3", "a\ufffd[31m\ufffdb", "downloads", "tester"]
    assert second == ["2", "error", "", "", "", "", "probe", "downloads", "tester"]
    assert [row[0] for row in dlqueue("ls", "--status", "error,paused").rows] == ["2"]
    assert [row[0] for row in dlqueue("ls", "--tag", "x").rows] == ["2"]
    assert [task["id"] for task in dlqueue("ls", "--json").data] == [2, 1]
    assert dlqueue("ls", "--status", "paused", "--json").data == []


def test_ls_limit(daemon: StubDaemon, dlqueue: Program) -> None:
    for _ in range(1100):
        daemon.service.make()
    answer = dlqueue("ls", "--limit", "5")
    assert len(answer.rows) == 5 and "there are more" in answer.err
    everything = dlqueue("ls", "--limit", "5000")
    assert len(everything.rows) == 1100 and everything.err == ""


def test_ls_of_nothing(daemon: StubDaemon, dlqueue: Program) -> None:
    answer = dlqueue("ls")
    assert (answer.code, answer.out) == (0, "")


def test_ls_names_the_nearest_status(daemon: StubDaemon, dlqueue: Program) -> None:
    answer = dlqueue("ls", "--status", "eror")
    assert answer.code == exits.USAGE and 'did you mean "error"' in answer.err


def test_show(daemon: StubDaemon, dlqueue: Program) -> None:
    task = daemon.service.make_download("http://127.0.0.1/a", labels={"tag": ["x"]})
    task["download"]["files"] = [{"index": 1, "path": "a", "size": 10, "progress": 1.0, "selected": True}]
    answer = dlqueue("show", "1")
    for words in ("http://127.0.0.1/a", "tag=x", "waits for a free worker", "files", "history", "queued"):
        assert words in answer.out
    for line in (["task", "1  a"], ["status", "queued"], ["files", "1", "10 B", "a", ""]):
        assert line in answer.rows
    assert all(len(row) > 1 for row in answer.rows), "tab-separated in a pipe"
    data = dlqueue("show", "1", "--json").data
    assert data["id"] == 1 and data["why"]["reason"] == "due" and data["history"]["items"]


def test_why(daemon: StubDaemon, dlqueue: Program) -> None:
    daemon.service.make()
    assert dlqueue("why", "1").rows == [["1", "queued", "due", "waits for a free worker"]]
    assert dlqueue("why", "1", "--json").data["reason"] == "due"


def test_ids(daemon: StubDaemon, dlqueue: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(6):
        daemon.service.make(status="paused")
    assert [row[0] for row in dlqueue("resume", "2,4-5", "2", "@last").rows] == ["2", "4", "5", "6"]
    for word in ("x", "0", "3-", "-", "5-4", "1,,2", "1-99999999", "٣", "1" * 30):
        answer = dlqueue("resume", "--", word)
        assert answer.code == exits.USAGE, word
    assert dlqueue("show", "1-2").code == exits.USAGE


def test_last_asks_for_my_own(daemon: StubDaemon, dlqueue: Program) -> None:
    answer = dlqueue("why", "@last")
    assert answer.code == exits.NOT_FOUND and "no task yet" in answer.err
    params = daemon.service.calls[-1][2]
    assert params.owner == daemon.service.calls[-1][1].name and (params.order, params.limit) == ("-id", 1)


# ----------------------------------------------------------------------------------------------------------- steering


def test_steering(daemon: StubDaemon, dlqueue: Program) -> None:
    daemon.service.make_download("http://127.0.0.1/a")
    for command, status in (("pause", "paused"), ("resume", "queued"), ("cancel", "canceled"), ("retry", "queued")):
        assert dlqueue(command, "1").rows == [["1", status, "a"]]
        assert dlqueue(command, "1", "--json").data["status"] == status
    assert dlqueue("cancel", "1", "--delete-data").code == 0
    assert daemon.service.calls[-1][2].delete_data is True
    assert dlqueue("rm", "1", "--delete-data").rows == [["1", "removed", "a"]]
    assert not daemon.service.tasks


def test_steering_goes_on_after_a_refusal(daemon: StubDaemon, dlqueue: Program) -> None:
    daemon.service.make(status="completed")
    daemon.service.make()
    answer = dlqueue("pause", "1", "2", "3")
    assert answer.code == exits.REFUSED and [row[0] for row in answer.rows] == ["2"]
    assert "a completed task cannot be paused" in answer.err and "there is no task 3" in answer.err


def test_steering_all(daemon: StubDaemon, dlqueue: Program) -> None:
    daemon.service.make(status="error")
    daemon.service.make()
    assert dlqueue("retry", "--failed", "--json").data == {"count": 1}
    assert daemon.service.calls[-1][2].status == "error"
    answer = dlqueue("pause", "--all")
    assert answer.out == "" and "2 paused" in answer.err
    assert "2 resumed" in dlqueue("resume", "--all").err


@pytest.mark.parametrize("command", ["pause", "resume", "cancel", "retry", "rm", "wait"])
def test_steering_needs_ids(daemon: StubDaemon, dlqueue: Program, command: str) -> None:
    assert dlqueue(command).code == exits.USAGE
    if command not in ("cancel", "rm"):
        flag = "--failed" if command == "retry" else "--all"
        assert dlqueue(command, "1", flag).code == exits.USAGE


def test_pause_waits_until_the_step_is_over(
    daemon: StubDaemon, dlqueue: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.service.make(status="processing")

    async def pause(self: Any, caller: Any, params: Any) -> dict[str, Any]:
        await self.update(1, want="pause")
        task: dict[str, Any] = self.tasks[1]
        return dict(task)

    monkeypatch.setattr(type(daemon.service), "tasks_pause", pause)
    # The table of the running dispatcher holds the method that was there; a new daemon knows the new one.
    with stub_daemon(daemon.socket.with_name("two.sock")) as second:
        second.service.make(status="processing")
        thread = soon(second, lambda: second.service.streams, status="paused", want="run")
        answer = dlqueue("--socket", str(second.socket), "pause", "1")
        thread.join()
        assert answer.rows == [["1", "paused", "remote_download"]]
        second.run(second.service.update(1, status="processing", want="run"))
        second.service.streams.clear()
        thread = soon(second, lambda: second.service.streams, status="completed")
        answer = dlqueue("--socket", str(second.socket), "pause", "1")
        thread.join()
        assert answer.code == exits.REFUSED and "it is completed" in answer.err


def test_wait(daemon: StubDaemon, dlqueue: Program) -> None:
    daemon.service.make(status="completed")
    daemon.service.make(status="error", error={"kind": "http", "message": "it broke", "at": WHEN})
    daemon.service.make(status="canceled")
    daemon.service.make()
    assert dlqueue("wait", "1").rows == [["1", "completed", "remote_download"]]
    failed = dlqueue("wait", "1", "2")
    assert failed.code == exits.TASK_FAILED and len(failed.rows) == 2 and "http: it broke" in failed.err
    assert dlqueue("wait", "3").code == exits.TASK_FAILED
    assert dlqueue("wait", "4", "--timeout", "10ms").code == exits.TIMED_OUT
    assert dlqueue("wait", "--all", "--timeout", "10ms").code == exits.TIMED_OUT
    assert dlqueue("wait", "99").code == exits.NOT_FOUND
    assert dlqueue("wait", "1", "--json").data["status"] == "completed"


def test_wait_ends_with_the_task(daemon: StubDaemon, dlqueue: Program) -> None:
    daemon.service.make()
    thread = soon(daemon, lambda: daemon.service.waiting, status="completed")
    assert dlqueue("wait", "--all").rows == [["1", "completed", "remote_download"]]
    thread.join()


def test_wait_until_delivered(daemon: StubDaemon, dlqueue: Program) -> None:
    task = daemon.service.make_download(status="suspending")
    task["download"]["delivered_at"] = WHEN
    assert dlqueue("wait", "1", "--until", "delivered", "--timeout", "60s").code == 0


def test_wait_goes_on_with_the_next_daemon(tmp_path: Path, dlqueue: Program) -> None:
    first, second = StubDaemon(tmp_path / "s.sock"), StubDaemon(tmp_path / "s.sock")
    first.start()
    first.service.make()

    def restart() -> None:
        deadline = time.monotonic() + 30
        while not first.service.waiting and time.monotonic() < deadline:
            time.sleep(0.005)
        first.stop()
        second.start(lambda service: service.make(status="completed"))

    thread = threading.Thread(target=restart)
    thread.start()
    answer = dlqueue("--socket", str(first.socket), "wait", "1", "--timeout", "60s")
    thread.join()
    second.stop()
    assert answer.rows == [["1", "completed", "remote_download"]] and "waiting for it" in answer.err


def test_watch(daemon: StubDaemon, dlqueue: Program) -> None:
    daemon.service.make_download("http://127.0.0.1/a")
    thread = soon(daemon, lambda: "tasks.get" in [name for name, _, _ in daemon.service.calls], status="completed")
    answer = dlqueue("watch", "1")
    thread.join()
    assert answer.code == 0 and [row[1] for row in answer.rows] == ["queued", "completed"]
    assert [json.loads(line)["status"] for line in dlqueue("watch", "1", "--json").out.splitlines()] == ["completed"]


def test_watch_everything_until_interrupted(
    daemon: StubDaemon, dlqueue: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dlqueue.cli.live.time.sleep", stop)
    daemon.service.make()
    daemon.service.make(status="completed")
    watched = dlqueue("watch")
    assert watched.code == exits.INTERRUPTED and [row[0] for row in watched.rows] == ["1"]
    listed = dlqueue("ls", "--watch", "--json")
    assert listed.code == exits.INTERRUPTED and len(listed.out.splitlines()) == 2


# ------------------------------------------------------------------------------------------------------------- others


def test_rpc(daemon: StubDaemon, dlqueue: Program) -> None:
    daemon.service.make()
    assert dlqueue("rpc", "tasks.get", '{"id": 1}').data["id"] == 1
    assert dlqueue("rpc", "tasks.count").out == "1\n"
    assert dlqueue("rpc", "daemon.config").data == {"daemon": {"workers": 8}}
    for text in ("{", "[1]", "7"):
        assert dlqueue("rpc", "tasks.get", text).code == exits.USAGE
    answer = dlqueue("rpc", "tasks.gett")
    assert answer.code == exits.FAILURE and '"tasks.get"' in answer.err and answer.out == ""


def test_version(daemon: StubDaemon, dlqueue: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dlqueue("version").out.splitlines()[0].startswith("dlqueue ")
    assert dlqueue("version", "--json").data["daemon"]["node"] == "stub"
    monkeypatch.setenv("DLQUEUE_SOCKET", "/nonexistent/s.sock")
    assert dlqueue("version").code == 0
    assert dlqueue("version", "--json").data["daemon"] is None
    assert dlqueue("--version").out.startswith("dlqueue ")


def test_unknown_command(dlqueue: Program) -> None:
    answer = dlqueue("lss")
    assert answer.code == exits.USAGE and 'did you mean "ls"' in answer.err
    assert dlqueue("nothing-like-it").code == exits.USAGE


def test_every_command_has_help(dlqueue: Program) -> None:
    from dlqueue.cli.main import _COMMANDS

    for name in _COMMANDS:
        answer = dlqueue(name, "--help")
        assert answer.code == 0 and "--socket" in answer.out and "--json" in answer.out


def test_unreachable(dlqueue: Program, tmp_path: Path) -> None:
    answer = dlqueue("ls", "--socket", str(tmp_path / "none.sock"))
    assert (answer.code, answer.out) == (exits.UNREACHABLE, "")
    assert str(tmp_path) in answer.err and "dlqueue daemon --user" in answer.err


@pytest.mark.parametrize("code", sorted(Code))
def test_exit_code_of_every_error(daemon: StubDaemon, dlqueue: Program, code: Code) -> None:
    expected = {
        Code.INVALID_PARAMS: 2, Code.NOT_FOUND: 4, Code.UNAUTHENTICATED: 8, Code.FORBIDDEN: 8, Code.CONFLICT: 7,
        Code.LIMIT: 7, Code.POLICY: 7, Code.TIMED_OUT: 6,
    }  # fmt: skip
    daemon.fail("daemon.info", RpcError("it said\nno", code=code, kind="kind"))
    answer = dlqueue("rpc", "daemon.info")
    assert answer.code == expected.get(code, 1) and answer.out == ""
    assert answer.err.splitlines()[0] == "dlqueue: it said no"


def test_defect_of_ours_is_one_line(daemon: StubDaemon, dlqueue: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any, **named: Any) -> Any:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("dlqueue.cli.show.tasks", broken)
    monkeypatch.delenv("DLQUEUE_DEBUG", raising=False)
    answer = dlqueue("ls")
    assert answer.code == exits.FAILURE and "ZeroDivisionError" in answer.err


def test_every_command_says_what_it_does_on_one_line() -> None:
    for name, command in [("dlqueue", program), *commands(program)]:
        assert command.help, name
        assert not command.get_short_help_str(61).endswith("..."), f"{name}: {command.help.splitlines()[0]}"


def test_help_fits_a_terminal() -> None:
    for name, command in [("dlqueue", program), *commands(program)]:
        for line in command.get_help(click.Context(command, info_name=name, terminal_width=80)).splitlines():
            assert len(line) <= 80, (name, line)
