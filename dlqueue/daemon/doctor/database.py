"""The database: is it whole, is it the one that this version works with, does anything in it stand still?"""

from __future__ import annotations

import json
import re
import shlex
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path

from dlqueue.daemon.doctor.finding import Finding, listed
from dlqueue.queue import StorageError
from dlqueue.queue.sql import tables, upkeep
from dlqueue.queue.sql.inspection import Due, Inspection, TookTooLong
from dlqueue.units import format_duration, format_size

LOG_LARGE = 256 << 20
"""Bytes of the write-ahead log. It is cut to 64 MiB when all of it has been taken over."""
STUCK = 600.0
"""Seconds after which a task that is free to run and does not run is suspicious."""
_COPY = re.compile(r"\.\d{4}-(\d{8}T\d{6})Z$")
"""What `dlqueue db upgrade` calls the copies that it keeps."""


def file(database: Path, works: bool) -> list[Finding]:
    """
    :param works: a daemon works with it.
    """
    if not database.exists():
        return [Finding("database", "info", f"there is no database {database} yet: the daemon makes it when it starts")]
    try:
        schema = upkeep.schema_of(database)
    except (StorageError, OSError) as error:
        cure = f"stop the daemon, move {database} away, and put a copy in its place (dlqueue db backup makes them)"
        return [Finding("database", "error", str(error), cure)]
    found = [*_schema(database, schema, works), *_integrity(database), *_log(database), *_copies(database)]
    return [*found, _library()]


def _schema(database: Path, schema: str | None, works: bool) -> Iterator[Finding]:
    if schema in (tables.SCHEMA, None):
        yield Finding("schema", "ok", f"{database} has schema {schema or 'none yet'}, which this version works with")
        return
    from dlqueue.queue.sql.migrate import known_revisions

    if schema not in known_revisions():
        made = f"a newer version of dlqueue made it, and this one ({tables.SCHEMA}) refuses it"
        text = f"{database} has schema {schema}: {made}"
        yield Finding("schema", "error", text, "install that version again, or put a copy from before in its place")
    elif works:
        text = (
            f"the daemon works with schema {schema}, and this program with {tables.SCHEMA}: it was not restarted since"
        )
        yield Finding("schema", "warning", text, "restart the daemon")
    else:
        text = f"{database} has schema {schema}: it is migrated to {tables.SCHEMA} when the daemon starts"
        yield Finding("schema", "info", text, "to keep a copy of how it is now: dlqueue db upgrade")


def _integrity(database: Path) -> Iterator[Finding]:
    try:
        damage = Inspection(database).damage()
    except TookTooLong:
        text = f"{database} is too large to be looked through in a few seconds ({format_size(database.stat().st_size)})"
        yield Finding("integrity", "info", text, "when there is time: dlqueue db backup FILE looks through all of it")
        return
    except StorageError as error:
        damage = [str(error)]
    if damage:
        cure = f"stop the daemon, keep {database} for whoever is to look at it, and put a copy in its place"
        yield Finding("integrity", "error", f"{database} is damaged: {listed(damage, 1)}", cure)
    else:
        yield Finding("integrity", "ok", f"{database} is whole ({format_size(database.stat().st_size)})")


def _log(database: Path) -> Iterator[Finding]:
    size = Inspection(database).log_size
    if size > LOG_LARGE:
        text = f"the write-ahead log of {database} has {format_size(size)}: something reads the database for very long"
        cure = "end other programs that have the file open (fuser -v FILE), then restart the daemon"
        yield Finding("database log", "warning", text, cure)


def _copies(database: Path) -> Iterator[Finding]:
    copies = {
        datetime.strptime(match[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC): path
        for path in database.parent.glob(f"{database.name}.*")
        if (match := _COPY.search(path.name))
    }
    if copies:
        newest = max(copies)
        size = sum(path.stat().st_size for path in copies.values())
        age = format_duration((datetime.now(UTC) - newest).total_seconds())
        there = f"{len(copies)} copies from before migrations lie beside the database"
        text = f"{there} ({format_size(size)}), the newest {age} old"
        yield Finding(
            "copies", "info", text, f"when you do not need them any more: rm {shlex.quote(str(database))}.????-*Z"
        )


def _library() -> Finding:
    version = sqlite3.sqlite_version_info
    fixed = version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    text = f"SQLite {sqlite3.sqlite_version}"
    if fixed:
        return Finding("sqlite", "ok", text)
    text += " can corrupt a database that two connections write to (fixed in 3.51.3, 3.50.7 and 3.44.6);"
    text += " dlqueue writes through one only"
    return Finding("sqlite", "info", text, "let no other program write to the database")


# -- what is in it ----------------------------------------------------------------------------------------------------


def tasks(
    inspection: Inspection,
    types: Collection[str],
    runs: Callable[[int], bool] | None,
    free: Callable[[Due], bool] | None,
    now: float | None = None,
) -> list[Finding]:
    """
    :param types: those that can be run.
    :param runs: is a step of this task running? None = there is no daemon, and what was running is taken up at start.
    :param free: could a worker take this task now?
    """
    found: list[Finding] = []
    try:
        found += _unknown_types(inspection, types)
        found += _blocked(inspection)
        if runs is not None:
            found += _said_to_run(inspection, runs)
        if free is not None:
            found += _not_taken(inspection, free, time.time() if now is None else now)
    except TookTooLong:
        found.append(Finding("tasks", "info", "there are so many tasks that not all of them could be looked at"))
    except StorageError as error:
        found.append(
            Finding(
                "tasks", "warning", f"the tasks could not be looked at: {error}", "see what is said of the database"
            )
        )
    return found or [Finding("tasks", "ok", "every unfinished task runs, waits for something, or has its time")]


def _unknown_types(inspection: Inspection, types: Collection[str]) -> Iterator[Finding]:
    for type, count in inspection.unknown_types(types).items():
        tasks = "a task waits" if count == 1 else f"{count} tasks wait"
        text = f"{tasks} because nothing here can run the type {type!r}"
        cancel = shlex.join(["dlqueue", "rpc", "tasks.cancel", json.dumps({"type": type})])
        cure = f"install what brings it and restart the daemon, or cancel them: {cancel}"
        yield Finding("tasks", "warning", text, cure)


def _blocked(inspection: Inspection) -> Iterator[Finding]:
    ids = inspection.blocked_for_nothing()
    if ids:
        # One that has just become so is on its way: look twice.
        time.sleep(0.2)
        ids = sorted(set(ids) & set(inspection.blocked_for_nothing()))
    if ids:
        text = f"blocked, though everything they depend on has ended: {_tasks(ids)}"
        yield Finding(
            "tasks", "error", text, f"let them go on: dlqueue pause {_ids(ids)} && dlqueue resume {_ids(ids)}"
        )


def _said_to_run(inspection: Inspection, runs: Callable[[int], bool]) -> Iterator[Finding]:
    before = {task_id: lease for task_id, lease in inspection.processing().items() if not runs(task_id)}
    if not before:
        return
    time.sleep(0.2)  # one that was just claimed, or has just ended
    stuck = [i for i, lease in inspection.processing().items() if before.get(i) == lease and not runs(i)]
    if stuck:
        text = f"said to be running, and nobody runs them: {_tasks(stuck)}"
        yield Finding("tasks", "error", text, "restart the daemon, which takes them up again; and please report this")


def _not_taken(inspection: Inspection, free: Callable[[Due], bool], now: float) -> Iterator[Finding]:
    stuck = [due for due in inspection.overdue(now - STUCK) if free(due)]
    if stuck:
        longest = format_duration(now - min(due.since for due in stuck))
        text = f"free to run for up to {longest}, while workers have nothing to do: {_tasks([due.id for due in stuck])}"
        yield Finding("tasks", "error", text, "restart the daemon; and please report this, with its log")


def _tasks(ids: list[int]) -> str:
    return f"task{'s' if len(ids) > 1 else ''} {listed([str(one) for one in ids], 10)}"


def _ids(ids: list[int]) -> str:
    return ",".join(str(one) for one in ids[:10])
