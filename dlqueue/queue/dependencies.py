"""Carrying out decisions: the part of a transaction that all stores share, dependencies included."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from math import gcd
from typing import Protocol

from dlqueue.queue import transitions
from dlqueue.queue.errors import QueueError, TaskNotFound
from dlqueue.queue.record import Answer, Change, Decision, TaskRecord
from dlqueue.queue.status import Status

MAY_BE_BLOCKED = (Status.BLOCKED, Status.PAUSED)
FAILED = (Status.ERROR, Status.CANCELED)
MOST_AT_ONCE = 128


class Rows(Protocol):
    """What the store can look up inside its transaction."""

    def load(self, ids: Collection[int]) -> Mapping[int, TaskRecord]: ...

    def blocked_by(self, task_id: int) -> Sequence[int]:
        """Tasks that depend on this one and are stored as ``blocked``, or as ``paused``: those may be blocked again
        by now, in the transaction that asks."""
        ...


def carry_out(rows: Rows, decisions: Sequence[Decision]) -> tuple[list[Answer], list[Change]]:
    """Answers one by one, and all changes to be written, in order (a task may change more than once)."""
    known = dict(rows.load({task_id for task_id, _ in decisions}))
    answers: list[Answer] = []
    changes: list[Change] = []
    for task_id, decide in decisions:
        record = known.get(task_id)
        if record is None:
            answers.append(TaskNotFound(task_id))
            continue
        try:
            change = decide(record)
        except QueueError as error:
            answers.append(error)
            continue
        answers.append(change)
        if change is not None:
            changes.append(change)
            known[task_id] = change.record
            follow(rows, known, changes, change)
            if known[task_id] is not change.record:
                answers[-1] = next(other for other in reversed(changes) if other.record.id == task_id)
    return answers, changes


def follow(rows: Rows, known: dict[int, TaskRecord], changes: list[Change], first: Change) -> None:
    """Settle what a change means for the tasks that depend on it, and on those in turn."""
    agenda = [first]
    while agenda:
        change = agenda.pop()
        for task_id in _touched(rows, change):
            if task_id not in known:
                known |= rows.load([task_id])
            record = known.get(task_id)
            if record is None or _waits_for_another(rows, known, record, change.record):
                continue
            missing = [i for i in record.depends_on if i not in known]
            if missing:
                known |= rows.load(missing)
            # A dependency whose row is gone was final when it went, and was looked at then.
            dependencies = [known[i] for i in record.depends_on if i in known]
            resolved = transitions.resolve(record, dependencies, change.at)
            if resolved is not None:
                known[task_id] = resolved.record
                changes.append(resolved)
                agenda.append(resolved)


def _waits_for_another(rows: Rows, known: dict[int, TaskRecord], record: TaskRecord, ended: TaskRecord) -> bool:
    """Is there certainly one more that ``record`` waits for? Looked for here and there and not from one end to the
    other, so that each end of a thousand does not load the thousand."""
    if ended.id == record.id or (ended.status in FAILED and record.options.on_dependency_failure != "run"):
        return False
    places, size = _spread(len(record.depends_on)), 1
    while part := [record.depends_on[place] for place in islice(places, size)]:
        missing = [task_id for task_id in part if task_id not in known]
        if missing:
            known |= rows.load(missing)
        if any(task_id in known and not known[task_id].delivered for task_id in part):
            return True
        size = min(2 * size, MOST_AT_ONCE)
    return False


def _spread(count: int) -> Iterator[int]:
    """Every number below ``count`` once, neighbours far apart."""
    stride = max(1, int(count * 0.618))
    while gcd(stride, count) > 1:
        stride += 1
    return (place * stride % count for place in range(count))


def _touched(rows: Rows, change: Change) -> Iterable[int]:
    record = change.record
    if record.status is Status.BLOCKED:
        yield record.id
    elif record.delivered and change.kind:
        yield from rows.blocked_by(record.id)
