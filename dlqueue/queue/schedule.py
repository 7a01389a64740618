"""A schedule as the store keeps it, and what a tick makes of it: pure, the same for every store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

from dlqueue.queue import wants
from dlqueue.queue.cron import Timing, timing
from dlqueue.queue.errors import Conflict, QueueError
from dlqueue.queue.record import Decide, Json, NewTask, TaskRecord
from dlqueue.queue.status import FINAL, Status

Missed = Literal["skip", "once", "all"]
Overlap = Literal["allow", "skip", "replace"]

ALL_MISSED = 1000
"""Runs that are made up for at once at most, with ``missed`` = ``all``; the rest is skipped."""
RUNS_KEPT = 500
"""Lines kept in the log of one schedule; the oldest beyond go, but for those whose task is not over."""

RUNNING = "running"
SKIPPED = "skipped"
REFUSED = "refused"
COUNTED: Mapping[str, str] = {
    Status.COMPLETED: "completed",
    Status.ERROR: "failed",
    Status.CANCELED: "canceled",
    SKIPPED: "skipped",
    REFUSED: "refused",
}
"""The status of a run and the field of `Schedule` that counts it."""


class ScheduleNotFound(QueueError):
    """No schedule has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no schedule {name[:100]!r}")
        self.name = name


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """When which task is made. Times are seconds since 1970."""

    name: str
    owner: str = ""
    type: str
    params: Json = None
    """As given: they are checked, and made whole, at every tick."""
    queue: str | None = None
    """None = as the type says."""
    cron: str | None = None
    every: float | None = None
    """Seconds; in place of ``cron``."""
    timezone: str = "UTC"
    missed: Missed = "skip"
    overlap: Overlap = "allow"
    anchor: float = 0.0
    """What intervals are counted from."""
    cwd: str | None = None
    """The folder that its owner stood in, where that is known and believed."""
    active: bool = True
    previous_run: float | None = None
    next_run: float | None = None
    """None while it is paused, or if there is no time left."""
    last_task_id: int | None = None
    last_status: str | None = None
    """Of the newest line of the log."""
    runs: int = 0
    """Tasks it has made."""
    completed: int = 0
    failed: int = 0
    canceled: int = 0
    skipped: int = 0
    refused: int = 0
    revision: int = 1
    """Rises with every edit and every tick; not when one of its tasks ends."""
    created_at: float = 0.0

    @property
    def timing(self) -> Timing:
        """:raises InvalidTask: naming the field that cannot be right."""
        return timing(self.cron, self.every, self.timezone, self.anchor)

    @property
    def running(self) -> int:
        """Tasks of its runs that are not over."""
        return self.runs - self.completed - self.failed - self.canceled


DEFINITION = ("params", "queue", "cron", "every", "timezone", "missed", "overlap", "anchor", "cwd")
"""What a person says of a schedule; the rest is what becomes of it."""

TICKED = (
    "previous_run", "last_task_id", "last_status", "runs", "completed", "failed", "canceled", "skipped", "refused",
)  # fmt: skip
"""What no edit changes."""

RunKind = Literal["tick", "missed", "manual"]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A line in the log of a schedule."""

    id: int = 0
    schedule: str
    due_at: float
    at: float
    kind: RunKind
    """``missed``: it was due while nobody was there."""
    task_id: int | None = None
    status: str
    """``running completed error canceled``, as its task; ``skipped`` and ``refused``: there is none, ``message`` says
    why."""
    message: str | None = None
    finished_at: float | None = None

    @property
    def seconds(self) -> float | None:
        """From the tick to the end of the task; None if there is no task or it is not over."""
        return None if self.finished_at is None or self.task_id is None else max(self.finished_at - self.at, 0.0)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A run to be: with the task that it makes, or the reason that it makes none."""

    due_at: float
    kind: RunKind
    task: NewTask | None = None
    status: str = RUNNING
    message: str | None = None


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """What is to become of one schedule, if it is still as it was seen."""

    name: str
    revision: int | None
    """None: whatever it is by now; ``next_run`` stays then."""
    next_run: float | None = None
    runs: Sequence[Wanted] = ()
    at: float
    needs_cleanup: Callable[[str], bool]
    """Has this type of task something to clean up? For ``overlap`` = ``replace``."""


class Ticked(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it."""

    schedule: Schedule
    runs: Sequence[Run]
    replaced: Sequence[int] = ()
    """Unfinished tasks of earlier runs that have been told to cancel."""


class ScheduleStats(msgspec.Struct, frozen=True):
    """Sums over schedules."""

    active: int = 0
    paused: int = 0
    runs: int = 0
    completed: int = 0
    failed: int = 0
    canceled: int = 0
    skipped: int = 0
    refused: int = 0

    @property
    def running(self) -> int:
        return self.runs - self.completed - self.failed - self.canceled


Edit = Callable[["Schedule | None"], "Schedule | None"]
"""Looks at the schedule of a name inside the store's transaction (None = there is none) and says what becomes of it
(None = it goes). Pure and quick. Raises a `QueueError` to refuse."""


# -- inside a tick ------------------------------------------------------------------------------------------------


def resolve(schedule: Schedule, tick: Tick, unfinished: Sequence[int]) -> Sequence[Wanted]:
    """The runs that come of it, given the tasks of earlier runs that are not over."""
    if schedule.overlap != "skip" or not unfinished:
        return tick.runs
    message = f"task {unfinished[-1]} of an earlier run is not over"
    return [
        msgspec.structs.replace(run, task=None, status=SKIPPED, message=message) if run.task is not None else run
        for run in tick.runs
    ]


def supersede(tick: Tick) -> Decide:
    """What becomes of the tasks that ``overlap`` = ``replace`` replaces."""
    return lambda record: wants.cancel(record, tick.at, tick.needs_cleanup(record.type))


def marked(new: NewTask, run_id: int) -> NewTask:
    """The task, with the line of the log that its end is written to."""
    return msgspec.structs.replace(new, options=msgspec.structs.replace(new.options, schedule_run=run_id))


def run_of(schedule: Schedule, wanted: Wanted, run_id: int, tick: Tick, task: TaskRecord | QueueError | None) -> Run:
    """The line of the log, given what came of the submit."""
    status, message = wanted.status, wanted.message
    if isinstance(task, QueueError):
        status, message = REFUSED, str(task)
    made = task if isinstance(task, TaskRecord) else None
    return Run(
        id=run_id,
        schedule=schedule.name,
        due_at=wanted.due_at,
        at=tick.at,
        kind=wanted.kind,
        task_id=None if made is None else made.id,
        status=status,
        message=message,
        finished_at=tick.at if made is None else None,
    )


def after(schedule: Schedule, tick: Tick, runs: Sequence[Run]) -> Schedule:
    """The schedule when these lines have been written."""
    made = [run for run in runs if run.task_id is not None]
    return msgspec.structs.replace(
        schedule,
        next_run=schedule.next_run if tick.revision is None else tick.next_run,
        previous_run=made[-1].due_at if made else schedule.previous_run,
        last_task_id=made[-1].task_id if made else schedule.last_task_id,
        last_status=runs[-1].status if runs else schedule.last_status,
        runs=schedule.runs + len(made),
        skipped=schedule.skipped + sum(run.status == SKIPPED for run in runs),
        refused=schedule.refused + sum(run.status == REFUSED for run in runs),
        revision=schedule.revision + 1,
    )


# -- planning -----------------------------------------------------------------------------------------------------


def occurrences(
    schedule: Schedule, now: float, was_there: bool
) -> tuple[list[tuple[float, RunKind]], str, float | None]:
    """What is due of it: the runs to make, why others are not made (``""`` = none was left out), and when it is due
    next.

    :param was_there: nobody missed it; it is merely a little late.
    """
    due, timing = schedule.next_run, schedule.timing
    assert due is not None
    if was_there:
        return [(due, "tick")], "", timing.next(due)
    following = timing.next(now)
    if schedule.missed == "skip":
        return [], "it was due while the daemon was not there", following
    if schedule.missed == "once" or schedule.overlap != "allow":
        return [(due, "missed")], "", following
    runs: list[tuple[float, RunKind]] = []
    when: float | None = due
    while when is not None and when <= now:
        if len(runs) == ALL_MISSED:
            return runs, f"more than {ALL_MISSED} runs were missed", following
        runs.append((when, "missed"))
        when = timing.next(when)
    return runs, "", when


def outcome_of(record: TaskRecord, source: Status | None) -> tuple[str, float | None] | None:
    """The status and the end of a run whose task has just changed; None = its line stays as it is."""
    ended, was_over = record.status in FINAL, source in FINAL
    if source is None or ended == was_over:
        return None
    return (record.status.value, record.finished_at) if ended else (RUNNING, None)


def taken(name: str) -> Conflict:
    """What a name that is taken is refused with."""
    return Conflict(f"the schedule name {name!r} is taken")
