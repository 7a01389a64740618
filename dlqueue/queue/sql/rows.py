"""Rows and records: what a task looks like in the tables, and the statements on single rows, compiled once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from operator import attrgetter, itemgetter
from typing import Any, Protocol, cast

import msgspec
from sqlalchemy import ClauseElement, Connection, Table, bindparam, delete, func, insert, literal_column, select, update
from sqlalchemy.dialects import sqlite

from dlqueue.queue.record import Change, Event, Options, Progress, TaskError, TaskRecord
from dlqueue.queue.sql.tables import task, task_data, task_dependency, task_event, task_label
from dlqueue.queue.status import Status, Want

_encoder = msgspec.json.Encoder()
_decode = msgspec.json.Decoder().decode
_decode_progress = msgspec.json.Decoder(Progress).decode
_decode_error = msgspec.json.Decoder(TaskError).decode
_decode_options = msgspec.json.Decoder(Options).decode
_decode_labels = msgspec.json.Decoder(dict[str, list[str]]).decode
_decode_ids = msgspec.json.Decoder(tuple[int, ...]).decode
_STATUS = {str(status): status for status in Status}
_WANT = {str(want): want for want in Want}

HOT = tuple(column for column in task.c if column.name != "namespace")
COLD = tuple(column for column in task_data.c if column.name != "task_id")
COLUMNS = HOT + COLD
_HOT_NAMES = [column.name for column in HOT]
_hot_values = attrgetter(*_HOT_NAMES)


def encode(value: object) -> str:
    """JSON text, equal for equal values: keys are sorted."""
    return msgspec.json.encode(value, order="sorted").decode()


def _text(value: object) -> str:
    return _encoder.encode(value).decode()


def _json(value: object) -> str | None:
    return None if value is None else _text(value)


def is_small(record: TaskRecord) -> bool:
    """May some thousands of its kind be kept in memory?"""
    size = len(record.state or b"") + len(_encoder.encode(record.params))
    return size + (0 if record.result is None else len(_encoder.encode(record.result))) <= SMALL


def standing_of(options: str | None) -> float:
    """What the stored options say of the rank."""
    return 0.0 if options is None else _decode_options(options).standing


class Driver(Protocol):
    """What is used of the database driver's own connection."""

    in_transaction: bool

    def execute(self, sql: str, values: Sequence[Any] = ..., /) -> Any: ...

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]], /) -> Any: ...


SMALL = 8192
"""Bytes."""
INSERTED = 20
"""Rows of one INSERT. SQLite writes the sequence of an AUTOINCREMENT once per statement, and that costs as much as the
row."""
ALIKE = 8
"""Rows that differ in little are inserted by one statement, from so many on: it costs a quarter per row, and other
threads run meanwhile."""
ALIKE_BYTES = 1 << 22
"""Of the params in one such statement, where they are written twice over."""


def driver_of(connection: Connection) -> Driver:
    """The driver's connection below SQLAlchemy's."""
    driver: Driver = cast(Driver, connection.connection.driver_connection)
    return driver


class Statement:
    """A Core statement compiled once and run by the driver itself: SQLAlchemy's way to it costs more than the row."""

    def __init__(self, clause: ClauseElement) -> None:
        compiled = clause.compile(dialect=sqlite.dialect(paramstyle="qmark"))
        self.sql = str(compiled)
        self.names: Sequence[str] = tuple(getattr(compiled, "positiontup", None) or ())
        self._row = itemgetter(*self.names) if len(self.names) > 1 else lambda row: (row[self.names[0]],)
        self._fixed = {name: value for name, value in compiled.params.items() if value is not None}
        """Values that are written into the statement itself."""

    def run(self, driver: Driver, values: Mapping[str, Any]) -> Sequence[Any]:
        """The rows of one execution."""
        given = {**self._fixed, **values} if self._fixed else values
        found: Sequence[Any] = driver.execute(self.sql, [given[name] for name in self.names]).fetchall()
        return found

    def each(self, driver: Driver, rows: Iterable[Mapping[str, Any]]) -> int:
        """Once for every row, in one call of the driver; answers how many rows were changed."""
        if self._fixed:
            rows = [{**self._fixed, **row} for row in rows]
        return self.all(driver, [self._row(row) for row in rows])

    def all(self, driver: Driver, batch: Sequence[Sequence[Any]]) -> int:
        """The same for rows that have their values in the order of `names`."""
        return int(driver.executemany(self.sql, batch).rowcount) if batch else 0

    def insert_all(self, driver: Driver, batch: Sequence[Sequence[Any]]) -> None:
        """For an INSERT: the same with fewer statements."""
        whole = len(batch) - len(batch) % INSERTED
        for start in range(0, whole, INSERTED):
            driver.execute(self._several, [value for row in batch[start : start + INSERTED] for value in row])
        self.all(driver, batch[whole:])

    @cached_property
    def _several(self) -> str:
        head, values, row = self.sql.partition(" VALUES ")
        return head + values + ", ".join([row] * INSERTED)


def record_from(row: Sequence[Any]) -> TaskRecord:
    """A row of `COLUMNS` as a record."""
    (
        id_, type_, queue, owner, status, want, hold, affinity, priority, rank, run_at, since, attempt, retries,
        max_retry, crashes, cleanup, node, lease_token, revision, unique_key, join_key, correlation_id, parent_id,
        created_at,
        started_at, finished_at, delivered_at, expires_at, executed_seconds,
        params, state, progress, result, error, labels, options, intent, depends_on,
    ) = row  # fmt: skip
    return TaskRecord(
        id=id_,
        type=type_,
        queue=queue,
        owner=owner,
        status=_STATUS[status],
        want=_WANT[want],
        hold=hold,
        affinity=affinity,
        priority=priority,
        rank=rank,
        run_at=run_at,
        since=since,
        attempt=attempt,
        retries=retries,
        max_retry=max_retry,
        crashes=crashes,
        cleanup=cleanup,
        node=node,
        lease_token=lease_token,
        revision=revision,
        unique_key=unique_key,
        join_key=join_key,
        correlation_id=correlation_id,
        parent_id=parent_id,
        created_at=created_at,
        started_at=started_at,
        finished_at=finished_at,
        delivered_at=delivered_at,
        expires_at=expires_at,
        executed_seconds=executed_seconds,
        params=_decode(params),
        state=None if state is None else state.encode(),
        progress=None if progress is None else _decode_progress(progress),
        result=None if result is None else _decode(result),
        error=None if error is None else _decode_error(error),
        labels={} if labels is None else _decode_labels(labels),
        options=Options() if options is None else _decode_options(options),
        intent=None if intent is None else _decode(intent),
        depends_on=() if depends_on is None else _decode_ids(depends_on),
    )


def _hot_of(names: Iterable[str]) -> Callable[[TaskRecord], tuple[Any, ...]]:
    """Values of a record for these parameters of a statement on `task`. The driver wants plain text, not our enums."""
    return attrgetter(*(_HOT_PATHS.get(name, name) for name in names))


_NO_OPTIONS = Options()
_HOT_PATHS = {"status": "status._value_", "want": "want._value_", "id_": "id", "revision_": "revision"}
_COLD_VALUES: dict[str, Callable[[TaskRecord], Any]] = {
    "task_id": lambda record: record.id,
    "params": lambda record: encode(record.params),
    "state": lambda record: None if record.state is None else record.state.decode(),
    "progress": lambda record: _json(record.progress),
    "result": lambda record: _json(record.result),
    "error": lambda record: _json(record.error),
    "labels": lambda record: _json(record.labels) if record.labels else None,
    "options": lambda record: None if record.options == _NO_OPTIONS else _json(record.options),
    "intent": lambda record: _json(record.intent),
    "depends_on": lambda record: _json(record.depends_on) if record.depends_on else None,
}


def event_from(row: Sequence[Any]) -> Event:
    sequence, task_id, at, kind, source, target, node, message, error, attempt, started_at = row
    return Event(
        sequence=sequence,
        task_id=task_id,
        at=at,
        kind=kind,
        source=None if source is None else _STATUS[source],
        target=None if target is None else _STATUS[target],
        node=node,
        message=message,
        error=None if error is None else _decode_error(error),
        attempt=attempt,
        started_at=started_at,
    )


def label_rows(records: Iterable[TaskRecord]) -> Iterable[dict[str, Any]]:
    """The rows of `task_label`."""
    return (
        {"task_id": record.id, "key": key, "value": value}
        for record in records
        for key, values in record.labels.items()
        for value in dict.fromkeys(values)
    )


EVENT_COLUMNS = tuple(column for column in task_event.c if column.name != "namespace")


_INSERT_TASK = Statement(insert(task).values({column.name: bindparam(column.name) for column in task.c}))
_INSERT_DATA = Statement(insert(task_data).values({column.name: bindparam(column.name) for column in task_data.c}))
_INSERT_EVENT = Statement(insert(task_event).values({column.name: bindparam(column.name) for column in task_event.c}))


def _alike_insert(table: Table, first: str | None = None, value: str | None = None) -> Statement:
    """Inserts a row for each item of a JSON array (``items``): numbers from ``:first`` on go into the column ``first``,
    the item into ``value``; all else is the same in all of them."""
    each = func.json_each(bindparam("items")).table_valued("key", "value")
    differ = {first: bindparam("first") + each.c.key, value: each.c.value}
    row = [differ.get(column.name, bindparam(column.name)) for column in table.c]
    return Statement(insert(table).from_select([column.name for column in table.c], select(*row)))


_INSERT_TASKS_ALIKE = _alike_insert(task, value="id")
_INSERT_DATA_ALIKE = _alike_insert(task_data, first="task_id", value="params")
_INSERT_EVENTS_ALIKE = _alike_insert(task_event, first="sequence", value="task_id")
INSERT_DEPENDENCY = Statement(
    insert(task_dependency).values({column.name: bindparam(column.name) for column in task_dependency.c})
)
INSERT_LABEL = Statement(insert(task_label).values({column.name: bindparam(column.name) for column in task_label.c}))

DELETE_LABELS = Statement(delete(task_label).where(task_label.c.task_id == bindparam("id_")))
DELETES = (
    Statement(delete(task).where(task.c.id == bindparam("id_"))),
    Statement(delete(task_data).where(task_data.c.task_id == bindparam("id_"))),
    Statement(delete(task_event).where(task_event.c.task_id == bindparam("id_"))),
    Statement(delete(task_dependency).where(task_dependency.c.task_id == bindparam("id_"))),
    DELETE_LABELS,
)


@cache
def _select_by_ids(size: int) -> Statement:
    return Statement(
        select(*COLUMNS)
        .join(task_data, task_data.c.task_id == task.c.id)
        .where(task.c.namespace == bindparam("namespace"), task.c.id.in_([bindparam(f"id{i}") for i in range(size)]))
    )


def load(driver: Driver, namespace: str, ids: Collection[int]) -> dict[int, TaskRecord]:
    """The records of these ids, as far as they exist."""
    found: dict[int, TaskRecord] = {}
    rest = list(ids)
    while rest:
        part, rest = rest[:128], rest[128:]
        # Few different statements: the list is filled up to a power of two with a repetition.
        size = 1 << (len(part) - 1).bit_length()
        part += part[-1:] * (size - len(part))
        values: dict[str, Any] = {f"id{i}": task_id for i, task_id in enumerate(part)}
        for row in _select_by_ids(size).run(driver, {**values, "namespace": namespace}):
            found[row[0]] = record_from(row)
    return found


# -- new and changed rows ---------------------------------------------------------------------------------------------


def insert_tasks(driver: Driver, namespace: str, records: Sequence[TaskRecord]) -> None:
    """New rows of `task` and `task_data`."""
    hot = [(namespace, *_new_hot(record)) for record in records]
    cold = [_new_cold(record) for record in records]
    ids = [record.id for record in records]
    for start, end in _alike([(*a, *b[1:]) for a, b in zip(hot, cold, strict=True)], ids):
        params = [values[0] for values in cold[start:end]]
        if end - start < ALIKE or sum(map(len, params)) > ALIKE_BYTES:
            _INSERT_TASK.insert_all(driver, [(ids[n], *hot[n]) for n in range(start, end)])
            _INSERT_DATA.insert_all(driver, [(ids[n], *cold[n]) for n in range(start, end)])
        else:
            driver.execute(_INSERT_TASKS_ALIKE.sql, [*hot[start], _text(ids[start:end])])
            driver.execute(_INSERT_DATA_ALIKE.sql, [ids[start], *cold[start][1:], _text(params)])


def _alike(rows: Sequence[object], numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where neighbours begin and end that are equal and have numbers one after the other."""
    start = 0
    for place in range(1, len(rows)):
        if rows[place] != rows[start] or numbers[place] != numbers[place - 1] + 1:
            yield start, place
            start = place
    if rows:
        yield start, len(rows)


def _new_cold(record: TaskRecord) -> Sequence[Any]:
    # In the order of the table's columns, but for the id. Most have nothing but params.
    labels = _json(record.labels) if record.labels else None
    options = None if record.options == _NO_OPTIONS else _json(record.options)
    depends_on = _json(record.depends_on) if record.depends_on else None
    return (encode(record.params), None, None, None, None, labels, options, None, depends_on)


_new_hot = _hot_of(name for name in _INSERT_TASK.names if name not in ("id", "namespace"))


def update_tasks(driver: Driver, changes: Sequence[Change]) -> bool:
    """The changed columns, and no others: an index on a column that is not named is not touched. The revision guards
    once more what the transaction guards already: two writers can never both win. False if one was not as expected."""
    batch: dict[frozenset[str], list[TaskRecord]] = {}
    seen: set[int] = set()
    right = True
    for change in changes:
        if change.record.id in seen:  # a second change of one task comes after the first
            right &= _update_batch(driver, batch)
            batch, seen = {}, set()
        seen.add(change.record.id)
        batch.setdefault(change.changed, []).append(change.record)
    return _update_batch(driver, batch) and right


def _update_batch(driver: Driver, batch: Mapping[frozenset[str], Sequence[TaskRecord]]) -> bool:
    right = True
    for changed, records in batch.items():
        hot, hot_values, cold, cold_values = _update(changed)
        right &= hot.all(driver, [hot_values(record) for record in records]) == len(records)
        if cold is not None:
            cold.all(driver, [[value(record) for value in cold_values] for record in records])
    return right


@cache
def _update(
    changed: frozenset[str],
) -> tuple[
    Statement,
    Callable[[TaskRecord], tuple[Any, ...]],
    Statement | None,
    Sequence[Callable[[TaskRecord], Any]],
]:
    """The statements that write these fields, and where their values come from."""
    hot_names = [column.name for column in HOT if column.name in changed | {"revision"}]
    hot = Statement(
        update(task)
        .where(task.c.id == bindparam("id_"), task.c.revision == bindparam("revision_") - literal_column("1"))
        .values({name: bindparam(name) for name in hot_names})
    )
    cold_names = [column.name for column in COLD if column.name in changed]
    cold = Statement(
        update(task_data)
        .where(task_data.c.task_id == bindparam("task_id"))
        .values({name: bindparam(name) for name in cold_names or ["params"]})
    )
    return (
        hot,
        _hot_of(hot.names),
        cold if cold_names else None,
        [_COLD_VALUES[name] for name in cold.names],
    )


def insert_events(driver: Driver, namespace: str, changes: Sequence[Change]) -> None:
    """What happened, in order; their sequences are one after the other."""
    events = [_event(change) for change in changes]
    for start, end in _alike(events, range(len(events))):
        if end - start < ALIKE:
            batch = zip(changes[start:end], events[start:end], strict=True)
            _INSERT_EVENT.insert_all(driver, [(c.sequence, namespace, c.record.id, *event) for c, event in batch])
        else:
            ids = _text([change.record.id for change in changes[start:end]])
            driver.execute(_INSERT_EVENTS_ALIKE.sql, [changes[start].sequence, namespace, *events[start], ids])


def _event(change: Change) -> tuple[Any, ...]:
    record = change.record
    # In the order of the table's columns, but for those that differ from one to the next.
    return (
        change.at,
        change.kind,
        None if change.source is None else change.source.value,
        record.status.value,
        change.node,
        change.message,
        None if change.error is None else _json(change.error),
        record.attempt,
        change.started_at,
    )
