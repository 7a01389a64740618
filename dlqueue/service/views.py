"""Records as messages: what a person or a program outside may see of them. Secrets are shown as ``***``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import msgspec

from dlqueue.downloads.endpoints import Endpoints
from dlqueue.downloads.progress import progress_of
from dlqueue.downloads.recovery import read_state
from dlqueue.downloads.state import Attempt, DownloadState
from dlqueue.downloads.task import RemoteDownload
from dlqueue.protocol import messages
from dlqueue.protocol.notify import Notice
from dlqueue.protocol.times import instant_text
from dlqueue.queue import Progress, Status, TaskError, TaskRecord
from dlqueue.queue.record import Event
from dlqueue.runtime.redaction import HIDDEN, hide_userinfo
from dlqueue.sdk import TransferState, TransferStatus

_PARAM = re.compile(r"([?&;#])([^=&;#]*)=[^&;#]*")
# Parameters whose value lets somebody in.
_SECRET = re.compile("token|key|sig|auth|pass|pwd|secret|credential|session|jwt", re.IGNORECASE)


def shown_url(url: str) -> str:
    """Without password and tokens."""
    return _PARAM.sub(_shown_param, hide_userinfo(url))


def _shown_param(param: re.Match[str]) -> str:
    return f"{param[1]}{param[2]}={HIDDEN}" if _SECRET.search(unquote(param[2])) else param[0]


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else instant_text(seconds)


def error_view(error: TaskError | None) -> messages.TaskError | None:
    return None if error is None else {"kind": error.kind, "message": error.message, "at": instant_text(error.at)}


def progress_view(progress: Progress | None) -> messages.Progress | None:
    if progress is None:
        return None
    step: Any = progress.step
    return {
        "percent": progress.percent,
        "message": progress.message or None,
        "step": step,
        "counters": progress.counters or {},
    }


def live_status(record: TaskRecord, state: DownloadState, endpoints: Endpoints) -> TransferStatus | None:
    """What the downloader said last about an unfinished transfer."""
    running = state.phase in ("monitor", "seeding") and not record.final
    if not running or state.key is None or (state.downloader or "") not in endpoints:
        return None
    return endpoints[state.downloader or ""].latest(state.key)


def live_progress(record: TaskRecord, stored: Progress | None, status: TransferStatus | None) -> Progress | None:
    """The newer of what is stored and what the downloader said last."""
    if status is None or record.status is Status.PAUSED:
        return stored
    return Progress(**progress_of(status))


def out_of_sight(record: TaskRecord, state: DownloadState, endpoints: Endpoints) -> bool:
    """Has it a transfer in a downloader that cannot be asked now? What that said last is no news of it."""
    if record.final or state.phase not in ("monitor", "seeding") or state.key is None:
        return False
    name = state.downloader or ""
    return name not in endpoints or endpoints[name].down


def standing(progress: Progress | None) -> Progress | None:
    """The same without speeds: nothing moves."""
    if progress is None or not progress.counters:
        return progress
    still = {name: 0 if name.endswith("_speed") else value for name, value in progress.counters.items()}
    return msgspec.structs.replace(progress, counters=still)


def task_view(
    record: TaskRecord, endpoints: Endpoints | None, progress: Progress | None = None, created: bool = True
) -> messages.Task:
    """A task as the contract prints it.

    :param endpoints: None: as it is stored, whatever its downloader says by now.
    :param progress: newer than what is stored, if there is such.
    """
    state = status = None
    unseen = False
    if record.type == RemoteDownload.type:
        state = read_state(record)
        if endpoints is not None:
            status = live_status(record, state, endpoints)
            unseen = out_of_sight(record, state, endpoints)
    shown = live_progress(record, progress or record.progress, status)
    if state is not None and (unseen or record.final or record.status is Status.PAUSED):
        shown = standing(shown)
    if state is not None and state.kept is not None and record.final:
        shown = msgspec.structs.replace(shown or Progress(), message=state.kept)
    view: messages.Task = {
        "id": record.id,
        "type": record.type,
        "status": record.status.value,
        "want": record.want.value,
        "hold": record.hold,
        "queue": record.queue,
        "priority": record.priority,
        "owner": record.owner,
        "labels": record.labels,
        "correlation_id": record.correlation_id,
        "unique_key": record.unique_key,
        "created": created,
        "params": record.params if state is None else params_view(record.params),
        "result": record.result,
        "progress": progress_view(shown),
        "error": error_view(record.error),
        "retries": record.retries,
        "max_retry": record.max_retry,
        "crashes": record.crashes,
        "executed_seconds": round(record.executed_seconds, 3),
        "timeout": record.options.timeout,
        "max_execution": record.options.max_execution,
        "created_at": instant_text(record.created_at),
        "started_at": _time(record.started_at),
        "finished_at": _time(record.finished_at),
        "resume_at": _time(record.run_at),
        "parent_id": record.parent_id,
        "depends_on": list(record.depends_on),
        "revision": record.revision,
    }
    if state is not None:
        view["download"] = download_view(record, state, status)
        if unseen:
            view["download"]["state"] = str(TransferState.UNKNOWN)
    return view


def params_view(params: dict[str, Any]) -> dict[str, Any]:
    """The params of a download as `downloads.add` takes them."""
    urls = [shown_url(url) for url in params.get("urls", ())]
    given = {} if not urls else {"url": urls[0]} if len(urls) == 1 else {"urls": urls}
    hidden = ("urls", "root", "mount", "headers", "title", "info_hash", "size")
    shown = {key: value for key, value in params.items() if key not in hidden}
    if params.get("headers"):
        shown["headers"] = dict.fromkeys(params["headers"], HIDDEN)
    return {**given, **shown}


def _shown_source(params: dict[str, Any]) -> str:
    """Where it comes from, as one URL: of a .torrent file what a magnet link would say."""
    if params["urls"]:
        return shown_url(params["urls"][0])
    name = quote(params.get("title") or "")
    if params.get("torrent"):
        return f"magnet:?xt=urn:btih:{params.get('info_hash') or ''}&dn={name}"
    return f"metalink:{name}"


def download_view(record: TaskRecord, state: DownloadState, status: TransferStatus | None) -> messages.Download:
    params = record.params
    name = params.get("name") or (status.name if status is not None else None) or state.name or _own_name(params)
    files: list[messages.DownloadFile] | None = None
    if state.location is not None:
        name = PurePosixPath(state.location).name
        files = [
            {"index": index, "path": PurePosixPath(entry.target).name, "size": entry.size, "progress": 100.0,
             "selected": True}
            for index, entry in enumerate(state.manifest, 1)
        ]  # fmt: skip
    return {
        "url": _shown_source(params),
        "name": name,
        "downloader": state.downloader,
        "handle": None if state.handle_id is None else {"id": state.handle_id, "hash": state.handle_hash},
        "phase": state.phase,
        "state": str(status.state) if status is not None else state.state,
        "destination": params["directory"],
        "location": state.location,
        "delivered_at": _time(record.delivered_at),
        "files": files,
        "attempts": attempts_view(state.attempts, status),
    }


def attempts_view(attempts: Sequence[Attempt], status: TransferStatus | None = None) -> list[messages.DownloadAttempt]:
    """:param status: of the transfer that the last attempt has running, if it has."""
    return [
        {
            "downloader": attempt.downloader,
            "kind": attempt.kind,
            "key": attempt.key,
            "started_at": instant_text(attempt.started_at),
            "ended_at": _time(attempt.ended_at),
            "bytes": attempt.bytes if attempt.ended_at is not None or status is None else status.downloaded,
            "error_class": attempt.error_class,
            "message": attempt.message,
            "next": attempt.next,
        }
        for attempt in attempts
    ]


def _own_name(params: dict[str, Any]) -> str | None:
    """What it is called before its downloader says so."""
    return params.get("title") or next((name for url in params["urls"] if (name := name_from(url))), None)


def name_from(url: str) -> str | None:
    """The name that a URL suggests: its last path segment, decoded."""
    return unquote(urlsplit(url).path.rstrip("/").rpartition("/")[2]).rpartition("/")[2] or None


_OUTCOMES = {"rescued": "crashed", "released": "stopped"}
"""Ends of a step that are none of the task's own: the process died, or the daemon was told to stop."""


def history_view(
    events: Sequence[Event],
    attempts: Sequence[Attempt],
    running: TaskRecord | None = None,
    notices: Sequence[Notice] = (),
) -> messages.History:
    """
    :param running: the task, if a step of it runs now.
    :param notices: what somebody is still to be told of it.
    """
    items: list[messages.HistoryEvent] = []
    executions: list[messages.Execution] = []
    for event in events:
        item: messages.HistoryEvent = {"sequence": event.sequence, "at": instant_text(event.at), "kind": event.kind}
        if event.source is not None:
            item["from"] = str(event.source)
        if event.target is not None:
            item["to"] = str(event.target)
        if event.node is not None:
            item["node"] = event.node
        if event.message is not None:
            item["message"] = event.message
        error = error_view(event.error)
        if error is not None:
            item["error"] = error
        items.append(item)
        if event.started_at is not None:
            executions.append(
                {
                    "node": event.node or "",
                    "started_at": instant_text(event.started_at),
                    "ended_at": instant_text(event.at),
                    "outcome": _OUTCOMES.get(event.kind, event.kind),
                }
            )
    if running is not None:
        started = instant_text(running.since)
        executions.append({"node": running.node or "", "started_at": started, "ended_at": None, "outcome": None})
    return {
        "items": items,
        "attempts": attempts_view(attempts),
        "executions": executions,
        "notices": list(notices),
    }
