"""The hot look-ups use their partial indexes: none of them reads the whole table."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Select, create_engine
from sqlalchemy.dialects import sqlite

from dlqueue.queue import Filter
from dlqueue.queue.sql import rows, schedules, tables, verbs
from dlqueue.queue.sql.query import Query

QUERY = Query("default")
TYPES = ["a", "b"]

LOOKUPS: dict[str, tuple[Select[Any] | rows.Statement, str]] = {
    "ready": (QUERY.ready("q", TYPES, 10), "ix_task_ready (namespace=? AND queue=?)"),
    "overdue": (QUERY.overdue("q", TYPES, 5.0, 10), "ix_task_timed (namespace=? AND run_at>? AND run_at<?)"),
    "timed": (QUERY.timed(TYPES, 5.0, 10), "ix_task_timed (namespace=? AND run_at>?)"),
    "processing": (QUERY.processing(), "ix_task_processing (namespace=?)"),
    "clean-ups": (QUERY.cleanups(10), "ix_task_cleanup (namespace=?)"),
    "correlation": (
        QUERY.ids(Filter(correlation_id="c"), 10, 0),
        "ix_task_correlation (namespace=? AND correlation_id=? AND rowid>?)",
    ),
    "children": (QUERY.ids(Filter(parent_id=3), 10, 0), "ix_task_parent (namespace=? AND parent_id=? AND rowid>?)"),
    "holding": (verbs._HOLDING, "ix_task_hold (namespace=? AND hold=?)"),
    "holding with a star": (verbs._HOLDING_PREFIX, "ix_task_hold (namespace=? AND hold>? AND hold<?)"),
    "capacity": (verbs._UNFINISHED_IN, "ix_task_unfinished (namespace=? AND queue=?)"),
    "unique key": (verbs._KEYED, "uq_task_unique_key (namespace=? AND owner=? AND unique_key=?)"),
    "join key": (verbs._JOINED, "ix_task_join_key (namespace=? AND join_key=?)"),
    "dependents": (verbs._BLOCKED_BY, "ix_task_dependency_on (depends_on_id=?)"),
    "due schedules": (schedules.due("default", 10), "ix_schedule_due (namespace=? AND next_run>?)"),
    "open runs": (schedules.OPEN_RUNS, "ix_schedule_run_open (namespace=? AND schedule=?)"),
    "counts of a schedule": (schedules.COUNT_RUN, "sqlite_autoindex_schedule_1 (namespace=? AND name=?)"),
    "end of a run": (schedules.CLOSE_RUN, "INTEGER PRIMARY KEY (rowid=?)"),
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


def plan_of(database: sqlite3.Connection, query: Select[Any] | rows.Statement) -> list[str]:
    if isinstance(query, rows.Statement):
        sql: str = query.sql
        values: Any = [None] * len(query.names)
    else:
        dialect = sqlite.dialect(paramstyle="named")
        compiled = query.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        sql, values = str(compiled), compiled.params
    return [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {sql}", values)]


@pytest.mark.parametrize("name", LOOKUPS)
def test_no_look_up_reads_the_whole_table(database: sqlite3.Connection, name: str) -> None:
    query, index = LOOKUPS[name]
    plan = plan_of(database, query)
    assert any(index in line for line in plan), plan
    assert not [line for line in plan if line.startswith("SCAN")], plan


@pytest.mark.parametrize("name", ["ready", "timed", "holding", "processing", "clean-ups"])
def test_nothing_is_sorted_to_find_the_next_tasks(database: sqlite3.Connection, name: str) -> None:
    plan = plan_of(database, LOOKUPS[name][0])
    assert not [line for line in plan if "TEMP B-TREE" in line], plan


def test_every_index_on_the_task_table_is_partial() -> None:
    for index in tables.task.indexes:
        assert index.dialect_options["sqlite"]["where"] is not None, index.name
