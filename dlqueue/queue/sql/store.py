"""`Store` on SQL. The verbs run in the writer's thread; queries on read-only connections of their own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from dlqueue.queue.errors import QueueClosed, StorageError, TaskNotFound
from dlqueue.queue.figures import Figure, figures_of, pieces
from dlqueue.queue.glance import Glance, Look
from dlqueue.queue.outbox import Address, Letter, Pending, Settled
from dlqueue.queue.record import (
    Answer,
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
)
from dlqueue.queue.sql import rows
from dlqueue.queue.sql.engine import SYNCHRONOUS, FileLock, parse_url, prepare_schema, sqlite_engine
from dlqueue.queue.sql.glances import Glances
from dlqueue.queue.sql.query import Query
from dlqueue.queue.sql.queues import QueueRows
from dlqueue.queue.sql.schedules import ScheduleVerbs, SqlSchedules
from dlqueue.queue.sql.tables import queue as queue_table
from dlqueue.queue.sql.tables import task_event
from dlqueue.queue.sql.verbs import Verbs
from dlqueue.queue.sql.writer import Writer
from dlqueue.queue.status import Status
from dlqueue.queue.store import Listener
from dlqueue.runtime.failpoint import reach
from dlqueue.runtime.meters import Histogram

R = TypeVar("R")

READERS = 2


class SqlStore(SqlSchedules):
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
        self._asked: tuple[set[int], asyncio.Future[dict[int, TaskRecord]]] | None = None
        self._query = Query(namespace)
        self._glances = Glances(namespace, self._query)
        self._verbs = Verbs(namespace)
        self._queue_rows = QueueRows(namespace)
        self._schedule_verbs = ScheduleVerbs(self._verbs)

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
            # Params may hold passwords. SQLite gives its other files the mode of this one.
            os.close(os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
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

            self._writer = Writer(connect, listener, self._verbs.rolled_back, self._verbs.before_commit)
            await self._writer.start()
            self._readers = ThreadPoolExecutor(READERS, "dlqueue-reader")
        except BaseException:
            self._lock.release()
            raise

    @property
    def commits(self) -> tuple[Histogram, Histogram] | None:
        """Changes of each transaction since the store was opened, and its seconds. None = it is not open."""
        return None if self._writer is None else (self._writer.group_sizes, self._writer.commit_seconds)

    async def close(self) -> None:
        if self._writer is not None:
            await self._writer.close()
        readers, self._readers = self._readers, None  # who comes now is told that it is closed
        if readers is not None:
            await asyncio.to_thread(readers.shutdown)
            for connection in self._reading:
                connection.close()
        self._writer = None
        self._lock.release()

    # -- writes -------------------------------------------------------------------------------------------------------

    async def _do(self, verb: Callable[..., Any], payload: Any) -> Any:
        if self._writer is None:
            raise QueueClosed("the store is not open")
        return await self._writer.do(verb, payload)

    async def submit(
        self,
        tasks: Sequence[NewTask],
        now: float,
        capacity: Mapping[str, int] | None = None,
        take: Decide | None = None,
    ) -> list[Submission]:
        answer: list[Submission] = await self._do(self._verbs.submit, (tasks, now, capacity or {}, take))
        return answer

    async def transact(self, decisions: Sequence[Decision]) -> list[Answer]:
        answer: list[Answer] = await self._do(self._verbs.transact, decisions)
        return answer

    async def wake(self, hold: str, limit: int | None, now: float) -> int:
        answer: int = await self._do(self._verbs.wake, (hold, limit, now))
        return answer

    async def rerank(self, queue: str, ageing: float) -> bool:
        answer: bool = await self._do(self._verbs.rerank, (queue, ageing))
        return answer

    async def purge(self, ids: Collection[int], before: float, cleaned: Collection[str], now: float) -> int:
        answer: int = await self._do(self._verbs.purge, (ids, before, cleaned, now))
        return answer

    async def forget_hours(self, now: int) -> None:
        await self._do(self._verbs.forget_hours, now)

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

    async def probe(self) -> None:
        """Read a row, to see that the database answers. :raises StorageError: it does not."""

        def read(connection: Connection) -> None:
            reach("probed")
            connection.exec_driver_sql("SELECT version_num FROM alembic_version").first()

        await self._read(read)

    async def get(self, task_id: int) -> TaskRecord:
        # Who asks in the same turn of the loop is answered by one look: a thousand waits begin with it.
        if self._asked is None:
            self._asked = set(), asyncio.ensure_future(self._look())
        ids, look = self._asked
        ids.add(task_id)
        record = (await asyncio.shield(look)).get(task_id)
        if record is None or record.cleanup > 1:
            raise TaskNotFound(task_id)
        return record

    async def _look(self) -> dict[int, TaskRecord]:
        ids, self._asked = self._asked[0] if self._asked is not None else set(), None
        return await self._read(lambda connection: rows.load(rows.driver_of(connection), self._namespace, ids))

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

    async def owners(self) -> tuple[dict[str, int], int]:
        statement = self._query.owners()
        found = await self._read(lambda connection: connection.execute(statement).all())
        counts = {owner: int(count) for owner, count in found if owner is not None}
        return counts, next((int(last) for owner, last in found if owner is None), 0)

    async def ready(
        self, queue: str, types: Collection[str], now: float, limit: int, fresh: bool | None = None
    ) -> list[Due]:
        # Two statements: each has its own partial index.
        parts = self._query.ready(queue, types, limit, fresh), self._query.overdue(queue, types, now, limit, fresh)
        found = await self._read(lambda connection: [Due(*row) for part in parts for row in connection.execute(part)])
        return sorted(found, key=lambda due: (-due.rank, due.id))[:limit]

    async def timed(self, types: Collection[str], after: float, limit: int) -> list[Due]:
        statement = self._query.timed(types, after, limit)
        return await self._read(lambda connection: [Due(*row) for row in connection.execute(statement)])

    async def processing(self) -> list[int]:
        statement = self._query.processing()
        return await self._read(lambda connection: [row[0] for row in connection.execute(statement)])

    async def cleanups(self, limit: int, after: int = 0) -> list[int]:
        statement = self._query.cleanups(limit, after)
        return await self._read(lambda connection: [row[0] for row in connection.execute(statement)])

    async def expired(
        self, filter: Filter, before: float, limit: int, after: tuple[float, int] = (0.0, 0)
    ) -> list[tuple[float, int]]:
        statement = self._query.expired(filter, before, limit, after)
        return await self._read(lambda connection: [(row[0], row[1]) for row in connection.execute(statement)])

    async def midway(self, holds: Collection[str]) -> list[int]:
        parts = [self._query.begun(), *(self._query.holding(prefix) for prefix in holds)]
        found = await self._read(lambda connection: {row[0] for part in parts for row in connection.execute(part)})
        return sorted(found)

    async def tally(self, queue: str | None = None) -> dict[Status, int]:
        statement = self._query.tally(queue)
        return await self._read(
            lambda connection: {Status(row[0]): int(row[1]) for row in connection.execute(statement)}
        )

    async def hours(self, filter: Filter, first: int | None, last: int | None, groups: bool = True) -> list[Figure]:
        statements = [self._query.hours(filter, *piece, groups) for piece in pieces(first, last)]
        return await self._read(
            lambda connection: [
                Figure(row[0], row[1], Status(row[2]), *row[3:])
                for statement in statements
                for row in connection.execute(statement)
            ]
        )

    async def ended(
        self, filter: Filter, since: float | None, until: float | None, limit: int | None
    ) -> list[Figure] | None:
        statement = self._query.ended(filter, since, until)

        def read(connection: Connection) -> list[Figure] | None:
            if limit is not None:
                many = select(func.count()).select_from(statement.limit(limit + 1).subquery())
                if connection.execute(many).scalar_one() > limit:
                    return None
            return figures_of((*row[:2], Status(row[2]), *row[3:]) for row in connection.execute(statement))

        return await self._read(read)

    async def tallies(self) -> dict[str, dict[Status, int]]:
        counts: dict[str, dict[Status, int]] = {}
        statement = self._query.tallies()
        for queue, status, count in await self._read(lambda connection: connection.execute(statement).all()):
            counts.setdefault(queue, {})[Status(status)] = int(count)
        return counts

    async def glance(self, look: Look) -> Glance:
        return await self._read(lambda connection: self._glances.read(connection, look))

    # -- the outbox ---------------------------------------------------------------------------------------------------

    def address(self, address: Address | None) -> None:
        self._verbs.outbox.address = address

    async def letters(self, limit: int, without: Collection[str] = ()) -> list[Letter]:
        return await self._read(lambda connection: self._verbs.outbox.first(connection, limit, without))

    async def letters_about(self, task_id: int) -> list[Letter]:
        return await self._read(lambda connection: self._verbs.outbox.about(connection, task_id))

    async def letters_pending(self) -> Pending:
        return await self._read(self._verbs.outbox.pending)

    async def settle_letters(self, settled: Sequence[Settled]) -> None:
        await self._do(self._verbs.outbox.settle, settled)

    # -- queues that are set at run time ------------------------------------------------------------------------------

    async def save_queues(self, rows: Sequence[QueueRow]) -> None:
        await self._do(self._queue_rows.save, rows)

    async def queue_rows(self) -> list[QueueRow]:
        return await self._read(self._queue_rows.read)
