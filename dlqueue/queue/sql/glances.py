"""`dlqueue.queue.glance` in tables: the counters, and the ends of a few partial indexes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, func, select, text

from dlqueue.queue.glance import Glance, Look
from dlqueue.queue.sql import rows
from dlqueue.queue.sql.query import Query
from dlqueue.queue.sql.tables import FAILED, OWNED, task, task_data
from dlqueue.queue.status import Status


class Glances:
    """For one namespace."""

    def __init__(self, namespace: str, query: Query) -> None:
        self._namespace = namespace
        self._query = query

    def read(self, connection: Connection, look: Look) -> Glance:
        if look.owner is None:
            tally, whole = connection.execute(self._query.tally(None)).all(), True
        else:
            tally = connection.execute(self.tally_of(look)).all()
            whole = sum(int(row[1]) for row in tally) < look.newest
        held = {
            prefix: [row[0] for row in connection.execute(self._query.holding(prefix).limit(look.held))]
            for prefix in look.holds
        }
        return Glance(
            tally={Status(row[0]): int(row[1]) for row in tally},
            whole=whole,
            errors=[rows.record_from(row) for row in connection.execute(self.errors(look))],
            held=held,
            processing=[row[0] for row in connection.execute(self._query.processing())],
        )

    def _newest(self, look: Look, *conditions: Any) -> Select[Any]:
        """The conditions are those of partial indexes, which end with the id: their last entries are read, no more."""
        ours = task.c.namespace == self._namespace
        if look.owner is not None:
            conditions = (*conditions, text(OWNED), task.c.owner == look.owner)
        return select(task.c.id, task.c.status).where(ours, *conditions).order_by(task.c.id.desc()).limit(look.newest)

    def tally_of(self, look: Look) -> Select[Any]:
        newest = self._newest(look, task.c.cleanup < 2).subquery()
        return select(newest.c.status, func.count()).group_by(newest.c.status)

    def errors(self, look: Look) -> Select[Any]:
        newest = (self._newest(look) if look.owner is not None else self._newest(look, text(FAILED))).subquery()
        return (
            select(*rows.COLUMNS)
            .join(task_data, task_data.c.task_id == task.c.id)
            .join(newest, newest.c.id == task.c.id)
            .where(newest.c.status == Status.ERROR.value, task.c.cleanup < 2)
            .order_by(newest.c.id.desc())
            .limit(look.errors)
        )
