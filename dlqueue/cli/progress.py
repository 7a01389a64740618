"""How far tasks are, on stderr: bars on a terminal, a line now and then otherwise; and what goes wrong meanwhile."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol

from dlqueue.cli import exits
from dlqueue.cli.table import cut, is_terminal, plain, put_line
from dlqueue.cli.taskrow import counter, name_of, percent_of, remaining, state_of
from dlqueue.units import format_duration, format_size

if TYPE_CHECKING:
    from rich.progress import TaskID

_LINE_SECONDS = 5.0


class Display(Protocol):
    """Shows tasks while they are waited for."""

    def update(self, task: dict[str, Any]) -> None: ...
    def say(self, line: str) -> None: ...

    def data(self, line: str) -> None:
        """A line for stdout."""
        ...

    def close(self) -> None: ...


def display(quiet: bool = False) -> Display:
    """What suits stderr."""
    if quiet:
        return Lines(show=False)
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return Bars()
    return Lines()


def detail(task: dict[str, Any]) -> str:
    """``1.2 MiB of 3.1 MiB, 99 KiB/s, 20s``, as far as known."""
    done, total, speed, eta = (
        counter(task, "downloaded"),
        counter(task, "total"),
        counter(task, "download_speed"),
        remaining(task),
    )
    amount = format_size(done) if done is not None else ""
    if total:
        amount += f" of {format_size(total)}"
    rate = f"{format_size(speed)}/s" if speed and eta is not None else ""
    return ", ".join(part for part in (amount, rate, format_duration(eta) if eta is not None else "") if part)


class Lines:
    """A line when the state changes, and every few seconds in between."""

    def __init__(self, show: bool = True) -> None:
        self._show = show
        self._said: dict[int, tuple[str, float]] = {}

    def update(self, task: dict[str, Any]) -> None:
        state, now = state_of(task), time.monotonic()
        before, at = self._said.get(task["id"], ("", 0.0))
        if not self._show or (state == before and now - at < _LINE_SECONDS):
            return
        self._said[task["id"]] = (state, now)
        percent = percent_of(task)
        words = [str(task["id"]), state, f"{percent:.0f}%" if percent is not None else "", detail(task), name_of(task)]
        exits.say("  ".join(plain(word) for word in words if word))

    def say(self, line: str) -> None:
        exits.say(line)

    def data(self, line: str) -> None:
        put_line(line)

    def close(self) -> None:
        pass


class Bars:
    """One bar per task, on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f}%", markup=False),
            TextColumn("{task.fields[detail]}", markup=False),
            console=self._console,
            redirect_stdout=False,  # data is never to be turned into progress
        )
        self._bars: dict[int, TaskID] = {}
        self._progress.start()

    def update(self, task: dict[str, Any]) -> None:
        number, percent = task["id"], percent_of(task)
        if number not in self._bars:
            self._bars[number] = self._progress.add_task("", total=None, detail="")
        over = task["status"] == "completed"
        state = state_of(task)
        self._progress.update(
            self._bars[number],
            description=f"{number} {cut(plain(name_of(task)), 24)}",
            total=100,
            completed=100 if over else percent or 0,
            detail=detail(task) if state == "downloading" else state,
        )

    def say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def data(self, line: str) -> None:
        if is_terminal():
            self.say(plain(line))  # the same screen: it must not be torn
        else:
            put_line(line)

    def close(self) -> None:
        self._progress.stop()


class Troubles:
    """Tells each passing error once, and why nothing moves."""

    _WORTH_TELLING = frozenset(
        {"downloader_unavailable", "space", "resources", "queue_paused", "quota", "stalled", "no_route", "paused",
         "dependency", "unknown_type", "slot"}
    )  # fmt: skip

    def __init__(self, shown: Display) -> None:
        self._shown = shown
        self._told: set[tuple[object, ...]] = set()

    def look(self, task: dict[str, Any]) -> None:
        """Errors of attempts that are (or will be) followed by another."""
        if task["status"] in ("error", "completed", "canceled"):
            return
        number, download = task["id"], task.get("download")
        for index, attempt in enumerate(download.get("attempts") or [] if download else []):
            if attempt.get("message"):
                key = (number, index, attempt["message"], attempt.get("ended_at"))
                self._tell(key, f"{number}: {attempt['downloader']}: {attempt['message']}{_next(task)}")
        error = task.get("error")
        if error and not download:
            self._tell((number, error["at"]), f"{number}: {error['kind']}: {error['message']}{_next(task)}")

    def why(self, answer: dict[str, Any]) -> None:
        """An answer of `tasks.why`, if it is a reason that somebody could do something about."""
        if answer["reason"] in self._WORTH_TELLING:
            key = (answer["id"], answer["reason"], answer["message"])
            self._tell(key, f"{answer['id']}: waits: {answer['message']}")

    def _tell(self, key: tuple[object, ...], line: str) -> None:
        if key not in self._told:
            self._told.add(key)
            self._shown.say(f"dlqueue: {plain(line)}")


def _next(task: dict[str, Any]) -> str:
    at = task.get("resume_at")
    return f" (next try at {at})" if at and task["status"] == "suspending" else ""
