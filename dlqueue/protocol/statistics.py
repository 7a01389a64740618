"""Messages of `tasks.stats` and `tasks.purge`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NotRequired, TypedDict

from dlqueue.protocol.checks import MAX_SECONDS
from dlqueue.protocol.errors import InvalidParams
from dlqueue.protocol.messages import Filter
from dlqueue.protocol.status import FINAL, Status


@dataclass(frozen=True, kw_only=True)
class Stats(Filter):
    """``since`` and ``until`` bound the time at which a task ended. With ``groups`` the answer also says it of each
    type in each queue."""

    groups: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Purge:
    """``older_than`` is in seconds since the end of a task."""

    older_than: float
    status: Status | list[Status] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.older_than <= MAX_SECONDS:
            raise InvalidParams("older_than", f"must be between 0 and {MAX_SECONDS:.0f} seconds")
        for status in self.statuses():
            if status not in FINAL:
                raise InvalidParams("status", f"only tasks that have ended can be purged: {', '.join(FINAL)}")

    def statuses(self) -> tuple[Status, ...]:
        """Those that are to go; none = all that have ended."""
        if self.status is None:
            return ()
        return (self.status,) if isinstance(self.status, str) else tuple(self.status)


class Durations(TypedDict):
    """Seconds; None = no task has any."""

    avg: float | None
    p50: float | None
    p95: float | None
    p99: float | None


class GroupStatistics(TypedDict):
    queue: str
    type: str
    total: int
    completed: int
    failed: int
    canceled: int
    success_rate: float | None
    seconds: Durations


class Statistics(TypedDict):
    """``since`` is None if all that ever ended counts."""

    since: str | None
    until: str
    total: int
    completed: int
    failed: int
    canceled: int
    success_rate: float | None
    seconds: Durations
    groups: NotRequired[list[GroupStatistics]]
