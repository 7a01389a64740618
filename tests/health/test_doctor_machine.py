"""What doctor finds of the clock, the limits and the service manager."""

from __future__ import annotations

import resource
import subprocess
import time
import zoneinfo
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dlqueue.daemon.doctor import machine
from dlqueue.daemon.doctor.finding import Finding

NOW = time.time()


def one(found: list[Finding], severity: str, says: str) -> Finding:
    assert [finding.severity for finding in found] == [severity], found
    assert says in found[0].explanation
    return found[0]


# -- the clock --------------------------------------------------------------------------------------------------------


def test_a_right_clock_is_ok(tmp_path: Path) -> None:
    one(machine.clock(tmp_path, NOW, machine.Stopwatch()), "ok", "it is 2")
    assert list(tmp_path.iterdir()) == []


def test_a_clock_of_long_ago(tmp_path: Path) -> None:
    found = machine.clock(tmp_path / "missing", None, None, lambda: 86_400.0)
    assert (
        one(found, "error", "the clock says 1970-01-0").cure
        == "set the clock, and keep it right: timedatectl set-ntp true"
    )


def test_a_clock_that_was_set_back(tmp_path: Path) -> None:
    found = machine.clock(tmp_path, NOW + 7200, None)
    assert "set the clock" in (one(found, "error", "in the future: the clock has been set back").cure or "")


@pytest.mark.parametrize(("by", "way"), [(3600, "forward"), (-3600, "back")])
def test_a_clock_that_jumped(tmp_path: Path, by: int, way: str) -> None:
    wall = [1000.0]
    watch = machine.Stopwatch(lambda: wall[0], lambda: 5.0)
    wall[0] += by
    warning = one(
        machine.clock(tmp_path, None, watch), "warning", f"the clock was set {way} by 1h while the daemon ran"
    )
    assert warning.cure is not None and warning.cure.startswith("if that was not you")


def test_the_clock_of_another_machine(tmp_path: Path) -> None:
    found = machine.clock(tmp_path, None, None, lambda: time.time() + 120)
    assert "NTP" in (one(found, "warning", "its file system is kept by another machine").cure or "")


def test_no_time_zones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(key: str) -> zoneinfo.ZoneInfo:
        raise zoneinfo.ZoneInfoNotFoundError(key)

    monkeypatch.setattr(zoneinfo, "ZoneInfo", missing)
    found = machine.clock(tmp_path, None, None)
    assert "apt install tzdata" in (one(found, "warning", "schedules can only go by UTC").cure or "")


# -- limits -----------------------------------------------------------------------------------------------------------


def test_few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda what: (256, 4096))
    warning = one(machine.limits(10), "warning", "may open 256 files; with 10 transfers at once")
    assert "LimitNOFILE=" in (warning.cure or "")
    monkeypatch.setattr(resource, "getrlimit", lambda what: (1024, 4096))
    one(machine.limits(10), "ok", "may open 1024 files")
    one(machine.limits(100), "warning", "1856 may be needed")
    monkeypatch.setattr(resource, "getrlimit", lambda what: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    one(machine.limits(100), "ok", "any number of files")


# -- systemd ----------------------------------------------------------------------------------------------------------


def answers(words: dict[str, str], log: list[list[str]] | None = None) -> Callable[..., Any]:
    """A systemctl and a loginctl: the answer by a word of the command."""

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        if log is not None:
            log.append(command)
        word = next((words[part] for part in command if part in words), "")
        if word == "no such program":
            raise FileNotFoundError(2, word)
        stderr = "Failed to connect to bus: No medium found" if word == "no bus" else ""
        return subprocess.CompletedProcess(command, 0, "" if stderr else f"{word}\n", stderr)

    return run


def service(tmp_path: Path, mode: Any = "system", **words: str) -> list[Finding]:
    names = {"unit": "dlqueue.service", "socket": "dlqueue.socket", "linger": "--property=Linger"}
    return machine.service(mode, answers({names[name]: word for name, word in words.items()}), tmp_path)


def test_a_machine_without_systemd(tmp_path: Path) -> None:
    one(machine.service("system", answers({}), tmp_path / "none"), "info", "is not run by systemd")


def test_no_unit(tmp_path: Path) -> None:
    for word in ("not-found", ""):
        assert one(service(tmp_path, unit=word), "info", "no unit of systemd").cure == "dlqueue setup --system"


def test_a_unit_that_is_not_enabled(tmp_path: Path) -> None:
    warning = one(service(tmp_path, unit="disabled", socket="disabled"), "warning", "installed and not enabled")
    assert warning.cure == "systemctl enable --now dlqueue.service"
    one(service(tmp_path, unit="disabled", socket="enabled"), "ok", "dlqueue.service is disabled")
    one(service(tmp_path, unit="enabled"), "ok", "dlqueue.service is enabled")


def test_a_unit_that_is_masked(tmp_path: Path) -> None:
    cure = one(service(tmp_path, "user", unit="masked", linger="yes"), "warning", "is masked").cure
    assert cure == "systemctl --user unmask dlqueue.service"


def test_a_user_without_linger(tmp_path: Path) -> None:
    found = service(tmp_path, "user", unit="enabled", linger="no")
    assert [finding.severity for finding in found] == ["ok", "warning"]
    assert "logs out" in found[1].explanation
    assert found[1].cure is not None and found[1].cure.startswith("loginctl enable-linger ")
    one(service(tmp_path, "user", unit="enabled", linger="yes"), "ok", "enabled")


@pytest.mark.parametrize("word", ["no bus", "no such program"])
def test_a_systemctl_that_does_not_answer(tmp_path: Path, word: str) -> None:
    one(service(tmp_path, "user", unit=word), "info", "systemctl --user does not answer here")
