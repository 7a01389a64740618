"""What a person does with a database file: look at its schema, copy it while it is in use, migrate it.

The connections here read only, so that they never checkpoint: SQLite before 3.51.3 can corrupt a file when two
connections do (https://sqlite.org/wal.html, "The WAL-Reset Bug"), and the writer of a running daemon does.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from dlqueue.queue.errors import StorageError
from dlqueue.queue.sql import tables
from dlqueue.queue.sql.engine import LOCK_WAIT, FileLock, beside, parse_url, prepare_schema, sqlite_engine
from dlqueue.runtime.files import fsync

_PAGES = 4096
"""Of a step of the copy; between two of them it can be interrupted."""
_PREFIX, _SUFFIX = ".dlqueue-backup.", ".part"
"""Of a copy that is not whole yet."""
_ENDINGS = ("", "-wal", "-shm", "-journal", ".lock")
"""Without its log a database has lost what was written last; without its lock a second daemon would start on it."""


class DatabaseBusy(StorageError):
    """Another process has the database."""


def file_of(url: str) -> Path:
    """The file of a store. :raises StorageError: it is no SQLite file."""
    return Path(parse_url(url).database or "").absolute()


def schema_of(database: Path) -> str | None:
    """The schema of a database, ``None`` if it is empty.

    :raises FileNotFoundError, PermissionError: of the file.
    :raises StorageError: it is no database, or not one of ours.
    """
    with _reading(database) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not names:
            return None
        row = None
        if {"alembic_version", "task"} <= names:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        if row is None:
            raise StorageError(f"{database} is a database, but not one of dlqueue's")
        return str(row[0])


def back_up(database: Path, target: Path) -> None:
    """Copy a database, also one that a daemon writes to: the copy is how it stood at one moment. It is read through
    once to prove it, and takes the place of ``target`` in one rename; only its owner may read it.

    :raises FileNotFoundError, PermissionError, OSError: of the files.
    :raises StorageError: it cannot be read, or the copy is not whole (then there is none).
    """
    if schema_of(database) is None:
        raise StorageError(f"{database} is empty")
    if Path(os.path.realpath(target)) in [beside(database, ending) for ending in _ENDINGS]:
        raise StorageError(f"{target} belongs to the database itself")
    _sweep(target.parent)
    descriptor, name = tempfile.mkstemp(prefix=_PREFIX, suffix=_SUFFIX, dir=target.parent)
    part = Path(name)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with _reading(database) as source, closing(sqlite3.connect(part, isolation_level=None)) as copy:
            # In a transaction of ours all steps read one snapshot; without it, each write of the daemon would begin
            # the copy anew.
            source.execute("BEGIN")
            source.execute("SELECT 1 FROM sqlite_master").fetchone()
            source.backup(copy, pages=_PAGES)
            source.execute("ROLLBACK")
            # One file without a log beside it; the daemon turns the log on again when it opens it.
            copy.execute("PRAGMA journal_mode = DELETE")
            said = [row[0] for row in copy.execute("PRAGMA quick_check(3)")]
            if said != ["ok"]:
                raise StorageError(f"{database} is damaged, and so would be its copy: {'; '.join(said)}")
        fsync(part)
        part.replace(target)
        fsync(target.parent)
    except sqlite3.Error as error:
        raise StorageError(f"{database} cannot be copied to {target}: {error}") from error
    finally:
        _remove(part)
        os.close(descriptor)


def _sweep(folder: Path) -> None:
    """Remove what copies left that were killed; one that is still at work has a lock."""
    for part in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError), part.open("rb") as file:  # somebody else's, or just gone
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(part)


def _remove(part: Path) -> None:
    for left in (part, part.with_name(f"{part.name}-journal")):
        left.unlink(missing_ok=True)


def upgrade(database: Path) -> Path | None:
    """Migrate a database that no daemon uses to the schema of this version. Answers the copy of how it was before,
    which is kept beside it; ``None`` if there was nothing to do.

    :raises FileNotFoundError, PermissionError, OSError: of the file.
    :raises DatabaseBusy: a daemon uses it.
    :raises StorageError: it is not one of ours, or of a newer version.
    """
    before = schema_of(database)
    if before == tables.SCHEMA:
        return None
    lock = FileLock(database)
    try:
        lock.acquire()
    except StorageError as error:
        raise DatabaseBusy(str(error)) from error
    try:
        kept = database.with_name(f"{database.name}.{before}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
        back_up(database, kept)
        engine = sqlite_engine(parse_url(f"sqlite:///{database}"), "disk", read_only=False)
        try:
            with engine.connect() as connection:
                prepare_schema(connection)
        except BaseException:
            kept.unlink()  # all or nothing: it is as it was
            raise
        finally:
            engine.dispose()
        return kept
    finally:
        lock.release()


@contextmanager
def _reading(database: Path) -> Iterator[sqlite3.Connection]:
    with database.open("rb"):
        pass  # the error of the system says more than "unable to open database file"
    address = f"file:{quote(str(database))}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=LOCK_WAIT, isolation_level=None)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise StorageError(f"{database} cannot be read: {error}") from error
