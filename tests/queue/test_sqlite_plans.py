"""The hot look-ups use their partial indexes: none of them reads the whole table."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import Select, create_engine
from sqlalchemy.dialects import sqlite

from dlqueue.queue import Filter, Status
from dlqueue.queue.glance import Look
from dlqueue.queue.sql import rows, schedules, tables, verbs
from dlqueue.queue.sql.glances import Glances
from dlqueue.queue.sql.query import Query
from dlqueue.queue.status import FINAL

QUERY = Query("default")
TYPES = ["a", "b"]

LOOKUPS: dict[str, tuple[Select[Any] | rows.Statement, str]] = {
    "ready": (QUERY.ready("q", TYPES, 10), "ix_task_ready (namespace=? AND queue=?)"),
    "overdue": (QUERY.overdue("q", TYPES, 5.0, 10), "ix_task_timed (namespace=? AND run_at>? AND run_at<?)"),
    "timed": (QUERY.timed(TYPES, 5.0, 10), "ix_task_timed (namespace=? AND run_at>?)"),
    "processing": (QUERY.processing(), "ix_task_processing (namespace=?)"),
    "clean-ups": (QUERY.cleanups(10, 0), "ix_task_cleanup (namespace=? AND id>?)"),
    "correlation": (
        QUERY.ids(Filter(correlation_id="c"), 10, 0),
        "ix_task_correlation (namespace=? AND correlation_id=? AND rowid>?)",
    ),
    "children": (QUERY.ids(Filter(parent_id=3), 10, 0), "ix_task_parent (namespace=? AND parent_id=? AND rowid>?)"),
    "holding": (verbs._HOLDING, "ix_task_hold (namespace=? AND hold=?)"),
    "holding with a star": (verbs._HOLDING_PREFIX, "ix_task_hold (namespace=? AND hold>? AND hold<?)"),
    "capacity": (verbs._UNFINISHED_IN, "ix_task_unfinished (namespace=? AND queue=?)"),
    "one that needs it": (verbs._NEEDED, "ix_task_dependency_on (depends_on_id=?)"),
    "what has begun": (QUERY.begun(), "ix_task_begun (namespace=?)"),
    "holding with a prefix": (QUERY.holding("transfer:"), "ix_task_hold (namespace=? AND hold>? AND hold<?)"),
    "expired": (
        QUERY.expired(Filter(), 5.0, 200, (1.0, 2)),
        "ix_task_finished (namespace=? AND finished_at>? AND finished_at<?)",
    ),
    "counters": (QUERY.tally(None), "counter USING PRIMARY KEY (namespace=?)"),
    "counters of a queue": (QUERY.tally("q"), "counter USING PRIMARY KEY (namespace=? AND queue=?)"),
    "statistics": (
        QUERY.hours(Filter(), 24, 5, None, True),
        "task_hour USING PRIMARY KEY (namespace=? AND span=? AND hour>?)",
    ),
    "statistics of all": (QUERY.hours(Filter(type="t"), 0, None, None, False), "PRIMARY KEY (namespace=? AND span=?)"),
    "the edge of an hour": (
        QUERY.ended(Filter(status=tuple(FINAL)), 5.0, 9.0),
        "ix_task_finished (namespace=? AND finished_at>? AND finished_at<?)",
    ),
    "unique key": (verbs._KEYED, "uq_task_unique_key (namespace=? AND owner=? AND unique_key=?)"),
    "join key": (verbs._JOINED, "ix_task_join_key (namespace=? AND join_key=?)"),
    "dependents": (verbs._BLOCKED_BY, "ix_task_dependency_on (depends_on_id=?)"),
    "update": (rows._update(frozenset({"status", "state"}))[0], "INTEGER PRIMARY KEY (rowid=?)"),
    "update of the data": (
        rows._update(frozenset({"status", "state"}))[2] or rows.DELETE_LABELS,
        "INTEGER PRIMARY KEY (rowid=?)",
    ),
    "due schedules": (schedules.due("default", 10), "ix_schedule_due (namespace=? AND next_run>?)"),
    "open runs": (schedules.OPEN_RUNS, "ix_schedule_run_open (namespace=? AND schedule=?)"),
    "counts of a schedule": (schedules.COUNT_RUN, "sqlite_autoindex_schedule_1 (namespace=? AND name=?)"),
    "end of a run": (schedules.CLOSE_RUN, "INTEGER PRIMARY KEY (rowid=?)"),
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


def ids(filter: Filter, order: str, cursor: str | None = None, queues: Sequence[str] = ()) -> Select[Any]:
    return QUERY.picked(filter, order, 101, cursor, queues)


QUEUED = Filter(status=(Status.QUEUED, Status.PAUSED))
LISTS: dict[str, tuple[Select[Any], str]] = {
    "all": (ids(Filter(), "-id"), "SCAN task"),  # backwards along the rowid, as far as the page reaches
    "completed": (ids(Filter(status=(Status.COMPLETED,)), "-finished_at"), "ix_task_finished (namespace=?"),
    "failed": (ids(Filter(status=(Status.ERROR,)), "-id"), "ix_task_failed (namespace=?)"),
    "failed, oldest first": (ids(Filter(status=(Status.ERROR,)), "id"), "ix_task_failed (namespace=?)"),
    "of an owner": (ids(Filter(owner="me"), "-id"), "ix_task_owner (namespace=? AND owner=?)"),
    "unfinished": (
        ids(QUEUED, "-id", None, ["a", "b"]),
        "ix_task_unfinished (namespace=? AND queue=? AND status=?)",
    ),
    "of a queue": (
        ids(Filter(status=(Status.QUEUED,), queue="a"), "-id", None, ["a"]),
        "ix_task_unfinished (namespace=? AND queue=? AND status=?)",
    ),
    "by correlation": (
        ids(Filter(correlation_id="c"), "-id"),
        "ix_task_correlation (namespace=? AND correlation_id=?)",
    ),
    "children": (ids(Filter(parent_id=3), "-id"), "ix_task_parent (namespace=? AND parent_id=?)"),
    "given ids": (ids(Filter(ids=(1, 2)), "id"), "INTEGER PRIMARY KEY (rowid=?)"),
    "a label": (ids(Filter(labels=(("tag", "x"),)), "-id"), "ix_task_label (key=? AND value=?)"),
}


@pytest.mark.parametrize("name", LISTS)
def test_pages_are_read_in_order_from_an_index(database: sqlite3.Connection, name: str) -> None:
    query, index = LISTS[name]
    plan = plan_of(database, query)
    assert any(index in line for line in plan), plan
    # Of a union of ordered parts, each as long as a page, no more than those are sorted.
    parts = (
        ("SCAN anon", "SCAN (subquery", "USE TEMP B-TREE FOR ORDER BY") if name in ("unfinished", "of a queue") else ()
    )
    assert not [
        line for line in plan if line.startswith(("SCAN", "USE TEMP")) and not line.startswith((*parts, index))
    ], plan


@pytest.mark.parametrize("name", ["ready", "timed", "holding", "processing", "clean-ups"])
def test_nothing_is_sorted_to_find_the_next_tasks(database: sqlite3.Connection, name: str) -> None:
    plan = plan_of(database, LOOKUPS[name][0])
    assert not [line for line in plan if "TEMP B-TREE" in line], plan


def test_every_index_on_the_task_table_is_partial() -> None:
    for index in tables.task.indexes:
        assert index.dialect_options["sqlite"]["where"] is not None, index.name


GLANCES = Glances("default", QUERY)
SIGHTS: dict[str, tuple[Select[Any], str]] = {
    "errors": (GLANCES.errors(Look()), "ix_task_failed (namespace=?)"),
    "errors of an owner": (GLANCES.errors(Look(owner="me")), "ix_task_owner (namespace=? AND owner=?)"),
    "counts of an owner": (GLANCES.tally_of(Look(owner="me")), "ix_task_owner (namespace=? AND owner=?)"),
}


@pytest.mark.parametrize("name", SIGHTS)
def test_a_glance_reads_the_ends_of_indexes(database: sqlite3.Connection, name: str) -> None:
    query, index = SIGHTS[name]
    plan = plan_of(database, query)
    assert any(index in line for line in plan), plan
    # What it has picked, 10,000 at most, is all that it goes through.
    assert not [line for line in plan if line.startswith("SCAN") and "anon" not in line], plan
    assert plan.index("SCAN anon_1") > 0, plan
