"""`why`: for any task, the exact reason that it is not moving, and when it is looked at next."""

from __future__ import annotations

from typing import Any, cast

from dlqueue.downloads.endpoints import Endpoints
from dlqueue.downloads.recovery import read_state
from dlqueue.downloads.task import RemoteDownload
from dlqueue.downloads.why import reason_for
from dlqueue.protocol import messages
from dlqueue.protocol.times import instant_text
from dlqueue.queue import Queue, Status, TaskNotFound, TaskRecord
from dlqueue.queue.admission import HOLD as RESOURCES
from dlqueue.queue.quotas import HOLD as QUOTA
from dlqueue.units import format_duration, format_size


async def why(queue: Queue, endpoints: Endpoints, record: TaskRecord) -> messages.Why:
    reason, message, blocking = await _reason(queue, endpoints, record)
    waits = record.status in (Status.QUEUED, Status.SUSPENDING)
    next_check = None
    if waits:
        next_check = queue.opens_at(record) if reason == "rate" else record.run_at
    return {
        "id": record.id,
        "status": record.status.value,
        "reason": cast(messages.Reason, reason),
        "message": message,
        "since": instant_text(record.since),
        "next_check_at": None if next_check is None else instant_text(next_check),
        "blocking": blocking,
    }


async def _reason(queue: Queue, endpoints: Endpoints, record: TaskRecord) -> tuple[str, str, Any]:
    match record.status:
        case Status.COMPLETED | Status.ERROR | Status.CANCELED:
            return "final", _ended(record), None
        case Status.PROCESSING:
            return "running", "a worker is in the middle of one of its steps", record.node
        case Status.PAUSED:
            return "paused", f"somebody paused it; go on with: dlqueue resume {record.id}", None
        case Status.BLOCKED:
            waiting = [i for i in record.depends_on if await _unfinished(queue, i)]
            listed = ", ".join(map(str, waiting))
            return "dependency", f"waits for task {listed}", waiting
    return _waiting(queue, endpoints, record)


def _ended(record: TaskRecord) -> str:
    at = "" if record.finished_at is None else f" at {instant_text(record.finished_at)}"
    said = f": {record.error.message}" if record.error is not None else ""
    if record.status is Status.COMPLETED:
        location = read_state(record).location if record.type == RemoteDownload.type else None
        if record.delivered_at is not None:  # a torrent has been seeded since
            at = f" at {instant_text(record.delivered_at)}"
        return f"delivered to {location}{at}" if location else f"completed{at}"
    how = "failed" if record.status is Status.ERROR else "canceled"
    again = f"dlqueue retry {record.id}"
    return f"{how}{at}{said}" + ("" if again in said else f"; again: {again}")


async def _unfinished(queue: Queue, task_id: int) -> bool:
    try:
        return not (await queue.get(task_id)).delivered
    except TaskNotFound:
        return False


def _waiting(queue: Queue, endpoints: Endpoints, record: TaskRecord) -> tuple[str, str, Any]:
    now = queue.clock.time()
    if record.type not in queue.types:
        return "unknown_type", f"no program here knows the task type {record.type!r}; it is kept", record.type
    if record.hold is not None:
        if record.hold == RESOURCES and record.options.estimate is not None:
            return _short_of(queue, record)
        if record.hold.startswith(f"{QUOTA}:"):
            return _over_quota(queue, endpoints, record)
        told = reason_for(record, endpoints) if record.type == RemoteDownload.type else None
        if told is not None:
            return told.reason, told.message, told.blocking
        return "between_steps", f"waits to be woken ({record.hold})", record.hold
    if record.run_at is not None and record.run_at > now:
        left = format_duration(round(record.run_at - now))
        if record.attempt and record.error is not None:
            return (
                "retry_wait",
                f"{record.error.message}; next try in {left}",
                record.error.kind,
            )
        if record.status is Status.QUEUED:
            return (
                "delayed",
                f"begins at {instant_text(record.run_at)} (in {left}), as asked",
                None,
            )
        return "between_steps", f"its next step comes in {left}", None
    if record.queue in queue.lanes.paused:
        cure = f"go on with: dlqueue queue resume {record.queue}"
        return "queue_paused", f"queue {record.queue!r} is paused; {cure}", record.queue
    opens = queue.opens_at(record)
    if opens is not None:
        said = f"queue {record.queue!r} starts at most {queue.lanes[record.queue].rate}"
        return "rate", f"{said}; it may start the next one in {opens - now:.1f} s", record.queue
    if queue.is_full(record.queue):
        return "concurrency", f"queue {record.queue!r} runs as many steps as it may at once", record.queue
    if queue.counters.busy_workers >= queue.workers:
        return "concurrency", f"all {queue.workers} workers are busy", None
    return "due", "a worker takes it next", None


def _over_quota(queue: Queue, endpoints: Endpoints, record: TaskRecord) -> tuple[str, str, Any]:
    owner = record.owner
    kind = (record.hold or "").removeprefix(f"{QUOTA}:{owner}")
    if kind:
        task, quota = queue.types.get(record.type), queue.quotas.of(owner)
        size = None if task is None else task.size(record.params, record.state)
        may = "as much as there is" if quota is None or quota.bytes is None else format_size(quota.bytes)
        has = f"the unfinished downloads of {owner} have {format_size(queue.quotas.used(owner)[1])}"
        needs = "this one is more" if size is None else f"this one has {format_size(size)}"
        if kind == ":never":
            return "quota", f"{needs}, and {owner} may have {may} (max_bytes): it never fits; cancel it, or ask", owner
        return "quota", f"{has} and may have {may} (max_bytes), {needs}: waits until some are done", owner
    active, limit = endpoints.shares.active(owner), endpoints.shares.limit(owner)
    may = "any number" if limit is None else str(limit)
    running = "1 transfer running" if active == 1 else f"{active} transfers running"
    message = f"{owner} has {running} and may have {may} at once (max_active); waits until one ends"
    return "quota", message, owner


def _short_of(queue: Queue, record: TaskRecord) -> tuple[str, str, Any]:
    lack = queue.lack(record)
    if lack is None:
        return "resources", "what it needs has just become free; a worker takes it next", None
    return "resources", f"waits for {lack}", lack.resource
