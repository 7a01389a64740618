"""A store seen from outside: its rows and events as plain values, and every change that it told, in order. Nothing of
the code under test interprets them."""

from __future__ import annotations

import asyncio
import inspect
import json
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from dlqueue.queue.memory import MemoryStore
from dlqueue.queue.record import Change
from dlqueue.queue.sql import SqlStore

Row = dict[str, Any]
_JSON = ("params", "state", "result", "depends_on", "labels", "options")


def rows_of(store: Any) -> dict[int, Row]:
    """Every row, whoever may see it."""
    if isinstance(store, MemoryStore):
        return {task_id: _plain(record) for task_id, record in store._tasks.items()}
    with _connected(store) as connection:
        found = connection.execute("SELECT * FROM task JOIN task_data ON task_data.task_id = task.id").fetchall()
    rows = [dict(row) for row in found]
    for row in rows:
        for name in _JSON:
            row[name] = None if row[name] is None else json.loads(row[name])
    return {row["id"]: row for row in rows}


def events_of(store: Any) -> list[Row]:
    """The events that are kept, in the order in which they lie there."""
    if isinstance(store, MemoryStore):
        return [
            {"sequence": e.sequence, "task_id": e.task_id, "kind": e.kind, "source": e.source, "target": e.target,
             "at": e.at}
            for e in store._events
        ]  # fmt: skip
    with _connected(store) as connection:
        return [dict(row) for row in connection.execute("SELECT * FROM task_event ORDER BY sequence")]


def _plain(record: Any) -> Row:
    row: Row = {name: getattr(record, name) for name in record.__struct_fields__}
    row["state"] = None if record.state is None else json.loads(record.state)
    row["options"] = msgspec.to_builtins(record.options)
    row["depends_on"] = list(record.depends_on)
    return row


class _connected:
    def __init__(self, store: SqlStore) -> None:
        self._connection = sqlite3.connect(f"file:{store._file}?mode=ro", uri=True)
        self._connection.row_factory = sqlite3.Row

    def __enter__(self) -> sqlite3.Connection:
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()


class Told:
    """A change as it was told."""

    def __init__(self, change: Change) -> None:
        self.row = _plain(change.record)
        self.id = change.record.id
        self.source = None if change.source is None else str(change.source)
        self.kind = change.kind
        self.sequence = change.sequence
        self.gone = change.delete


class Watched:
    """A store, with an eye on what is under way in it."""

    def __init__(self, store: Any, told: list[Told]) -> None:
        self.inner = store
        self.under_way = 0
        self._told = told

    async def open(self, listener: Callable[[Sequence[Change]], None]) -> None:
        def tell(changes: Sequence[Change]) -> None:
            self._told.extend(Told(change) for change in changes)
            listener(changes)

        await self.inner.open(tell)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def counted(*arguments: Any, **named: Any) -> Any:
            self.under_way += 1
            try:
                return await found(*arguments, **named)
            finally:
                self.under_way -= 1

        return counted

    async def quiet(self, rounds: int = 25) -> None:
        """Until nothing more happens by itself: no work in the store, and the loop has had its turns."""
        idle = 0
        async with asyncio.timeout(200):
            while idle < rounds:
                idle = 0 if self.under_way else idle + 1
                await asyncio.sleep(0.0002 if self.under_way else 0)

    def hold_writes(self) -> Callable[[bool], None]:
        """From here on nothing is committed; call the answer with True to drop what has been handed over since."""
        if isinstance(self.inner, MemoryStore):
            return lambda drop: None
        writer = self.inner._writer
        writer._some.acquire()

        def go_on(drop: bool) -> None:
            if drop:
                writer._jobs.clear()
            writer._some.release()

        return go_on


def sqlite_store(folder: Path) -> SqlStore:
    return SqlStore(f"sqlite:///{folder}/queue.db", durability="process")
