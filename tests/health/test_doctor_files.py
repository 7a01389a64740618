"""What doctor finds in the configuration and in who may read what."""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path
from typing import Any

import pytest

from dlqueue.daemon.doctor import files
from dlqueue.daemon.doctor.finding import Finding, listed
from dlqueue.daemon.reading import Reader
from dlqueue.downloads.registry import find_kinds
from dlqueue.places import Places


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    """Of a user's instance in a folder of its own."""
    for name in ("HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        (tmp_path / name).mkdir(mode=0o700)
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("DLQUEUE_SOCKET", raising=False)
    (tmp_path / "etc").mkdir(mode=0o755)
    file = tmp_path / "etc" / "dlqueue.toml"
    file.touch(mode=0o600)
    return Reader(str(file), None, "user")


def write(read: Reader, text: str) -> Path:
    assert read.file is not None
    file = Path(read.file)
    file.write_text(text)
    return file


def one(found: list[Finding], severity: str, says: str) -> Finding:
    """The only one of this severity, which says this."""
    serious = [finding for finding in found if finding.severity == severity]
    assert len(serious) == 1, found
    assert says in serious[0].explanation
    return serious[0]


# -- the configuration ------------------------------------------------------------------------------------------------


def test_a_mistake_is_told_with_its_place(read: Reader) -> None:
    file = write(read, '[daemon]\nworkrs = 3\n[queues.a]\nconcurrency = "x"\n')
    config, found = files.configuration(read, None)
    assert config is None and [finding.severity for finding in found] == ["error", "error"]
    assert f'{file}:2: daemon.workrs: unknown key; did you mean "workers"?' in found[0].explanation
    assert found[0].cure == "correct it, then: dlqueue config check"


def test_a_mistake_beside_a_running_daemon_says_that_it_goes_on(read: Reader) -> None:
    in_force, _ = files.configuration(read, None)
    write(read, "[daemon]\nworkrs = 3\n")
    _, found = files.configuration(read, in_force)
    error = one(found, "error", "goes on with what it read before, and would not start again")
    assert error.cure == "correct it, then: dlqueue config check && dlqueue config reload"


def test_a_likely_mistake_is_a_warning(read: Reader, tmp_path: Path) -> None:
    write(read, f'[daemon]\nallow_destinations = ["{tmp_path}/nowhere"]\n')
    _, found = files.configuration(read, None)
    assert "leave it if it is meant" in (one(found, "warning", "is no folder now").cure or "")


def test_what_is_not_in_force_is_told(read: Reader) -> None:
    in_force, _ = files.configuration(read, None)
    write(read, "[daemon]\nworkers = 3\n")
    _, found = files.configuration(read, in_force)
    assert one(found, "warning", "daemon.workers").cure == "dlqueue config reload"


def test_a_good_one_is_ok(read: Reader) -> None:
    write(read, "[daemon]\nworkers = 3\n")
    config, found = files.configuration(read, None)
    assert config is not None and [(one.check, one.severity) for one in found] == [("config", "ok")]


def test_a_missing_extra_is_told_with_what_to_install(read: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else there(name))
    write(read, '[http]\nlisten = "127.0.0.1:8787"\n')
    _, found = files.configuration(read, None)
    assert "pip install 'dlqueue[http]'" in (one(found, "error", "it needs uvicorn").cure or "")
    write(read, "")
    _, found = files.configuration(read, None)
    assert [finding.severity for finding in found] == ["ok"]


def test_a_kind_that_cannot_be_loaded_is_told(read: Reader) -> None:
    kinds = find_kinds()
    kinds.broken["strange"] = "cannot be loaded: ValueError: no"
    broken = Reader(read.file, None, "user", kinds)
    one(files.configuration(broken, None)[1], "info", "the downloader kind strange is installed and cannot be used")


# -- who may read and change it ---------------------------------------------------------------------------------------


def permissions(read: Reader, *sources: Path, system: bool = False) -> list[Finding]:
    return files.permissions(read.places, list(sources), system)


def state(read: Reader) -> Path:
    folder = read.places.state
    folder.mkdir(mode=0o700, parents=True)
    return folder


def test_nobody_else_is_ok(read: Reader) -> None:
    state(read)
    assert [finding.severity for finding in permissions(read, write(read, ""))] == ["ok"]


def test_a_config_file_that_others_may_change(read: Reader) -> None:
    file = write(read, "")
    file.chmod(0o606)
    error = one(permissions(read, file), "error", "has mode 0606: others may change what the daemon does")
    assert error.cure == f"chmod go-w {file}"


def test_a_folder_of_config_files_that_others_may_change(read: Reader) -> None:
    file = write(read, "")
    file.parent.chmod(0o777)
    assert one(permissions(read, file), "error", "mode 0777").cure == f"chmod go-w {file.parent}"


@pytest.mark.parametrize("form", ['password = {{ file = "{}" }}', '[a]\nb = [{{ c = {{ file = "{}" }} }}]'])
def test_a_secret_that_others_may_read(read: Reader, tmp_path: Path, form: str) -> None:
    secret = tmp_path / "the password"
    secret.write_text("x")
    file = write(read, form.format(secret))
    secret.chmod(0o640)
    assert [finding.severity for finding in permissions(read, file)] == ["ok"]
    secret.chmod(0o644)
    error = one(permissions(read, file), "error", "anybody on this machine may get at a secret")
    assert error.cure == f"chmod 0600 '{secret}'"
    assert one(permissions(read, file, system=True), "error", "0644").cure == f"chmod 0640 '{secret}'"


@pytest.mark.parametrize(
    ("name", "mode", "says", "cure"),
    [
        ("", 0o750, "others may get at the daemon's state", "chmod 0700 "),
        ("dlqueue.db", 0o644, "anybody on this machine may get at the tasks", "chmod 0600 "),
        ("dlqueue.db-wal", 0o640, "others may get at the tasks", "chmod 0600 "),
        ("tokens.json", 0o604, "may get at the tokens", "chmod 0600 "),
    ],
)
def test_what_the_daemon_keeps_is_private(read: Reader, name: str, mode: int, says: str, cure: str) -> None:
    path = state(read) / name
    if name:
        path.touch()
    path.chmod(mode)
    assert (one(permissions(read), "error", says).cure or "").startswith(cure)


def test_a_socket_for_everybody(read: Reader) -> None:
    place: Places = read.places
    place.socket.parent.mkdir(mode=0o700)
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.bind(str(place.socket))
        place.socket.chmod(0o666)
        assert "restart the daemon" in (
            one(permissions(read), "error", "anybody on this machine may give orders").cure or ""
        )
        place.socket.chmod(0o660)
        place.socket.parent.chmod(0o777)
        cure = one(permissions(read), "error", "anybody may put another socket in place").cure
        assert cure == f"chmod o-w {place.socket.parent}"
    finally:
        listening.close()


def test_a_list_is_cut() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


def test_secrets_are_found_in_broken_files_too(read: Reader) -> None:
    odd: Any = "[daemon\n"
    assert list(files.secret_files(write(read, odd))) == []
