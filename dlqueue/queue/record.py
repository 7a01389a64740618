"""A task as the store keeps it. Times are seconds since 1970 (UTC), durations seconds.

What there are many of is not followed by Python's collector of cycles (``gc=False``): it can be part of none, and with
thousands of them the collector took a tenth of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from dlqueue.queue.errors import QueueError
from dlqueue.queue.estimate import Estimate
from dlqueue.queue.status import FINAL, Status, Want

Json: TypeAlias = Any
"""Anything that JSON can say."""


def storable(text: str) -> str:
    """A name that is not UTF-8 (``os.fsdecode``) has characters that no database takes, nor any JSON."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


class TaskError(msgspec.Struct, frozen=True, gc=False):
    """Why something failed: ``kind`` for programs, ``message`` for people."""

    kind: str
    message: str
    at: float


class Progress(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """How far a task is. ``percent`` 0 to 100; ``step`` has name, done, total; ``counters`` are named numbers."""

    percent: float | None = None
    message: str | None = None
    step: dict[str, Json] | None = None
    counters: dict[str, int | float] | None = None


class Options(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a submit may say about how a task is run; ``None`` = its class or its queue decides."""

    retry_delay: float | None = None
    timeout: float | None = None
    max_execution: float | None = None
    on_dependency_failure: str = "cancel"
    estimate: Estimate | None = None
    standing: float = 0.0
    """Points that its rank has beside priority and ageing; see `dlqueue.queue.rank.standing`."""
    schedule_run: int | None = None
    """The line in the log of the schedule that made it; not for a submit to say."""
    notify: Json = None
    """Who is to be told what becomes of it, in words of whoever addresses the letters of the outbox."""


class NewTask(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is to be stored by a submit."""

    type: str
    params: Json
    queue: str = "default"
    priority: int = 0
    rank: float = 0.0
    owner: str = ""
    labels: dict[str, list[str]] = {}
    correlation_id: str | None = None
    unique_key: str | None = None
    join_key: str | None = None
    """An unfinished task with the same join key is answered instead of a new one."""
    parent_id: int | None = None
    depends_on: tuple[int, ...] = ()
    run_at: float | None = None
    hold: str | None = None
    paused: bool = False
    max_retry: int = 0
    options: Options = Options()


class TaskRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One task, as of its ``revision``."""

    id: int
    type: str
    queue: str
    status: Status
    want: Want = Want.RUN
    hold: str | None = None
    """What is waited for while suspended (``slot:box``); see `Queue.wake`."""
    affinity: str | None = None
    """The node that alone may run it (several nodes; unused with one)."""
    priority: int = 0
    rank: float = 0.0
    owner: str = ""
    run_at: float | None = None
    """Not before this; ``None`` = now, unless there is a hold."""
    since: float = 0.0
    """When the status was entered."""
    attempt: int = 0
    """Failures that count against the present retry budget."""
    retries: int = 0
    """Retries ever."""
    max_retry: int = 0
    crashes: int = 0
    cleanup: int = 0
    """1: its clean-up is still to be run; 2: and then the row goes (a removed task, hidden from every list)."""
    node: str | None = None
    lease_token: int = 0
    revision: int = 1
    unique_key: str | None = None
    join_key: str | None = None
    correlation_id: str | None = None
    parent_id: int | None = None
    created_at: float = 0.0
    started_at: float | None = None
    finished_at: float | None = None
    delivered_at: float | None = None
    """When the result was there: at completion, or earlier by `Context.deliver`."""
    expires_at: float | None = None
    """When ``max_execution`` is over; moves on with time paused, blocked or held."""
    executed_seconds: float = 0.0
    params: Json = None
    state: bytes | None = None
    """The private state, as JSON; `None` before the first save."""
    progress: Progress | None = None
    result: Json = None
    error: TaskError | None = None
    labels: dict[str, list[str]] = {}
    options: Options = Options()
    intent: dict[str, Json] | None = None
    """What came with the last ``want``, such as ``{"delete_data": true}``."""
    depends_on: tuple[int, ...] = ()
    created: bool = True
    """False in the answer to a submit that found this task by its unique key."""

    @property
    def resume_at(self) -> float | None:
        """`run_at`, by the name that it has on the wire."""
        return self.run_at

    @property
    def timeout(self) -> float | None:
        """What its submit said."""
        return self.options.timeout

    @property
    def max_execution(self) -> float | None:
        """What its submit said, or else the queue; None = no limit."""
        return self.options.max_execution

    @property
    def fresh(self) -> bool:
        """Would to take it be a start (a new task, or a retry)? Not so between two of its steps."""
        return self.status is Status.QUEUED or (self.attempt > 0 and self.hold is None and self.run_at is not None)

    @property
    def final(self) -> bool:
        """Is its life over (but for a retry by a person)?"""
        return self.status in FINAL

    @property
    def touched(self) -> bool:
        """Has a step of it ever begun, in this life or one before a retry? Then there may be something to clean up."""
        return self.lease_token > 0

    @property
    def delivered(self) -> bool:
        """Is its result there, or will there never be one?"""
        return self.delivered_at is not None or self.final


class Change(msgspec.Struct, kw_only=True, gc=False):
    """A committed (or to be committed) change of one task, and the event that tells of it."""

    record: TaskRecord
    """The task after the change."""
    source: Status | None
    """Its status before; ``None`` for a new task."""
    kind: str
    """``submitted claimed suspended retry completed error canceled paused resumed woken …``; ``""`` = no event."""
    at: float
    message: str | None = None
    error: TaskError | None = None
    sequence: int = 0
    """Durable event id in commit order; 0 if the change has no event."""
    changed: frozenset[str] = frozenset()
    """Fields of the record that may be others than before; ``revision`` always is."""
    delete: bool = False
    """The row goes altogether."""
    started_at: float | None = None
    """When the step began, where the change ended one."""
    node: str | None = None
    """Where it ran."""
    posted: bool = False
    """It put letters into the outbox."""


Decide = Callable[[TaskRecord], "Change | None"]
"""Looks at a task inside the store's transaction and says what becomes of it; ``None`` = nothing. Pure and quick: the
store may call it again. Raises a `QueueError` to refuse."""


class Submission(msgspec.Struct, frozen=True, gc=False):
    """The answer to one submit: the task, and whether it was made by it."""

    record: TaskRecord
    created: bool

    def told(self) -> TaskRecord:
        """The task, as it is told to who submitted it."""
        return self.record if self.created else msgspec.structs.replace(self.record, created=False)


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One line of a task's history."""

    sequence: int
    task_id: int
    at: float
    kind: str
    source: Status | None = None
    target: Status | None = None
    node: str | None = None
    message: str | None = None
    error: TaskError | None = None
    attempt: int = 0
    started_at: float | None = None


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks; all conditions given must hold."""

    status: tuple[Status, ...] = ()
    type: str | None = None
    queue: str | None = None
    owner: str | None = None
    labels: tuple[tuple[str, str | None], ...] = ()
    """Keys with the value wanted; None = any."""
    text: str | None = None
    """Occurs in the params, the result, the message or the type (case-insensitive)."""
    since: float | None = None
    until: float | None = None
    """Created in ``[since, until)``."""
    correlation_id: str | None = None
    parent_id: int | None = None
    ids: tuple[int, ...] = ()
    """One of these; none = any."""


class Page(msgspec.Struct, frozen=True):
    """One page of a list. ``next_cursor`` asks for the next one; ``total`` only if it was asked for."""

    items: list[TaskRecord]
    next_cursor: str | None = None
    total: int | None = None


class Due(msgspec.Struct, frozen=True, gc=False):
    """What the agenda needs to know of a waiting task."""

    id: int
    queue: str
    type: str
    priority: int
    rank: float
    run_at: float | None
    revision: int = 0
    """Of the task when this was seen: of two entries the newer one counts."""
    fresh: bool = True
    """Would to take it be a start (a new task, or a retry)? Not so between two of its steps."""

    def __lt__(self, other: Due) -> bool:
        # For a heap that holds two entries of one task: any order will do.
        return self.revision < other.revision


def due_of(record: TaskRecord) -> Due:
    """What the agenda needs to know of this task."""
    return Due(
        record.id,
        record.queue,
        record.type,
        record.priority,
        record.rank,
        record.run_at,
        record.revision,
        record.fresh,
    )


class QueueRow(msgspec.Struct, frozen=True):
    """What the store keeps of a queue that was created, changed or paused at run time."""

    name: str
    settings: dict[str, Json] = {}
    """What was set, by the names of `QueueSettings`."""
    filed: dict[str, Json] = {}
    """What the program (its configuration) said of the same then."""
    paused: bool = False
    created_at: float = 0.0


Decision = tuple[int, Decide]
Answer = Change | QueueError | None
"""What came of one decision: a committed change, a refusal, or nothing."""


def new_record(new: NewTask, task_id: int, now: float) -> TaskRecord:
    """The first revision of a task."""
    status = Status.PAUSED if new.paused else Status.BLOCKED if new.depends_on else Status.QUEUED
    return TaskRecord(
        id=task_id,
        status=status,
        since=now,
        created_at=now,
        run_at=new.run_at,
        hold=new.hold if status is Status.QUEUED else None,
        # One by one: on the hot path of a submit, and a loop over the names takes three times as long.
        type=new.type,
        params=new.params,
        queue=new.queue,
        priority=new.priority,
        rank=new.rank,
        owner=new.owner,
        labels=new.labels,
        correlation_id=new.correlation_id,
        unique_key=new.unique_key,
        join_key=new.join_key,
        parent_id=new.parent_id,
        depends_on=new.depends_on,
        max_retry=new.max_retry,
        options=new.options,
    )
