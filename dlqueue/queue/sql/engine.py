"""Engines and their settings: SQLite so that what was answered survives, and one process per file.

Measured facts behind the settings: `docs/dependencies.md`, "SQLite".
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from dlqueue.queue.errors import StorageError
from dlqueue.queue.sql import tables

LOCK_WAIT = 5.0
"""Seconds that a statement waits for a lock of another process, before it fails."""
SYNCHRONOUS = {"disk": "FULL", "process": "NORMAL"}
"""Durability level → SQLite's `synchronous`: survives power loss, or (NORMAL) the death of the process only."""


def parse_url(store: str) -> URL:
    """:raises StorageError: not the URL of a store that this version knows."""
    try:
        url = make_url(store)
    except ArgumentError as error:
        raise StorageError(f"{store!r} is not a database URL; an example is sqlite:///queue.db") from error
    if url.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise StorageError(f"store {url.drivername!r} is not supported; use sqlite:///FILE")
    if not url.database or url.database == ":memory:":
        raise StorageError("for a queue in memory give no store at all (store=None)")
    return url


def beside(database: Path, ending: str) -> Path:
    """A file that belongs to a database: the lock, or one of SQLite's."""
    real = Path(os.path.realpath(database))
    return real.with_name(real.name + ending)


class FileLock:
    """Held as long as the process lives: two queues on one file would each take the other's tasks for orphans."""

    def __init__(self, database: Path) -> None:
        # Of the file itself, whatever links lead to it; SQLite keeps its log there too.
        self.path = beside(database, ".lock")
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """:raises StorageError: another process has it."""
        file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read(32).strip()
            file.close()
            who = f"process {holder}" if holder else "another process"
            raise StorageError(f"the database is in use by {who} (lock {self.path}); stop that one first") from error
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        self._file = file

    @property
    def held(self) -> bool:
        return self._file is not None

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def sqlite_engine(url: URL, durability: str, read_only: bool) -> Engine:
    """An engine without a pool: the writer holds one connection for good, each reader thread one of its own."""
    engine = create_engine(url, poolclass=NullPool, connect_args={"check_same_thread": False, "timeout": LOCK_WAIT})

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        # The driver's own transaction handling loses updates; BEGIN is ours, below.
        connection.isolation_level = None
        cursor = connection.cursor()
        if read_only:
            cursor.execute("PRAGMA query_only = 1")
            # Only the writer checkpoints: SQLite before 3.51.3 can corrupt a file when two connections do.
            cursor.execute("PRAGMA wal_autocheckpoint = 0")
        else:
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute(f"PRAGMA synchronous = {SYNCHRONOUS[durability]}")
            # A checkpoint stops the writer for some milliseconds: four times as seldom as SQLite would.
            cursor.execute("PRAGMA wal_autocheckpoint = 4000")
            cursor.execute("PRAGMA journal_size_limit = 67108864")
            cursor.execute("PRAGMA foreign_keys = 0")
        cursor.execute("PRAGMA cache_size = -16384")
        cursor.execute("PRAGMA temp_store = MEMORY")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def prepare_schema(connection: Connection) -> None:
    """A new database gets the tables at once, an older one is migrated, a newer one refused.

    :raises StorageError: the database was made by a newer version, or is not one of ours.
    """
    found = _revision(connection)
    if found == tables.SCHEMA:
        return
    if found is None:
        there = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars().all()
        connection.rollback()
        foreign = sorted({*tables.metadata.tables, "alembic_version"}.intersection(there))
        if foreign:
            raise StorageError(f"the database has a table {foreign[0]!r} that is not dlqueue's; choose another file")
        with connection.begin():
            tables.metadata.create_all(connection)
            # Word for word as Alembic makes it.
            connection.exec_driver_sql(
                "CREATE TABLE alembic_version "
                "(version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
            )
            connection.exec_driver_sql("INSERT INTO alembic_version VALUES (?)", (tables.SCHEMA,))
        return
    # Alembic takes 0.7 s to import: only when there is something for it to do.
    from dlqueue.queue.sql.migrate import known_revisions, upgrade

    if found not in known_revisions():
        raise StorageError(
            f"the database has schema {found!r}, which this version of dlqueue does not know; a newer version made it"
        )
    upgrade(connection)


def _revision(connection: Connection) -> str | None:
    exists = connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").first()
    row = connection.exec_driver_sql("SELECT version_num FROM alembic_version").first() if exists else None
    connection.rollback()
    return None if row is None else str(row[0])
