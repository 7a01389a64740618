"""All that a store in memory holds, as one value: for stores that keep it somewhere."""

from __future__ import annotations

import msgspec

from dlqueue.queue.figures import HourKey
from dlqueue.queue.outbox import Letter
from dlqueue.queue.record import Event, QueueRow, TaskRecord
from dlqueue.queue.schedule import Run, Schedule
from dlqueue.queue.status import Status


class Snapshot(msgspec.Struct, kw_only=True):
    """Encoded as JSON by msgspec."""

    tasks: list[TaskRecord]
    events: list[Event]
    last_id: int
    sequence: int
    queues: list[str]
    queue_rows: list[QueueRow]
    counters: list[tuple[str, Status, int]]
    hours: list[tuple[HourKey, list[float]]]
    schedules: list[Schedule]
    runs: list[Run]
    last_run: int
    letters: list[Letter] = []
    last_letter: int = 0
