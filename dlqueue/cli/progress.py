"""How far tasks are, on stderr: bars on a terminal, a line now and then otherwise; and what goes wrong meanwhile."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from typing import Any, Protocol

from dlqueue.cli import exits
from dlqueue.cli.follow import Task
from dlqueue.cli.ids import as_ranges
from dlqueue.cli.panel import summary
from dlqueue.cli.table import is_terminal, plain, put_line
from dlqueue.cli.taskrow import counter, name_of, percent_of, remaining, speed_of, state_of
from dlqueue.units import format_duration, format_size

_LINE_SECONDS = 5.0
_FEW = 5
"""Tasks of which each has lines of its own where there is no screen; more share one."""
_DRAW_SECONDS = 0.1


class Display(Protocol):
    """Shows tasks while they are waited for."""

    def update(self, changed: Iterable[Task]) -> None:
        """Some have changed, or none: time has passed."""
        ...

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


def detail(task: Task) -> str:
    """``1.2 MiB of 3.1 MiB, 99 KiB/s, 20s``, as far as known."""
    done, total, speed, eta = (
        counter(task, "downloaded"),
        counter(task, "total"),
        speed_of(task),
        remaining(task),
    )
    amount = format_size(done) if done is not None else ""
    if total:
        amount += f" of {format_size(total)}"
    rate = f"{format_size(speed)}/s" if speed else ""
    return ", ".join(part for part in (amount, rate, format_duration(eta) if eta is not None else "") if part)


class Lines:
    """Where there is no screen: a line when the state of a task changes, and every few seconds in between. Many tasks
    share a line."""

    def __init__(self, show: bool = True) -> None:
        self._show = show
        self._said: dict[int, tuple[str, float]] = {}
        self._tasks: dict[int, Task] = {}
        self._summed = 0.0

    def update(self, changed: Iterable[Task]) -> None:
        if not self._show:
            return
        now = time.monotonic()
        for task in changed:
            self._tasks[task["id"]] = task
        if len(self._tasks) > _FEW:
            if now - self._summed >= _LINE_SECONDS:
                self._summed = now
                exits.say(summary(list(self._tasks.values()), 200))
            return
        for task in changed:
            self._line(task, now)

    def _line(self, task: Task, now: float) -> None:
        state = state_of(task)
        before, at = self._said.get(task["id"], ("", 0.0))
        if state == before and now - at < _LINE_SECONDS:
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
    """On a terminal: one bar per task, as far as there is room."""

    def __init__(self) -> None:
        from dlqueue.cli.screen import Screen

        self._screen = Screen(stderr=True)
        self._tasks: dict[int, Task] = {}
        self._drawn = 0.0

    def update(self, changed: Iterable[Task]) -> None:
        for task in changed:
            self._tasks[task["id"]] = task
        now = time.monotonic()
        if now - self._drawn >= _DRAW_SECONDS:
            self._drawn = now
            self._screen.show(self._tasks.values())

    def say(self, line: str) -> None:
        self._screen.say(line)

    def data(self, line: str) -> None:
        if is_terminal():
            self._screen.say(plain(line))  # the same screen: it must not be torn
        else:
            put_line(line)

    def close(self) -> None:
        self._screen.show(self._tasks.values())
        self._screen.close()


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

    def why(self, answers: Iterable[dict[str, Any]]) -> None:
        """Answers of `tasks.why`, as far as they are reasons that somebody could do something about. Those who wait for
        the same share a line."""
        shared: dict[tuple[str, str], list[int]] = {}
        for answer in answers:
            if answer["reason"] in self._WORTH_TELLING:
                shared.setdefault((answer["reason"], answer["message"]), []).append(answer["id"])
        for (reason, message), ids in shared.items():
            self._tell((reason, message), f"{as_ranges(ids)}: waits: {message}")

    def _tell(self, key: tuple[object, ...], line: str) -> None:
        if key not in self._told:
            self._told.add(key)
            self._shown.say(f"dlqueue: {plain(line)}")


def _next(task: dict[str, Any]) -> str:
    at = task.get("resume_at")
    return f" (next try at {at})" if at and task["status"] == "suspending" else ""
