"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# Written out, not taken from `dlqueue.queue.sql.tables`: that file follows the newest schema, this one must not.
_WAITING = "status IN ('queued', 'suspending')"
_UNFINISHED = "finished_at IS NULL"


def upgrade() -> None:
    op.create_table(
        "task",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("namespace", sa.String(64), nullable=False),
        sa.Column("type", sa.String(128), nullable=False),
        sa.Column("queue", sa.String(128), nullable=False),
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("want", sa.String(8), nullable=False),
        sa.Column("hold", sa.String(256)),
        sa.Column("affinity", sa.String(128)),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("rank", sa.Float, nullable=False),
        sa.Column("run_at", sa.Float),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("retries", sa.Integer, nullable=False),
        sa.Column("max_retry", sa.Integer, nullable=False),
        sa.Column("crashes", sa.Integer, nullable=False),
        sa.Column("cleanup", sa.Integer, nullable=False),
        sa.Column("node", sa.String(64)),
        sa.Column("lease_token", sa.Integer, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("unique_key", sa.String(512)),
        sa.Column("join_key", sa.String(128)),
        sa.Column("correlation_id", sa.String(256)),
        sa.Column("parent_id", sa.Integer),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("started_at", sa.Float),
        sa.Column("finished_at", sa.Float),
        sa.Column("delivered_at", sa.Float),
        sa.Column("expires_at", sa.Float),
        sa.Column("executed_seconds", sa.Float, nullable=False),
        sa.CheckConstraint(
            "status IN ('blocked', 'queued', 'processing', 'suspending', 'paused', 'completed', 'error', 'canceled')",
            name="ck_task_status",
        ),
        sa.CheckConstraint("want IN ('run', 'pause', 'cancel')", name="ck_task_want"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "task_data",
        sa.Column("task_id", sa.Integer, sa.ForeignKey("task.id"), primary_key=True, autoincrement=False),
        sa.Column("params", sa.Text, nullable=False),
        sa.Column("state", sa.Text),
        sa.Column("progress", sa.Text),
        sa.Column("result", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("labels", sa.Text),
        sa.Column("options", sa.Text),
        sa.Column("intent", sa.Text),
        sa.Column("depends_on", sa.Text),
    )
    op.create_table(
        "task_event",
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("namespace", sa.String(64), nullable=False),
        sa.Column("task_id", sa.Integer, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("source", sa.String(16)),
        sa.Column("target", sa.String(16)),
        sa.Column("node", sa.String(64)),
        sa.Column("message", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("started_at", sa.Float),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "task_dependency",
        sa.Column("task_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("depends_on_id", sa.Integer, primary_key=True, autoincrement=False),
    )
    op.create_table(
        "task_label",
        sa.Column("task_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("key", sa.String(128), primary_key=True),
        sa.Column("value", sa.String(512), primary_key=True),
    )
    op.create_table(
        "queue",
        sa.Column("namespace", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(128), primary_key=True),
    )
    by_rank = sa.text("rank DESC")
    _partial("ix_task_ready", "queue", by_rank, "id", where=f"{_WAITING} AND hold IS NULL AND run_at IS NULL")
    _partial("ix_task_timed", "run_at", "id", where=f"{_WAITING} AND run_at IS NOT NULL")
    _partial("ix_task_hold", "hold", by_rank, "id", where="hold IS NOT NULL")
    _partial("ix_task_processing", "id", where="status = 'processing'")
    _partial("ix_task_cleanup", "id", where="cleanup > 0")
    _partial("ix_task_unfinished", "queue", "status", "id", where=_UNFINISHED)
    _partial("ix_task_finished", "finished_at", "id", where="finished_at IS NOT NULL")
    _partial("ix_task_failed", "id", where="status IN ('error', 'canceled')")
    _partial("uq_task_unique_key", "owner", "unique_key", where="unique_key IS NOT NULL", unique=True)
    _partial("ix_task_join_key", "join_key", where=f"join_key IS NOT NULL AND {_UNFINISHED}")
    _partial("ix_task_correlation", "correlation_id", where="correlation_id IS NOT NULL")
    _partial("ix_task_parent", "parent_id", where="parent_id IS NOT NULL")
    op.create_index("ix_task_event_task", "task_event", ["task_id", "sequence"])
    op.create_index("ix_task_dependency_on", "task_dependency", ["depends_on_id", "task_id"])
    op.create_index("ix_task_label", "task_label", ["key", "value", "task_id"])


def _partial(name: str, *columns: str | sa.TextClause, where: str, unique: bool = False) -> None:
    op.create_index(name, "task", ["namespace", *columns], unique=unique, sqlite_where=sa.text(where))
