"""`config check|show|path|reload`: on files alone, and against a real daemon."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dlqueue.cli.main import run
from tests.daemon.instance import Instance, as_json, fake_section

Output = pytest.CaptureFixture[str]


class Answer:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def data(self) -> Any:
        return json.loads(self.out)


Program = Callable[..., Answer]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this user's own configuration is."""
    for name in ("DLQUEUE_CONFIG", "DLQUEUE_SOCKET", "INVOCATION_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CONFIG_HOME", "STATE_HOME", "RUNTIME_DIR"):
        monkeypatch.setenv(f"XDG_{name}", str(tmp_path / name.lower()))
    made = tmp_path / "config_home" / "dlqueue"
    (made / "conf.d").mkdir(parents=True)
    return made


@pytest.fixture
def dlqueue(capsys: Output, folder: Path) -> Program:
    def call(*arguments: str) -> Answer:
        code = run(arguments)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Answer(code, captured.out, captured.err)

    return call


# -- files alone ------------------------------------------------------------------------------------------------------


def test_check_without_any_file(dlqueue: Program, folder: Path) -> None:
    answer = dlqueue("config", "check", "--user")
    assert (answer.code, answer.out) == (0, "")
    assert answer.err == f"no problem (user instance; there is no {folder}/dlqueue.toml, so the defaults hold)\n"


def test_check_of_a_file_that_is_missed(dlqueue: Program, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLQUEUE_CONFIG", f"{folder}/typo.toml")
    answer = dlqueue("config", "check", "--user")
    assert (answer.code, answer.out) == (1, f"{folder}/typo.toml: cannot be read: No such file or directory\n")
    assert answer.err == f"1 problem (user instance; there is no {folder}/typo.toml)\n", "no default holds"


def test_check_reports_every_problem_and_warning(dlqueue: Program, folder: Path) -> None:
    (folder / "dlqueue.toml").write_text('[daemon]\nwrokers = 3\n[downloaders.x]\nkind = "htpp"\n')
    (folder / "conf.d" / "more.toml").write_text("[seeding]\nratio = []\n")
    answer = dlqueue("config", "check")
    assert answer.code == 1
    assert answer.out.splitlines() == [
        f'{folder}/dlqueue.toml:2: daemon.wrokers: unknown key; did you mean "workers"?',
        f'{folder}/dlqueue.toml:4: downloaders.x.kind: unknown kind "htpp"; did you mean "http"?',
        f"{folder}/conf.d/more.toml:2: seeding.ratio: must be a number, not a list; false = no rule",
    ]
    assert answer.err.startswith("3 problems (user instance; ")
    data = dlqueue("config", "check", "--json").data
    assert data["ok"] is False
    assert data["files"] == [f"{folder}/dlqueue.toml", f"{folder}/conf.d/more.toml"]
    assert data["problems"][0] == {
        "file": f"{folder}/dlqueue.toml",
        "line": 2,
        "key": "daemon.wrokers",
        "message": 'unknown key; did you mean "workers"?',
    }


def test_a_warning_is_no_failure(dlqueue: Program, folder: Path) -> None:
    (folder / "dlqueue.toml").write_text("[seeding]\nratio = false\ntime = false\n")
    answer = dlqueue("config", "check")
    assert answer.code == 0
    assert answer.out.startswith(f"warning: {folder}/dlqueue.toml:1: seeding: no rule ends seeding")
    assert answer.err.startswith("no problem, 1 warning (")
    data = dlqueue("config", "check", "--json").data
    assert (data["ok"], data["problems"], len(data["warnings"])) == (True, [], 1)


def test_check_of_a_named_file_and_of_one_that_is_not_there(dlqueue: Program, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("[daemon]\nworkers = 0\n")
    answer = dlqueue("--config", str(other), "config", "check")
    assert (answer.code, answer.out) == (1, f"{other}:2: daemon.workers: must be at least 1\n")
    answer = dlqueue("config", "check", "--config", str(tmp_path / "none.toml"))
    assert (answer.code, answer.out) == (1, f"{tmp_path}/none.toml: cannot be read: No such file or directory\n")
    answer = dlqueue("config", "check", "--config", str(tmp_path / "none.toml"), "--json")
    assert answer.data["problems"][0]["line"] is None


def test_show_of_files_is_toml_that_says_the_same(dlqueue: Program, folder: Path, tmp_path: Path) -> None:
    (folder / "dlqueue.toml").write_text(
        '[queues.q]\nmax_retry = 3\n[seeding]\nidle = "1h"\nratio = false\n'
        + '[downloaders."x.y"]\nkind = "http"\nuser_agent = "a \\"b\\""\npaths = [{ remote = "/a", local = "/b c" }]\n'
    )
    answer = dlqueue("config", "show")
    assert answer.code == 0
    assert "no daemon answers" in answer.err
    again = tmp_path / "again" / "dlqueue.toml"
    again.parent.mkdir()
    again.write_text(answer.out)
    assert tomllib.loads(answer.out)["seeding"] == {"ratio": False, "time": 86400.0, "idle": 3600.0}
    there = dlqueue("config", "show", "--config", str(again), "--json").data
    here = dlqueue("config", "show", "--json").data
    assert here["source"] == there["source"] == "files"
    assert there["files"] == [str(again)]
    assert {key: value for key, value in here.items() if key != "files"} == {
        key: value for key, value in there.items() if key != "files"
    }
    assert there["downloaders"]["x.y"]["user_agent"] == 'a "b"'
    assert there["downloaders"]["x.y"]["paths"] == [{"remote": "/a", "local": "/b c"}]


def test_show_of_files_that_have_problems(dlqueue: Program, folder: Path) -> None:
    (folder / "dlqueue.toml").write_text("[daemon\n")
    answer = dlqueue("config", "show")
    assert (answer.code, answer.out) == (1, "")
    assert f"dlqueue: {folder}/dlqueue.toml:1: not TOML" in answer.err


def test_path_says_what_is_read_and_what_is_there(dlqueue: Program, folder: Path, tmp_path: Path) -> None:
    (folder / "conf.d" / "b.toml").write_text(f'[daemon]\ndownloads = "{tmp_path}/in"\n')
    (folder / "conf.d" / ".hidden.toml").write_text("x")
    data = dlqueue("config", "path", "--json").data
    assert data == {
        "instance": "user",
        "files": [
            {"path": f"{folder}/dlqueue.toml", "exists": False},
            {"path": f"{folder}/conf.d/b.toml", "exists": True},
        ],
        "socket": f"{tmp_path}/runtime_dir/dlqueue/dlqueue.sock",
        "database": f"sqlite:///{tmp_path}/state_home/dlqueue/dlqueue.db",
        "downloads": f"{tmp_path}/in",
        "staging": None,
    }
    rows = [line.split("\t") for line in dlqueue("config", "path").out.splitlines()]
    assert rows[0] == ["config", f"{folder}/dlqueue.toml", "not there"]
    assert rows[-1] == ["staging", ".dlqueue/ beside the destination", ""]
    (folder / "dlqueue.toml").write_text("[daemon]\nworkers = 0\n")
    answer = dlqueue("config", "path", "--socket", "/x.sock")
    assert answer.code == 1
    assert ["socket", "/x.sock", ""] in [line.split("\t") for line in answer.out.splitlines()]
    assert "dlqueue config check" in answer.err


def test_path_of_the_system(dlqueue: Program) -> None:
    data = dlqueue("config", "path", "--system", "--json").data
    assert data["instance"] == "system"
    assert data["files"][0]["path"] == "/etc/dlqueue/dlqueue.toml"
    assert data["socket"] == "/run/dlqueue/dlqueue.sock"


def test_reload_needs_a_daemon(dlqueue: Program) -> None:
    assert dlqueue("config", "reload").code == 3


# -- against a daemon -------------------------------------------------------------------------------------------------


def test_show_and_reload_of_a_running_daemon(tmp_path: Path) -> None:
    with Instance(tmp_path, fake_section(tmp_path)) as daemon:
        daemon.start()
        shown = as_json(daemon.cli("config", "show", "--json"))
        assert (shown["source"], shown["files"]) == ("daemon", [str(daemon.config)])
        assert shown["downloaders"]["fake"]["max_active"] == 5
        text = daemon.config.read_text()
        daemon.config.write_text(text + "max_active = 6\n")
        answer = daemon.cli("config", "reload")
        assert (answer.returncode, answer.stdout) == (0, "downloaders.fake.max_active\t5\t6\n")
        answer = daemon.cli("config", "reload")
        assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "nothing has changed\n")
        daemon.config.write_text(text + "max_active = 7\n[seeding]\nratio = false\ntime = false\n")
        changed = as_json(daemon.cli("config", "reload", "--json"))
        assert {"key": "seeding.ratio", "from": 1.0, "to": None} in changed["changed"]
        assert "no rule ends seeding" in changed["warnings"][0]
        daemon.config.write_text(text + "max_activ = 7\nkinds = 1\n")
        answer = daemon.cli("config", "reload")
        assert (answer.returncode, answer.stdout) == (1, "")
        assert len(answer.stderr.splitlines()) == 2
        assert 'max_activ: unknown key; did you mean "max_active"?' in answer.stderr
        daemon.config.write_text(text + '[store]\ndurability = "process"\n[seeding]\nratio = false\ntime = false\n')
        answer = daemon.cli("config", "reload")
        assert answer.returncode == 1
        assert "store.durability cannot change while the daemon runs" in answer.stderr
        assert as_json(daemon.cli("config", "show", "--json"))["downloaders"]["fake"]["max_active"] == 7
