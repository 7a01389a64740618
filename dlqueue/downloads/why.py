"""The exact reason that a download is not moving, as far as its downloader is concerned."""

from __future__ import annotations

from typing import NamedTuple

from dlqueue.downloads.endpoints import Endpoints
from dlqueue.downloads.recovery import read_state
from dlqueue.queue import TaskRecord
from dlqueue.sdk import TransferState


class Reason(NamedTuple):
    reason: str
    message: str
    blocking: str | None = None


def reason_for(record: TaskRecord, endpoints: Endpoints) -> Reason | None:
    """Why a suspended download waits; None if it holds nothing of ours."""
    what, _, name = (record.hold or "").partition(":")
    if what in ("slot", "paused") and name in endpoints and (pause := endpoints[name].paused) is not None:
        message = f"waits for {name}, which {pause.by} has paused; go on with: dlqueue downloader resume {name}"
        return Reason("paused", message, name)
    match what:
        case "slot":
            limit = endpoints.configs[name].max_active if name in endpoints else 0
            return Reason("slot", f"waits for one of the {limit} slots of {name} (max_active)", name)
        case "downloader":
            return Reason("downloader_unavailable", _unavailable(name, endpoints), name)
        case "space":
            return Reason("space", "waits for space: the file system of its staging folder is full", "space")
        case "route":
            return Reason("no_route", "no configured downloader can fetch it", None)
        case "transfer":
            return _transferring(record, endpoints)
    return None


def _unavailable(name: str, endpoints: Endpoints) -> str:
    if name not in endpoints:
        return f"waits for {name}, which is not configured any more"
    coordinator = endpoints[name]
    if coordinator.auth_failed:
        return f"waits for {name}, which cannot be used: {coordinator.last_error}; correct its configuration"
    return f"waits for {name}, which does not answer: {coordinator.last_error or 'asking it now'}"


def _transferring(record: TaskRecord, endpoints: Endpoints) -> Reason:
    state = read_state(record)
    name = state.downloader or ""
    status = None
    if name in endpoints and state.handle is not None:
        status = endpoints[name].latest(state.handle)
    if status is None:
        return Reason("between_steps", f"its transfer runs in {name}", name)
    if status.state is TransferState.METADATA:
        return Reason("metadata", f"{name} is looking for its metadata", name)
    done = f"{status.downloaded} of {status.total}" if status.total else str(status.downloaded)
    note = f"; {status.message}" if status.message else ""
    return Reason(
        "between_steps",
        f"its transfer is {status.state} in {name}: {done} bytes, {status.download_speed:.0f} bytes/s{note}",
        name,
    )
