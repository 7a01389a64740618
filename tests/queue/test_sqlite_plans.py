"""The hot look-ups use their partial indexes: none of them reads the whole table."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Select, create_engine

from dlqueue.queue import Filter
from dlqueue.queue.sql import rows, tables
from dlqueue.queue.sql import store as sql_store
from dlqueue.queue.sql.query import Query

QUERY = Query("default")
TYPES = ["a", "b"]

SELECTS: dict[str, tuple[Select[Any], str]] = {
    "ready": (QUERY.ready("q", TYPES, 10), "ix_task_ready (namespace=? AND queue=?)"),
    "overdue": (QUERY.overdue("q", TYPES, 5.0, 10), "ix_task_timed (namespace=? AND run_at>? AND run_at<?)"),
    "timed": (QUERY.timed(TYPES, 5.0, 10), "ix_task_timed (namespace=? AND run_at>?)"),
    "holding": (QUERY.holding("slot:a", 3), "ix_task_hold (namespace=? AND hold=?)"),
    "holding with a star": (QUERY.holding("slot:*", None), "ix_task_hold (namespace=? AND hold>? AND hold<?)"),
    "processing": (QUERY.processing(), "ix_task_processing (namespace=?)"),
    "clean-ups": (QUERY.cleanups(10), "ix_task_cleanup (namespace=?)"),
    "capacity": (QUERY.unfinished_in("q"), "ix_task_unfinished (namespace=? AND queue=?)"),
    "correlation": (
        QUERY.ids(Filter(correlation_id="c"), 10, 0),
        "ix_task_correlation (namespace=? AND correlation_id=? AND rowid>?)",
    ),
    "children": (QUERY.ids(Filter(parent_id=3), 10, 0), "ix_task_parent (namespace=? AND parent_id=? AND rowid>?)"),
}
STATEMENTS = {
    "unique key": (sql_store._KEYED, "uq_task_unique_key (namespace=? AND owner=? AND unique_key=?)"),
    "join key": (sql_store._JOINED, "ix_task_join_key (namespace=? AND join_key=?)"),
    "dependents": (sql_store._BLOCKED_BY, "ix_task_dependency_on (depends_on_id=?)"),
    "update": (rows.UPDATE_TASK, "INTEGER PRIMARY KEY (rowid=?)"),
    "update of the data": (rows.UPDATE_DATA, "INTEGER PRIMARY KEY (rowid=?)"),
}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path = tmp_path_factory.mktemp("plans") / "queue.db"
    engine = create_engine(f"sqlite:///{path}")
    tables.metadata.create_all(engine)
    engine.dispose()
    connection = sqlite3.connect(path)
    yield connection
    connection.close()


def plan_of(database: sqlite3.Connection, sql: str, values: Any) -> list[str]:
    return [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {sql}", values)]


@pytest.mark.parametrize("name", SELECTS)
def test_queries(database: sqlite3.Connection, name: str) -> None:
    from sqlalchemy.dialects import sqlite

    select, index = SELECTS[name]
    compiled = select.compile(dialect=sqlite.dialect(paramstyle="named"), compile_kwargs={"render_postcompile": True})
    plan = plan_of(database, str(compiled), compiled.params)
    assert any(index in line for line in plan), plan
    assert not [line for line in plan if line.startswith("SCAN")], plan


@pytest.mark.parametrize("name", STATEMENTS)
def test_statements(database: sqlite3.Connection, name: str) -> None:
    statement, index = STATEMENTS[name]
    plan = plan_of(database, statement.sql, [None] * len(statement.names))
    assert any(index in line for line in plan), plan
    assert not [line for line in plan if line.startswith("SCAN")], plan


def test_nothing_is_sorted_to_find_the_next_tasks(database: sqlite3.Connection) -> None:
    from sqlalchemy.dialects import sqlite

    for name in ("ready", "timed", "holding"):
        compiled = SELECTS[name][0].compile(
            dialect=sqlite.dialect(paramstyle="named"), compile_kwargs={"render_postcompile": True}
        )
        plan = plan_of(database, str(compiled), compiled.params)
        assert not [line for line in plan if "TEMP B-TREE" in line], (name, plan)


def test_every_index_on_the_task_table_is_partial() -> None:
    for index in tables.task.indexes:
        assert index.dialect_options["sqlite"]["where"] is not None, index.name
