"""The life of a task: statuses, intents, and THE table of edges. Documentation draws it, a test compares the two."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from dlqueue.queue.errors import IllegalTransition


class Status(StrEnum):
    """Where a task is."""

    BLOCKED = "blocked"
    """Waits for tasks that it depends on."""
    QUEUED = "queued"
    """Waits for a worker (from ``run_at`` on, if it has one)."""
    PROCESSING = "processing"
    """A worker is in the middle of one of its steps."""
    SUSPENDING = "suspending"
    """Between two steps: until ``run_at``, or until woken."""
    PAUSED = "paused"
    """A person said so."""
    COMPLETED = "completed"
    ERROR = "error"
    CANCELED = "canceled"


class Want(StrEnum):
    """What a person wants of a task. Written at once, honoured when the running step ends."""

    RUN = "run"
    PAUSE = "pause"
    CANCEL = "cancel"


FINAL = frozenset({Status.COMPLETED, Status.ERROR, Status.CANCELED})
UNFINISHED = frozenset(Status) - FINAL
WAITING = frozenset({Status.QUEUED, Status.SUSPENDING})
"""What a worker may take."""

EDGES: Mapping[Status, Mapping[Status, str]] = {
    Status.BLOCKED: {
        Status.QUEUED: "dependencies met",
        Status.CANCELED: "a dependency failed; a person",
        Status.ERROR: "a dependency failed",
        Status.PAUSED: "a person",
    },
    Status.QUEUED: {
        Status.PROCESSING: "claimed",
        Status.PAUSED: "a person",
        Status.CANCELED: "a person",
        Status.ERROR: "max_execution",
    },
    Status.PROCESSING: {
        Status.COMPLETED: "outcome",
        Status.ERROR: "outcome",
        Status.CANCELED: "outcome; a person",
        Status.SUSPENDING: "ResumeAfter; retry wait",
        Status.PAUSED: "a person, when the step ended",
        Status.QUEUED: "stop of the daemon; rescue after a crash",
    },
    Status.SUSPENDING: {
        Status.PROCESSING: "due; woken",
        Status.PAUSED: "a person",
        Status.CANCELED: "a person",
        Status.ERROR: "max_execution",
    },
    Status.PAUSED: {
        Status.QUEUED: "resume",
        Status.BLOCKED: "resume, dependencies not met yet",
        Status.CANCELED: "a person",
    },
    Status.COMPLETED: {},
    Status.ERROR: {Status.QUEUED: "retry by a person"},
    Status.CANCELED: {Status.QUEUED: "retry by a person"},
}
"""from → to → what causes it. Every change of status in every store is one of these."""


def check_edge(task_id: int, source: Status, target: Status) -> None:
    """:raises IllegalTransition: if the table has no such edge."""
    if target not in EDGES[source]:
        raise IllegalTransition(f"task {task_id} is {source} and cannot become {target}", task_id)
