"""A general retrying worker pool: durable tasks, suspend and resume, retries, leases. Knows nothing of downloads."""

from dlqueue.queue.errors import (
    Conflict,
    CriticalError,
    IllegalTransition,
    InvalidSetting,
    InvalidTask,
    QueueClosed,
    QueueError,
    QueueFull,
    QueueNotFound,
    QuotaExceeded,
    StorageError,
    TaskNotFound,
    TempFull,
    UnknownType,
    WaitTimeout,
)
from dlqueue.queue.estimate import Estimate
from dlqueue.queue.memory import MemoryStore
from dlqueue.queue.notices import Counters
from dlqueue.queue.outcome import Canceled, Completed, Outcome, ResumeAfter
from dlqueue.queue.queue import Queue
from dlqueue.queue.queues import NamedQueue
from dlqueue.queue.quotas import Quota, Quotas
from dlqueue.queue.record import Filter, Page, Progress, TaskError, TaskRecord
from dlqueue.queue.schedule import Run, Schedule, ScheduleNotFound, ScheduleStats
from dlqueue.queue.schedules import Schedules
from dlqueue.queue.settings import QueueSettings
from dlqueue.queue.statistics import Statistics
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
    "Estimate",
    "Filter",
    "IllegalTransition",
    "InvalidSetting",
    "InvalidTask",
    "LeaseLost",
    "MemoryStore",
    "NamedQueue",
    "Outcome",
    "Page",
    "Progress",
    "Queue",
    "QueueClosed",
    "QueueError",
    "QueueFull",
    "QueueNotFound",
    "QueueSettings",
    "Quota",
    "QuotaExceeded",
    "Quotas",
    "ResumeAfter",
    "Run",
    "Schedule",
    "ScheduleNotFound",
    "ScheduleStats",
    "Schedules",
    "Statistics",
    "Status",
    "StorageError",
    "Store",
    "Submitter",
    "Task",
    "TaskError",
    "TaskNotFound",
    "TaskRecord",
    "TempFull",
    "UnknownType",
    "WaitTimeout",
    "Want",
]
