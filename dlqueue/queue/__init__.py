"""A general retrying worker pool: durable tasks, suspend and resume, retries, leases. Knows nothing of downloads."""

from dlqueue.queue.errors import (
    Conflict,
    CriticalError,
    IllegalTransition,
    InvalidTask,
    QueueClosed,
    QueueError,
    QueueFull,
    StorageError,
    TaskNotFound,
    UnknownType,
    WaitTimeout,
)
from dlqueue.queue.notices import Counters
from dlqueue.queue.outcome import Canceled, Completed, Outcome, ResumeAfter
from dlqueue.queue.queue import Queue
from dlqueue.queue.record import Filter, Page, Progress, TaskError, TaskRecord
from dlqueue.queue.schedule import Run, Schedule, ScheduleNotFound, ScheduleStats
from dlqueue.queue.schedules import Schedules
from dlqueue.queue.settings import QueueSettings
from dlqueue.queue.status import EDGES, Status, Want
from dlqueue.queue.store import Store
from dlqueue.queue.task import Context, LeaseLost, Submitter, Task

__all__ = [
    "EDGES",
    "Canceled",
    "Completed",
    "Conflict",
    "Context",
    "Counters",
    "CriticalError",
    "Filter",
    "IllegalTransition",
    "InvalidTask",
    "LeaseLost",
    "Outcome",
    "Page",
    "Progress",
    "Queue",
    "QueueClosed",
    "QueueError",
    "QueueFull",
    "QueueSettings",
    "ResumeAfter",
    "Run",
    "Schedule",
    "ScheduleNotFound",
    "ScheduleStats",
    "Schedules",
    "Status",
    "StorageError",
    "Store",
    "Submitter",
    "Task",
    "TaskError",
    "TaskNotFound",
    "TaskRecord",
    "UnknownType",
    "WaitTimeout",
    "Want",
]
