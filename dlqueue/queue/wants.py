"""What a person may want of a task, as pure functions like those of `transitions`: a record in, a `Change` or None out.

A step that runs is told (``want``) and ends by itself; whatever does not run changes at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from dlqueue.queue.errors import Conflict
from dlqueue.queue.record import Change, Json, TaskRecord
from dlqueue.queue.status import WAITING, Status, Want
from dlqueue.queue.transitions import amend, move, paused, unheld


def cancel(record: TaskRecord, now: float, needs_cleanup: bool, intent: dict[str, Json] | None = None) -> Change | None:
    """None if it is canceled already. A running step is told first: ``want`` says so until it has ended.

    :raises Conflict: it has completed or failed.
    """
    if record.status is Status.CANCELED:
        if not (intent and needs_cleanup and record.cleanup < 2):
            return None
        # Canceled once more, and now its data shall go too.
        return amend(record, now, "want", "cancel", cleanup=1, intent=intent)
    if record.final:
        raise Conflict(f"task {record.id} {_ended(record)}: there is nothing to cancel", record.id)
    if record.status is Status.PROCESSING:
        return amend(record, now, "want", "cancel", want=Want.CANCEL, intent=intent)
    cleanup = int(needs_cleanup and record.touched)
    return move(record, Status.CANCELED, now, "canceled", cleanup=cleanup, intent=intent)


def _ended(record: TaskRecord) -> str:
    words = {Status.COMPLETED: "is completed", Status.ERROR: "has failed", Status.CANCELED: "is canceled"}
    return words[record.status]


def fence(record: TaskRecord, token: int, now: float) -> Change | None:
    """The step that was told to stop did not: the task is canceled all the same, and the step's answer refused."""
    if record.status is not Status.PROCESSING or record.lease_token != token or record.want is not Want.CANCEL:
        return None
    message = "its step did not stop in time and was cut off"
    return move(record, Status.CANCELED, now, "canceled", message, lease_token=token + 1, cleanup=1)


def pause(record: TaskRecord, now: float, runs_step: bool) -> Change | None:
    """None if it is paused already.

    :param runs_step: its class wants a step to prepare the pause (to tell a downloader, say).
    :raises Conflict: it is final.
    """
    if record.status is Status.PAUSED or record.want is Want.PAUSE:
        return None
    if record.final:
        raise Conflict(f"task {record.id} {_ended(record)}: there is nothing to pause", record.id)
    if record.want is Want.CANCEL:
        raise Conflict(f"task {record.id} is being canceled", record.id)
    if record.status is Status.PROCESSING:
        return amend(record, now, "want", "pause", want=Want.PAUSE)
    if runs_step and record.started_at is not None and record.status in WAITING:
        expires = unheld(record, now)
        return amend(record, now, "want", "pause", want=Want.PAUSE, hold=None, run_at=None, expires_at=expires)
    return paused(record, now)


def resume(record: TaskRecord, now: float) -> Change | None:
    """None if it is not paused (and no pause is on its way).

    :raises Conflict: it is final or being canceled.
    """
    if record.want is Want.PAUSE:
        return amend(record, now, "want", "run", want=Want.RUN)
    if record.want is Want.CANCEL or record.final:
        how = _ended(record) if record.final else "is being canceled"
        raise Conflict(f"task {record.id} {how}: there is nothing to resume", record.id)
    if record.status is not Status.PAUSED:
        return None
    expires = None if record.expires_at is None else record.expires_at + now - record.since
    target = Status.BLOCKED if record.depends_on else Status.QUEUED
    return move(record, target, now, "resumed", expires_at=expires)


def reword(record: TaskRecord, now: float, reworded: Callable[[Json], Json], message: str) -> Change | None:
    """Other params, as its class allows; None if they are the same. A wait between two steps is over. A running step
    goes on with those it began with; if it fails for good or suspends, another one begins with these at once.

    :raises Conflict: it has completed.
    """
    if record.status is Status.COMPLETED:
        raise Conflict(f"task {record.id} is completed and cannot be changed", record.id)
    # As the store will give it back.
    params = msgspec.json.decode(msgspec.json.encode(reworded(record.params)))
    if params == record.params:
        return None
    patch: dict[str, Any] = {"params": params}
    if record.status is Status.SUSPENDING:
        patch |= {"hold": None, "run_at": None, "expires_at": unheld(record, now)}
    return amend(record, now, "edited", message, **patch)


def retry(record: TaskRecord, now: float) -> Change | None:
    """A failed or canceled task begins again, with the private state it had.

    :raises Conflict: it has not failed, or its clean-up is still due and the row is to go.
    """
    if record.status not in (Status.ERROR, Status.CANCELED) or record.cleanup > 1:
        raise Conflict(f"task {record.id} is {record.status}: only a failed or canceled task can be retried", record.id)
    return move(
        record,
        Status.QUEUED,
        now,
        "retried",
        "by a person",
        want=Want.RUN,
        attempt=0,
        crashes=0,
        cleanup=0,
        retries=record.retries + 1,
        lease_token=record.lease_token + 1,
        started_at=None,
        finished_at=None,
        delivered_at=None,
        expires_at=None,
        result=None,
        error=None,
        intent=None,
    )


def update(
    record: TaskRecord,
    now: float,
    *,
    priority: int | None = None,
    rank: float | None = None,
    labels: dict[str, list[str]] | None = None,
    run_at: float | None = None,
    if_revision: int | None = None,
) -> Change | None:
    """Another priority (with the ``rank`` that goes with it), other labels (in place of all), another time to begin.
    None if all of it is so already. The status stays, and so does what a running step will write.

    :raises Conflict: it has another revision than ``if_revision``; or it is in a state where what is given means
        nothing.
    """
    if if_revision is not None and record.revision != if_revision:
        message = f"task {record.id} has changed: it has revision {record.revision}, not {if_revision}"
        raise Conflict(message, record.id)
    patch: dict[str, Any] = {}
    said: list[str] = []
    if priority is not None and priority != record.priority:
        patch |= {"priority": priority, "rank": record.rank if rank is None else rank}
        said.append(f"priority {record.priority} → {priority}")
    if run_at is not None:
        wanted = _begin(record, run_at, now)
        if wanted != record.run_at:
            patch["run_at"] = wanted
            said.append("another time to begin")
    if record.final and (priority is not None or run_at is not None):
        raise Conflict(f"task {record.id} is {record.status}: only its labels (tags) can still be changed", record.id)
    if labels is not None and labels != record.labels:
        patch["labels"] = labels
        said.append("other labels")
    if not patch:
        return None
    return amend(record, now, "updated", ", ".join(said), **patch)


def _begin(record: TaskRecord, run_at: float, now: float) -> float | None:
    """`run_at` as it is stored: None = at once."""
    if record.status is Status.PROCESSING:
        raise Conflict(f"task {record.id} has begun: it is in the middle of a step", record.id)
    if record.hold is not None:
        raise Conflict(f"task {record.id} does not wait for a time: it waits for {record.hold}", record.id)
    if record.expires_at is not None:
        run_at = min(run_at, record.expires_at)
    return run_at if run_at > now else None


def remove(record: TaskRecord, now: float, needs_cleanup: bool, intent: dict[str, Json] | None = None) -> Change | None:
    """The row of a final task goes; at once, or when its clean-up has run.

    :raises Conflict: it is not final.
    """
    if not record.final:
        raise Conflict(f"task {record.id} is {record.status}: cancel it before it is removed", record.id)
    if record.cleanup or needs_cleanup:
        change = amend(record, now, "removed", cleanup=2, intent=intent or record.intent, unique_key=None)
    else:
        change = amend(record, now, "removed")
        change.delete = True
    return change


def purge(record: TaskRecord, now: float, before: float, needs_cleanup: bool) -> Change | None:
    """`remove` for what is old; None if it is not, or if something is still to be done for it."""
    if not record.final or record.cleanup or record.finished_at is None or record.finished_at >= before:
        return None
    return remove(record, now, needs_cleanup and record.touched and record.status is not Status.COMPLETED)
