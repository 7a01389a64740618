"""The database of an instance, for a person who copies or migrates it: which file it is, and what may go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dlqueue.config import ConfigError
from dlqueue.daemon.reading import Reader
from dlqueue.queue import StorageError
from dlqueue.queue.sql import tables, upkeep


class DatabaseError(Exception):
    """What went wrong, for a person. ``kind``: ``missing``, ``busy``, ``denied``, ``config`` or ``failed``."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Schema:
    """Which schema a database has, and which one this version of the program works with."""

    database: Path
    found: str | None
    """``None``: there is no database yet."""
    wanted: str
    state: str
    """``current``, ``older`` (it is migrated at the next start), ``newer`` (this version refuses it) or ``none``."""


def schema(read: Reader) -> Schema:
    """Raises `DatabaseError`."""
    with _told():
        database = _file(read)
        found = upkeep.schema_of(database) if database.exists() else None
        if found is None:
            return Schema(database, None, tables.SCHEMA, "none")
        if found == tables.SCHEMA:
            return Schema(database, found, tables.SCHEMA, "current")
        # Alembic takes 0.7 s to import: only when there is something to compare.
        from dlqueue.queue.sql.migrate import known_revisions

        return Schema(database, found, tables.SCHEMA, "older" if found in known_revisions() else "newer")


def back_up(read: Reader, target: Path) -> Path:
    """Copy the database to ``target``, whatever is there; answers which database it was. Raises `DatabaseError`."""
    with _told():
        database = _file(read)
        if target.exists() and database.exists() and target.samefile(database):
            raise DatabaseError(f"{target} is the database itself", "failed")
        upkeep.back_up(database, target)
        return database


def upgrade(read: Reader) -> Path | None:
    """Migrate the database; answers the copy that was kept, ``None`` if nothing was to do. Raises `DatabaseError`."""
    with _told():
        return upkeep.upgrade(_file(read))


def _file(read: Reader) -> Path:
    return upkeep.file_of(read().store.url)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        raise DatabaseError("\n".join(str(problem) for problem in error.problems), "config") from error
    except upkeep.DatabaseBusy as error:
        raise DatabaseError(str(error), "busy") from error
    except FileNotFoundError as error:
        raise DatabaseError(f"there is no {error.filename}", "missing") from error
    except PermissionError as error:
        raise DatabaseError(f"{error.filename}: {error.strerror}", "denied") from error
    except OSError as error:
        raise DatabaseError(f"{error.filename}: {error.strerror}", "failed") from error
    except StorageError as error:
        raise DatabaseError(str(error), "failed") from error
