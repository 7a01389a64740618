"""What the writer's thread does inside its transactions: submits, decisions, wakes; each for a batch of payloads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import bindparam, delete, func, or_, select, text, update

from dlqueue.queue import transitions, wants
from dlqueue.queue.dependencies import MAY_BE_BLOCKED, carry_out, follow
from dlqueue.queue.errors import Conflict, InvalidTask, QueueFull, full
from dlqueue.queue.figures import DAY, DAYS_KEPT, HOURS_KEPT
from dlqueue.queue.rank import is_ranked
from dlqueue.queue.record import Answer, Change, Decide, Decision, NewTask, Submission, TaskRecord, new_record
from dlqueue.queue.sql import rows
from dlqueue.queue.sql.outbox import OutboxRows
from dlqueue.queue.sql.rows import Driver, Statement
from dlqueue.queue.sql.schedules import close_runs
from dlqueue.queue.sql.sums import FORGET, Sums
from dlqueue.queue.sql.tables import UNFINISHED, task, task_data, task_dependency, task_event
from dlqueue.queue.status import Status

KEPT = 2000
"""Records at hand, at most."""
EVENTS_KEPT = 500
"""Events kept of one task; the oldest beyond go."""


_KEYED = Statement(
    select(*rows.COLUMNS)
    .join(task_data, task_data.c.task_id == task.c.id)
    .where(
        task.c.namespace == bindparam("namespace"),
        task.c.owner == bindparam("owner"),
        task.c.unique_key == bindparam("key"),
    )
)
_JOINED = Statement(
    select(*rows.COLUMNS)
    .join(task_data, task_data.c.task_id == task.c.id)
    .where(
        task.c.namespace == bindparam("namespace"), task.c.join_key == bindparam("key"), task.c.finished_at.is_(None)
    )
    .order_by(task.c.id)
)
_BLOCKED_BY = Statement(
    select(task_dependency.c.task_id)
    .join(task, task.c.id == task_dependency.c.task_id)
    .where(
        task_dependency.c.depends_on_id == bindparam("id"),
        or_(*(task.c.status == bindparam(str(status)) for status in MAY_BE_BLOCKED)),
    )
)


_HOLDING = Statement(
    select(task.c.id)
    .where(task.c.namespace == bindparam("namespace"), text("hold IS NOT NULL"), task.c.hold == bindparam("hold"))
    .order_by(task.c.rank.desc(), task.c.id)
    .limit(bindparam("limit"))
)
_HOLDING_PREFIX = Statement(
    select(task.c.id)
    .where(
        task.c.namespace == bindparam("namespace"),
        text("hold IS NOT NULL"),
        task.c.hold >= bindparam("first"),
        task.c.hold < bindparam("last"),
    )
    .order_by(task.c.rank.desc(), task.c.id)
    .limit(bindparam("limit"))
)
_NEEDED = Statement(
    select(task.c.id)
    .join(task_dependency, task.c.id == task_dependency.c.task_id)
    .where(task_dependency.c.depends_on_id == bindparam("id"), text(UNFINISHED))
    .limit(1)
)
_UNFINISHED_IN = Statement(
    select(func.count())
    .select_from(task)
    .where(task.c.namespace == bindparam("namespace"), task.c.queue == bindparam("queue"), text(UNFINISHED))
)
_ONE_UNFINISHED_IN = Statement(
    select(task.c.rank, task.c.priority, task.c.created_at, task_data.c.options)
    .join(task_data, task_data.c.task_id == task.c.id)
    .where(task.c.namespace == bindparam("namespace"), task.c.queue == bindparam("queue"), text(UNFINISHED))
    .limit(1)
)
_STANDING_IN = Statement(
    select(task.c.id, task_data.c.options)
    .join(task_data, task_data.c.task_id == task.c.id)
    .where(
        task.c.namespace == bindparam("namespace"),
        task.c.queue == bindparam("queue"),
        text(UNFINISHED),
        task_data.c.options.contains('"standing"'),
    )
)
_RAISE = Statement(update(task).where(task.c.id == bindparam("id_")).values(rank=task.c.rank + bindparam("points")))
_RERANK = Statement(
    update(task)
    .where(task.c.namespace == bindparam("of"), task.c.queue == bindparam("lane"), text(UNFINISHED))
    .values(rank=task.c.priority - bindparam("ageing") * task.c.created_at / 60, revision=task.c.revision + 1)
)
"""`dlqueue.queue.rank.rank` for all at once, but for the standing that few have."""
_TRIM = Statement(
    delete(task_event).where(
        task_event.c.task_id == bindparam("task_id"),
        task_event.c.sequence
        <= select(task_event.c.sequence)
        .where(task_event.c.task_id == bindparam("task_id"))
        .order_by(task_event.c.sequence.desc())
        .offset(EVENTS_KEPT)
        .limit(1)
        .scalar_subquery(),
    )
)
NO_LIMIT = -1
"""SQLite's word for "all"."""


class Verbs:
    """The state that spans transactions is small, and forgotten when one is rolled back."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self._next_ids: dict[str, int] = {}
        self.queues_seen: set[str] = set()
        self._dependencies: bool | None = None
        self.sums = Sums(namespace)
        self._at_hand: dict[int, TaskRecord] = {}
        """Tasks in the middle of a step or between two, as they were written last. Nobody else writes them, so that the
        end of a step, and the next one, need not read them again; every update checks the revision all the same."""
        self.outbox = OutboxRows(namespace)

    def rolled_back(self) -> None:
        """What was numbered ahead was not written."""
        self._next_ids.clear()
        self.sums.clear()
        self.queues_seen.clear()
        self._at_hand.clear()
        self._dependencies = None

    def forget_dependencies(self) -> None:
        """There may be some now."""
        self._dependencies = None

    def has_dependencies(self, driver: Driver) -> bool:
        """Does any task depend on another? Where none does, the end of a task need not ask for who waited for it."""
        if self._dependencies is None:
            self._dependencies = bool(driver.execute("SELECT 1 FROM task_dependency LIMIT 1").fetchall())
        return self._dependencies

    def submit(self, driver: Driver, payloads: Sequence[Any], changes: list[Change]) -> list[Any]:
        batch = _Batch(self, driver)
        answers: list[Any] = []
        for tasks, now, capacity, take in payloads:
            try:
                answers.append(batch.add(tasks, now, capacity, take))
            except (Conflict, InvalidTask, QueueFull) as error:
                answers.append(error)
        made, followed = batch.write()
        changes += made + followed
        if followed:  # some were blocked and are not any more
            newest = {change.record.id: change.record for change in followed}
            for answer in answers:
                if isinstance(answer, list):
                    answer[:] = [Submission(newest.get(s.record.id, s.record), s.created) for s in answer]
        return answers

    def transact(
        self, driver: Driver, payloads: Sequence[Sequence[Decision]], changes: list[Change]
    ) -> list[list[Answer]]:
        flat, made = carry_out(_Rows(driver, self), [d for payload in payloads for d in payload])
        self.write(driver, made)
        changes += made
        answers, start = [], 0
        for payload in payloads:
            answers.append(flat[start : start + len(payload)])
            start += len(payload)
        return answers

    def wake(
        self, driver: Driver, payloads: Sequence[tuple[str, int | None, float]], changes: list[Change]
    ) -> list[int]:
        counts = []
        for hold, limit, now in payloads:
            ids = self._holding(driver, hold, NO_LIMIT if limit is None else limit)
            found = rows.load(driver, self.namespace, ids)
            made = [c for i in ids if i in found and (c := transitions.wake(found[i], now)) is not None]
            self.write(driver, made)
            changes += made
            counts.append(len(made))
        return counts

    def rerank(self, driver: Driver, payloads: Sequence[tuple[str, float]], changes: list[Change]) -> list[bool]:
        answers = []
        for queue, ageing in payloads:
            sample = _ONE_UNFINISHED_IN.run(driver, {"namespace": self.namespace, "queue": queue})
            answers.append(
                any(
                    not is_ranked(stored, first, at, ageing, rows.standing_of(options))
                    for stored, first, at, options in sample
                )
            )
            if answers[-1]:
                _RERANK.run(driver, {"of": self.namespace, "lane": queue, "ageing": ageing})
                few = _STANDING_IN.run(driver, {"namespace": self.namespace, "queue": queue})
                _RAISE.each(driver, ({"id_": row[0], "points": rows.standing_of(row[1])} for row in few))
                self._at_hand.clear()  # their rows have changed
        return answers

    def purge(
        self,
        driver: Driver,
        payloads: Sequence[tuple[Collection[int], float, Collection[str], float]],
        changes: list[Change],
    ) -> list[int]:
        counts = []
        for ids, before, cleaned, now in payloads:
            free = [i for i in ids if not (self.has_dependencies(driver) and _NEEDED.run(driver, {"id": i}))]
            found = rows.load(driver, self.namespace, free).values()
            made = [c for r in found if (c := wants.purge(r, now, before, r.type in cleaned)) is not None]
            self.write(driver, made)
            changes += made
            counts.append(len(made))
        return counts

    def forget_hours(self, driver: Driver, payloads: Sequence[int], changes: list[Change]) -> list[None]:
        for now in payloads:
            for span, kept in ((1, HOURS_KEPT), (DAY, DAYS_KEPT)):
                FORGET.run(driver, {"of": self.namespace, "wide": span, "before": now - kept})
        return [None] * len(payloads)

    def before_commit(self, driver: Driver) -> None:
        """The transaction has done all else."""
        self.sums.write(driver)

    def write(self, driver: Driver, changes: Sequence[Change], new: Sequence[TaskRecord] = ()) -> None:
        """New rows, changed rows, and the events of both.

        :param new: as they are after all of ``changes``.
        """
        self.sums.note(changes)
        rows.insert_tasks(driver, self.namespace, new)
        inserted = {record.id for record in new}
        moved = [change for change in changes if change.record.id not in inserted]
        self._at_hand |= {record.id: record for record in new if record.status is Status.PROCESSING}
        if not rows.update_tasks(driver, [change for change in moved if not change.delete]):
            raise RuntimeError("a task was changed by somebody else in the middle of our transaction")
        self._keep(moved)
        relabeled = {c.record.id: c.record for c in moved if "labels" in c.changed and not c.delete}
        close_runs(driver, self.namespace, moved)
        rows.DELETE_LABELS.each(driver, ({"id_": task_id} for task_id in relabeled))
        rows.INSERT_LABEL.each(driver, rows.label_rows(relabeled.values()))
        told = [change for change in changes if change.kind]
        sequence = self.take_ids(driver, "task_event", len(told))
        for change in told:
            change.sequence = sequence
            sequence += 1
        # The event of a deletion is written too, and goes with the row: its number must not come again.
        rows.insert_events(driver, self.namespace, told)
        self.outbox.post(driver, told)
        gone = [{"id_": change.record.id} for change in moved if change.delete]
        for statement in rows.DELETES if gone else ():
            statement.each(driver, gone)
        for change in moved:
            if not change.delete and change.record.revision % EVENTS_KEPT == 0:
                _TRIM.each(driver, [{"task_id": change.record.id}])

    def load(self, driver: Driver, ids: Collection[int]) -> dict[int, TaskRecord]:
        """The records of these ids, as far as they exist."""
        known = {task_id: self._at_hand[task_id] for task_id in ids if task_id in self._at_hand}
        rest = [task_id for task_id in ids if task_id not in known]
        return known | rows.load(driver, self.namespace, rest) if rest else known

    def _keep(self, changes: Sequence[Change]) -> None:
        for change in changes:
            record = change.record
            self._at_hand.pop(record.id, None)
            if change.delete:
                continue
            if record.status is Status.PROCESSING or (record.status is Status.SUSPENDING and rows.is_small(record)):
                self._at_hand[record.id] = record
        for task_id in [*islice(self._at_hand, max(0, len(self._at_hand) - KEPT))]:
            del self._at_hand[task_id]

    def _holding(self, driver: Driver, hold: str, limit: int) -> list[int]:
        values = {"namespace": self.namespace, "limit": limit}
        if hold.endswith("*"):
            prefix = hold[:-1]
            found = _HOLDING_PREFIX.run(driver, {**values, "first": prefix, "last": prefix + "\U0010ffff"})
        else:
            found = _HOLDING.run(driver, {**values, "hold": hold})
        return [row[0] for row in found]

    def take_ids(self, driver: Driver, table: str, count: int) -> int:
        """The first of ``count`` new ids. The writer is the only one who writes, so it may number ahead; the sequence
        table of AUTOINCREMENT follows and keeps ids of deleted rows from coming back."""
        following = self._next_ids.get(table)
        if following is None:
            row = driver.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
            following = (0 if row is None else int(row[0])) + 1
        self._next_ids[table] = following + count
        return following


class _Rows:
    """What `carry_out` looks up."""

    def __init__(self, driver: Driver, verbs: Verbs) -> None:
        self._driver = driver
        self._verbs = verbs

    def load(self, ids: Collection[int]) -> dict[int, TaskRecord]:
        return self._verbs.load(self._driver, ids)

    def blocked_by(self, task_id: int) -> list[int]:
        if not self._verbs.has_dependencies(self._driver):
            return []
        statuses = {str(status): str(status) for status in MAY_BE_BLOCKED}
        found = _BLOCKED_BY.run(self._driver, {"id": task_id, **statuses})
        return [row[0] for row in found]


class _Batch:
    """The submits of one transaction: all are looked at before the first row is written."""

    def __init__(self, verbs: Verbs, driver: Driver) -> None:
        self._verbs = verbs
        self._driver = driver
        self._namespace = verbs.namespace
        self._keyed: dict[tuple[str, str], TaskRecord] = {}
        self._joined: dict[str, TaskRecord] = {}
        self.new: list[TaskRecord] = []
        self._taken: dict[int, Change] = {}
        self._next_id = 0

    def add(
        self, tasks: Sequence[NewTask], now: float, capacity: Mapping[str, int], take: Decide | None
    ) -> list[Submission]:
        """One request, all or nothing. Nothing of it stays if it raises."""
        before = len(self.new), dict(self._keyed), dict(self._joined)
        # None is taken for a task that turns out to be there, nor for a request that is refused.
        first = self._next_id = self._verbs.take_ids(self._driver, "task", 0)
        try:
            submissions = [self._one(new, now) for new in tasks]
            self._check_capacity([s.record.queue for s in submissions if s.created], capacity)
            if take is not None:
                queued = [s.record for s in submissions if s.created and s.record.status is Status.QUEUED]
                self._taken |= {r.id: change for r in queued if (change := take(r)) is not None}
            self._verbs.take_ids(self._driver, "task", self._next_id - first)
            return submissions
        except Exception:
            del self.new[before[0] :]
            self._keyed, self._joined = before[1], before[2]
            raise

    def _one(self, new: NewTask, now: float) -> Submission:
        if new.unique_key is not None:
            first = self._first(new)
            if first is not None:
                if first.type != new.type or rows.encode(first.params) != rows.encode(new.params):
                    raise Conflict(
                        f"unique key {new.unique_key!r} belongs to task {first.id}, which has another type or other "
                        "params",
                        first.id,
                    )
                return Submission(first, created=False)
        if new.join_key is not None:
            running = self._joined.get(new.join_key) or self._row(_JOINED, key=new.join_key)
            if running is not None:
                return Submission(running, created=False)
        self._check_relatives(new)
        record = new_record(new, self._next_id, now)
        self._next_id += 1
        self.new.append(record)
        if new.unique_key is not None:
            self._keyed[new.owner, new.unique_key] = record
        if new.join_key is not None:
            self._joined[new.join_key] = record
        return Submission(record, created=True)

    def _first(self, new: NewTask) -> TaskRecord | None:
        key = (new.owner, new.unique_key or "")
        return self._keyed.get(key) or self._row(_KEYED, owner=new.owner, key=new.unique_key)

    def _row(self, statement: rows.Statement, **values: Any) -> TaskRecord | None:
        found = statement.run(self._driver, {"namespace": self._namespace, **values})
        return rows.record_from(found[0]) if found else None

    def _check_relatives(self, new: NewTask) -> None:
        if not new.depends_on and new.parent_id is None:
            return
        wanted = {*new.depends_on, *(() if new.parent_id is None else (new.parent_id,))}
        missing = wanted - rows.load(self._driver, self._namespace, wanted).keys()
        missing -= {record.id for record in self.new}
        for task_id in missing:
            field = "parent_id" if task_id == new.parent_id else "depends_on"
            raise InvalidTask(f"task {task_id} not found", field)

    def _check_capacity(self, made_in: Sequence[str], capacity: Mapping[str, int]) -> None:
        for name in set(made_in) & capacity.keys():
            size = int(_UNFINISHED_IN.run(self._driver, {"namespace": self._namespace, "queue": name})[0][0])
            size += sum(record.queue == name for record in self.new)
            if size > capacity[name]:
                raise QueueFull(full(name, size - made_in.count(name), capacity[name]))

    def write(self) -> tuple[list[Change], list[Change]]:
        """Everything that was accepted; answers the changes, and apart those of dependencies that are met already."""
        changes = [
            Change(record=record, source=None, kind="submitted", at=record.created_at, message=None)
            for record in self.new
        ]
        rows_of_new = self.new
        if self._taken:
            changes += self._taken.values()
            rows_of_new = [self._taken[r.id].record if r.id in self._taken else r for r in self.new]
        self._verbs.write(self._driver, changes, rows_of_new)
        rows.INSERT_DEPENDENCY.each(
            self._driver,
            (
                {"task_id": record.id, "depends_on_id": other}
                for record in self.new
                for other in dict.fromkeys(record.depends_on)
            ),
        )
        rows.INSERT_LABEL.each(self._driver, rows.label_rows(self.new))
        if any(record.depends_on for record in self.new):
            self._verbs.forget_dependencies()
        for name in {record.queue for record in self.new} - self._verbs.queues_seen:
            self._driver.execute(
                "INSERT INTO queue (namespace, name) VALUES (?, ?) ON CONFLICT DO NOTHING", (self._namespace, name)
            )
            self._verbs.queues_seen.add(name)
        followed: list[Change] = []
        known = {record.id: record for record in self.new}
        for change in tuple(changes):
            if change.record.status is Status.BLOCKED:
                follow(_Rows(self._driver, self._verbs), known, followed, change)
        self._verbs.write(self._driver, followed)
        return changes, followed
