"""The exact reason that a download is not moving, as far as its downloader is concerned."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from dlqueue.downloads.endpoints import Endpoints
from dlqueue.downloads.failover import may_begin_again
from dlqueue.downloads.recovery import read_state
from dlqueue.downloads.request import DownloadParams
from dlqueue.downloads.routing import Route
from dlqueue.downloads.state import DownloadState
from dlqueue.downloads.watch import LONGEST_GAP
from dlqueue.queue import TaskRecord
from dlqueue.sdk import TransferState
from dlqueue.units import format_duration, format_size


class Reason(NamedTuple):
    reason: str
    message: str
    blocking: str | list[str] | None = None


def reason_for(record: TaskRecord, endpoints: Endpoints) -> Reason | None:
    """Why a suspended download waits; None if it holds nothing of ours."""
    what, _, whose = (record.hold or "").partition(":")
    match what:
        case "slot" | "paused" | "downloader":
            return _waiting(record, what, whose.split(","), endpoints)
        case "space":
            return _no_room(record, whose, endpoints)
        case "route":
            return _no_route(record, endpoints)
        case "transfer":
            return _transferring(record, endpoints)
    return None


def _no_room(record: TaskRecord, whose: str, endpoints: Endpoints) -> Reason:
    state = read_state(record)
    total = record.params.get("size") if state.total is None and isinstance(record.params, dict) else state.total
    need = None if total is None else max(total - state.downloaded, 0)
    message = endpoints.room.why(whose, need)
    said = state.attempts[-1].message if state.attempts and state.attempts[-1].error_class == "space" else None
    if not whose and said is not None:
        message += f" ({said})"
    return Reason("space", message, whose if whose.startswith("/") else "space")


def _waiting(record: TaskRecord, what: str, names: list[str], endpoints: Endpoints) -> Reason:
    """For one downloader, or for any of several."""
    order = _route_of(record, endpoints).names
    names = sorted(names, key=lambda name: order.index(name) if name in order else len(order))
    route = _way(record, endpoints)
    if what == "downloader":
        said = "; ".join(_unavailable(name, endpoints) for name in names)
        return Reason("downloader_unavailable", f"{said}{route}", names[0] if len(names) == 1 else names)
    paused = {name: pause for name in names if name in endpoints and (pause := endpoints[name].paused) is not None}
    if len(paused) == len(names):
        name, pause = next(iter(paused.items()))
        message = f"waits for {name}, which {pause.by} has paused; go on with: dlqueue downloader resume {name}"
        return Reason("paused", message, name)
    open_ = [name for name in names if name not in paused and not (name in endpoints and endpoints[name].down)] or names
    limits = {name: endpoints.configs[name].max_active if name in endpoints else 0 for name in open_}
    slots = " or ".join(f"one of the {limit} slots of {name}" for name, limit in limits.items())
    return Reason("slot", f"waits for {slots} (max_active){route}", open_[0] if len(open_) == 1 else open_)


def _route_of(record: TaskRecord, endpoints: Endpoints) -> Route:
    return endpoints.route(msgspec.convert(record.params, DownloadParams), record.owner, record.labels)


def _way(record: TaskRecord, endpoints: Endpoints) -> str:
    """By which rule it waits for these and for no others, if by one; and who has been tried."""
    route, state = _route_of(record, endpoints), read_state(record)
    rule = f"; {route.title}: {', '.join(route.names)}" if route.rule is not None else ""
    return rule + "".join(
        f"; {name} has failed: {message}" for name in state.tried if (message := _last_word(state, name)) is not None
    )


def _last_word(state: DownloadState, name: str) -> str | None:
    return next((one.message for one in reversed(state.attempts) if one.downloader == name and one.message), None)


def _no_route(record: TaskRecord, endpoints: Endpoints) -> Reason:
    """Where it has begun, or was told to go, is not there; or nobody is left."""
    state = read_state(record)
    wanted = record.params.get("downloader") if isinstance(record.params, dict) else None
    for name in (state.downloader if state.phase else None, wanted):
        if name is not None and name not in endpoints:
            return Reason("downloader_unavailable", _unavailable(name, endpoints), name)
    route = _route_of(record, endpoints)
    if route.rule is None:
        return Reason("no_route", "no configured downloader can fetch it", None)
    use = endpoints.rules[route.rule - 1].use
    gone = {name: endpoints.absence(name) for name in use if name not in endpoints}
    said = "; ".join(f"{name} {why}" for name, why in ({**gone, **route.left_out}).items() if name in use)
    cure = "change [[routes]], or name a downloader (--on)"
    return Reason("no_route", f"{route.title} leaves it nobody: {said or 'it was tried everywhere'}; {cure}", None)


def _unavailable(name: str, endpoints: Endpoints) -> str:
    if name not in endpoints:
        cure = f"put [downloaders.{name}] back (enabled), or cancel the task"
        return f"waits for {name}, which {endpoints.absence(name)}; {cure}"
    cure = "; correct its configuration" if endpoints[name].auth_failed else ""
    return f"waits for {name}, which {endpoints[name].ailment}{cure}"


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
    still = endpoints[name].still(state.key or "")
    after = "" if still < LONGEST_GAP else f", for {format_duration(still)}{_then(record, state, endpoints)}"
    if status.state is TransferState.METADATA:
        return Reason("metadata", f"{name} is looking for its metadata{after}", name)
    done = format_size(status.downloaded)
    if status.total:
        done += f" of {format_size(status.total)} ({100 * status.downloaded // status.total} %)"
    note = f"; {status.message}" if status.message else ""
    if after:
        return Reason("stalled", f"no byte comes in {name}{after}; {done}{note}", name)
    return Reason(
        "between_steps",
        f"{status.state} in {name}: {done}, {format_size(status.download_speed)}/s{note}",
        name,
    )


def _then(record: TaskRecord, state: DownloadState, endpoints: Endpoints) -> str:
    """What comes of it when it has stood still for too long."""
    stall = endpoints[state.downloader or ""].stall
    if stall is None:
        return ""
    route = _route_of(record, endpoints)
    others = [name for name in route.names if name not in (*state.tried, state.downloader)]
    if others:
        then = f"goes on in {' or '.join(others)}"
    elif may_begin_again("stalled", state.attempts, state.downloaded):
        then = "is begun once more"
    else:
        then = "fails"
    return f"; after {format_duration(stall)} it {then}"
