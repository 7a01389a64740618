"""How quickly the program starts, and how it starts a daemon of its own."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from dlqueue.cli import autostart, exits
from dlqueue.cli.main import program, run
from dlqueue.cli.session import Session
from dlqueue.client import Client, DaemonUnreachable
from tests.test_docs import commands
from tests.transports.stub_service import DOWNLOADER, SCHEDULE, WHEN, StubDaemon, a_queue, stub_daemon

_HEAVY = {
    "pydantic",
    "anyio",
    "rich",
    "sqlalchemy",
    "msgspec",
    "asyncio",
    "dlqueue.protocol.messages",
    "dlqueue.daemon",
}

_STUB = """
import sys, time
from pathlib import Path
from tests.transports.stub_service import stub_daemon
with stub_daemon(Path(sys.argv[1])):
    print("stub is up", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[StubDaemon]:
    with stub_daemon(tmp_path / "s.sock") as running:
        yield running


_PLAIN = """
ls | ls --json | show 1 | why 1 | wait 1 | pause 2 | resume 2 | retry 3 | cancel 2 | edit 1 --tag x | files 1 | rm 3
watch 1 | events | stats | get -q http://127.0.0.1/a | add http://127.0.0.1/a | add -i list | add list
rpc daemon.info | version | task submit probe | completions bash | --help | add --help | schedule --help
downloader ls | downloader show box | downloader test box | downloader pause box | downloader resume box
downloader kinds | queue ls | queue show q | queue create new | queue set q --concurrency 2 | queue pause q
queue resume q | schedule ls | schedule show s | schedule create n --every 1h --type probe
schedule set s --every 2h | schedule pause s | schedule resume s | schedule run s | schedule rm s | config show
config reload | token new t --role read | token ls | token revoke t | notify test phone
"""
"""Every command but those that start a daemon, read its files or fill the screen."""
_NOT_PLAIN = {
    "daemon",
    "setup",
    "top",
    "doctor",
    "config check",
    "config path",
    "db backup",
    "db upgrade",
    "db version",
}
_RUN_ALL = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from dlqueue.cli.main import program, run
heavy = set(json.loads(sys.argv[2]))
for line in json.loads(sys.argv[3]):
    said = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(said):
        code = run(["--socket", sys.argv[1], *line.split()])
    print(json.dumps([line, code, said.getvalue(), sorted(heavy & set(sys.modules))]))
"""


def test_plain_commands_import_nothing_heavy(daemon: StubDaemon, tmp_path: Path) -> None:
    lines = [line.strip() for line in _PLAIN.replace("\n", "|").split("|") if line.strip()]
    daemon.service.make_download("http://127.0.0.1/a", status="completed")
    daemon.service.make_download("http://127.0.0.1/b", status="queued")
    daemon.service.make_download("http://127.0.0.1/c", status="error")
    daemon.service.on_add = lambda task: task.update(status="completed")
    daemon.service.downloaders["box"] = {"name": "box"} | DOWNLOADER
    daemon.service.queues["q"] = a_queue("q")
    daemon.service.schedules["s"] = {**SCHEDULE, "name": "s"}
    (tmp_path / "list").write_text("http://127.0.0.1/x\n")
    done = subprocess.run(
        [sys.executable, "-c", _RUN_ALL, str(daemon.socket), json.dumps(sorted(_HEAVY)), json.dumps(lines)],
        capture_output=True, text=True, timeout=120, check=True, cwd=tmp_path,
    )  # fmt: skip
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line for line, *_ in answers] == lines
    # What one command has loaded stays: the first that names a module is the one that loads it.
    assert [(line, heavy) for line, _, _, heavy in answers if heavy][:1] == []
    refused = [(line, code, said) for line, code, said, _ in answers if code != exits.OK]
    assert refused == []


def test_every_command_is_looked_at() -> None:
    known = {name.removeprefix("dlqueue ") for name, command in commands(program) if not command.hidden}
    lines = [f"{line.strip()} " for line in _PLAIN.replace("\n", "|").split("|")]
    looked_at = {name for name in known if any(line.startswith(f"{name} ") for line in lines)}
    assert known - looked_at == _NOT_PLAIN


def test_module_runs_as_the_program(daemon: StubDaemon) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dlqueue", "--socket", str(daemon.socket), "why", "99"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (exits.NOT_FOUND, "")
    assert done.stderr.startswith("dlqueue: there is no task 99\n")


def test_reader_that_has_seen_enough_is_no_error_message(daemon: StubDaemon) -> None:
    for _ in range(1000):
        daemon.service.make_download()
    command = f"{sys.executable} -m dlqueue --socket {daemon.socket} ls --limit 1000 | head -n 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("1000\t") and done.stderr == ""


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed(daemon: StubDaemon, closed: str) -> None:
    line = f'exec "$0" -m dlqueue --socket "$1" ls {closed}'
    done = subprocess.run(
        ["sh", "-c", line, sys.executable, str(daemon.socket)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", [("get",), ("add", "--wait", "-q")])
def test_ctrl_c(daemon: StubDaemon, command: tuple[str, ...]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "dlqueue", "--socket", str(daemon.socket), *command, "http://127.0.0.1/a"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not daemon.service.streams and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (exits.INTERRUPTED, "" if command == ("get",) else "1\n")
    assert "goes on as task 1" in err and "dlqueue cancel 1" in err and "Traceback" not in err
    assert daemon.service.tasks[1]["status"] == "queued", "only the client ended"


def read_out(screen: int) -> str:
    """All that the terminal was sent: it need not come in one piece. Whoever sent it has ended."""
    sent = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while chunk := os.read(screen, 65536):
            sent += chunk
    os.close(screen)
    return sent.decode()


def test_data_stays_on_stdout_beside_bars(daemon: StubDaemon) -> None:
    download = {"location": "/srv/file", "delivered_at": WHEN}
    daemon.service.on_add = lambda task: task.update(status="completed", download={**task["download"], **download})
    screen, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "dlqueue", "--socket", str(daemon.socket), "get", "http://127.0.0.1/file"],
        stdout=subprocess.PIPE, stderr=terminal, env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(terminal)
    out, _ = process.communicate(timeout=60)
    shown = read_out(screen)
    assert (process.returncode, out) == (0, b"/srv/file\n")
    assert "1  file" in shown and "/srv/file" not in shown


def test_table_on_a_terminal(daemon: StubDaemon) -> None:
    daemon.service.make_download("http://127.0.0.1/" + "long" * 50 + ".iso")
    screen, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "dlqueue", "--socket", str(daemon.socket), "ls"],
        stdout=terminal, env={**os.environ, "COLUMNS": "80"},
    )  # fmt: skip
    os.close(terminal)
    assert process.wait(timeout=60) == 0
    title, row = read_out(screen).splitlines()
    assert title.split() == ["ID", "STATUS", "%", "SIZE", "SPEED", "ETA", "NAME"]
    assert len(row) <= 80 and "…" in row and row.endswith(".iso")


# ------------------------------------------------------------------------------------------------- a daemon of its own


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DLQUEUE_SOCKET", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path


def test_starts_a_daemon_and_connects(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    socket = places / "run" / "dlqueue" / "dlqueue.sock"
    processes: list[subprocess.Popen[bytes]] = []
    original = autostart._when_it_answers

    def watched(process: subprocess.Popen[bytes], socket: Path, log: Path, begin: int) -> Client:
        processes.append(process)
        return original(process, socket, log, begin)

    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    monkeypatch.setattr(autostart, "_command", lambda session, path: [sys.executable, "-c", _STUB, str(path)])
    monkeypatch.setattr(autostart, "_when_it_answers", watched)
    monkeypatch.setattr(autostart, "_START_SECONDS", 60.0)
    session = Session()
    try:
        autostart.ensure_daemon(session)
        assert session.client.path == socket and session.client.daemon.info()["node"] == "stub"
        autostart.ensure_daemon(session)
        assert len(processes) == 1, "one that answers is enough"
        assert os.getsid(processes[0].pid) == processes[0].pid, "it outlives our terminal"
        log = places / "state" / "dlqueue" / "daemon.log"
        assert stat.S_IMODE(log.stat().st_mode) == 0o600 and stat.S_IMODE(log.parent.stat().st_mode) == 0o700
    finally:
        session.close()
        for process in processes:
            process.kill()
            process.wait()


def test_daemon_that_fails_shows_its_log(
    places: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails = "import sys; print('the disk is on fire', file=sys.stderr); sys.exit(3)"
    monkeypatch.setattr(autostart, "_command", lambda session, path: [sys.executable, "-c", fails])
    monkeypatch.setattr(autostart, "_START_SECONDS", 60.0)
    monkeypatch.setattr(autostart, "_OTHER_SECONDS", 0.05)
    assert run(["get", "http://127.0.0.1/a"]) == exits.UNREACHABLE
    captured = capsys.readouterr()
    assert captured.out == "" and "the disk is on fire" in captured.err
    assert "exit code 3" in captured.err and "daemon.log" in captured.err


def test_daemon_that_never_answers_is_given_up(
    places: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    processes: list[subprocess.Popen[bytes]] = []
    original = autostart._when_it_answers

    def watched(process: subprocess.Popen[bytes], socket: Path, log: Path, begin: int) -> Client:
        processes.append(process)
        return original(process, socket, log, begin)

    monkeypatch.setattr(autostart, "_command", lambda session, path: ["sleep", "60"])
    monkeypatch.setattr(autostart, "_START_SECONDS", 0.1)
    monkeypatch.setattr(autostart, "_when_it_answers", watched)
    assert run(["get", "http://127.0.0.1/a"]) == exits.UNREACHABLE
    assert "does not answer" in capsys.readouterr().err
    for process in processes:
        process.kill()
        process.wait()


def test_command_line_of_the_daemon(places: Path) -> None:
    session = Session()
    session.socket, session.config = "x.sock", "my.toml"
    command = autostart._command(session, Path("/tmp/x.sock"))
    assert command[1:] == [
        "-m", "dlqueue", "daemon", "--user", "--ends-when-idle", "--socket", "/tmp/x.sock",
        "--config", str(Path.cwd() / "my.toml"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGTERM, ""), (signal.SIGINT, ""), (signal.SIGHUP, "it went on\n")]
)
def test_a_signal_to_a_daemon_that_is_being_loaded(places: Path, number: int, said: str) -> None:
    """A stop ends it well; a reload has nothing to read again."""
    loading = """
        import signal, sys, types

        class Loading(types.ModuleType):
            def __getattr__(self, name):
                signal.raise_signal(int(sys.argv[1]))
                sys.exit("it went on")

        sys.modules["dlqueue.daemon.run"] = Loading("dlqueue.daemon.run")
        from dlqueue.cli.main import run
        sys.exit(run(["daemon"]))
    """
    done = subprocess.run([sys.executable, "-c", dedent(loading), str(int(number))], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1 if said else 0, said)


def test_what_the_environment_names_is_meant_from_here(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon runs in another folder."""
    monkeypatch.chdir(places)
    monkeypatch.setenv("DLQUEUE_CONFIG", "sub/my.toml")
    monkeypatch.setenv("DLQUEUE_SOCKET", "sub/x.sock")
    command = autostart._command(Session(), Path("/tmp/x.sock"))
    assert command[5:] == ["--ends-when-idle", "--socket", "/tmp/x.sock", "--config", str(places / "sub" / "my.toml")]


def test_only_get_starts_one(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(session: Session) -> None:
        raise AssertionError

    monkeypatch.setattr(autostart, "start_daemon", never)
    for arguments in (["add", "http://127.0.0.1/a"], ["ls"], ["wait", "1"], ["version"]):
        assert run(arguments) in (exits.UNREACHABLE, exits.OK)
    with pytest.raises(DaemonUnreachable):
        _ = Session().client
