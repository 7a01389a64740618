"""The migrations in the wheel end where `create_all` begins."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

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
