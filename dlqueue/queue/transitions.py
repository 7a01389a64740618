"""What may become of a task, as pure functions: a record in, a `Change` (or None) out.

Stores call these inside their transactions, so every store obeys the same rules. Each function that makes a change
checks the edge and raises the revision by one; nothing else in the house does.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

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
    began_with: Json | UnsetType = UNSET
    """The params of a step that ended by itself."""


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
        return paused(record, now)
    started, expires = record.started_at, unheld(record, now)
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


def unheld(record: TaskRecord, now: float) -> float | None:
    """`expires_at`, moved on by the time that it has been held."""
    if record.expires_at is None or record.hold is None:
        return record.expires_at
    return record.expires_at + now - record.since


def paused(record: TaskRecord, now: float) -> Change:
    # What was asked for at submit (not before …) still holds after the pause; a wait between two steps does not.
    run_at = record.run_at if record.status is not Status.SUSPENDING else None
    expires = unheld(record, now)
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
    if target in (Status.ERROR, Status.SUSPENDING) and end.began_with not in (UNSET, record.params):
        # Somebody has changed them meanwhile, perhaps to put right what it failed of: those have not been tried.
        target, kind = Status.SUSPENDING, "retry" if target is Status.ERROR else kind
        patch |= {"hold": None, "run_at": now}
    if record.want is Want.CANCEL and target is not Status.COMPLETED:
        target, kind = Status.CANCELED, "canceled"
    elif record.want is Want.PAUSE and target in WAITING and end.unprepared:
        # The wish came in the middle of this step: one more, at once, to prepare the pause.
        patch |= {"hold": None, "run_at": None}
    elif record.want is Want.PAUSE and target in WAITING:
        # What the pause was for has been done; the task itself wants to run when it is resumed.
        target, kind = Status.PAUSED, "paused"
        patch |= {"want": Want.RUN, "hold": None, "run_at": None}
    if target is Status.SUSPENDING and patch["hold"] is None and None not in (record.expires_at, patch["run_at"]):
        patch["run_at"] = min(patch["run_at"], record.expires_at)
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
    return amend(record, now, hold=None, run_at=None, expires_at=unheld(record, now))


def remark(record: TaskRecord, now: float, kind: str, message: str) -> Change:
    """A line in its history; nothing else of it changes."""
    return amend(record, now, kind, message)


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
