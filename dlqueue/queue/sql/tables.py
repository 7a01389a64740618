"""The schema. A narrow hot row, cold side tables, and only partial secondary indexes: an index that leaves out the
finished tasks stays small however many of them are kept.

`SCHEMA` is the Alembic revision that this file describes; a test proves that migrating an empty database gives the
same.
"""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    text,
)

SCHEMA = "0004"

metadata = MetaData()

WAITING = "status IN ('queued', 'suspending')"
READY = f"{WAITING} AND hold IS NULL AND run_at IS NULL"
TIMED = f"{WAITING} AND run_at IS NOT NULL"
UNFINISHED = "finished_at IS NULL"
FINISHED = "finished_at IS NOT NULL"
FAILED = "status IN ('error', 'canceled')"
OWNED = "owner <> ''"
# Said in other words than READY, or SQLite would take that one's index, and read all that have not begun: no status
# comes after these two in the alphabet. Every change of a task asks for this condition twice, so it has to be quick: a
# list of more than two values costs as much as the row itself.
BEGUN = "status >= 'queued' AND lease_token > 0 AND hold IS NULL AND run_at IS NULL"

task = Table(
    "task",
    metadata,
    # AUTOINCREMENT: an id is never used again, not even after its row is gone.
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("namespace", String(64), nullable=False),
    Column("type", String(128), nullable=False),
    Column("queue", String(128), nullable=False),
    Column("owner", String(128), nullable=False),
    Column("status", String(16), nullable=False),
    Column("want", String(8), nullable=False),
    Column("hold", String(256)),
    Column("affinity", String(128)),
    Column("priority", Integer, nullable=False),
    Column("rank", Float, nullable=False),
    Column("run_at", Float),
    Column("since", Float, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("retries", Integer, nullable=False),
    Column("max_retry", Integer, nullable=False),
    Column("crashes", Integer, nullable=False),
    Column("cleanup", Integer, nullable=False),
    Column("node", String(64)),
    Column("lease_token", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("unique_key", String(512)),
    Column("join_key", String(128)),
    Column("correlation_id", String(256)),
    Column("parent_id", Integer),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("delivered_at", Float),
    Column("expires_at", Float),
    Column("executed_seconds", Float, nullable=False),
    sqlite_autoincrement=True,
)

task_data = Table(
    "task_data",
    metadata,
    Column("task_id", Integer, ForeignKey("task.id"), primary_key=True, autoincrement=False),
    Column("params", Text, nullable=False),
    Column("state", Text),
    Column("progress", Text),
    Column("result", Text),
    Column("error", Text),
    Column("labels", Text),
    Column("options", Text),
    Column("intent", Text),
    Column("depends_on", Text),
)

task_event = Table(
    "task_event",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("namespace", String(64), nullable=False),
    Column("task_id", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("source", String(16)),
    Column("target", String(16)),
    Column("node", String(64)),
    Column("message", Text),
    Column("error", Text),
    Column("attempt", Integer, nullable=False),
    Column("started_at", Float),
    sqlite_autoincrement=True,
)

task_dependency = Table(
    "task_dependency",
    metadata,
    Column("task_id", Integer, primary_key=True, autoincrement=False),
    Column("depends_on_id", Integer, primary_key=True, autoincrement=False),
)

task_label = Table(
    "task_label",
    metadata,
    Column("task_id", Integer, primary_key=True, autoincrement=False),
    Column("key", String(128), primary_key=True),
    Column("value", String(512), primary_key=True),
)

queue = Table(
    "queue",
    metadata,
    Column("namespace", String(64), primary_key=True),
    Column("name", String(128), primary_key=True),
)

queue_setting = Table(
    "queue_setting",
    metadata,
    Column("namespace", String(64), primary_key=True),
    Column("name", String(128), primary_key=True),
    # What was set at run time, and what the file said of the same keys then: JSON objects.
    Column("settings", Text, nullable=False),
    Column("filed", Text, nullable=False),
    Column("paused", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
)

# Kept by the writer in the transaction of each change, so that figures do not depend on how many rows there are.
counter = Table(
    "counter",
    metadata,
    Column("namespace", String(64), primary_key=True),
    Column("queue", String(128), primary_key=True),
    Column("status", String(16), primary_key=True),
    Column("count", Integer, nullable=False),
    sqlite_with_rowid=False,
)

# Finished tasks by the time in which they ended; ``bucket`` is a step of the logarithm of their seconds. ``span`` is
# the hours that a row stands for: 1, 24, or 0 for all there ever were; ``hour`` is the first of them.
task_hour = Table(
    "task_hour",
    metadata,
    Column("namespace", String(64), primary_key=True),
    Column("span", Integer, primary_key=True, autoincrement=False),
    Column("hour", Integer, primary_key=True, autoincrement=False),
    Column("queue", String(128), primary_key=True),
    Column("type", String(128), primary_key=True),
    Column("outcome", String(16), primary_key=True),
    Column("bucket", Integer, primary_key=True, autoincrement=False),
    Column("count", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    sqlite_with_rowid=False,
)

schedule = Table(
    "schedule",
    metadata,
    Column("namespace", String(64), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("type", String(128), nullable=False),
    Column("owner", String(128), nullable=False),
    Column("definition", Text, nullable=False),
    Column("active", Integer, nullable=False),
    Column("previous_run", Float),
    Column("next_run", Float),
    Column("last_task_id", Integer),
    Column("last_status", String(16)),
    Column("runs", Integer, nullable=False),
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("canceled", Integer, nullable=False),
    Column("skipped", Integer, nullable=False),
    Column("refused", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
)

schedule_run = Table(
    "schedule_run",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("namespace", String(64), nullable=False),
    Column("schedule", String(128), nullable=False),
    Column("due_at", Float, nullable=False),
    Column("at", Float, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("task_id", Integer),
    Column("status", String(16), nullable=False),
    Column("message", Text),
    Column("finished_at", Float),
    sqlite_autoincrement=True,
)

# What somebody is to be told: written in the transaction of the change, gone when it has arrived. It names the task
# and does not refer to it: a task may be removed before.
outbox = Table(
    "outbox",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("namespace", String(64), nullable=False),
    Column("key", String(64), nullable=False, unique=True),
    Column("task_id", Integer, nullable=False),
    Column("event", String(16), nullable=False),
    Column("at", Float, nullable=False),
    Column("target", Text, nullable=False),
    Column("lane", String(512), nullable=False),
    Column("body", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", Float, nullable=False),
    Column("last_error", Text),
    sqlite_autoincrement=True,
)


def _partial(name: str, *columns: Column[object] | object, where: str, unique: bool = False) -> Index:
    condition = text(where)
    return Index(name, *columns, unique=unique, sqlite_where=condition)  # type: ignore[arg-type]


_partial("ix_task_ready", task.c.namespace, task.c.queue, task.c.rank.desc(), task.c.id, where=READY)
_partial("ix_task_timed", task.c.namespace, task.c.run_at, task.c.id, where=TIMED)
_partial("ix_task_hold", task.c.namespace, task.c.hold, task.c.rank.desc(), task.c.id, where="hold IS NOT NULL")
_partial("ix_task_processing", task.c.namespace, task.c.id, where="status = 'processing'")
# What was woken, or put back by a stop or a crash: few, to be found at start among a million that have not begun.
_partial("ix_task_begun", task.c.namespace, task.c.id, where=BEGUN)
_partial("ix_task_cleanup", task.c.namespace, task.c.id, where="cleanup > 0")
_partial("ix_task_unfinished", task.c.namespace, task.c.queue, task.c.status, task.c.id, where=UNFINISHED)
_partial("ix_task_finished", task.c.namespace, task.c.finished_at, task.c.id, where=FINISHED)
_partial("ix_task_failed", task.c.namespace, task.c.id, where=FAILED)
_partial(
    "uq_task_unique_key",
    task.c.namespace,
    task.c.owner,
    task.c.unique_key,
    where="unique_key IS NOT NULL",
    unique=True,
)
_partial("ix_task_join_key", task.c.namespace, task.c.join_key, where=f"join_key IS NOT NULL AND {UNFINISHED}")
_partial("ix_task_correlation", task.c.namespace, task.c.correlation_id, where="correlation_id IS NOT NULL")
# Most people may see their own tasks only; a program that knows no owners pays nothing for it.
_partial("ix_task_owner", task.c.namespace, task.c.owner, task.c.id, where=OWNED)
_partial("ix_task_parent", task.c.namespace, task.c.parent_id, where="parent_id IS NOT NULL")
_partial(
    "ix_schedule_due",
    schedule.c.namespace,
    schedule.c.next_run,
    schedule.c.name,
    where="active = 1 AND next_run IS NOT NULL",
)
_partial(
    "ix_schedule_run_open",
    schedule_run.c.namespace,
    schedule_run.c.schedule,
    schedule_run.c.task_id,
    where="finished_at IS NULL",
)
Index("ix_schedule_run_of", schedule_run.c.namespace, schedule_run.c.schedule, schedule_run.c.id)
Index("ix_outbox_due", outbox.c.namespace, outbox.c.due_at, outbox.c.id)
Index("ix_outbox_task", outbox.c.task_id, outbox.c.id)
Index("ix_task_event_task", task_event.c.task_id, task_event.c.sequence)
Index("ix_task_dependency_on", task_dependency.c.depends_on_id, task_dependency.c.task_id)
Index("ix_task_label", task_label.c.key, task_label.c.value, task_label.c.task_id)
