"""The machine and who starts the daemon: clock, time zones, limits, systemd."""

from __future__ import annotations

import os
import pwd
import resource
import secrets
import subprocess
import time
import zoneinfo
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import dlqueue
from dlqueue.daemon.doctor.finding import Finding
from dlqueue.places import Mode
from dlqueue.units import format_duration

SKEW = 5.0
"""Seconds between our clock and that of a file system that do no harm."""
JUMP = 60.0
FILES = 1024
"""Open files below which a daemon with many clients and transfers runs short."""
BOOTED = Path("/run/systemd/system")
"""There if systemd is the init system; see sd_booted(3)."""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


class Stopwatch:
    """Was the clock set while we ran?"""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] | None = None) -> None:
        # Unlike the monotonic clock it goes on while the machine sleeps.
        self._steady = steady or (lambda: time.clock_gettime(time.CLOCK_BOOTTIME))
        self._wall = wall
        self._began = wall() - self._steady()

    @property
    def jumped(self) -> float:
        """Seconds that it was set forward since, or back."""
        return self._wall() - self._steady() - self._began


def clock(
    state: Path, newest: float | None, watch: Stopwatch | None, now: Callable[[], float] = time.time
) -> list[Finding]:
    """
    :param newest: when the last thing was written to the database.
    """
    found: list[Finding] = []
    cure = "set the clock, and keep it right: timedatectl set-ntp true"
    made = Path(dlqueue.__file__).stat().st_mtime
    if now() < made - 86_400:
        text = f"the clock says {_day(now())}, and dlqueue was installed on {_day(made)}"
        found.append(Finding("clock", "error", text, cure))
    if newest is not None and newest > now() + JUMP:
        ahead = format_duration(newest - now())
        text = (
            f"the last thing in the database was written {ahead} in the future: the clock has been set back, and what \
was to happen then waits for it"
        )
        found.append(Finding("clock", "error", text, cure))
    if watch is not None and abs(watch.jumped) > JUMP:
        way = "forward" if watch.jumped > 0 else "back"
        text = f"the clock was set {way} by {format_duration(abs(watch.jumped))} while the daemon ran"
        found.append(Finding("clock", "warning", text, f"if that was not you: {cure}"))
    skew = _skew(state, now)
    if skew is not None and abs(skew) > SKEW:
        off = f"files in {state} get times that are {format_duration(abs(skew))} off"
        text = f"{off}: its file system is kept by another machine, with another clock"
        found.append(
            Finding("clock", "warning", text, "let both keep the same time (NTP), or put the state on a local disk")
        )
    try:
        zoneinfo.ZoneInfo("Europe/Berlin")
    except (zoneinfo.ZoneInfoNotFoundError, OSError):
        text = "there is no time zone data: schedules can only go by UTC"
        found.append(Finding("clock", "warning", text, "install it: apt install tzdata, or pip install tzdata"))
    return found or [Finding("clock", "ok", f"it is {time.strftime('%Y-%m-%d %H:%M:%S %Z', time.localtime(now()))}")]


def _skew(folder: Path, now: Callable[[], float]) -> float | None:
    """Of the file system's clock; None = nothing can be written there."""
    file = folder / f".dlqueue-doctor-{secrets.token_hex(8)}"
    try:
        file.touch(mode=0o600, exist_ok=False)
        return file.stat().st_mtime - now()
    except OSError:
        return None
    finally:
        with suppress(OSError):
            file.unlink()


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(at))


def limits(transfers: int) -> list[Finding]:
    """Of this process: to be asked in the daemon.

    :param transfers: at once, over all downloaders.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = max(FILES, 256 + 16 * transfers)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return [Finding("limits", "ok", f"the daemon may open {'any number of' if soft < 0 else soft} files")]
    text = (
        f"the daemon may open {soft} files; with {transfers} transfers at once and many clients {needed} may be needed"
    )
    cure = "LimitNOFILE= in the unit (systemctl edit dlqueue), or ulimit -n before it is started; then restart it"
    return [Finding("limits", "warning", text, cure)]


def service(mode: Mode, run: Run = subprocess.run, booted: Path = BOOTED) -> list[Finding]:
    """Does the daemon come back by itself?"""
    if not booted.is_dir():
        text = "this machine is not run by systemd: whoever starts the daemon has to start it again"
        return [Finding("systemd", "info", text)]
    return list(_service(mode, run))


def _service(mode: Mode, run: Run) -> Iterator[Finding]:
    scope = ["--user"] if mode == "user" else []
    shown = " ".join(["systemctl", *scope])
    state = _asked(run, ["systemctl", *scope, "is-enabled", "dlqueue.service"])
    sockets = _asked(run, ["systemctl", *scope, "is-enabled", "dlqueue.socket"])
    if state is None:
        yield Finding("systemd", "info", f"{shown} does not answer here, so whether the daemon comes back is not known")
        return
    if state in ("", "not-found"):
        text = "no unit of systemd starts this daemon: it is not there after a restart of the machine"
        yield Finding("systemd", "info", text, f"dlqueue setup --{mode}")
        return
    if state.startswith("masked"):
        yield Finding(
            "systemd", "warning", "dlqueue.service is masked: it cannot be started", f"{shown} unmask dlqueue.service"
        )
    elif state == "disabled" and sockets != "enabled":
        text = "dlqueue.service is installed and not enabled: it is not there after a restart of the machine"
        yield Finding("systemd", "warning", text, f"{shown} enable --now dlqueue.service")
    else:
        yield Finding("systemd", "ok", f"dlqueue.service is {state}")
    if mode == "user":
        name = _user()
        if _asked(run, ["loginctl", "show-user", name, "--property=Linger", "--value"]) == "no":
            text = f"systemd ends the daemon when {name} logs out, and starts it at the next login only"
            yield Finding("systemd", "warning", text, f"loginctl enable-linger {name}")


def _asked(run: Run, command: list[str]) -> str | None:
    """The word that it answers; None = it cannot be asked."""
    try:
        answer = run(command, capture_output=True, text=True, timeout=5, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return None
    word = answer.stdout.strip()
    if not word and "bus" in answer.stderr:
        return None
    return word


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
