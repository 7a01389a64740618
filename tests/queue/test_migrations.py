"""The migrations in the wheel end where `create_all` begins."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from dlqueue.queue import Filter, Status
from dlqueue.queue.figures import figures_of
from dlqueue.queue.sql import SqlStore, engine, migrate, tables

pytestmark = pytest.mark.anyio


def schema_of(path: Path) -> dict[str, str]:
    database = sqlite3.connect(path)
    rows = database.execute("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'").fetchall()
    database.close()
    return {name: "".join(sql.split()) for name, sql in rows}


def version_of(path: Path) -> list[tuple[str]]:
    database = sqlite3.connect(path)
    rows = database.execute("SELECT version_num FROM alembic_version").fetchall()
    database.close()
    return rows


def migrated(path: Path) -> None:
    made = engine.sqlite_engine(engine.parse_url(f"sqlite:///{path}"), "disk", read_only=False)
    with made.connect() as connection:
        migrate.upgrade(connection)
    made.dispose()


async def test_migrated_and_created_are_equal(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/created.db")
    await store.open(lambda changes: None)
    await store.close()
    migrated(tmp_path / "migrated.db")
    created = schema_of(tmp_path / "created.db")
    assert created == schema_of(tmp_path / "migrated.db")
    assert created.keys() >= {*tables.metadata.tables, "ix_task_ready", "alembic_version"}
    assert version_of(tmp_path / "created.db") == version_of(tmp_path / "migrated.db") == [(tables.SCHEMA,)]


async def test_a_migrated_database_is_opened(tmp_path: Path) -> None:
    migrated(tmp_path / "queue.db")
    store = SqlStore(f"sqlite:///{tmp_path}/queue.db")
    await store.open(lambda changes: None)
    assert await store.tally() == {}
    await store.close()


async def test_figures_of_a_database_that_had_none(tmp_path: Path) -> None:
    """What was in a database of the first schema is counted as if it had been counted then."""
    made = engine.sqlite_engine(engine.parse_url(f"sqlite:///{tmp_path}/old.db"), "disk", read_only=False)
    with made.connect() as connection:
        migrate.upgrade(connection, "0001")
    made.dispose()
    ends = [("completed", 100.0, 130.0, 120.0), ("error", 4000.0, 4000.0, None), ("canceled", None, 90_000.0, None)]
    old = sqlite3.connect(tmp_path / "old.db")
    for status, started, finished, delivered in [*ends, ("queued", None, None, None), ends[0]]:
        old.execute(
            "INSERT INTO task (namespace, type, queue, owner, status, want, priority, rank, since, attempt, retries, "
            "max_retry, crashes, cleanup, lease_token, revision, created_at, started_at, finished_at, delivered_at, "
            "executed_seconds) VALUES "
            "('default', 't', 'q', '', ?, 'run', 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, ?, ?, ?, 0)",
            (status, started, finished, delivered),
        )
    old.commit()
    old.close()
    store = SqlStore(f"sqlite:///{tmp_path}/old.db")
    await store.open(lambda changes: None)
    assert await store.tally() == {Status.COMPLETED: 2, Status.ERROR: 1, Status.CANCELED: 1, Status.QUEUED: 1}
    wanted = figures_of(
        ("q", "t", Status(status), started, delivered if delivered is not None else finished)
        for status, started, finished, delivered in [*ends, ends[0]]
    )
    for first, last in ((None, None), (0, None), (0, 24), (0, 48)):
        hours = {0: Status.COMPLETED, 1: Status.ERROR, 25: Status.CANCELED}
        within = [s for hour, s in hours.items() if last is None or hour < last]
        found = await store.hours(Filter(), first, last)
        assert sorted(found, key=str) == sorted((f for f in wanted if f.outcome in within), key=str)
    await store.close()


def test_the_migrations_are_found() -> None:
    assert tables.SCHEMA in migrate.known_revisions()


def test_the_migrations_are_in_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    builders = pytest.importorskip("hatchling.builders.wheel")
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root)
    builder = builders.WheelBuilder(str(root))
    shipped = {Path(file.distribution_path) for file in builder.recurse_included_files()}
    folder = Path("dlqueue/queue/sql/migrations")
    present = {path.relative_to(root) for path in (root / folder).rglob("*.py")}
    assert {folder / "env.py", folder / "versions/0001_initial.py"} <= present
    assert present <= shipped
