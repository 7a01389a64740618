"""What can be seen of a database from outside, whether or not a daemon works with it. Reads only, and never for long:
each question has a deadline.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dlqueue.queue.errors import StorageError

PATIENCE = 5.0
"""Seconds that one question may take."""
_STEPS = 20_000
"""Of SQLite's machine, between two looks at the clock."""


class TookTooLong(StorageError):
    """The database is too large to be asked this."""


@dataclass(frozen=True, slots=True)
class Due:
    """A task that could run and does not."""

    id: int
    queue: str
    type: str
    since: float


class Inspection:
    """
    :param patience: seconds for each question.

    Its methods block. :raises TookTooLong: see above; StorageError: it cannot be read.
    """

    def __init__(self, database: Path, namespace: str = "default", patience: float = PATIENCE) -> None:
        self._database = database
        self._namespace = namespace
        self._patience = patience

    @property
    def log_size(self) -> int:
        """Bytes of its write-ahead log."""
        try:
            return self._database.with_name(f"{self._database.name}-wal").stat().st_size
        except FileNotFoundError:
            return 0

    def damage(self) -> list[str]:
        """What ``PRAGMA quick_check`` finds; nothing = it is whole."""
        return [row[0] for row in self._ask("PRAGMA quick_check(3)") if row[0] != "ok"]

    def newest(self) -> float | None:
        """When the newest event was written."""
        rows = self._ask("SELECT at FROM task_event ORDER BY sequence DESC LIMIT 1")
        return float(rows[0][0]) if rows else None

    def unknown_types(self, known: Collection[str]) -> dict[str, int]:
        """Unfinished tasks of types that are not among these."""
        rows = self._ask(
            "SELECT type, count(*) FROM task WHERE namespace = ? AND finished_at IS NULL GROUP BY type", self._namespace
        )
        return {type: count for type, count in rows if type not in known}

    def processing(self) -> dict[int, int]:
        """Tasks that are said to run, with their leases."""
        rows = self._ask(
            "SELECT id, lease_token FROM task WHERE namespace = ? AND status = 'processing'", self._namespace
        )
        return dict(rows)

    def blocked_for_nothing(self, limit: int = 100) -> list[int]:
        """Tasks that wait for others, though none of these is unfinished."""
        rows = self._ask(
            "SELECT id FROM task WHERE namespace = ? AND finished_at IS NULL AND status = 'blocked' AND NOT EXISTS ("
            " SELECT 1 FROM task_dependency JOIN task AS parent ON parent.id = depends_on_id"
            " WHERE task_id = task.id AND parent.finished_at IS NULL AND parent.delivered_at IS NULL) LIMIT ?",
            self._namespace,
            limit,
        )
        return [row[0] for row in rows]

    def overdue(self, before: float, limit: int = 100) -> list[Due]:
        """Tasks that have been free to run since before then."""
        rows = self._ask(
            "SELECT id, queue, type, coalesce(run_at, since) AS due FROM task WHERE namespace = ?"
            " AND finished_at IS NULL AND status IN ('queued', 'suspending') AND want = 'run' AND cleanup = 0"
            " AND (hold IS NULL OR run_at IS NOT NULL) AND coalesce(run_at, since) < ? AND since < ? LIMIT ?",
            self._namespace,
            before,
            before,
            limit,
        )
        return [Due(*row) for row in rows]

    def holds(self, prefix: str) -> dict[str, int]:
        """What tasks wait for that begins so, and how many do."""
        rows = self._ask(
            "SELECT hold, count(*) FROM task WHERE namespace = ? AND hold IS NOT NULL AND substr(hold, 1, ?) = ?"
            " GROUP BY hold",
            self._namespace,
            len(prefix),
            prefix,
        )
        return {hold.removeprefix(prefix): count for hold, count in rows}

    def letters(self, before: float | None = None) -> list[tuple[str, int, float, str | None]]:
        """What waits in the outbox, about what was before then, by lane: the target of one of them, how many there are,
        since when the oldest, and what came of an attempt."""
        return self._ask(
            "SELECT target, count(*), min(at), max(last_error) FROM outbox WHERE namespace = ? AND at < ?"
            " GROUP BY lane ORDER BY count(*) DESC LIMIT 1000",
            self._namespace,
            time.time() if before is None else before,
        )

    def mentioned(self, words: Collection[str]) -> set[str]:
        """Which of these stand in the private state of a task, finished or not."""
        left, found = set(words), set[str]()
        with self._reading() as connection:
            for (state,) in connection.execute("SELECT state FROM task_data WHERE state IS NOT NULL"):
                seen = {word for word in left if word in state}
                found |= seen
                left -= seen
                if not left:
                    break
        return found

    def _ask(self, question: str, *params: Any) -> list[Any]:
        with self._reading() as connection:
            return connection.execute(question, params).fetchall()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        # Read only, so that it never checkpoints: two connections that do can corrupt a file before SQLite 3.51.3.
        address = f"file:{quote(str(self._database))}?mode=ro"
        until = time.monotonic() + self._patience
        try:
            with closing(
                sqlite3.connect(address, uri=True, timeout=self._patience, isolation_level=None)
            ) as connection:
                connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
                yield connection
        except sqlite3.OperationalError as error:
            if "interrupted" in str(error):
                raise TookTooLong(f"{self._database} did not answer within {self._patience:g} s") from error
            raise StorageError(f"{self._database} cannot be read: {error}") from error
        except sqlite3.Error as error:
            raise StorageError(f"{self._database} cannot be read: {error}") from error
