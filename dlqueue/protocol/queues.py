"""Params and results of ``queues.*``. What values a setting may have, the queue knows."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, TypedDict

from dlqueue.protocol.checks import MAX_LIST, MAX_TEXT
from dlqueue.protocol.errors import InvalidParams

QueueKey = Literal[
    "concurrency", "capacity", "rate", "ageing", "max_retry", "retry_delay", "backoff_factor", "backoff_max"
]


def _named(name: str) -> None:
    if not 0 < len(name) <= MAX_TEXT:
        raise InvalidParams("name", f"must have between 1 and {MAX_TEXT} characters")


@dataclass(frozen=True, kw_only=True)
class ListQueues:
    """By name; ``cursor`` is a ``next_cursor`` of before."""

    limit: int | None = None
    cursor: str | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and not 1 <= self.limit <= MAX_LIST:
            raise InvalidParams("limit", f"must be between 1 and {MAX_LIST}")


@dataclass(frozen=True, kw_only=True)
class QueueName:
    name: str

    def __post_init__(self) -> None:
        _named(self.name)


@dataclass(frozen=True, kw_only=True)
class QueueSettings:
    """``rate`` is such as ``"10/s"``; ``ageing`` is points a minute, 0 = off."""

    concurrency: int | None = None
    capacity: int | None = None
    rate: str | None = None
    ageing: float | None = None
    max_retry: int | None = None
    retry_delay: float | None = None
    backoff_factor: float | None = None
    backoff_max: float | None = None

    def settings(self) -> dict[str, Any]:
        """What is given."""
        found = {field.name: getattr(self, field.name) for field in fields(QueueSettings)}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class CreateQueue(QueueSettings):
    name: str

    def __post_init__(self) -> None:
        _named(self.name)


@dataclass(frozen=True, kw_only=True)
class UpdateQueue(QueueSettings):
    """What is not given stays; ``reset`` names settings that shall be again as the configuration says."""

    name: str
    reset: list[QueueKey] | None = None

    def __post_init__(self) -> None:
        _named(self.name)
        if not self.settings() and not self.reset:
            raise InvalidParams("name", "nothing to change is given: say a setting, or reset")


class QueueStats(TypedDict):
    """``pending`` are the unfinished tasks that are not in a step, ``size`` all unfinished ones; ``completed`` and
    ``failed`` those that are still kept."""

    pending: int
    running: int
    completed: int
    failed: int
    size: int
    capacity: int | None
    concurrency: int


class Queue(QueueStats):
    """What is in force. ``changed`` names the settings that were made at run time."""

    name: str
    rate: str | None
    ageing: float
    max_retry: int
    retry_delay: float
    backoff_factor: float
    backoff_max: float
    paused: bool
    changed: list[str]


class QueuePage(TypedDict):
    items: list[Queue]
    next_cursor: str | None
    total: int | None
