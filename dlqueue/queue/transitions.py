"""What may become of a task, as pure functions: a record in, a `Change` (or None) out.

Stores call these inside their transactions, so every store obeys the same rules. Each function that makes a change
checks the edge and raises the revision by one; nothing else in the house does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from dlqueue.queue.errors import Conflict
from dlqueue.queue.record import Change, Json, Progress, TaskError, TaskRecord
from dlqueue.queue.status import FINAL, WAITING, Status, Want, check_edge

CRASH_LIMIT = 10
"""Claims in a row that ended without an outcome or a checkpoint, after which a task is given up."""


class Settlement(msgspec.Struct, kw_only=True, gc=False):
    """How a step ended, in the store's terms. Written only if the lease is still ours."""

    target: Status
    state: bytes | UnsetType | None = UNSET
    progress: Progress | UnsetType | None = UNSET
    result: Json | UnsetType = UNSET
    error: TaskError | UnsetType | None = UNSET
    run_at: float | None = None
    hold: str | None = None
    kind: str = ""
    message: str | None = None
    attempt: int | None = None
    """The new count against the retry budget; None leaves it."""
    retried: bool = False
    executed: float = 0.0
    started_at: float | None = None
    cleanup: bool = False
    """Must the class's clean-up run if this ends in error or canceled?"""
    crashed: bool = False
    unprepared: bool = False
    """Does its class want a step to prepare a pause, and this was not one?"""


@cache
def _moved(*patch: str) -> frozenset[str]:
    return frozenset({"status", "since", *patch})


def move(record: TaskRecord, target: Status, now: float, kind: str, message: str | None = None, **patch: Any) -> Change:
    """Along one edge of the table; ``patch`` are the other columns that change with it."""
    check_edge(record.id, record.status, target)
    if target in FINAL:
        patch = {"want": Want.RUN, "hold": None, "run_at": None, "node": None, "finished_at": now, **patch}
    new = msgspec.structs.replace(record, status=target, since=now, revision=record.revision + 1, **patch)
    return Change(
        record=new,
        changed=_moved(*patch),
        source=record.status,
        kind=kind,
        at=now,
        message=message,
        error=patch.get("error"),
        node=new.node or record.node,
        started_at=record.since if record.status is Status.PROCESSING else None,
    )


def amend(record: TaskRecord, now: float, kind: str = "", message: str | None = None, **patch: Any) -> Change:
    """A change that leaves the status as it is."""
    new = msgspec.structs.replace(record, revision=record.revision + 1, **patch)
    return Change(
        record=new,
        changed=frozenset(patch),
        source=record.status,
        kind=kind,
        at=now,
        message=message,
        node=record.node,
    )


# -- the life of a step ----------------------------------------------------------------------------------------------


def claim(record: TaskRecord, node: str, now: float, runs_step: bool = False) -> Change | None:
    """A worker takes the task. None if it is not waiting any more, or not yet due.

    :param runs_step: its class wants a step to prepare a pause; others are paused here, if a stop or crash came
        between the wish and the end of the step.
    """
    if record.status not in WAITING or record.want is Want.CANCEL or record.cleanup:
        return None
    if record.run_at is not None and record.run_at > now:
        return None
    if record.hold is not None and record.run_at is None:
        return None
    if record.want is Want.PAUSE and not runs_step:
        return _paused(record, now)
    started, expires = record.started_at, _unheld(record, now)
    if started is None:
        started = now
        limit = record.options.max_execution
        expires = None if limit is None else now + limit
    if expires is not None and now >= expires:
        return _overrun(record, now)
    return move(
        record,
        Status.PROCESSING,
        now,
        "claimed",
        node=node,
        lease_token=record.lease_token + 1,
        hold=None,
        run_at=None,
        started_at=started,
        expires_at=expires,
    )


def _unheld(record: TaskRecord, now: float) -> float | None:
    """`expires_at`, moved on by the time that it has been held."""
    if record.expires_at is None or record.hold is None:
        return record.expires_at
    return record.expires_at + now - record.since


def _paused(record: TaskRecord, now: float) -> Change:
    # What was asked for at submit (not before …) still holds after the pause; a wait between two steps does not.
    run_at = record.run_at if record.status is not Status.SUSPENDING else None
    expires = _unheld(record, now)
    return move(record, Status.PAUSED, now, "paused", want=Want.RUN, hold=None, run_at=run_at, expires_at=expires)


def _overrun(record: TaskRecord, now: float) -> Change:
    error = TaskError("max_execution", f"not done within max_execution ({record.options.max_execution:g} s)", now)
    cleanup = 1 if record.started_at is not None else 0
    return move(record, Status.ERROR, now, "error", error.message, error=error, cleanup=cleanup)


def settle(record: TaskRecord, token: int, end: Settlement, now: float) -> Change | None:
    """A step ended. None if the lease is no longer ours: what a stale worker brings is dropped."""
    if record.status is not Status.PROCESSING or record.lease_token != token:
        return None
    target, kind = end.target, end.kind
    patch: dict[str, Any] = {
        "node": None,
        "executed_seconds": record.executed_seconds + end.executed,
        "run_at": end.run_at,
        "hold": end.hold,
    }
    if not end.crashed:
        patch["crashes"] = 0
    if end.attempt is not None:
        patch["attempt"] = end.attempt
    if end.retried:
        patch["retries"] = record.retries + 1
    for name in ("state", "progress", "error"):
        value = getattr(end, name)
        if value is not UNSET:
            patch[name] = value
    if record.want is Want.CANCEL and target is not Status.COMPLETED:
        target, kind = Status.CANCELED, "canceled"
    elif record.want is Want.PAUSE and target in WAITING and end.unprepared:
        # The wish came in the middle of this step: one more, at once, to prepare the pause.
        patch |= {"hold": None, "run_at": None}
    elif record.want is Want.PAUSE and target in WAITING:
        # What the pause was for has been done; the task itself wants to run when it is resumed.
        target, kind = Status.PAUSED, "paused"
        patch |= {"want": Want.RUN, "hold": None, "run_at": None}
    if target is Status.SUSPENDING and end.hold is None and record.expires_at is not None and end.run_at is not None:
        patch["run_at"] = min(end.run_at, record.expires_at)
    if target is Status.COMPLETED:
        if record.delivered_at is None:
            patch["delivered_at"] = now
        patch["error"] = None
        if end.result is not UNSET:
            patch["result"] = end.result
    if target in (Status.ERROR, Status.CANCELED):
        patch["cleanup"] = max(record.cleanup, int(end.cleanup))
    change = move(record, target, now, kind, end.message, **patch)
    if end.started_at is not None:
        change.started_at = end.started_at
    change.error = None if end.error is UNSET else end.error
    return change


def save(
    record: TaskRecord,
    token: int,
    now: float,
    state: bytes | UnsetType | None = UNSET,
    progress: Progress | UnsetType | None = UNSET,
    result: Json | UnsetType = UNSET,
    checkpoint: bool = True,
) -> Change | None:
    """In the middle of a step: a checkpoint, an early result, or merely progress. None if the lease is not ours."""
    if record.status is not Status.PROCESSING or record.lease_token != token:
        return None
    patch: dict[str, Any] = {}
    if state is not UNSET:
        patch["state"] = state
    if progress is not UNSET:
        patch["progress"] = progress
    if result is not UNSET:
        patch["result"] = result
        if record.delivered_at is None:
            patch["delivered_at"] = now
    if checkpoint:
        patch["crashes"] = 0
    return amend(record, now, "" if result is UNSET else "delivered", **patch)


def release(record: TaskRecord, token: int, now: float, executed: float = 0.0) -> Change | None:
    """The daemon stops in the middle of a step: it has not failed and will run again."""
    if record.status is not Status.PROCESSING or record.lease_token != token:
        return None
    if record.want is Want.CANCEL:
        return move(record, Status.CANCELED, now, "canceled", cleanup=1)
    return move(
        record,
        Status.QUEUED,
        now,
        "released",
        "the daemon stopped",
        node=None,
        executed_seconds=record.executed_seconds + executed,
        lease_token=record.lease_token + 1,
    )


def rescue(record: TaskRecord, now: float) -> Change | None:
    """Its worker died. Spends no retry, but has a limit of its own, so that a poison task comes to an end."""
    if record.status is not Status.PROCESSING:
        return None
    crashes, token = record.crashes + 1, record.lease_token + 1
    if record.want is Want.CANCEL:
        return move(record, Status.CANCELED, now, "canceled", crashes=crashes, lease_token=token, cleanup=1)
    if crashes >= CRASH_LIMIT:
        error = TaskError("crash", f"its worker died {crashes} times in a row in the middle of a step", now)
        return move(
            record,
            Status.ERROR,
            now,
            "error",
            error.message,
            error=error,
            crashes=crashes,
            lease_token=token,
            cleanup=1,
        )
    message = "its worker died"
    return move(record, Status.QUEUED, now, "rescued", message, node=None, crashes=crashes, lease_token=token)


def hold(record: TaskRecord, hold: str, message: str, now: float) -> Change:
    """It could run, but not yet: until it is woken."""
    return amend(record, now, "held", message, hold=hold, run_at=None, since=now)


def wake(record: TaskRecord, now: float) -> Change | None:
    """What it waited for has come."""
    if record.status not in WAITING or record.hold is None:
        return None
    return amend(record, now, hold=None, run_at=None, expires_at=_unheld(record, now))


# -- intents: what a person wants ------------------------------------------------------------------------------------


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
        expires = _unheld(record, now)
        return amend(record, now, "want", "pause", want=Want.PAUSE, hold=None, run_at=None, expires_at=expires)
    return _paused(record, now)


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


def remark(record: TaskRecord, now: float, kind: str, message: str) -> Change:
    """A line in its history; nothing else of it changes."""
    return amend(record, now, kind, message)


def reword(record: TaskRecord, now: float, reworded: Callable[[Json], Json], message: str) -> Change | None:
    """Other params, as its class allows; None if they are the same. A running step goes on with those it began with.

    :raises Conflict: it has completed.
    """
    if record.status is Status.COMPLETED:
        raise Conflict(f"task {record.id} is completed and cannot be changed", record.id)
    # As the store will give it back.
    params = msgspec.json.decode(msgspec.json.encode(reworded(record.params)))
    if params == record.params:
        return None
    return amend(record, now, "edited", message, params=params)


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


# -- clean-up of a final task ----------------------------------------------------------------------------------------


def begin_cleanup(record: TaskRecord, node: str, now: float) -> Change | None:
    """Take a final task's clean-up; None if there is none to do."""
    if not record.final or not record.cleanup:
        return None
    return amend(record, now, lease_token=record.lease_token + 1, node=node)


def end_cleanup(record: TaskRecord, begun: TaskRecord, state: bytes | None, now: float, done: bool) -> Change | None:
    """It has run (or got so far). None if somebody else has taken it, or the task lives again.

    :param begun: the task as it was when this clean-up began; a removal that was asked for since then wants another
        round, with its own intent.
    """
    if not record.final or record.lease_token != begun.lease_token:
        return None
    done = done and record.cleanup == begun.cleanup
    if done and record.cleanup == 2:
        change = amend(record, now, "removed", state=state)
        change.delete = True
        return change
    return amend(record, now, state=state, cleanup=0 if done else record.cleanup, node=None)


# -- dependencies ----------------------------------------------------------------------------------------------------


def resolve(record: TaskRecord, dependencies: list[TaskRecord], now: float) -> Change | None:
    """Look again at a blocked task; None if it still waits."""
    if record.status is not Status.BLOCKED:
        return None
    if record.options.on_dependency_failure != "run":
        for dependency in dependencies:
            if dependency.status in (Status.ERROR, Status.CANCELED):
                message = f"task {dependency.id}, which it depends on, ended as {dependency.status}"
                return move(record, Status.CANCELED, now, "canceled", message)
    if all(dependency.delivered for dependency in dependencies):
        return move(record, Status.QUEUED, now, "unblocked", "what it depends on is done")
    return None
