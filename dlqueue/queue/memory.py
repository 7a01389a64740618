"""`Store` in memory: for tests, and for programs whose tasks may die with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from dlqueue.queue import transitions, wants
from dlqueue.queue.dependencies import MAY_BE_BLOCKED, carry_out, follow
from dlqueue.queue.errors import Conflict, InvalidTask, QueueFull, TaskNotFound, full
from dlqueue.queue.figures import DAYS_KEPT, Figure, Ledger, ended_at, figures_of
from dlqueue.queue.glance import Glance, Look
from dlqueue.queue.memory_outbox import MemoryOutbox
from dlqueue.queue.memory_schedules import MemorySchedules
from dlqueue.queue.memory_snapshot import Snapshot
from dlqueue.queue.rank import is_ranked, rank
from dlqueue.queue.record import (
    Answer,
    Change,
    Decide,
    Decision,
    Due,
    Event,
    Filter,
    NewTask,
    Page,
    QueueRow,
    Submission,
    TaskRecord,
    due_of,
    new_record,
)
from dlqueue.queue.status import UNFINISHED, WAITING, Status
from dlqueue.queue.store import Listener

ORDERS = ("id", "priority", "created_at", "finished_at")


class MemoryStore(MemoryOutbox, MemorySchedules):
    """Everything in dictionaries; one process, no durability."""

    def __init__(self) -> None:
        super().__init__()
        self._tasks: dict[int, TaskRecord] = {}
        self._events: list[Event] = []
        self._last_id = 0
        self._sequence = 0
        self._dependents: dict[int, list[int]] = {}
        self._queues: set[str] = set()
        self._ledger = Ledger()
        self._queue_rows: dict[str, QueueRow] = {}
        self._listener: Listener = lambda changes: None

    async def open(self, listener: Listener) -> None:
        self._listener = listener

    async def close(self) -> None:
        return None

    def snapshot(self) -> bytes:
        """All that there is, as JSON. No verb waits for anything, so between two of them it is whole."""
        return msgspec.json.encode(
            Snapshot(
                tasks=list(self._tasks.values()),
                events=self._events,
                last_id=self._last_id,
                sequence=self._sequence,
                queues=sorted(self._queues),
                queue_rows=list(self._queue_rows.values()),
                counters=[(queue, status, count) for (queue, status), count in self._ledger.counters.items()],
                hours=list(self._ledger.hours.items()),
                schedules=list(self._schedules.values()),
                runs=list(self._runs.values()),
                last_run=self._last_run,
                letters=list(self._letters.values()),
                last_letter=self._last_letter,
            )
        )

    def restore(self, snapshot: bytes) -> None:
        """As it was then. :raises msgspec.MsgspecError: it is not a snapshot."""
        was = msgspec.json.decode(snapshot, type=Snapshot)
        self._tasks = {record.id: record for record in was.tasks}
        self._events = was.events
        self._last_id, self._sequence, self._last_run = was.last_id, was.sequence, was.last_run
        self._dependents = {}
        for record in was.tasks:
            for other in record.depends_on:
                self._dependents.setdefault(other, []).append(record.id)
        self._queues = set(was.queues)
        self._queue_rows = {row.name: row for row in was.queue_rows}
        self._ledger.counters = {(queue, status): count for queue, status, count in was.counters}
        self._ledger.hours = dict(was.hours)
        self._schedules = {schedule.name: schedule for schedule in was.schedules}
        self._runs = {run.id: run for run in was.runs}
        self._letters = {letter.id: letter for letter in was.letters}
        self._last_letter = was.last_letter

    # -- writes -------------------------------------------------------------------------------------------------------

    async def submit(
        self,
        tasks: Sequence[NewTask],
        now: float,
        capacity: Mapping[str, int] | None = None,
        take: Decide | None = None,
    ) -> list[Submission]:
        before = self._last_id
        try:
            submissions = [self._submit_one(new, now) for new in tasks]
            self._check_capacity([s.record.queue for s in submissions if s.created], capacity or {})
        except Exception:
            # All or nothing; ids that nobody was told of may come again.
            for task_id in range(before + 1, self._last_id + 1):
                del self._tasks[task_id]
            self._last_id = before
            raise
        made = [s.record for s in submissions if s.created]
        changes = [Change(record=record, source=None, kind="submitted", at=now) for record in made]
        known = {record.id: record for record in made}
        for change in tuple(changes):
            if change.record.status is Status.BLOCKED:
                follow(self, known, changes, change)
        for record in made:
            for other in record.depends_on:
                self._dependents.setdefault(other, []).append(record.id)
        self._queues |= {record.queue for record in made}
        newest = {change.record.id: change.record for change in changes}
        if take is not None:
            queued = [record for record in made if record.status is Status.QUEUED]
            changes += [taken for record in queued if (taken := take(record)) is not None]
        self._commit(changes)
        return [Submission(newest[s.record.id], created=True) if s.created else s for s in submissions]

    def _check_capacity(self, made_in: Sequence[str], capacity: Mapping[str, int]) -> None:
        for name in set(made_in) & capacity.keys():
            size = sum(record.queue == name and not record.final for record in self._tasks.values())
            if size > capacity[name]:
                raise QueueFull(full(name, size - made_in.count(name), capacity[name]))

    def _submit_one(self, new: NewTask, now: float) -> Submission:
        keyed = new.unique_key is not None or new.join_key is not None
        for record in self._tasks.values() if keyed else ():
            if new.unique_key is not None and (record.owner, record.unique_key) == (new.owner, new.unique_key):
                if record.type != new.type or _canonical(record.params) != _canonical(new.params):
                    raise Conflict(
                        f"unique key {new.unique_key!r} belongs to task {record.id}, which has another type or other "
                        "params",
                        record.id,
                    )
                return Submission(record, created=False)
            if new.join_key is not None and record.join_key == new.join_key and not record.final:
                return Submission(record, created=False)
        for field, ids in (("depends_on", new.depends_on), ("parent_id", (new.parent_id,))):
            for task_id in ids:
                if task_id is not None and task_id not in self._tasks:
                    raise InvalidTask(f"task {task_id} not found", field)
        self._last_id += 1
        # What is stored is a copy: a caller who changes his params later changes his own.
        copy = msgspec.structs.replace(new, params=msgspec.json.decode(msgspec.json.encode(new.params)))
        record = self._tasks[self._last_id] = new_record(copy, self._last_id, now)
        return Submission(record, created=True)

    async def transact(self, decisions: Sequence[Decision]) -> list[Answer]:
        answers, changes = carry_out(self, decisions)
        self._commit(changes)
        return answers

    async def wake(self, hold: str, limit: int | None, now: float) -> int:
        def holds(record: TaskRecord) -> bool:
            return record.hold is not None and (
                record.hold.startswith(hold[:-1]) if hold.endswith("*") else record.hold == hold
            )

        found = sorted(filter(holds, self._tasks.values()), key=lambda record: (-record.rank, record.id))
        changes = [c for record in found[:limit] if (c := transitions.wake(record, now)) is not None]
        self._commit(changes)
        return len(changes)

    async def rerank(self, queue: str, ageing: float) -> bool:
        found = [r for r in self._tasks.values() if r.queue == queue and r.status in UNFINISHED]
        if not found or is_ranked(
            found[0].rank, found[0].priority, found[0].created_at, ageing, found[0].options.standing
        ):
            return False
        for record in found:
            ranked = rank(record.priority, record.created_at, ageing, record.options.standing)
            self._tasks[record.id] = msgspec.structs.replace(record, rank=ranked, revision=record.revision + 1)
        return True

    async def purge(self, ids: Collection[int], before: float, cleaned: Collection[str], now: float) -> int:
        needed = {other for r in self._tasks.values() if not r.final for other in r.depends_on}
        found = self.load([task_id for task_id in ids if task_id not in needed]).values()
        changes = [c for r in found if (c := wants.purge(r, now, before, r.type in cleaned)) is not None]
        self._commit(changes)
        return len(changes)

    async def forget_hours(self, now: int) -> None:
        for key in [key for key in self._ledger.hours if key[0] < now - DAYS_KEPT]:
            del self._ledger.hours[key]

    def _commit(self, changes: Sequence[Change]) -> None:
        self._ledger.note(changes)
        for change in changes:
            record = change.record
            self._close_run(change)
            if change.delete:
                self._tasks.pop(record.id, None)
                self._dependents.pop(record.id, None)
                self._events = [event for event in self._events if event.task_id != record.id]
            else:
                self._tasks[record.id] = record
            if change.kind:
                change.sequence = self._next_sequence()
                if not change.delete:
                    self._events.append(_event(change))
        self._post(changes)
        if changes:
            self._listener(changes)

    def _next_sequence(self) -> int:
        self._sequence += 1
        return self._sequence

    # -- what `carry_out` looks up ------------------------------------------------------------------------------------

    def load(self, ids: Collection[int]) -> dict[int, TaskRecord]:
        return {task_id: self._tasks[task_id] for task_id in ids if task_id in self._tasks}

    def blocked_by(self, task_id: int) -> list[int]:
        found = (self._tasks.get(other) for other in self._dependents.get(task_id, ()))
        return [record.id for record in found if record is not None and record.status in MAY_BE_BLOCKED]

    # -- reads --------------------------------------------------------------------------------------------------------

    async def get(self, task_id: int) -> TaskRecord:
        record = self._tasks.get(task_id)
        if record is None or record.cleanup > 1:
            raise TaskNotFound(task_id)
        return record

    def _matching(self, filter: Filter) -> list[TaskRecord]:
        return [record for record in self._tasks.values() if _matches(record, filter)]

    async def find(
        self, filter: Filter, order: str = "-id", limit: int = 100, cursor: str | None = None, count: bool = False
    ) -> Page:
        name, descending = order.removeprefix("-"), order.startswith("-")
        if name not in ORDERS:
            raise InvalidTask(f"{order!r} is not one of {', '.join(ORDERS)} (with - for descending)", "order")

        def key(record: TaskRecord) -> tuple[float, int]:
            return (getattr(record, name) or 0.0, record.id)

        matching = self._matching(filter)
        items = sorted(matching, key=key, reverse=descending)
        if cursor is not None:
            last = _read_cursor(cursor, order)
            items = [record for record in items if (key(record) < last if descending else key(record) > last)]
        following = None
        if len(items) > limit:
            items = items[:limit]
            following = msgspec.json.encode([order, *key(items[-1])]).hex()
        return Page(items, following, len(matching) if count else None)

    async def ids(self, filter: Filter, limit: int, after: int = 0) -> list[int]:
        return sorted(record.id for record in self._matching(filter) if record.id > after)[:limit]

    async def count(self, filter: Filter) -> int:
        return len(self._matching(filter))

    async def history(self, task_id: int, limit: int = 1000) -> list[Event]:
        return [event for event in self._events if event.task_id == task_id][-limit:]

    async def events(self, after: int, limit: int) -> list[Event]:
        return [event for event in self._events if event.sequence > after][:limit]

    async def queues(self) -> list[str]:
        return sorted(self._queues)

    async def ready(
        self, queue: str, types: Collection[str], now: float, limit: int, fresh: bool | None = None
    ) -> list[Due]:
        found = [
            r
            for r in self._waiting(types)
            if r.queue == queue
            and (r.hold is None if r.run_at is None else r.run_at <= now)
            and (fresh is None or r.fresh is fresh)
        ]
        return [due_of(record) for record in sorted(found, key=lambda r: (-r.rank, r.id))[:limit]]

    async def timed(self, types: Collection[str], after: float, limit: int) -> list[Due]:
        found = [r for r in self._waiting(types) if r.run_at is not None and r.run_at > after]
        return [due_of(record) for record in sorted(found, key=lambda r: (r.run_at or 0.0, r.id))[:limit]]

    def _waiting(self, types: Collection[str]) -> Iterable[TaskRecord]:
        return (r for r in self._tasks.values() if r.status in WAITING and r.type in types)

    async def processing(self) -> list[int]:
        return sorted(r.id for r in self._tasks.values() if r.status is Status.PROCESSING)

    async def cleanups(self, limit: int, after: int = 0) -> list[int]:
        return sorted(r.id for r in self._tasks.values() if r.cleanup and r.id > after)[:limit]

    async def expired(
        self, filter: Filter, before: float, limit: int, after: tuple[float, int] = (0.0, 0)
    ) -> list[tuple[float, int]]:
        ended = [(r.finished_at, r.id) for r in self._matching(filter) if r.finished_at is not None and not r.cleanup]
        return sorted(key for key in ended if after < key < (before, 0))[:limit]

    async def midway(self, holds: Collection[str]) -> list[int]:
        def is_midway(record: TaskRecord) -> bool:
            if record.hold is not None:
                return record.hold.startswith(tuple(holds))
            return record.status in WAITING and record.run_at is None and record.touched

        return sorted(record.id for record in self._tasks.values() if is_midway(record))

    async def owners(self) -> tuple[dict[str, int], int]:
        return dict(Counter(record.owner for record in self._tasks.values() if not record.final)), self._sequence

    async def tally(self, queue: str | None = None) -> dict[Status, int]:
        counts: dict[Status, int] = {}
        for (name, status), count in self._ledger.counters.items():
            if count and queue in (None, name):
                counts[status] = counts.get(status, 0) + count
        return counts

    async def hours(self, filter: Filter, first: int | None, last: int | None, groups: bool = True) -> list[Figure]:
        return [
            Figure(queue, type, outcome, bucket, int(count), seconds)
            for (hour, queue, type, outcome, bucket), (count, seconds) in self._ledger.hours.items()
            if (first is None or hour >= first)
            and (last is None or hour < last)
            and filter.queue in (None, queue)
            and filter.type in (None, type)
            and (not filter.status or outcome in filter.status)
        ]

    async def ended(
        self, filter: Filter, since: float | None, until: float | None, limit: int | None
    ) -> list[Figure] | None:
        found = [
            (r.queue, r.type, r.status, r.started_at, ended_at(r))
            for r in self._matching(filter)
            if r.finished_at is not None
            and (since is None or r.finished_at >= since)
            and (until is None or r.finished_at < until)
        ]
        return None if limit is not None and len(found) > limit else figures_of(found)

    async def tallies(self) -> dict[str, dict[Status, int]]:
        counts: dict[str, dict[Status, int]] = {}
        for (name, status), count in self._ledger.counters.items():
            if count:
                counts.setdefault(name, {})[status] = count
        return counts

    async def glance(self, look: Look) -> Glance:
        mine = sorted((r for r in self._tasks.values() if look.owner in (None, r.owner)), key=lambda r: -r.id)
        shown = [record for record in mine if record.cleanup < 2]
        tally = await self.tally()
        if look.owner is not None:
            tally = {}
            for record in shown[: look.newest]:
                tally[record.status] = tally.get(record.status, 0) + 1
        failed = [r for r in mine if look.owner is not None or r.status in (Status.ERROR, Status.CANCELED)]
        errors = [r for r in failed[: look.newest] if r.status is Status.ERROR and r.cleanup < 2]
        return Glance(
            tally=tally,
            whole=look.owner is None or len(shown) < look.newest,
            errors=errors[: look.errors],
            held={
                prefix: [r.id for r in self._tasks.values() if (r.hold or "").startswith(prefix)][: look.held]
                for prefix in look.holds
            },
            processing=await self.processing(),
        )

    # -- queues that are set at run time ------------------------------------------------------------------------------

    async def save_queues(self, rows: Sequence[QueueRow]) -> None:
        self._queue_rows |= {row.name: row for row in rows}

    async def queue_rows(self) -> list[QueueRow]:
        return list(self._queue_rows.values())


def _canonical(value: Any) -> bytes:
    return msgspec.json.encode(value, order="sorted")


def _event(change: Change) -> Event:
    return Event(
        sequence=change.sequence,
        task_id=change.record.id,
        at=change.at,
        kind=change.kind,
        source=change.source,
        target=change.record.status,
        node=change.node,
        message=change.message,
        error=change.error,
        attempt=change.record.attempt,
        started_at=change.started_at,
    )


def _matches(record: TaskRecord, filter: Filter) -> bool:
    if record.cleanup > 1 or (filter.status and record.status not in filter.status):
        return False
    if filter.ids and record.id not in filter.ids:
        return False
    for name in ("type", "queue", "owner", "correlation_id", "parent_id"):
        value = getattr(filter, name)
        if value is not None and getattr(record, name) != value:
            return False
    for key, wanted in filter.labels:
        if key not in record.labels or (wanted is not None and wanted not in record.labels[key]):
            return False
    if filter.since is not None and record.created_at < filter.since:
        return False
    if filter.until is not None and record.created_at >= filter.until:
        return False
    if filter.text is not None:
        parts = (record.type, record.params, record.result, record.progress)
        haystack = b"\n".join(_canonical(part) for part in parts if part is not None)
        return filter.text.casefold() in haystack.decode().casefold()
    return True


def _read_cursor(cursor: str, order: str) -> tuple[float, int]:
    try:
        made_for, value, last_id = msgspec.json.decode(bytes.fromhex(cursor), type=tuple[str, float, int])
    except (ValueError, msgspec.MsgspecError) as error:
        raise InvalidTask("not a cursor of ours; take next_cursor of the page before", "cursor") from error
    if made_for != order:
        raise InvalidTask(f"the cursor was made for order {made_for!r}", "cursor")
    return value, last_id
