"""Queues that are set at run time, schedules, and figures that do not depend on how many rows there are."""

import math

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "queue_setting",
        sa.Column("namespace", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("settings", sa.Text, nullable=False),
        sa.Column("filed", sa.Text, nullable=False),
        sa.Column("paused", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
    )
    op.create_table(
        "counter",
        sa.Column("namespace", sa.String(64), primary_key=True),
        sa.Column("queue", sa.String(128), primary_key=True),
        sa.Column("status", sa.String(16), primary_key=True),
        sa.Column("count", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "task_hour",
        sa.Column("namespace", sa.String(64), primary_key=True),
        sa.Column("span", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("hour", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("queue", sa.String(128), primary_key=True),
        sa.Column("type", sa.String(128), primary_key=True),
        sa.Column("outcome", sa.String(16), primary_key=True),
        sa.Column("bucket", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "schedule",
        sa.Column("namespace", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("type", sa.String(128), nullable=False),
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("definition", sa.Text, nullable=False),
        sa.Column("active", sa.Integer, nullable=False),
        sa.Column("previous_run", sa.Float),
        sa.Column("next_run", sa.Float),
        sa.Column("last_task_id", sa.Integer),
        sa.Column("last_status", sa.String(16)),
        sa.Column("runs", sa.Integer, nullable=False),
        sa.Column("completed", sa.Integer, nullable=False),
        sa.Column("failed", sa.Integer, nullable=False),
        sa.Column("canceled", sa.Integer, nullable=False),
        sa.Column("skipped", sa.Integer, nullable=False),
        sa.Column("refused", sa.Integer, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
    )
    op.create_table(
        "schedule_run",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("namespace", sa.String(64), nullable=False),
        sa.Column("schedule", sa.String(128), nullable=False),
        sa.Column("due_at", sa.Float, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("task_id", sa.Integer),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("message", sa.Text),
        sa.Column("finished_at", sa.Float),
        sqlite_autoincrement=True,
    )
    due, run = sa.text("active = 1 AND next_run IS NOT NULL"), sa.text("finished_at IS NULL")
    op.create_index("ix_schedule_due", "schedule", ["namespace", "next_run", "name"], sqlite_where=due)
    op.create_index("ix_schedule_run_of", "schedule_run", ["namespace", "schedule", "id"])
    begun = sa.text(
        "status NOT IN ('blocked', 'processing', 'paused', 'completed', 'error', 'canceled') "
        "AND hold IS NULL AND run_at IS NULL AND lease_token > 0"
    )
    op.create_index("ix_task_begun", "task", ["namespace", "id"], sqlite_where=begun)
    op.create_index("ix_task_owner", "task", ["namespace", "owner", "id"], sqlite_where=sa.text("owner <> ''"))
    op.create_index("ix_schedule_run_open", "schedule_run", ["namespace", "schedule", "task_id"], sqlite_where=run)
    op.execute(
        "INSERT INTO counter (namespace, queue, status, count) "
        "SELECT namespace, queue, status, count(*) FROM task GROUP BY namespace, queue, status"
    )
    op.execute("CREATE TEMPORARY TABLE ended (hour, bucket, namespace, queue, type, outcome, seconds)")
    connection = op.get_bind()
    ended = connection.exec_driver_sql(
        "SELECT finished_at, started_at, coalesce(delivered_at, finished_at), namespace, queue, type, status "
        "FROM task WHERE finished_at IS NOT NULL"
    )
    for part in ended.partitions(1000):
        connection.exec_driver_sql("INSERT INTO ended VALUES (?, ?, ?, ?, ?, ?, ?)", [_ended(*row) for row in part])
    op.execute(
        "INSERT INTO task_hour (namespace, span, hour, queue, type, outcome, bucket, count, seconds) "
        "SELECT namespace, span, hour - CASE span WHEN 0 THEN hour WHEN 24 THEN hour % 24 ELSE 0 END AS first, "
        "queue, type, outcome, bucket, count(*), sum(seconds) "
        "FROM ended, (SELECT 1 AS span UNION ALL SELECT 24 UNION ALL SELECT 0) "
        "GROUP BY namespace, span, first, queue, type, outcome, bucket"
    )
    op.execute("DROP TABLE ended")


def _ended(finished: float, started: float | None, result: float, *kind: str) -> tuple[object, ...]:
    hour = int(finished // 3600)
    if started is None:
        return hour, -1000, *kind, 0.0
    seconds = max(result - started, 0.0)
    return hour, -999 if seconds < 1e-6 else math.floor(math.log(seconds) / math.log(1.1)), *kind, seconds
