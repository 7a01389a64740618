"""Params and results of ``events.*``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict

from dlqueue.protocol.checks import MAX_LIST, bounded, identifier
from dlqueue.protocol.errors import InvalidParams

TaskTopic = Literal["task", "progress", "schedule"]
"""Of events that may be about one task."""
Topic = Literal["task", "progress", "downloader", "queue", "schedule"]


@dataclass(frozen=True, kw_only=True)
class Subscribe:
    """Without ``topics`` all of them, and with ``task_ids`` those that may be about a task. ``since`` is the sequence
    of the last event seen: what was committed after it comes first."""

    topics: list[Topic] | None = None
    task_ids: list[int] | None = None
    since: int | None = None

    def __post_init__(self) -> None:
        for task_id in self.task_ids or ():
            identifier("task_ids", task_id)
        if self.since is not None and self.since < 0:
            raise InvalidParams("since", "must be 0 or the sequence of an event")


@dataclass(frozen=True, kw_only=True)
class ListEvents:
    """Those after ``since`` (default 0: all that are kept), oldest first; ``cursor`` is a ``next_cursor`` of before."""

    task_ids: list[int] | None = None
    since: int | None = None
    limit: int | None = None
    cursor: str | None = None

    def __post_init__(self) -> None:
        for task_id in self.task_ids or ():
            identifier("task_ids", task_id)
        if self.since is not None and self.since < 0:
            raise InvalidParams("since", "must be 0 or the sequence of an event")
        bounded(self, 1, MAX_LIST, "limit")
        if self.cursor is not None and not (self.cursor.isascii() and self.cursor.isdigit() and len(self.cursor) < 19):
            raise InvalidParams("cursor", "not a cursor of ours; take next_cursor of the page before")

    def after(self) -> int:
        """The sequence that was seen last."""
        return int(self.cursor) if self.cursor is not None else self.since or 0


@dataclass(frozen=True, kw_only=True)
class Unsubscribe:
    subscription: str


class Subscription(TypedDict):
    subscription: str


class Unsubscribed(TypedDict):
    subscription: str


class PastEvent(TypedDict):
    """An event as it is kept."""

    sequence: int
    topic: str
    task_id: int
    at: str
    data: dict[str, Any]


class EventPage(TypedDict):
    items: list[PastEvent]
    next_cursor: str | None
    total: int | None


class Event(TypedDict):
    """The params of an ``event`` notification. ``progress`` has no sequence; topic ``missed`` tells of a gap."""

    subscription: str
    sequence: int | None
    topic: str
    task_id: NotRequired[int]
    at: str
    data: dict[str, Any]
