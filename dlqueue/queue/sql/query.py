"""Reading: filters, pages by cursor, and the small range queries that fill the agenda."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Sequence
from typing import Annotated, Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Select,
    TextClause,
    and_,
    column,
    func,
    literal,
    null,
    or_,
    select,
    table,
    text,
    tuple_,
    union_all,
)

from dlqueue.queue.errors import InvalidTask
from dlqueue.queue.record import Due, Filter, Page
from dlqueue.queue.sql import rows
from dlqueue.queue.sql.tables import (
    BEGUN,
    FAILED,
    FINISHED,
    OWNED,
    READY,
    TIMED,
    UNFINISHED,
    counter,
    queue,
    task,
    task_data,
    task_hour,
    task_label,
)
from dlqueue.queue.status import FINAL, Status
from dlqueue.queue.status import UNFINISHED as UNFINISHED_STATUSES

ORDERS: dict[str, ColumnElement[Any]] = {
    "id": task.c.id,
    "priority": task.c.priority,
    "created_at": task.c.created_at,
    "finished_at": func.coalesce(task.c.finished_at, 0.0),
}

FRESH = or_(task.c.status == "queued", and_(task.c.attempt > 0, task.c.hold.is_(None), task.c.run_at.is_not(None)))
"""`TaskRecord.fresh`."""


MANY_QUEUES = 50
"""With more of them it is no use to look into each."""


def _keys(order: str, column: ColumnElement[Any] | None = None) -> list[ColumnElement[Any]]:
    name = order.removeprefix("-")
    keys = [task.c.id] if name == "id" else [ORDERS[name] if column is None else column, task.c.id]
    return [key.desc() if order.startswith("-") else key.asc() for key in keys]


class Query:
    """Statements for one namespace."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._ours = task.c.namespace == namespace

    # -- for people ---------------------------------------------------------------------------------------------------

    def _where(self, filter: Filter) -> ColumnElement[bool]:
        conditions: list[ColumnElement[bool] | TextClause] = [self._ours]
        if filter.status:
            conditions.append(task.c.status.in_([str(status) for status in filter.status]))
            # Said once more in the words of the partial indexes, or SQLite would not use them.
            if UNFINISHED_STATUSES.issuperset(filter.status):
                conditions.append(text(UNFINISHED))
            elif FINAL.issuperset(filter.status):
                conditions.append(text(FINISHED if Status.COMPLETED in filter.status else FAILED))
        if not filter.status or not UNFINISHED_STATUSES.issuperset(filter.status):
            conditions.append(task.c.cleanup < 2)
        if filter.owner:
            conditions.append(text(OWNED))
        if filter.ids:
            conditions.append(task.c.id.in_(filter.ids))
        for name in ("type", "queue", "owner", "correlation_id", "parent_id"):
            value = getattr(filter, name)
            if value is not None:
                conditions.append(task.c[name] == value)
        for key, wanted in filter.labels:
            labelled = select(task_label.c.task_id).where(task_label.c.key == key)
            if wanted is not None:
                labelled = labelled.where(task_label.c.value == wanted)
            conditions.append(task.c.id.in_(labelled))
        if filter.since is not None:
            conditions.append(task.c.created_at >= filter.since)
        if filter.until is not None:
            conditions.append(task.c.created_at < filter.until)
        if filter.text is not None:
            found = select(task_data.c.task_id).where(
                or_(
                    task_data.c.params.icontains(filter.text, autoescape=True),
                    task_data.c.result.icontains(filter.text, autoescape=True),
                    task_data.c.progress.icontains(filter.text, autoescape=True),
                )
            )
            conditions.append(or_(task.c.type.icontains(filter.text, autoescape=True), task.c.id.in_(found)))
        return and_(*conditions)

    def page(
        self, connection: Connection, filter: Filter, order: str, limit: int, cursor: str | None, count: bool
    ) -> Page:
        name = order.removeprefix("-")
        if name not in ORDERS:
            raise InvalidTask(f"{order!r} is not one of {', '.join(ORDERS)} (with - for descending)", "order")
        # First the ids, by an index wherever there is one; only then the rows, with what they carry.
        picked = self.picked(filter, order, limit + 1, cursor, self._queues(connection, filter)).subquery()
        statement = select(*rows.COLUMNS).join(task_data, task_data.c.task_id == task.c.id)
        statement = statement.join(picked, picked.c.id == task.c.id).order_by(*_keys(order))
        items = [rows.record_from(row) for row in connection.execute(statement)]
        following = None
        if len(items) > limit:
            items.pop()
            last = items[-1]
            following = _make_cursor(order, getattr(last, name) or 0.0, last.id)
        total = int(connection.execute(self.count(filter)).scalar_one()) if count else None
        return Page(items, following, total)

    def picked(
        self, filter: Filter, order: str, limit: int, cursor: str | None, queues: Sequence[str] = ()
    ) -> Select[Any]:
        """The ids of a page, in order.

        :param queues: where unfinished tasks may be, if only those are asked for: each queue and status has them in
            the order of their ids, so that a few need not be looked for among a million.
        """
        if order in ("id", "-id") and queues:
            parts = [
                self._picked(msgspec.structs.replace(filter, queue=queue, status=(status,)), order, limit, cursor)
                for queue in queues
                for status in filter.status
            ]
            each = union_all(*(select(part.subquery().c.id) for part in parts)).subquery()
            return select(each.c.id).order_by(each.c.id.desc() if order == "-id" else each.c.id).limit(limit)
        return self._picked(filter, order, limit, cursor)

    def _picked(self, filter: Filter, order: str, limit: int, cursor: str | None) -> Select[Any]:
        name, descending = order.removeprefix("-"), order.startswith("-")
        column = ORDERS[name]
        if name == "finished_at" and filter.status and FINAL.issuperset(filter.status):
            column = task.c.finished_at  # as the index has it
        statement = select(task.c.id).where(self._where(filter))
        if cursor is not None:
            value, last_id = _read_cursor(cursor, order)
            further = column < value if descending else column > value
            behind = task.c.id < last_id if descending else task.c.id > last_id
            statement = statement.where(behind if name == "id" else or_(further, and_(column == value, behind)))
        return statement.order_by(*_keys(order, column)).limit(limit)

    def _queues(self, connection: Connection, filter: Filter) -> Sequence[str]:
        if not filter.status or not UNFINISHED_STATUSES.issuperset(filter.status):
            return ()
        if filter.queue is not None:
            return (filter.queue,)
        names = select(queue.c.name).where(queue.c.namespace == self._namespace).limit(MANY_QUEUES + 1)
        found = [row[0] for row in connection.execute(names)]
        return found if len(found) <= MANY_QUEUES else ()

    def ids(self, filter: Filter, limit: int, after: int) -> Select[Any]:
        return select(task.c.id).where(self._where(filter), task.c.id > after).order_by(task.c.id).limit(limit)

    def count(self, filter: Filter) -> Select[Any]:
        return select(func.count()).select_from(task).where(self._where(filter))

    # -- for the queue itself -----------------------------------------------------------------------------------------

    def _due(self) -> Select[Any]:
        columns = [FRESH.label(name) if name == "fresh" else task.c[name] for name in Due.__struct_fields__]
        return select(*columns).where(self._ours)

    def ready(self, queue: str, types: Collection[str], limit: int, fresh: bool | None = None) -> Select[Any]:
        # The conditions are those of the partial index, word for word, or SQLite would not use it.
        statement = self._due().where(task.c.queue == queue, text(READY), task.c.type.in_(types))
        return _only(statement, fresh).order_by(task.c.rank.desc(), task.c.id).limit(limit)

    def overdue(
        self, queue: str, types: Collection[str], now: float, limit: int, fresh: bool | None = None
    ) -> Select[Any]:
        statement = self._due().where(text(TIMED), task.c.run_at <= now, task.c.queue == queue, task.c.type.in_(types))
        return _only(statement, fresh).order_by(task.c.rank.desc(), task.c.id).limit(limit)

    def timed(self, types: Collection[str], after: float, limit: int) -> Select[Any]:
        statement = self._due().where(text(TIMED), task.c.run_at > after, task.c.type.in_(types))
        return statement.order_by(task.c.run_at, task.c.id).limit(limit)

    def processing(self) -> Select[Any]:
        return select(task.c.id).where(self._ours, text("status = 'processing'")).order_by(task.c.id)

    def cleanups(self, limit: int, after: int) -> Select[Any]:
        return (
            select(task.c.id).where(self._ours, text("cleanup > 0"), task.c.id > after).order_by(task.c.id).limit(limit)
        )

    def begun(self) -> Select[Any]:
        return select(task.c.id).where(self._ours, text(BEGUN))

    def holding(self, prefix: str) -> Select[Any]:
        return select(task.c.id).where(
            self._ours, text("hold IS NOT NULL"), task.c.hold >= prefix, task.c.hold < prefix + "\U0010ffff"
        )

    # -- figures and retention ----------------------------------------------------------------------------------------

    def expired(self, filter: Filter, before: float, limit: int, after: tuple[float, int]) -> Select[Any]:
        place = tuple_(task.c.finished_at, task.c.id) > tuple_(literal(after[0]), literal(after[1]))
        return (
            select(task.c.finished_at, task.c.id)
            .where(text(FINISHED), task.c.finished_at < before, place, task.c.cleanup == 0, self._where(filter))
            .order_by(task.c.finished_at, task.c.id)
            .limit(limit)
        )

    def tally(self, queue: str | None) -> Select[Any]:
        statement = select(counter.c.status, func.sum(counter.c.count)).where(counter.c.namespace == self._namespace)
        if queue is not None:
            statement = statement.where(counter.c.queue == queue)
        return statement.group_by(counter.c.status).having(func.sum(counter.c.count) != 0)

    def owners(self) -> CompoundSelect[Any]:
        """One statement, so that both are of one moment. The row without an owner is the last event."""
        unfinished = select(task.c.owner, func.count()).where(task.c.namespace == self._namespace, text(UNFINISHED))
        sequences = table("sqlite_sequence", column("name"), column("seq"))
        last = select(null(), sequences.c.seq).where(sequences.c.name == "task_event")
        return union_all(unfinished.group_by(task.c.owner), last)

    def tallies(self) -> Select[Any]:
        return select(counter.c.queue, counter.c.status, counter.c.count).where(
            counter.c.namespace == self._namespace, counter.c.count != 0
        )

    def hours(self, filter: Filter, span: int, first: int | None, last: int | None, groups: bool) -> Select[Any]:
        by = (task_hour.c.outcome, task_hour.c.bucket)
        kind = (task_hour.c.queue, task_hour.c.type)
        statement = select(
            *(kind if groups else (literal(""), literal(""))),
            *by,
            func.sum(task_hour.c.count),
            func.sum(task_hour.c.seconds),
        )
        statement = statement.where(task_hour.c.namespace == self._namespace, task_hour.c.span == span)
        if first is not None:
            statement = statement.where(task_hour.c.hour >= first)
        if last is not None:
            statement = statement.where(task_hour.c.hour < last)
        for name in ("queue", "type"):
            if getattr(filter, name) is not None:
                statement = statement.where(task_hour.c[name] == getattr(filter, name))
        if filter.status:
            statement = statement.where(task_hour.c.outcome.in_([str(status) for status in filter.status]))
        return statement.group_by(*(kind if groups else ()), *by)

    def ended(self, filter: Filter, since: float | None, until: float | None) -> Select[Any]:
        result_at = func.coalesce(task.c.delivered_at, task.c.finished_at)
        statement = select(task.c.queue, task.c.type, task.c.status, task.c.started_at, result_at)
        statement = statement.where(text(FINISHED), self._where(filter))
        if since is not None:
            statement = statement.where(task.c.finished_at >= since)
        if until is not None:
            statement = statement.where(task.c.finished_at < until)
        return statement


def _only(statement: Select[Any], fresh: bool | None) -> Select[Any]:
    return statement if fresh is None else statement.where(FRESH if fresh else ~FRESH)


_Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


def _make_cursor(order: str, value: float, last_id: int) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode([order, value, last_id])).decode()


def _read_cursor(cursor: str, order: str) -> tuple[float, int]:
    try:
        made_for, value, last_id = msgspec.json.decode(
            base64.urlsafe_b64decode(cursor.encode()), type=tuple[str, float, _Id]
        )
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise InvalidTask("not a cursor of ours; take next_cursor of the page before", "cursor") from error
    if made_for != order:
        raise InvalidTask(f"the cursor was made for order {made_for!r}", "cursor")
    return value, last_id
