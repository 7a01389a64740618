"""What a task shows of itself in one row of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from dlqueue.cli.table import is_terminal, plain, put_table
from dlqueue.units import format_duration, format_size


def name_of(task: Mapping[str, Any]) -> str:
    """The name of a download, else the type of the task."""
    download = task.get("download")
    return (download.get("name") or download.get("url") or "") if download else str(task["type"])


def state_of(task: Mapping[str, Any]) -> str:
    """The status for a person: between the steps of a download it is what the transfer does that matters. Never the
    name of a status that it does not have."""
    status, download = str(task["status"]), task.get("download") or {}
    if status == "queued":
        return f"at {begin}" if (begin := begins_at(task)) else status
    if status not in ("suspending", "processing") or not download:
        return status
    if task["want"] == "pause":
        return "pausing"
    if download.get("phase") == "deliver":
        return "delivering"
    hold = (task.get("hold") or "").partition(":")[0]
    if hold in _WAITS:
        return _WAITS[hold]
    if status == "suspending" and task.get("error") and not download.get("state"):
        return "retry"
    state = str(download.get("state") or "")
    if state in _TRANSFERS:
        return state
    return status if status == "processing" else "waiting"


_TRANSFERS = ("downloading", "seeding", "metadata", "checking")
"""States of a transfer that are shown; the others have the names of statuses, or nothing moves in them."""
_WAITS = {"slot": "waiting", "downloader": "waiting", "paused": "waiting", "space": "disk-full", "route": "waiting"}
"""What a suspended download holds, in a word; `dlqueue why` says more."""
WORDS = (*_TRANSFERS, "delivering", "waiting", "retry", "disk-full", "pausing")
"""What may be shown of a download in place of its status, which is `processing` or `suspending`."""


def joined(task: Mapping[str, Any]) -> str:
    """What to say if a submit made no task of its own."""
    number, begin = task["id"], begins_at(task) if task["status"] == "queued" else None
    if begin is None:
        return f"joined task {number}, which was there already ({state_of(task)})"
    left = (datetime.fromisoformat(task["resume_at"]) - datetime.now(UTC)).total_seconds()
    soon = f"in {format_duration(max(round(left), 1))}"
    return f"joined task {number}, which begins at {begin} ({soon}); to begin it now: dlqueue edit {number} --at now"


def begins_at(task: Mapping[str, Any]) -> str | None:
    """When a task that is due later begins, in the time of this machine: ``18:30`` if it is today, ``12-01 03:00``."""
    if not task.get("resume_at"):
        return None
    begin, now = datetime.fromisoformat(task["resume_at"]).astimezone(), datetime.now(UTC).astimezone()
    if begin <= now:
        return None
    return f"{begin:%H:%M}" if begin.date() == now.date() else f"{begin:%m-%d %H:%M}"


def shown_state(task: Mapping[str, Any]) -> str:
    """For a line of data: a word for people, the status for programs."""
    return state_of(task) if is_terminal() else str(task["status"])


def is_moving(task: Mapping[str, Any]) -> bool:
    """Does something happen to it just now?"""
    return state_of(task) in _MOVING


_MOVING = frozenset({"downloading", "metadata", "checking", "seeding", "delivering", "processing"})


def counter(task: Mapping[str, Any], name: str) -> int | None:
    """A number of the progress, such as `downloaded`, `total`, `download_speed`."""
    progress = task.get("progress") or {}
    value = (progress.get("counters") or {}).get(name)
    return int(value) if value is not None else None


def speed_of(task: Mapping[str, Any]) -> int | None:
    """Bytes per second that come in now; None if nothing does."""
    return counter(task, "download_speed") if state_of(task) == "downloading" else None


def percent_of(task: Mapping[str, Any]) -> float | None:
    progress = task.get("progress") or {}
    value = progress.get("percent")
    return float(value) if value is not None else None


def remaining(task: Mapping[str, Any]) -> float | None:
    """Seconds until the transfer is done at the speed of now."""
    total, done, speed = counter(task, "total"), counter(task, "downloaded"), speed_of(task)
    if not total or done is None or not speed:
        return None
    return max(total - done, 0) / speed


TITLES = ("ID", "STATUS", "%", "SIZE", "SPEED", "ETA", "NAME")
RIGHT = frozenset({"ID", "%", "SIZE", "SPEED", "ETA"})


def cells_for_people(task: Mapping[str, Any]) -> list[str]:
    """A row under `TITLES`, with human sizes."""
    percent, size, speed, eta = (
        percent_of(task),
        counter(task, "total"),
        speed_of(task),
        remaining(task),
    )
    return [
        str(task["id"]),
        state_of(task),
        f"{percent:.0f}" if percent is not None else "-",
        format_size(size) if size is not None else "-",
        f"{format_size(speed)}/s" if speed else "-",
        format_duration(eta) if eta is not None else "-",
        plain(name_of(task)),
    ]


def cells_for_programs(task: Mapping[str, Any]) -> list[object]:
    """The same in plain numbers, then the queue and the owner."""
    eta = remaining(task)
    percent = percent_of(task)
    return [
        task["id"],
        task["status"],
        None if percent is None else round(percent, 1),
        counter(task, "total"),
        speed_of(task),
        round(eta) if eta is not None else None,
        name_of(task),
        task["queue"],
        task["owner"],
    ]


def put_tasks(tasks: Sequence[Mapping[str, Any]]) -> None:
    """Tasks as a table."""
    rows = [cells_for_people(task) if is_terminal() else cells_for_programs(task) for task in tasks]
    put_table(TITLES, rows, RIGHT, ("ETA", "SPEED", "SIZE", "%"))
