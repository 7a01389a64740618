"""What doctor finds in the database, and in the tasks in it."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from dlqueue.daemon.doctor import database
from dlqueue.daemon.doctor.finding import Finding
from dlqueue.queue import Completed, Context, Outcome, Queue, ResumeAfter, Task
from dlqueue.queue.sql import SqlStore, tables
from dlqueue.queue.sql.inspection import Due, Inspection, TookTooLong
from dlqueue.queue.testing import PATIENCE

pytestmark = pytest.mark.anyio


class Waits(Task):
    type = "waits"

    async def run(self, ctx: Context) -> Outcome:
        return ResumeAfter(None, hold=ctx.params["hold"]) if ctx.params else Completed()


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[Queue]:
    async with Queue([Waits], SqlStore(f"sqlite:///{tmp_path / 'queue.db'}"), workers=1) as made:
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


def change(file: Path, statement: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(statement)


def serious(found: list[Finding]) -> list[tuple[str, str]]:
    return [(one.check, one.severity) for one in found if one.severity in ("warning", "error")]


def one(found: list[Finding], check: str, severity: str) -> Finding:
    fitting = [finding for finding in found if (finding.check, finding.severity) == (check, severity)]
    assert len(fitting) == 1, found
    return fitting[0]


async def held(queue: Queue, hold: str) -> int:
    """A task that waits for this."""
    task = await queue.submit("waits", {"hold": hold})
    async with asyncio.timeout(PATIENCE):
        while (await queue.get(task.id)).hold is None:
            await asyncio.sleep(0.005)
    return task.id


# -- the file ---------------------------------------------------------------------------------------------------------


def test_none_yet(file: Path) -> None:
    assert "there is no database" in one(database.file(file, False), "database", "info").explanation


async def test_a_good_one(queue: Queue, file: Path) -> None:
    found = database.file(file, True)
    assert serious(found) == []
    assert "which this version works with" in one(found, "schema", "ok").explanation
    assert f"{file} is whole" in one(found, "integrity", "ok").explanation


async def test_a_schema_of_a_newer_version(queue: Queue, file: Path) -> None:
    await queue.shutdown()
    change(file, "UPDATE alembic_version SET version_num = '9999'")
    error = one(database.file(file, False), "schema", "error")
    assert "a newer version of dlqueue made it" in error.explanation
    assert error.cure is not None and "install that version again" in error.cure


async def test_a_schema_of_an_older_version(queue: Queue, file: Path) -> None:
    await queue.shutdown()
    change(file, "UPDATE alembic_version SET version_num = '0001'")
    info = one(database.file(file, False), "schema", "info")
    assert f"is migrated to {tables.SCHEMA} when the daemon starts" in info.explanation
    assert info.cure is not None and "dlqueue db upgrade" in info.cure
    assert one(database.file(file, True), "schema", "warning").cure == "restart the daemon"


def test_something_else(file: Path) -> None:
    file.write_bytes(b"this is no database, and long enough to be taken for one" * 100)
    error = one(database.file(file, False), "database", "error")
    assert "is not a database" in error.explanation and "dlqueue db backup" in (error.cure or "")


async def test_damage(queue: Queue, file: Path) -> None:
    await queue.submit_many([("waits", {"hold": f"h{n}" * 20}) for n in range(300)])
    await queue.shutdown()
    pages = bytearray(file.read_bytes())
    for page in range(len(pages) // 4096 * 3 // 4, len(pages) // 4096):
        pages[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    file.write_bytes(bytes(pages))
    error = one(database.file(file, False), "integrity", "error")
    assert f"{file} is damaged" in error.explanation and "put a copy in its place" in (error.cure or "")


async def test_one_that_is_too_large_to_be_looked_through(
    queue: Queue, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(self: Inspection) -> list[str]:
        raise TookTooLong("no")

    monkeypatch.setattr(Inspection, "damage", slow)
    info = one(database.file(file, True), "integrity", "info")
    assert "too large to be looked through" in info.explanation and "dlqueue db backup FILE" in (info.cure or "")


async def test_a_question_has_a_deadline(queue: Queue, file: Path) -> None:
    await queue.submit_many([("waits", {"hold": str(n)}) for n in range(2000)])
    with pytest.raises(TookTooLong):
        Inspection(file, patience=0.0)._ask("SELECT count(*) FROM task AS a, task AS b, task AS c")


async def test_a_long_log(queue: Queue, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await queue.submit("waits", None)
    monkeypatch.setattr(database, "LOG_LARGE", 100)
    warning = one(database.file(file, True), "database log", "warning")
    assert "something reads the database for very long" in warning.explanation
    assert "restart the daemon" in (warning.cure or "")


async def test_copies_from_before_migrations(queue: Queue, file: Path) -> None:
    for name in ("0001-20200101T000000Z", "0002-20240101T000000Z", "0002-later"):
        file.with_name(f"{file.name}.{name}").write_bytes(b"x" * 1024)
    info = one(database.file(file, True), "copies", "info")
    assert "2 copies from before migrations" in info.explanation and "2.0 KiB" in info.explanation
    assert info.cure is not None and f"rm {file}.????-*Z" in info.cure


@pytest.mark.parametrize(
    ("version", "fixed"),
    [
        ((3, 40, 1), False),
        ((3, 44, 6), True),
        ((3, 45, 0), False),
        ((3, 50, 7), True),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
    ],
)
async def test_the_library_with_the_flaw(
    queue: Queue, file: Path, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int], fixed: bool
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    found = one(database.file(file, True), "sqlite", "ok" if fixed else "info")
    assert fixed or "let no other program write" in (found.cure or "")


# -- the tasks --------------------------------------------------------------------------------------------------------


def tasks(file: Path, queue: Queue, now: float | None = None) -> list[Finding]:
    return database.tasks(Inspection(file), set(queue.types), queue.runs, lambda due: True, now)


async def test_tasks_that_wait_are_well(queue: Queue, file: Path) -> None:
    parent = await held(queue, "x")
    await queue.submit("waits", None, depends_on=[parent])
    await queue.submit("waits", None, paused=True)
    await queue.submit("waits", None, delay=3600)
    assert [one.severity for one in tasks(file, queue, time.time() + 3000)] == ["ok"]


async def test_a_type_that_nobody_knows(queue: Queue, file: Path) -> None:
    await queue.submit("waits", None, paused=True)
    found = database.tasks(Inspection(file), {"other"}, None, None)
    warning = one(found, "tasks", "warning")
    assert "a task waits because nothing here can run the type 'waits'" in warning.explanation
    assert """dlqueue rpc tasks.cancel '{"type": "waits"}'""" in (warning.cure or "")


async def test_said_to_run_and_nobody_runs_it(queue: Queue, file: Path) -> None:
    task = await queue.submit("waits", None, paused=True)
    change(file, f"UPDATE task SET status = 'processing' WHERE id = {task.id}")
    error = one(tasks(file, queue), "tasks", "error")
    assert error.explanation == f"said to be running, and nobody runs them: task {task.id}"
    assert "restart the daemon" in (error.cure or "")
    assert [one.severity for one in database.tasks(Inspection(file), {"waits"}, None, None)] == ["ok"]
    begins = iter([False, True])  # between two looks
    assert [one.severity for one in database.tasks(Inspection(file), {"waits"}, lambda _: next(begins), None)] == ["ok"]


async def test_blocked_by_nothing(queue: Queue, file: Path) -> None:
    parent = await queue.submit("waits", {"hold": "x"})
    child = await queue.submit("waits", None, depends_on=[parent.id])
    change(file, f"UPDATE task SET finished_at = 1.0, status = 'completed' WHERE id = {parent.id}")
    error = one(tasks(file, queue), "tasks", "error")
    assert f"everything they depend on has ended: task {child.id}" in error.explanation
    assert error.cure == f"let them go on: dlqueue pause {child.id} && dlqueue resume {child.id}"


async def test_free_to_run_and_not_taken(queue: Queue, file: Path) -> None:
    await queue.queues.pause("default")
    task = await queue.submit("waits", None)
    asked: list[Due] = []

    def free(due: Due) -> bool:
        asked.append(due)
        return True

    look = Inspection(file), set(queue.types), queue.runs
    assert [one.severity for one in database.tasks(*look, free)] == ["ok"]
    found = database.tasks(*look, free, time.time() + 3600)
    error = one(found, "tasks", "error")
    assert f"while workers have nothing to do: task {task.id}" in error.explanation
    assert [(due.id, due.queue, due.type) for due in asked] == [(task.id, "default", "waits")]
    assert [one.severity for one in database.tasks(*look, lambda due: False, time.time() + 3600)] == ["ok"]


async def test_a_database_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bad.db").write_bytes(b"nothing of the kind" * 1000)
    found = database.tasks(Inspection(tmp_path / "bad.db"), set(), None, None)
    assert "could not be looked at" in one(found, "tasks", "warning").explanation


async def test_what_tasks_know_and_wait_for(queue: Queue, file: Path) -> None:
    inspection = Inspection(file)
    task_id = await held(queue, "space:/mnt/a")
    assert inspection.holds("space:/") == {"mnt/a": 1}
    change(file, f"""UPDATE task_data SET state = '{{"key": "abc"}}' WHERE task_id = {task_id}""")
    assert inspection.mentioned({"abc", "def"}) == {"abc"}
    assert (inspection.newest() or 0) == pytest.approx(time.time(), abs=60)
