"""`Store` on SQL. The verbs run in the writer's thread; queries on read-only connections of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, bindparam, func, or_, select
from sqlalchemy.exc import SQLAlchemyError

from dlqueue.queue import transitions
from dlqueue.queue.dependencies import MAY_BE_BLOCKED, carry_out, follow
from dlqueue.queue.errors import Conflict, InvalidTask, QueueClosed, QueueFull, StorageError, TaskNotFound, full
from dlqueue.queue.record import (
    Answer,
    Change,
    Decision,
    Due,
    Event,
    Filter,
    NewTask,
    Page,
    Submission,
    TaskRecord,
    new_record,
)
from dlqueue.queue.sql import rows
from dlqueue.queue.sql.engine import SYNCHRONOUS, FileLock, parse_url, prepare_schema, sqlite_engine
from dlqueue.queue.sql.query import Query
from dlqueue.queue.sql.tables import queue as queue_table
from dlqueue.queue.sql.tables import task, task_data, task_dependency, task_event
from dlqueue.queue.sql.writer import Writer
from dlqueue.queue.status import Status
from dlqueue.queue.store import Listener

R = TypeVar("R")

EVENTS_KEPT = 500
"""Events kept of one task; the oldest beyond go."""
READERS = 2

_KEYED = rows.Statement(
    select(*rows.COLUMNS)
    .join(task_data, task_data.c.task_id == task.c.id)
    .where(
        task.c.namespace == bindparam("namespace"),
        task.c.owner == bindparam("owner"),
        task.c.unique_key == bindparam("key"),
    )
)
_JOINED = rows.Statement(
    select(*rows.COLUMNS)
    .join(task_data, task_data.c.task_id == task.c.id)
    .where(
        task.c.namespace == bindparam("namespace"), task.c.join_key == bindparam("key"), task.c.finished_at.is_(None)
    )
    .order_by(task.c.id)
)
_BLOCKED_BY = rows.Statement(
    select(task_dependency.c.task_id)
    .join(task, task.c.id == task_dependency.c.task_id)
    .where(
        task_dependency.c.depends_on_id == bindparam("id"),
        or_(*(task.c.status == bindparam(str(status)) for status in MAY_BE_BLOCKED)),
    )
)


class SqlStore:
    """A SQLite file.

    :param url: ``sqlite:///relative.db`` or ``sqlite:////absolute.db``.
    :param durability: ``disk`` (an answer survives power loss) or ``process`` (it survives the process).
    :param namespace: several queues may share one database; each sees its own tasks only.
    """

    def __init__(self, url: str, durability: str = "disk", namespace: str = "default") -> None:
        self._url = parse_url(url)
        if durability not in SYNCHRONOUS:
            raise ValueError(f"durability {durability!r} is not one of {', '.join(SYNCHRONOUS)}")
        self._durability = durability
        self._namespace = namespace
        database = Path(self._url.database or "")
        self._file = database
        self._lock = FileLock(database)
        self._writer: Writer | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._local = threading.local()
        self._reading: list[Connection] = []
        self._query = Query(namespace)
        self._next_ids: dict[str, int] = {}
        self._queues_seen: set[str] = set()

    # -- life ---------------------------------------------------------------------------------------------------------

    def lock(self) -> None:
        """Take the file for this process, before anything else is touched. `open` does it if nobody has.

        :raises StorageError: another process has it, or its folder cannot be made.
        """
        if self._lock.held:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except OSError as error:
            raise StorageError(f"the database {self._file} cannot be made: {error.strerror}") from error

    async def open(self, listener: Listener) -> None:
        self.lock()
        try:
            engine = sqlite_engine(self._url, self._durability, read_only=False)

            def connect() -> Connection:
                connection = engine.connect()
                prepare_schema(connection)
                return connection

            self._writer = Writer(connect, listener, self._rolled_back)
            await self._writer.start()
            self._readers = ThreadPoolExecutor(READERS, "dlqueue-reader")
        except BaseException:
            self._lock.release()
            raise

    async def close(self) -> None:
        if self._writer is not None:
            await self._writer.close()
        if self._readers is not None:
            await asyncio.to_thread(self._readers.shutdown)
            for connection in self._reading:
                connection.close()
        self._writer = self._readers = None
        self._lock.release()

    def _rolled_back(self) -> None:
        self._next_ids.clear()
        self._queues_seen.clear()

    # -- writes -------------------------------------------------------------------------------------------------------

    async def _do(self, verb: Callable[..., Any], payload: Any) -> Any:
        if self._writer is None:
            raise QueueClosed("the store is not open")
        return await self._writer.do(verb, payload)

    async def submit(
        self, tasks: Sequence[NewTask], now: float, capacity: Mapping[str, int] | None = None
    ) -> list[Submission]:
        answer: list[Submission] = await self._do(self._submit, (tasks, now, capacity or {}))
        return answer

    async def transact(self, decisions: Sequence[Decision]) -> list[Answer]:
        answer: list[Answer] = await self._do(self._transact, decisions)
        return answer

    async def wake(self, hold: str, limit: int | None, now: float) -> int:
        answer: int = await self._do(self._wake, (hold, limit, now))
        return answer

    def _submit(self, connection: Connection, payloads: Sequence[Any], changes: list[Change]) -> list[Any]:
        batch = _Batch(self, connection)
        answers: list[Any] = []
        for tasks, now, capacity in payloads:
            try:
                answers.append(batch.add(tasks, now, capacity))
            except (Conflict, InvalidTask, QueueFull) as error:
                answers.append(error)
        followed = batch.write()
        changes += followed
        if len(followed) > len(batch.new):  # some were blocked and are not any more
            newest = {change.record.id: change.record for change in followed}
            for answer in answers:
                if isinstance(answer, list):
                    answer[:] = [Submission(newest.get(s.record.id, s.record), s.created) for s in answer]
        return answers

    def _transact(
        self, connection: Connection, payloads: Sequence[Sequence[Decision]], changes: list[Change]
    ) -> list[list[Answer]]:
        flat, made = carry_out(_Rows(connection, self._namespace), [d for payload in payloads for d in payload])
        self._write(connection, made)
        changes += made
        answers, start = [], 0
        for payload in payloads:
            answers.append(flat[start : start + len(payload)])
            start += len(payload)
        return answers

    def _wake(
        self, connection: Connection, payloads: Sequence[tuple[str, int | None, float]], changes: list[Change]
    ) -> list[int]:
        counts = []
        for hold, limit, now in payloads:
            ids = [row[0] for row in connection.execute(self._query.holding(hold, limit))]
            found = rows.load(connection, self._namespace, ids)
            made = [c for i in ids if i in found and (c := transitions.wake(found[i], now)) is not None]
            self._write(connection, made)
            changes += made
            counts.append(len(made))
        return counts

    def _write(self, connection: Connection, changes: Sequence[Change], new: Sequence[TaskRecord] = ()) -> None:
        """New rows, changed rows, and the events of both."""
        rows.INSERT_TASK.each(connection, (rows.hot(record, self._namespace) for record in new))
        rows.INSERT_DATA.each(connection, (rows.cold(record) for record in new))
        moved = [change for change in changes if change.source is not None]
        updates = [
            {**rows.hot(c.record, self._namespace), "id_": c.record.id, "before": c.record.revision - 1}
            for c in moved
            if not c.delete
        ]
        rows.UPDATE_TASK.each(connection, updates)
        rows.UPDATE_DATA.each(connection, (rows.cold(c.record) for c in moved if c.with_data and not c.delete))
        told = [change for change in changes if change.kind]
        sequence = self._take_ids(connection, "task_event", len(told))
        for change in told:
            change.sequence = sequence
            sequence += 1
        # The event of a deletion is written too, and goes with the row: its number must not come again.
        rows.INSERT_EVENT.each(connection, (rows.event_row(c, self._namespace) for c in told))
        for change in moved:
            if change.delete:
                for statement in rows.DELETES:
                    statement.each(connection, [{"id_": change.record.id}])
            elif change.record.revision % EVENTS_KEPT == 0:
                self._trim(connection, change.record.id)

    def _trim(self, connection: Connection, task_id: int) -> None:
        oldest = (
            select(task_event.c.sequence)
            .where(task_event.c.task_id == task_id)
            .order_by(task_event.c.sequence.desc())
            .offset(EVENTS_KEPT)
            .limit(1)
            .scalar_subquery()
        )
        connection.execute(task_event.delete().where(task_event.c.task_id == task_id, task_event.c.sequence <= oldest))

    def _take_ids(self, connection: Connection, table: str, count: int) -> int:
        """The first of ``count`` new ids. The writer is the only one who writes, so it may number ahead; the sequence
        table of AUTOINCREMENT follows and keeps ids of deleted rows from coming back."""
        following = self._next_ids.get(table)
        if following is None:
            row = connection.exec_driver_sql("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).first()
            following = (0 if row is None else int(row[0])) + 1
        self._next_ids[table] = following + count
        return following

    # -- reads --------------------------------------------------------------------------------------------------------

    async def _read(self, query: Callable[[Connection], R]) -> R:
        if self._readers is None:
            raise QueueClosed("the store is not open")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._with_reader, query)

    def _with_reader(self, query: Callable[[Connection], R]) -> R:
        connection: Connection | None = getattr(self._local, "connection", None)
        try:
            if connection is None:
                connection = sqlite_engine(self._url, self._durability, read_only=True).connect()
                self._local.connection = connection
                self._reading.append(connection)
            with connection.begin():
                return query(connection)
        except SQLAlchemyError as error:
            raise StorageError(f"the database cannot be read: {getattr(error, 'orig', None) or error}") from error

    async def get(self, task_id: int) -> TaskRecord:
        found = await self._read(lambda connection: rows.load(connection, self._namespace, [task_id]))
        record = found.get(task_id)
        if record is None or record.cleanup > 1:
            raise TaskNotFound(task_id)
        return record

    async def find(
        self, filter: Filter, order: str = "-id", limit: int = 100, cursor: str | None = None, count: bool = False
    ) -> Page:
        return await self._read(lambda connection: self._query.page(connection, filter, order, limit, cursor, count))

    async def ids(self, filter: Filter, limit: int, after: int = 0) -> list[int]:
        statement = self._query.ids(filter, limit, after)
        return await self._read(lambda connection: [row[0] for row in connection.execute(statement)])

    async def count(self, filter: Filter) -> int:
        statement = self._query.count(filter)
        return await self._read(lambda connection: int(connection.execute(statement).scalar_one()))

    async def history(self, task_id: int, limit: int = 1000) -> list[Event]:
        newest = (
            select(*rows.EVENT_COLUMNS)
            .where(task_event.c.task_id == task_id)
            .order_by(task_event.c.sequence.desc())
            .limit(limit)
        )
        events = await self._read(lambda connection: [rows.event_from(row) for row in connection.execute(newest)])
        return events[::-1]

    async def events(self, after: int, limit: int) -> list[Event]:
        statement = (
            select(*rows.EVENT_COLUMNS)
            .where(task_event.c.sequence > after, task_event.c.namespace == self._namespace)
            .order_by(task_event.c.sequence)
            .limit(limit)
        )
        return await self._read(lambda connection: [rows.event_from(row) for row in connection.execute(statement)])

    async def queues(self) -> list[str]:
        statement = select(queue_table.c.name).where(queue_table.c.namespace == self._namespace)
        return await self._read(lambda connection: [row[0] for row in connection.execute(statement)])

    async def ready(self, queue: str, types: Collection[str], now: float, limit: int) -> list[Due]:
        # Two statements: each has its own partial index.
        parts = self._query.ready(queue, types, limit), self._query.overdue(queue, types, now, limit)
        found = await self._read(lambda connection: [Due(*row) for part in parts for row in connection.execute(part)])
        return sorted(found, key=lambda due: (-due.rank, due.id))[:limit]

    async def timed(self, types: Collection[str], after: float, limit: int) -> list[Due]:
        statement = self._query.timed(types, after, limit)
        return await self._read(lambda connection: [Due(*row) for row in connection.execute(statement)])

    async def processing(self) -> list[int]:
        statement = self._query.processing()
        return await self._read(lambda connection: [row[0] for row in connection.execute(statement)])

    async def cleanups(self, limit: int) -> list[int]:
        statement = self._query.cleanups(limit)
        return await self._read(lambda connection: [row[0] for row in connection.execute(statement)])

    async def tally(self) -> dict[Status, int]:
        statement = select(task.c.status, func.count()).where(task.c.namespace == self._namespace)
        statement = statement.group_by(task.c.status)
        return await self._read(lambda connection: {Status(row[0]): row[1] for row in connection.execute(statement)})


class _Rows:
    """What `carry_out` looks up."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self._connection = connection
        self._namespace = namespace

    def load(self, ids: Any) -> dict[int, TaskRecord]:
        return rows.load(self._connection, self._namespace, ids)

    def blocked_by(self, task_id: int) -> list[int]:
        statuses = {str(status): str(status) for status in MAY_BE_BLOCKED}
        found = _BLOCKED_BY.run(self._connection, {"id": task_id, **statuses})
        return [row[0] for row in found]


class _Batch:
    """The submits of one transaction: all are looked at before the first row is written."""

    def __init__(self, store: SqlStore, connection: Connection) -> None:
        self._store = store
        self._connection = connection
        self._namespace = store._namespace
        self._keyed: dict[tuple[str, str], TaskRecord] = {}
        self._joined: dict[str, TaskRecord] = {}
        self.new: list[TaskRecord] = []

    def add(self, tasks: Sequence[NewTask], now: float, capacity: Mapping[str, int]) -> list[Submission]:
        """One request, all or nothing. Nothing of it stays if it raises."""
        before = len(self.new), dict(self._keyed), dict(self._joined)
        try:
            submissions = [self._one(new, now) for new in tasks]
            self._check_capacity([s.record.queue for s in submissions if s.created], capacity)
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
        task_id = self._store._take_ids(self._connection, "task", 1)
        record = new_record(new, task_id, now)
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
        found = statement.run(self._connection, {"namespace": self._namespace, **values})
        return rows.record_from(found[0]) if found else None

    def _check_relatives(self, new: NewTask) -> None:
        wanted = {*new.depends_on, *(() if new.parent_id is None else (new.parent_id,))}
        if not wanted:
            return
        missing = wanted - rows.load(self._connection, self._namespace, wanted).keys()
        missing -= {record.id for record in self.new}
        for task_id in missing:
            field = "parent_id" if task_id == new.parent_id else "depends_on"
            raise InvalidTask(f"task {task_id} not found", field)

    def _check_capacity(self, made_in: Sequence[str], capacity: Mapping[str, int]) -> None:
        for name in set(made_in) & capacity.keys():
            statement = self._store._query.unfinished_in(name)
            size = int(self._connection.execute(statement).scalar_one())
            size += sum(record.queue == name for record in self.new)
            if size > capacity[name]:
                raise QueueFull(full(name, size - made_in.count(name), capacity[name]))

    def write(self) -> list[Change]:
        """Everything that was accepted; answers all changes, those of dependencies met already included."""
        changes = [
            Change(record=record, source=None, kind="submitted", at=record.created_at, message=None)
            for record in self.new
        ]
        self._store._write(self._connection, changes, self.new)
        rows.INSERT_DEPENDENCY.each(
            self._connection,
            (
                {"task_id": record.id, "depends_on_id": other}
                for record in self.new
                for other in dict.fromkeys(record.depends_on)
            ),
        )
        rows.INSERT_LABEL.each(
            self._connection,
            (
                {"task_id": record.id, "key": key, "value": value}
                for record in self.new
                for key, values in record.labels.items()
                for value in dict.fromkeys(values)
            ),
        )
        for name in {record.queue for record in self.new} - self._store._queues_seen:
            self._connection.exec_driver_sql(
                "INSERT INTO queue (namespace, name) VALUES (?, ?) ON CONFLICT DO NOTHING", (self._namespace, name)
            )
            self._store._queues_seen.add(name)
        followed: list[Change] = []
        known = {record.id: record for record in self.new}
        for change in tuple(changes):
            if change.record.status is Status.BLOCKED:
                follow(_Rows(self._connection, self._namespace), known, followed, change)
        self._store._write(self._connection, followed)
        return changes + followed
