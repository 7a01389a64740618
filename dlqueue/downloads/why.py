"""The exact reason that a download is not moving, as far as its downloader is concerned."""

from __future__ import annotations

from typing import NamedTuple

from dlqueue.downloads.endpoints import Endpoints
from dlqueue.downloads.recovery import read_state
from dlqueue.queue import TaskRecord
from dlqueue.sdk import TransferState
from dlqueue.units import format_size


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
            return _no_route(record, endpoints)
        case "transfer":
            return _transferring(record, endpoints)
    return None


def _no_route(record: TaskRecord, endpoints: Endpoints) -> Reason:
    """Where it has begun, or was told to go, is not there."""
    state = read_state(record)
    wanted = record.params.get("downloader") if isinstance(record.params, dict) else None
    for name in (state.downloader if state.phase else None, wanted):
        if name is not None and name not in endpoints:
            return Reason("downloader_unavailable", _unavailable(name, endpoints), name)
    return Reason("no_route", "no configured downloader can fetch it", None)


def _unavailable(name: str, endpoints: Endpoints) -> str:
    if name not in endpoints:
        cure = f"put [downloaders.{name}] back (enabled), or cancel the task"
        return f"waits for {name}, which {endpoints.absence(name)}; {cure}"
    coordinator = endpoints[name]
    if coordinator.auth_failed:
        return f"waits for {name}, which cannot be used: {coordinator.last_error}; correct its configuration"
    return f"waits for {name}, which does not answer: {coordinator.last_error or 'asking it now'}"


def _transferring(record: TaskRecord, endpoints: Endpoints) -> Reason:
    state = read_state(record)
    name = state.downloader or ""
    if name not in endpoints or endpoints[name].down:
        return Reason("downloader_unavailable", _unavailable(name, endpoints), name)
    status = None if state.key is None else endpoints[name].latest(state.key)
    if state.phase == "seeding":
        given = state.uploaded_before + (state.uploaded if status is None else status.uploaded)
        ratio = f", ratio {given / state.total:.2f}" if state.total else ""
        return Reason("seeding", f"delivered, and seeds in {name}: {format_size(given)} given away{ratio}", name)
    if status is None:
        return Reason("between_steps", f"its transfer runs in {name}", name)
    if status.state is TransferState.METADATA:
        return Reason("metadata", f"{name} is looking for its metadata", name)
    done = format_size(status.downloaded)
    if status.total:
        done += f" of {format_size(status.total)} ({100 * status.downloaded // status.total} %)"
    note = f"; {status.message}" if status.message else ""
    return Reason(
        "between_steps",
        f"{status.state} in {name}: {done}, {format_size(status.download_speed)}/s{note}",
        name,
    )
