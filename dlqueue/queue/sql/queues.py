"""The table of queues that were created, changed or paused at run time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, delete, insert, select

from dlqueue.queue.record import Change, QueueRow
from dlqueue.queue.sql.rows import Driver, Statement, encode
from dlqueue.queue.sql.tables import queue_setting

_COLUMNS = [column for column in queue_setting.c if column.name != "namespace"]
# Two statements that every database has, in place of each one's own way to write "insert or update".
_DELETE = Statement(
    delete(queue_setting).where(
        queue_setting.c.namespace == bindparam("namespace"), queue_setting.c.name == bindparam("name")
    )
)
_INSERT = Statement(insert(queue_setting).values({column.name: bindparam(column.name) for column in queue_setting.c}))
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class QueueRows:
    """Of one namespace."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def save(self, driver: Driver, payloads: Sequence[Sequence[QueueRow]], changes: list[Change]) -> list[None]:
        """A verb of the writer."""
        newest = {row.name: row for rows in payloads for row in rows}
        values = [
            {
                "namespace": self._namespace,
                "name": row.name,
                "settings": encode(row.settings),
                "filed": encode(row.filed),
                "paused": int(row.paused),
                "created_at": row.created_at,
            }
            for row in newest.values()
        ]
        _DELETE.each(driver, values)
        _INSERT.each(driver, values)
        return [None] * len(payloads)

    def read(self, connection: Connection) -> list[QueueRow]:
        """All of them, by name."""
        statement = select(*_COLUMNS).where(queue_setting.c.namespace == self._namespace).order_by(queue_setting.c.name)
        return [
            QueueRow(row.name, _decode(row.settings), _decode(row.filed), bool(row.paused), row.created_at)
            for row in connection.execute(statement)
        ]
