"""What is counted as tasks change, so that nobody has to count rows: tasks by queue and status, and ended tasks by the
hour, in buckets of their seconds. Shared by the stores, which keep it in the transaction of each change.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from dlqueue.queue.record import Change, TaskRecord
from dlqueue.queue.status import FINAL, Status

HOUR = 3600
DAY = 24
SPANS = (1, DAY, 0)
"""Hours that a stored sum may stand for; 0 = all there ever were. So no question has to add up many of them."""
HOURS_KEPT = 40 * DAY
DAYS_KEPT = 400 * DAY
"""Sums of single hours and of days are kept for so many hours."""
STEP = 1.1
"""Each bucket reaches so much further than the one before. Its middle is at most √1.1 − 1 = 4.9 % off."""
INSTANT = -999
"""The bucket of what took less than a microsecond."""
NEVER_BEGUN = -1000
"""The bucket of what ended before it had begun: it has no seconds."""
_STEPS = 1 / math.log(STEP)

CounterKey = tuple[str, Status]
"""Queue and status."""
HourKey = tuple[int, str, str, Status, int]
"""Hour (since 1970), queue, type, outcome, bucket."""


class Figure(msgspec.Struct, frozen=True):
    """Ended tasks that have these things in common: how many, and their seconds together."""

    queue: str
    type: str
    outcome: Status
    bucket: int
    count: int
    seconds: float


def seconds_of(started: float | None, ended: float) -> float | None:
    """From the start of its first step to its result; None = it had not begun."""
    return None if started is None else max(ended - started, 0.0)


def bucket_of(seconds: float | None) -> int:
    """The step of the logarithm of a time."""
    if seconds is None:
        return NEVER_BEGUN
    return INSTANT if seconds < 1e-6 else math.floor(math.log(seconds) * _STEPS)


def middle_of(bucket: int) -> float:
    """What stands for the times of a bucket."""
    return 0.0 if bucket == INSTANT else float(STEP ** (bucket + 0.5))


def ended_at(record: TaskRecord) -> float:
    """When its result was there: what is done for others afterwards (seeding) is not what was waited for."""
    return record.delivered_at if record.delivered_at is not None else record.finished_at or 0.0


def pieces(first: int | None, last: int | None) -> list[tuple[int, int | None, int | None]]:
    """The spans that make up the hours ``first <= hour < last``: each with its own first and last."""
    if first is None and last is None:
        return [(0, None, None)]
    start = None if first is None else -(-first // DAY) * DAY
    end = None if last is None else last // DAY * DAY
    if start is not None and end is not None and start >= end:
        return [(1, first, last)]
    parts: list[tuple[int, int | None, int | None]] = [(DAY, start, end)]
    if first != start:
        parts.append((1, first, start))
    if last != end:
        parts.append((1, end, last))
    return parts


class Ledger:
    """Differences, or the sums of all there ever were: it depends on how long it is kept."""

    def __init__(self) -> None:
        self.counters: dict[CounterKey, int] = {}
        self.hours: dict[HourKey, list[float]] = {}
        """Count and seconds."""

    def note(self, changes: Iterable[Change]) -> None:
        """These changes are being written. On the hot path: a change that leaves the status alone costs nothing."""
        counters = self.counters
        for change in changes:
            record, source = change.record, change.source
            status = record.status
            if change.delete:
                key = record.queue, status  # the change itself leaves the status as it was
                counters[key] = counters.get(key, 0) - 1
                continue
            if status is source:
                continue
            queue = record.queue
            key = queue, status
            counters[key] = counters.get(key, 0) + 1
            if source is not None:
                key = queue, source
                counters[key] = counters.get(key, 0) - 1
                if status in FINAL:
                    self.ended(record)

    def ended(self, record: TaskRecord) -> None:
        """One more has ended."""
        finished = record.finished_at or 0.0
        seconds = seconds_of(record.started_at, ended_at(record))
        key = int(finished // HOUR), record.queue, record.type, record.status, bucket_of(seconds)
        sums = self.hours.get(key)
        if sums is None:
            sums = self.hours[key] = [0, 0.0]
        sums[0] += 1
        sums[1] += seconds or 0.0

    def clear(self) -> None:
        self.counters.clear()
        self.hours.clear()


def figures_of(rows: Iterable[tuple[str, str, Status, float | None, float]]) -> list[Figure]:
    """Of single tasks: queue, type, outcome, when it was started and when its result was there."""
    sums: dict[tuple[str, str, Status, int], list[float]] = {}
    for queue, type, outcome, started, ended in rows:
        seconds = seconds_of(started, ended)
        found = sums.setdefault((queue, type, outcome, bucket_of(seconds)), [0, 0.0])
        found[0] += 1
        found[1] += seconds or 0.0
    return [Figure(*key, int(count), seconds) for key, (count, seconds) in sums.items()]
