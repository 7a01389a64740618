"""The table of letters that somebody is still to get."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Select, bindparam, delete, func, insert, or_, select, update

from dlqueue.queue.outbox import BUNDLE, Address, Letter, Pending, Settled, post
from dlqueue.queue.record import Change
from dlqueue.queue.sql.rows import Driver, Statement
from dlqueue.queue.sql.tables import outbox

_COLUMNS = [column for column in outbox.c if column.name != "namespace"]
_NAMES = [column.name for column in _COLUMNS]
_INSERT = Statement(
    insert(outbox).values({column.name: bindparam(column.name) for column in outbox.c if column.name != "id"})
)
_DELETE = Statement(delete(outbox).where(outbox.c.id == bindparam("id_")))
_PUT_OFF = Statement(
    update(outbox)
    .where(outbox.c.id == bindparam("id_"))
    .values(attempts=outbox.c.attempts + 1, due_at=bindparam("due_at"), last_error=bindparam("error"))
)


class OutboxRows:
    """Of one namespace."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self.address: Address | None = None

    def post(self, driver: Driver, changes: Sequence[Change]) -> None:
        """Within the transaction of these changes."""
        letters = post(changes, self.address) if self.address is not None else ()
        if letters:
            _INSERT.each(
                driver,
                (
                    {**{name: getattr(letter, name) for name in _NAMES}, "namespace": self._namespace}
                    for letter in letters
                ),
            )

    def settle(self, driver: Driver, payloads: Sequence[Sequence[Settled]], changes: list[Change]) -> list[None]:
        """A verb of the writer."""
        settled = [one for payload in payloads for one in payload]
        _DELETE.each(driver, [{"id_": one.id} for one in settled if one.due_at is None])
        _PUT_OFF.each(
            driver,
            [{"id_": o.id, "due_at": o.due_at, "error": o.error} for o in settled if o.due_at is not None],
        )
        return [None] * len(payloads)

    def first(self, connection: Connection, limit: int, without: Collection[str]) -> list[Letter]:
        """Those due first."""
        statement = self._all().order_by(outbox.c.due_at, outbox.c.id).limit(limit)
        bundles = sorted(one for one in without if one.endswith(BUNDLE))
        if without:
            statement = statement.where(outbox.c.lane.not_in(sorted(without)))
        for one in bundles:
            statement = statement.where(or_(outbox.c.lane < one, outbox.c.lane >= f"{one}\U0010ffff"))
        return _letters(connection, statement)

    def about(self, connection: Connection, task_id: int) -> list[Letter]:
        """Those of one task."""
        return _letters(connection, self._all().where(outbox.c.task_id == task_id).order_by(outbox.c.id))

    def pending(self, connection: Connection) -> Pending:
        """How many there are, and how old they are."""
        asked = select(func.count(), func.min(outbox.c.at)).where(outbox.c.namespace == self._namespace)
        return Pending(*connection.execute(asked).one())

    def _all(self) -> Select[Any]:
        return select(*_COLUMNS).where(outbox.c.namespace == self._namespace)


def _letters(connection: Connection, statement: Select[Any]) -> list[Letter]:
    return [Letter(**dict(zip(_NAMES, row, strict=True))) for row in connection.execute(statement)]
