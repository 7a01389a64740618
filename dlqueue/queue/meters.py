"""What a queue counts of itself beside what its store counts: how long steps took, how late they began, what went
wrong. Since this process was started."""

from __future__ import annotations

from dlqueue.queue.record import Change, TaskRecord
from dlqueue.queue.status import FINAL, Status
from dlqueue.runtime.meters import ByName, Histogram, Tally


class Meters:
    """Kept by the parts that see it happen."""

    def __init__(self) -> None:
        self.steps: ByName[Histogram] = ByName(Histogram)
        """Seconds of steps that came to an end, by type."""
        self.lags: ByName[Histogram] = ByName(Histogram)
        """Seconds from when a task could have begun (or its pause was over) to when a worker had it, by queue. Those
        that were woken do not count: nobody remembers when."""
        self.finished = Tally()
        """Tasks that ended, by type and outcome."""
        self.retries: ByName[list[int]] = ByName(lambda: [0])
        """By type."""
        self.crashes = 0
        """Steps whose worker died; those of an earlier run are found at start."""
        self.stale = 0
        """Ends of steps that came too late and were dropped."""
        self.events = 0
        """Written to the store."""

    def claimed(self, record: TaskRecord, now: float) -> None:
        """
        :param record: as it was before.
        """
        if record.run_at is not None:
            self.lags[record.queue].observe(max(now - max(record.run_at, record.since), 0.0))
        elif record.status is Status.QUEUED:
            self.lags[record.queue].observe(max(now - record.since, 0.0))

    def note(self, change: Change) -> None:
        """A change has been committed."""
        kind = change.kind
        if not kind:
            return
        self.events += 1
        if kind == "retry":
            self.retries[change.record.type][0] += 1
        elif kind == "rescued" or (kind == "error" and change.error is not None and change.error.kind == "crash"):
            self.crashes += 1
        status = change.record.status
        if status in FINAL and change.source is not status and not change.delete:
            self.finished.add(change.record.type, status.value)
