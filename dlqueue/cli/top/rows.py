"""What is kept of a task for the list, and how it is chosen, ordered and shown. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dlqueue.cli.table import cell_width, cut, plain
from dlqueue.cli.taskrow import counter, is_moving, name_of, percent_of, remaining, speed_of, state_of
from dlqueue.protocol.status import FINAL, UNFINISHED
from dlqueue.units import format_duration, format_size

Row = dict[str, Any]

VIEWS: dict[str, tuple[str, ...]] = {
    "unfinished": tuple(UNFINISHED),
    "failed": ("error",),
    "finished": ("completed", "canceled"),
    "all": (*UNFINISHED, *sorted(FINAL)),
}
"""Which statuses the list shows."""

_KEPT = (
    "id",
    "type",
    "status",
    "want",
    "hold",
    "queue",
    "priority",
    "owner",
    "error",
    "resume_at",
    "progress",
    "revision",
)
_KEPT_OF_A_DOWNLOAD = ("name", "url", "downloader", "phase", "state", "delivered_at")


def row_of(task: Mapping[str, Any]) -> Row:
    """A task without what the list does not show: ten thousand of them are held."""
    download = task.get("download")
    return {
        **{name: task[name] for name in _KEPT},
        "tags": list((task.get("labels") or {}).get("tag", ())),
        "download": {name: download.get(name) for name in _KEPT_OF_A_DOWNLOAD} if download else None,
    }


def matches(row: Row, words: Sequence[str]) -> bool:
    """Does each word, in small letters, stand somewhere in it: name, URL, state, queue, owner, downloader, a tag?"""
    if not words:
        return True
    download = row["download"] or {}
    told = (row["id"], name_of(row), download.get("url"), state_of(row), row["status"], row["queue"], row["owner"])
    text = " ".join(str(part) for part in (*told, download.get("downloader"), *row["tags"]) if part).lower()
    return all(word in text for word in words)


_ACTIVITY = (
    *("delivering", "downloading", "checking", "metadata", "processing", "seeding", "pausing", "retry"),
    *("disk-full", "waiting", "queued", "blocked", "paused", "error", "canceled", "completed"),
)


def _activity(row: Row) -> int:
    state = state_of(row)
    return _ACTIVITY.index(state) if state in _ACTIVITY else _ACTIVITY.index("queued") + 1


def _left(row: Row) -> float:
    seconds = remaining(row)
    return float("inf") if seconds is None else seconds


def _number(value: float | None) -> float:
    return -1.0 if value is None else value


ORDERS: dict[str, Callable[[Row], Any]] = {
    "activity": lambda row: (_activity(row), -row["priority"], row["id"]),
    "id": lambda row: -row["id"],
    "priority": lambda row: (-row["priority"], row["id"]),
    "progress": lambda row: (-_number(percent_of(row)), row["id"]),
    "size": lambda row: (-_number(counter(row, "total")), row["id"]),
    "speed": lambda row: (-_number(speed_of(row)), row["id"]),
    "eta": lambda row: (_left(row), row["id"]),
    "name": lambda row: (name_of(row).lower(), row["id"]),
}
"""Ways to sort, each with what matters most first."""


def chosen(rows: Iterable[Row], words: Sequence[str], order: str, backwards: bool) -> list[Row]:
    """The rows to show, in their order."""
    return sorted((row for row in rows if matches(row, words)), key=ORDERS[order], reverse=backwards)


COLUMNS = ("ID", "PRI", "STATUS", "%", "SIZE", "SPEED", "ETA", "DOWNLOADER", "OWNER", "NAME")
_WIDTHS = {"PRI": 4, "STATUS": 11, "%": 4, "SIZE": 9, "SPEED": 11, "ETA": 7, "DOWNLOADER": 12, "OWNER": 10}
_RIGHT = frozenset({"ID", "PRI", "%", "SIZE", "SPEED", "ETA"})
_FROM = {"PRI": 88, "DOWNLOADER": 104, "OWNER": 130, "SIZE": 60, "SPEED": 50, "ETA": 70}
"""Columns of the screen from which on there is room for it."""
_SORTED = {"id": "ID", "priority": "PRI", "activity": "STATUS", "progress": "%", "size": "SIZE", "speed": "SPEED"}
_SORTED |= {"eta": "ETA", "name": "NAME"}


def columns(width: int, digits: int) -> list[tuple[str, int]]:
    """The columns that have room, each with its width; the last one takes the rest."""
    shown = [name for name in COLUMNS if width >= _FROM.get(name, 0)]
    sizes = [digits if name == "ID" else _WIDTHS.get(name, 0) for name in shown]
    sizes[-1] = max(width - 2 - sum(sizes) - (len(sizes) - 1), 1)
    return list(zip(shown, sizes, strict=True))


def title_line(layout: Sequence[tuple[str, int]], order: str, backwards: bool) -> str:
    """The titles; the one that is sorted by has an arrow."""
    mark = "▲" if backwards else "▼"
    cells = {name: f"{name}{mark}" if _SORTED[order] == name else name for name in COLUMNS}
    return "  " + _joined(layout, cells)


def line_of(row: Row, layout: Sequence[tuple[str, int]], marked: bool) -> str:
    """One row of the list, as wide as the layout."""
    percent, size, speed, left = percent_of(row), counter(row, "total"), speed_of(row), remaining(row)
    cells = {
        "ID": str(row["id"]),
        "PRI": str(row["priority"]),
        "STATUS": state_of(row),
        "%": str(int(percent)) if percent is not None else "-",
        "SIZE": format_size(size) if size is not None else "-",
        "SPEED": f"{format_size(speed)}/s" if speed else "-",
        "ETA": format_duration(round(left)) if left is not None else "-",
        "DOWNLOADER": plain((row["download"] or {}).get("downloader") or "-"),
        "OWNER": plain(row["owner"]),
        "NAME": plain(name_of(row)),
    }
    return ("* " if marked else "  ") + _joined(layout, cells)


def _joined(layout: Sequence[tuple[str, int]], cells: Mapping[str, str]) -> str:
    parts = []
    for name, size in layout:
        text = cut(cells[name], size)
        gap = " " * (size - cell_width(text))
        parts.append(gap + text if name in _RIGHT else text + gap)
    return " ".join(parts)


_STYLES = {"error": "red", "disk-full": "red", "retry": "yellow", "paused": "yellow", "pausing": "yellow"}
_STYLES |= {"completed": "green", "canceled": "dim", "downloading": "cyan", "delivering": "cyan", "seeding": "green"}
_STYLES |= {"queued": "dim", "blocked": "dim", "waiting": "dim"}


def style_of(row: Row) -> str:
    """In rich's words."""
    return _STYLES.get(state_of(row), "")


def summary(rows: Iterable[Row]) -> str:
    """``2 moving, 1 failed, 9997 waiting``."""
    moving = failed = paused = waiting = over = 0
    for row in rows:
        status = row["status"]
        if status == "error":
            failed += 1
        elif status in FINAL:
            over += 1
        elif status == "paused":
            paused += 1
        elif is_moving(row):
            moving += 1
        else:
            waiting += 1
    counted = ((moving, "moving"), (failed, "failed"), (paused, "paused"), (waiting, "waiting"), (over, "over"))
    return ", ".join(f"{count} {what}" for count, what in counted if count) or "nothing"
