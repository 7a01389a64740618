"""Tasks on a screen: a line with a bar for each, and a summary if there are several. Pure: tasks in, lines out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dlqueue.cli.table import cell_width, cut, plain
from dlqueue.cli.taskrow import counter, is_moving, name_of, percent_of, remaining, speed_of, state_of
from dlqueue.protocol.status import FINAL
from dlqueue.units import format_duration, format_size

Line = list[tuple[str, str]]
"""Pieces of text, each with the name of its style (``""`` = plain)."""
Task = Mapping[str, Any]

_SIZE, _SPEED, _ETA = 10, 12, 7
_STATES = {"completed": "done", "error": "failed"}
_STYLES = {"completed": "green", "error": "red", "canceled": "red", "downloading": ""}


def panel(tasks: Sequence[Task], width: int, height: int, *, unicode: bool = True) -> list[Line]:
    """At most ``height`` - 1 lines of at most ``width`` columns. Where not all tasks have room, those that move have
    precedence, then those that wait; a summary counts all."""
    if not tasks:
        return []
    several = len(tasks) > 1
    room = max(height - 1 - several, 1)
    shown = list(tasks)
    if len(shown) > room:
        shown = sorted(shown, key=lambda task: (_over(task), not is_moving(task), task["id"]))[:room]
        shown.sort(key=lambda task: int(task["id"]))
        shown = [task for task in shown if not _over(task)] or shown
    longest = max(cell_width(plain(name_of(task))) for task in shown)
    digits = max(len(str(task["id"])) for task in tasks)
    lines = [_line(task, width, digits, longest, unicode) for task in shown]
    return [*lines, [(summary(tasks, width), "bold")]] if several else lines


def _line(task: Task, width: int, digits: int, longest: int, unicode: bool) -> Line:
    percent = 100.0 if task["status"] == "completed" else percent_of(task)
    size = (counter(task, "total") or counter(task, "downloaded") or None) if width >= 70 else None
    rest = width - digits - 2 - (5 + 2 + _SPEED + 2 + _ETA) - (2 + _SIZE if width >= 70 else 0) - 4
    bar = 0 if width < 50 else min(max(rest // 3, 8), 30)
    room = max(rest - bar, 6)
    name = cut(plain(name_of(task)), min(room, max(longest, 8)))
    gap = " " * (min(room, max(longest, 8)) - cell_width(name))
    line: Line = [(f"{task['id']:>{digits}}  {name}{gap}  ", "")]
    line += _bar(percent, bar, unicode)
    line.append((f" {percent:3.0f}%" if percent is not None else "    -", ""))
    if width >= 70:
        line.append((f"  {format_size(size) if size is not None else '':>{_SIZE}}", ""))
    state, speed, eta = state_of(task), speed_of(task), remaining(task)
    if state == "downloading":
        left = format_duration(round(eta)) if eta is not None else "-"
        line.append((f"  {f'{format_size(speed or 0)}/s':>{_SPEED}}  {left:>{_ETA}}", ""))
    else:
        line.append((f"  {_words(task, state)}"[: 2 + _SPEED + 2 + _ETA], _STYLES.get(state, "yellow")))
    return line


def _words(task: Task, state: str) -> str:
    if state == "seeding":
        total, uploaded = counter(task, "total"), counter(task, "uploaded")
        return f"seeding, ratio {uploaded / total:.2f}" if total and uploaded is not None else "seeding"
    return _STATES.get(state, state)


def _bar(percent: float | None, length: int, unicode: bool) -> Line:
    full, empty = ("━", "─") if unicode else ("#", "-")
    done = min(max(round((percent or 0.0) / 100 * length), 0), length)
    return [(full * done, "cyan" if done < length else "green"), (empty * (length - done), "dim")]


def summary(tasks: Sequence[Task], width: int) -> str:
    """``3 of 100 done, 5 moving, 92 waiting, 12.3 MiB/s, 1.2 GiB of 8.1 GiB, 12m3s left``, as far as it has room."""
    done = sum(1 for task in tasks if task["status"] == "completed" or _delivered(task))
    failed = sum(1 for task in tasks if task["status"] == "error")
    canceled = sum(1 for task in tasks if task["status"] == "canceled")
    moving = [task for task in tasks if is_moving(task) and not _delivered(task)]
    seeding = sum(1 for task in tasks if state_of(task) == "seeding")
    waiting = sum(1 for task in tasks if not _over(task)) - len(moving)
    speed = sum(speed_of(task) or 0 for task in moving)
    parts = [f"{done} of {len(tasks)} done"]
    parts += [f"{failed} failed"] if failed else []
    parts += [f"{canceled} canceled"] if canceled else []
    parts += [f"{len(moving)} moving"] if moving else []
    parts += [f"{waiting} waiting"] if waiting else []
    parts += [f"{seeding} seeding"] if seeding else []
    parts += [f"{format_size(speed)}/s"] if speed else []
    amounts = [(counter(task, "downloaded"), counter(task, "total")) for task in tasks]
    fetched = sum(downloaded or 0 for downloaded, _ in amounts)
    wanted = sum(total or 0 for _, total in amounts)
    if wanted and all(total is not None for _, total in amounts):
        parts.append(f"{format_size(fetched)} of {format_size(wanted)}")
        parts += [f"{format_duration(round((wanted - fetched) / speed))} left"] if speed else []
    elif fetched:
        parts.append(f"{format_size(fetched)} so far")
    text = parts[0]
    for part in parts[1:]:
        if len(text) + 2 + len(part) <= width:
            text += f", {part}"
    return cut(text, width)


def _over(task: Task) -> bool:
    return task["status"] in FINAL or _delivered(task)


def _delivered(task: Task) -> bool:
    return bool((task.get("download") or {}).get("delivered_at"))
