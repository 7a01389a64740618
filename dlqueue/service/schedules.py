"""The verbs of schedules: whose they are, and how they are shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from dlqueue.downloads.task import RemoteDownload
from dlqueue.protocol import schedules as messages
from dlqueue.protocol.caller import Caller
from dlqueue.protocol.checks import MAX_PARAMS
from dlqueue.protocol.errors import LimitExceeded, NotFound
from dlqueue.protocol.times import instant_text
from dlqueue.queue import Queue, Run, Schedule, ScheduleNotFound
from dlqueue.queue.notices import ScheduleNotice
from dlqueue.runtime.redaction import HIDDEN
from dlqueue.service.access import Access
from dlqueue.service.views import shown_url

Place = Callable[[Caller, dict[str, Any]], tuple[dict[str, Any], str | None]]
"""The params of a download without what is said of the client's folder, and that folder, if it is believed."""


class ScheduleVerbs:
    """Everybody sees and steers their own schedules, admins all."""

    def __init__(self, queue: Queue, access: Access, place: Place) -> None:
        self._schedules = queue.schedules
        self._access = access
        self._place = place

    async def list(self, caller: Caller, params: messages.ListSchedules) -> messages.SchedulePage:
        owner = self._access.owner_condition(caller, params.owner)
        limit = params.limit or 100
        found = await self._schedules.list(owner, limit + 1, params.cursor or "")
        stats = await self._schedules.stats(owner=owner)
        return {
            "items": [schedule_view(schedule) for schedule in found[:limit]],
            "next_cursor": found[limit - 1].name if len(found) > limit else None,
            "total": stats.active + stats.paused,
        }

    async def get(self, caller: Caller, name: str) -> messages.Schedule:
        return schedule_view(await self._mine(caller, name))

    async def create(self, caller: Caller, params: messages.CreateSchedule) -> messages.Schedule:
        made = self._placed(caller, params.type, params.changes())
        return schedule_view(await self._schedules.create(params.name, **made, owner=caller.name))

    async def update(self, caller: Caller, params: messages.UpdateSchedule) -> messages.Schedule:
        before, changes = await self._mine(caller, params.name), params.changes()
        if params.params is not None:
            changes = self._placed(caller, params.type or before.type, changes)
        return schedule_view(await self._schedules.update(params.name, **changes))

    def _placed(self, caller: Caller, type: str, given: dict[str, Any]) -> dict[str, Any]:
        if type == RemoteDownload.type:
            given["params"], given["cwd"] = self._place(caller, given["params"])
        if len(msgspec.json.encode(given["params"])) > MAX_PARAMS:
            raise LimitExceeded(f"the params of a task have at most {MAX_PARAMS} bytes", kind="size", field="params")
        return given

    async def pause(self, caller: Caller, name: str) -> messages.Schedule:
        return await self._steered(caller, name, self._schedules.pause)

    async def resume(self, caller: Caller, name: str) -> messages.Schedule:
        return await self._steered(caller, name, self._schedules.resume)

    async def run(self, caller: Caller, name: str) -> messages.Schedule:
        return await self._steered(caller, name, self._schedules.run)

    async def delete(self, caller: Caller, name: str) -> messages.Schedule:
        return await self._steered(caller, name, self._schedules.delete)

    async def _steered(self, caller: Caller, name: str, act: Callable[[str], Awaitable[Schedule]]) -> messages.Schedule:
        await self._mine(caller, name)
        return schedule_view(await act(name))

    async def stats(self, caller: Caller, params: messages.ScheduleLog) -> messages.ScheduleStats:
        if params.name is None:
            owner = self._access.owner_condition(caller, params.owner)
        else:
            owner = None
            await self._mine(caller, params.name)
        limit = params.limit or 100
        before = None if params.cursor is None else int(params.cursor)
        stats = await self._schedules.stats(params.name, owner)
        runs = await self._schedules.log(params.name, owner, limit + 1, before)
        return {
            "active": stats.active,
            "paused": stats.paused,
            "runs": stats.runs,
            "running": stats.running,
            "completed": stats.completed,
            "failed": stats.failed,
            "canceled": stats.canceled,
            "skipped": stats.skipped,
            "refused": stats.refused,
            "items": [run_view(run) for run in runs[:limit]],
            "next_cursor": str(runs[limit - 1].id) if len(runs) > limit else None,
            "total": None,
        }

    async def _mine(self, caller: Caller, name: str) -> Schedule:
        """:raises NotFound: there is none, or it is somebody else's; that it exists is not told either."""
        try:
            found = await self._schedules.get(name)
        except ScheduleNotFound:
            found = None
        if found is None or not self._access.sees(caller, found.owner):
            raise NotFound(f"no schedule {name[:100]!r}", kind="schedule", field="name")
        return found


def schedule_view(schedule: Schedule) -> messages.Schedule:
    """A schedule as the contract prints it."""
    return {
        "name": schedule.name,
        "type": schedule.type,
        "params": _params_view(schedule),
        "queue": schedule.queue,
        "cron": schedule.cron,
        "every": schedule.every,
        "timezone": schedule.timezone,
        "missed": schedule.missed,
        "overlap": schedule.overlap,
        "owner": schedule.owner,
        "active": schedule.active,
        "previous_run": _time(schedule.previous_run),
        "next_run": _time(schedule.next_run),
        "last_status": schedule.last_status,
        "last_task_id": schedule.last_task_id,
        "runs": schedule.runs,
        "created_at": instant_text(schedule.created_at),
    }


def _params_view(schedule: Schedule) -> dict[str, Any]:
    if schedule.type != RemoteDownload.type:
        return dict(schedule.params or {})
    shown = dict(schedule.params)
    if shown.get("url") is not None:
        shown["url"] = shown_url(shown["url"])
    if shown.get("urls"):
        shown["urls"] = [shown_url(url) for url in shown["urls"]]
    if shown.get("headers"):
        shown["headers"] = dict.fromkeys(shown["headers"], HIDDEN)
    for file in ("torrent", "metalink"):
        if shown.get(file):
            shown[file] = f"({len(shown[file])} bytes of base64)"
    return shown


def run_view(run: Run) -> messages.ScheduleRun:
    seconds = run.seconds
    return {
        "id": run.id,
        "schedule": run.schedule,
        "kind": run.kind,
        "due_at": instant_text(run.due_at),
        "started_at": instant_text(run.at),
        "task_id": run.task_id,
        "status": run.status,
        "message": run.message,
        "finished_at": _time(run.finished_at),
        "seconds": None if seconds is None else round(seconds, 3),
    }


def notice_data(notice: ScheduleNotice) -> dict[str, Any]:
    """The data of an event of topic ``schedule``."""
    schedule = notice.schedule
    data: dict[str, Any] = {
        "kind": notice.kind,
        "name": schedule.name,
        "type": schedule.type,
        "active": schedule.active,
        "next_run": _time(schedule.next_run),
        "runs": schedule.runs,
    }
    return data if notice.run is None else {**data, "run": run_view(notice.run)}


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else instant_text(seconds)
