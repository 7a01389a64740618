"""Params and results of `schedules.*`; see `dlqueue.protocol.messages` for how they are checked."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, TypedDict

from dlqueue.protocol.checks import MAX_LIST, MAX_SECONDS, MAX_TEXT, named
from dlqueue.protocol.errors import InvalidParams

Missed = Literal["skip", "once", "all"]
Overlap = Literal["allow", "skip", "replace"]


def _check(params: Any) -> None:
    for field in fields(params):
        value = getattr(params, field.name)
        if isinstance(value, str) and not 0 < len(value) <= MAX_TEXT:
            raise InvalidParams(field.name, f"must have between 1 and {MAX_TEXT} characters")


@dataclass(frozen=True, kw_only=True)
class ScheduleName:
    name: str

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, kw_only=True)
class ListSchedules:
    """By name; ``cursor`` is a ``next_cursor`` of before."""

    owner: str | None = None
    limit: int | None = None
    cursor: str | None = None

    def __post_init__(self) -> None:
        _check(self)
        _limited(self.limit)


@dataclass(frozen=True, kw_only=True)
class CreateSchedule:
    """Either ``cron`` (in ``timezone``, an IANA name; default UTC) or ``every`` (seconds)."""

    name: str
    type: str
    params: dict[str, Any]
    queue: str | None = None
    cron: str | None = None
    every: float | None = None
    timezone: str | None = None
    missed: Missed | None = None
    overlap: Overlap | None = None

    def __post_init__(self) -> None:
        _check(self)
        named(self, "queue")
        if (self.cron is None) == (self.every is None):
            raise InvalidParams("cron", "give either cron or every")
        _finite(self.every)

    def changes(self) -> dict[str, Any]:
        """What is given but the name."""
        return {f.name: v for f in fields(self) if f.name != "name" and (v := getattr(self, f.name)) is not None}


@dataclass(frozen=True, kw_only=True)
class UpdateSchedule:
    """What is given replaces what was, ``params`` as a whole."""

    name: str
    type: str | None = None
    params: dict[str, Any] | None = None
    queue: str | None = None
    cron: str | None = None
    every: float | None = None
    timezone: str | None = None
    missed: Missed | None = None
    overlap: Overlap | None = None

    def __post_init__(self) -> None:
        _check(self)
        named(self, "queue")
        if self.cron is not None and self.every is not None:
            raise InvalidParams("cron", "give either cron or every")
        _finite(self.every)
        if not self.changes():
            raise InvalidParams("name", "nothing to change is given")

    def changes(self) -> dict[str, Any]:
        """What is given but the name."""
        return {f.name: v for f in fields(self) if f.name != "name" and (v := getattr(self, f.name)) is not None}


@dataclass(frozen=True, kw_only=True)
class ScheduleLog:
    """``name`` None: of all; ``cursor`` is a ``next_cursor`` of before."""

    name: str | None = None
    owner: str | None = None
    limit: int | None = None
    cursor: str | None = None

    def __post_init__(self) -> None:
        _check(self)
        _limited(self.limit)
        if self.name is not None and self.owner is not None:
            raise InvalidParams("owner", "give either name or owner")
        if self.cursor is not None and not (self.cursor.isascii() and self.cursor.isdigit() and len(self.cursor) < 19):
            raise InvalidParams("cursor", "not a cursor of ours; take next_cursor of the page before")


def _limited(limit: int | None) -> None:
    if limit is not None and not 1 <= limit <= MAX_LIST:
        raise InvalidParams("limit", f"must be between 1 and {MAX_LIST}")


def _finite(every: float | None) -> None:
    if every is not None and not (math.isfinite(every) and 0 < every <= MAX_SECONDS):
        raise InvalidParams("every", f"must be seconds, more than 0 and at most {MAX_SECONDS:.0f}")


class Schedule(TypedDict):
    name: str
    type: str
    params: dict[str, Any]
    queue: str | None
    cron: str | None
    every: float | None
    timezone: str
    missed: Missed
    overlap: Overlap
    owner: str
    active: bool
    previous_run: str | None
    next_run: str | None
    last_status: str | None
    last_task_id: int | None
    runs: int
    created_at: str


class SchedulePage(TypedDict):
    items: list[Schedule]
    next_cursor: str | None
    total: int | None


class ScheduleRun(TypedDict):
    """A line of the log. ``seconds`` is from the tick to the end of the task."""

    id: int
    schedule: str
    kind: Literal["tick", "missed", "manual"]
    due_at: str
    started_at: str
    task_id: int | None
    status: str
    message: str | None
    finished_at: str | None
    seconds: float | None


class ScheduleStats(TypedDict):
    """``runs`` is how many tasks were made; ``skipped`` and ``refused`` made none. The items are the log."""

    active: int
    paused: int
    runs: int
    running: int
    completed: int
    failed: int
    canceled: int
    skipped: int
    refused: int
    items: list[ScheduleRun]
    next_cursor: str | None
    total: int | None
