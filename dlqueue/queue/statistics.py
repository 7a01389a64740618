"""Figures over a time: how many tasks ended, how, and how long they took. From the hourly sums, not from the rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, TypeVar

import msgspec

from dlqueue.queue.errors import InvalidTask
from dlqueue.queue.figures import DAY, HOUR, HOURS_KEPT, NEVER_BEGUN, Figure, middle_of
from dlqueue.queue.record import Filter
from dlqueue.queue.status import FINAL, Status
from dlqueue.queue.store import Store

EDGE = 5000
"""Tasks that are looked at one by one at either end of a time that does not begin or end with an hour. Where more ended
in that part of an hour, the whole hour counts, and the answer says so."""


class Seconds(msgspec.Struct, frozen=True):
    """From the start of a task's first step to its result, time suspended and paused included. None = no task has
    any. The percentiles are at most 5 % off."""

    avg: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """``success_rate`` is completed / (completed + failed), from 0 to 1; None = neither."""

    total: int
    completed: int
    failed: int
    canceled: int
    success_rate: float | None
    seconds: Seconds


class Group(Summary, frozen=True, kw_only=True):
    """Of one type in one queue."""

    queue: str
    type: str


class Statistics(Summary, frozen=True, kw_only=True):
    """What ended in ``[since, until)``; ``since`` None = ever."""

    since: float | None
    until: float
    groups: list[Group]


S = TypeVar("S", bound=Summary)


async def measure(store: Store, filter: Filter, now: float, groups: bool = True) -> Statistics:
    """What ended within ``since`` and ``until`` of the filter and meets its other conditions.

    Each end of a task counts in the hour in which it came, also if the task has been retried or removed since.
    Conditions that the hourly sums do not know (owner, labels, text, …) are answered from the rows that are there:
    that takes time in proportion to how many they are.

    :param groups: also say it of each type in each queue.
    :raises InvalidTask: the filter asks for tasks that have not ended.
    """
    wanted = FINAL.intersection(filter.status) if filter.status else FINAL
    if not wanted:
        raise InvalidTask("statistics are of tasks that have ended: completed, error or canceled", "status")
    since, until = filter.since, filter.until if filter.until is not None and filter.until <= now else None
    plain = msgspec.structs.replace(filter, status=tuple(sorted(wanted)), since=None, until=None)
    if since is not None and since >= (now if until is None else until):
        figures: Sequence[Figure] = ()
    elif plain == Filter(status=plain.status, queue=plain.queue, type=plain.type):
        figures, since, until = await _from_hours(store, plain, since, until, int(now // HOUR) - HOURS_KEPT, groups)
    else:
        figures = await store.ended(plain, since, until, None) or ()
    of = _SECONDS_OF if wanted == FINAL else None
    parts = groupby(sorted(figures, key=_kind), key=_kind) if groups else ()
    found = [_summary(Group, list(part), of, queue=kind[0], type=kind[1]) for kind, part in parts]
    return _summary(Statistics, figures, of, since=since, until=now if until is None else until, groups=found)


_SECONDS_OF = Status.COMPLETED
"""Whose seconds count where no status was asked for: an early failure says nothing of how long the work takes."""


async def _from_hours(
    store: Store, filter: Filter, since: float | None, until: float | None, oldest: int, groups: bool
) -> tuple[list[Figure], float | None, float | None]:
    # Of what is older than that there are whole days only.
    if since is not None and since < oldest * HOUR:
        since = since // (DAY * HOUR) * DAY * HOUR
    if until is not None and until < oldest * HOUR:
        until = -(-until // (DAY * HOUR)) * DAY * HOUR
    first = None if since is None else math.ceil(since / HOUR)
    last = None if until is None else math.floor(until / HOUR)
    found: list[Figure] = []
    if first is not None and last is not None and first > last:  # within one hour
        part = await store.ended(filter, since, until, EDGE)
        if part is not None:
            return list(part), since, until
        first, last, since, until = last, first, last * HOUR, first * HOUR
    else:
        if since is not None and first is not None and since < first * HOUR:
            part = await store.ended(filter, since, first * HOUR, EDGE)
            if part is None:
                first -= 1
                since = first * HOUR
            found += part or ()
        if until is not None and last is not None and last * HOUR < until:
            part = await store.ended(filter, last * HOUR, until, EDGE)
            if part is None:
                last += 1
                until = last * HOUR
            found += part or ()
    return [*found, *await store.hours(filter, first, last, groups)], since, until


def _kind(figure: Figure) -> tuple[str, str]:
    return figure.queue, figure.type


def _summary(cls: type[S], figures: Sequence[Figure], of: Status | None, **more: Any) -> S:
    counts = dict.fromkeys(FINAL, 0)
    for figure in figures:
        counts[figure.outcome] += figure.count
    completed, failed = counts[Status.COMPLETED], counts[Status.ERROR]
    return cls(
        total=sum(counts.values()),
        completed=completed,
        failed=failed,
        canceled=counts[Status.CANCELED],
        success_rate=completed / (completed + failed) if completed + failed else None,
        seconds=_seconds([figure for figure in figures if of is None or figure.outcome is of]),
        **more,
    )


def _seconds(figures: Iterable[Figure]) -> Seconds:
    buckets: dict[int, list[float]] = {}
    for figure in figures:
        if figure.bucket != NEVER_BEGUN:
            sums = buckets.setdefault(figure.bucket, [0, 0.0])
            sums[0] += figure.count
            sums[1] += figure.seconds
    count = sum(number for number, _ in buckets.values())
    if not count:
        return Seconds()
    ordered = sorted(buckets.items())

    def percentile(part: float) -> float:
        left: float = math.ceil(part * count)
        for bucket, (number, together) in ordered:
            left -= number
            if left <= 0:
                return together if number == 1 else middle_of(bucket)
        raise AssertionError("a percentile lies within its figures")

    average = sum(together for _, together in buckets.values()) / count
    return Seconds(average, percentile(0.5), percentile(0.95), percentile(0.99))
