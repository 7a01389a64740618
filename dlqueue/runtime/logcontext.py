"""Which task a log record is about: set around the work, read by the log."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import NamedTuple


class TaskMark(NamedTuple):
    """What a record tells about its task."""

    task_id: int | None = None
    correlation_id: str | None = None


_NONE = TaskMark()
_mark: ContextVar[TaskMark] = ContextVar("dlqueue_task", default=_NONE)


class task_context:
    """Records logged inside are about this task, also in coroutines started inside. A thread sees it only if the
    context is copied into it (`contextvars.copy_context`, `anyio.to_thread`)."""

    __slots__ = ("_former", "_new")

    def __init__(self, task_id: int, correlation_id: str | None = None) -> None:
        self._new = TaskMark(task_id, correlation_id)

    def __enter__(self) -> None:
        self._former = _mark.set(self._new)

    def __exit__(self, *raised: object) -> None:
        _mark.reset(self._former)


class TaskFilter(logging.Filter):
    """Writes ``task_id`` and ``correlation_id`` onto every record. A caller's own ``extra`` wins, then the task that a
    message begins with (``"task %d: …"``): who writes it may be looking after many."""

    def filter(self, record: logging.LogRecord) -> bool:
        mark = _mark.get()
        if not hasattr(record, "task_id"):
            record.task_id = _named(record) or mark.task_id
        if not hasattr(record, "correlation_id"):
            same = getattr(record, "task_id", None) == mark.task_id
            record.correlation_id = mark.correlation_id if same else None
        return True


def _named(record: logging.LogRecord) -> int | None:
    """The task that the message begins with."""
    if isinstance(record.args, tuple) and record.args and str(record.msg).startswith("task %d"):
        return record.args[0] if isinstance(record.args[0], int) else None
    return None
