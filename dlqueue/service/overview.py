"""`daemon.overview`: what a person wants to see first, in one call whose cost does not grow with the queue."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dlqueue
from dlqueue.downloads.endpoints import Endpoints
from dlqueue.downloads.room import Disk, why_missing
from dlqueue.downloads.task import RemoteDownload
from dlqueue.protocol import overview as messages
from dlqueue.protocol.caller import Caller
from dlqueue.protocol.times import instant_text
from dlqueue.queue import Filter, NamedQueue, Queue, Status, TaskRecord
from dlqueue.queue.glance import Glance, Look
from dlqueue.service.access import Access
from dlqueue.units import format_size

HISTORY = 300.0
"""Seconds of speeds that are kept."""
SAMPLED = 2.0
"""Seconds between two of them."""
DISK_PATIENCE = 0.5
"""Seconds that a disk may take to answer; then the last answer is shown. A network share may hang for minutes."""
SHOWN_IDS = 50
SHOWN_RUNNING = 200
SHOWN_GROUPS = 20
_HOLDS = ("slot:", "space:", "route", "downloader:")
_WAITING = (Status.QUEUED, Status.SUSPENDING, Status.PROCESSING)


class Overview:
    """:param folders: where downloads are written to."""

    def __init__(
        self, queue: Queue, endpoints: Endpoints, access: Access, folders: Callable[[], Sequence[Path]]
    ) -> None:
        self._queue = queue
        self._endpoints = endpoints
        self._access = access
        self._folders = folders
        self._speeds: deque[tuple[float, int, int]] = deque(maxlen=int(HISTORY / SAMPLED))

    async def overview(self, caller: Caller) -> messages.Overview:
        admin = self._access.is_admin(caller)
        owner = self._access.owner_condition(caller, None)
        glance = await self._queue.glance(Look(owner=owner, holds=_HOLDS))
        queues = await self._queue.queues.list()
        disks = await self._endpoints.room.survey(self._folders(), DISK_PATIENCE)
        running = await self._running(glance, owner)
        counts = self._counts(caller, glance, running)
        needs = await self._needs(glance, queues, disks, owner, admin)
        many = len(needs)
        well = f"All is well: {counts['running']} running, {counts['waiting']} waiting"
        return {
            "at": instant_text(self._queue.clock.time()),
            "version": dlqueue.__version__,
            "verdict": well if not needs else f"{many} thing{'s need' if many > 1 else ' needs'} you",
            "you": {"name": caller.name, "role": _role(caller, admin), "admin": admin},
            "counts": counts,
            "running": running[:SHOWN_RUNNING],
            "rates": self._rates(),
            "limit": self._limit(glance, queues, disks, counts),
            "disks": [self._disk(disk) for disk in disks],
            "errors": error_groups(glance.errors),
            "needs": needs,
        }

    # -- how many, how fast -------------------------------------------------------------------------------------------

    async def _running(self, glance: Glance, owner: str | None) -> list[int]:
        running = sorted(self._endpoints.slots.holders() | set(glance.processing))
        if owner is None or not running:
            return running
        return list(await self._queue.ids(Filter(ids=tuple(running), owner=owner)))

    def _counts(self, caller: Caller, glance: Glance, running: Sequence[int]) -> messages.Counts:
        busy = set(running)
        seeds = {
            task_id
            for name in self._endpoints.names()
            for task_id, owner in self._endpoints[name].seeding()
            if self._access.sees(caller, owner)
        } - busy
        there = sum(glance.tally.get(status, 0) for status in _WAITING)
        return {
            "status": {status.value: glance.tally.get(status, 0) for status in Status},
            "whole": glance.whole,
            "running": len(running),
            "waiting": max(there - len(running) - len(seeds), 0),
            "seeding": len(seeds),
        }

    def _rates(self) -> messages.Rates:
        now = self._queue.clock.time()
        speeds = [self._endpoints[name].speeds() for name in self._endpoints.names() if not self._endpoints[name].down]
        down, up = round(sum(speed[0] for speed in speeds)), round(sum(speed[1] for speed in speeds))
        if self._speeds and self._speeds[-1][0] > now:  # the clock has been turned back
            self._speeds.clear()
        if not self._speeds or now - self._speeds[-1][0] >= SAMPLED:
            self._speeds.append((now, down, up))
        history = [(round(now - at, 1), d, u) for at, d, u in self._speeds if now - at <= HISTORY]
        return {"download_speed": down, "upload_speed": up, "history": history}

    # -- what keeps the next one waiting ------------------------------------------------------------------------------

    def _limit(
        self, glance: Glance, queues: Sequence[NamedQueue], disks: Sequence[Disk], counts: messages.Counts
    ) -> messages.Binding:
        def said(kind: messages.Limit, name: str | None, message: str) -> messages.Binding:
            return {"kind": kind, "name": name, "message": message}

        if not counts["waiting"]:
            return said("none", None, "nothing waits")
        busy = [queue for queue in queues if queue.pending]
        paused = [queue.name for queue in busy if queue.paused]
        if paused:
            return said("queue_paused", paused[0], f"queue {paused[0]} is paused")
        low = [disk.mount for disk in disks if disk.low]
        if low or glance.held["space:"]:
            where = low[0] if low else None
            return said("space", where, f"space on {where}" if where else "free space")
        names = self._endpoints.names()
        full = [name for name in names if not self._endpoints.slots.free(name)]
        if glance.held["slot:"] and full:
            used = ", ".join(f"{name} {self._endpoints.slots.active(name)}" for name in full)
            return said("slots", full[0], f"downloader slots ({used})")
        if glance.held["downloader:"]:
            down = [name for name in names if self._endpoints[name].down]
            return said("downloader", down[0] if down else None, f"{', '.join(down) or 'a downloader'} does not answer")
        for queue in busy:
            if self._queue.throttled(queue.name):
                return said("rate", queue.name, f"rate of queue {queue.name}: {queue.settings.rate}")
        for queue in busy:
            if self._queue.is_full(queue.name):
                most = queue.settings.concurrency
                return said("concurrency", queue.name, f"queue {queue.name}: {most} steps at once")
        if self._queue.counters.busy_workers >= self._queue.workers:
            return said("concurrency", None, f"all {self._queue.workers} workers are busy")
        return said("none", None, "no limit of ours: as fast as the sources give")

    @staticmethod
    def _disk(disk: Disk) -> messages.Disk:
        return {
            "path": disk.mount,
            "total": disk.size,
            "free": disk.free,
            "reserved": disk.reserved,
            "floor": disk.floor,
            "low": disk.low,
        }

    # -- what needs a person ------------------------------------------------------------------------------------------

    async def _needs(
        self,
        glance: Glance,
        queues: Sequence[NamedQueue],
        disks: Sequence[Disk],
        owner: str | None,
        admin: bool,
    ) -> list[messages.NeedsYou]:
        found = [*self._downloaders(admin), *self._space(disks)]
        found += [
            _need(
                "queue_paused",
                f"Queue {queue.name} is paused, and {queue.pending} tasks wait in it",
                queue.name,
                actions=[_action("Resume", "queues.resume", name=queue.name)] if admin else [],
            )
            for queue in queues
            if queue.paused and queue.pending
        ]
        nobody: Sequence[int] = glance.held["route"]
        if nobody and owner is not None:
            nobody = await self._queue.ids(Filter(ids=tuple(nobody), owner=owner))
        if nobody:
            many = f"{len(nobody)} tasks wait" if len(nobody) > 1 else "A task waits"
            found.append(_need("no_route", f"{many}: no configured downloader can fetch that", ids=nobody))
        errors = glance.tally.get(Status.ERROR, 0)
        if errors:
            ids = [record.id for record in glance.errors]
            again = _action("Retry all", "tasks.retry", status="error")
            forget = _action("Forget all", "tasks.remove", status="error")
            what = "tasks have" if errors > 1 else "task has"
            found.append(_need("failed", f"{errors} {what} failed", ids=ids, actions=[again, forget]))
        return found

    def _downloaders(self, admin: bool) -> list[messages.NeedsYou]:
        found: list[messages.NeedsYou] = []
        for name in self._endpoints.names():
            coordinator = self._endpoints[name]
            if coordinator.down:
                what = "cannot be used" if coordinator.auth_failed else "does not answer"
                why = f": {coordinator.last_error}" if coordinator.last_error else ""
                test = [_action("Test", "downloaders.test", name=name)] if admin else []
                found.append(_need("downloader_down", f"{name} {what}{why}", name, actions=test))
            elif coordinator.paused is not None:
                resume = [_action("Resume", "downloaders.resume", name=name)] if admin else []
                message = f"{name} begins nothing new: {coordinator.paused.by} has paused it"
                found.append(_need("downloader_paused", message, name, actions=resume))
        return found

    def _space(self, disks: Sequence[Disk]) -> list[messages.NeedsYou]:
        found = [
            _need(
                "space",
                f"{disk.mount} is nearly full: {format_size(disk.free)} free; nothing begins there until"
                f" {format_size(disk.enough)} are",
                disk.mount,
            )
            for disk in disks
            if disk.low
        ]
        missing = self._endpoints.room.missing_mounts()
        return found + [_need("mount", why_missing(mount), mount) for mount in missing]


def _role(caller: Caller, admin: bool) -> Any:
    role = caller.role or ("admin" if admin else "operate")
    return "operate" if role == "admin" and not admin else role


def _action(label: str, method: str, **params: Any) -> messages.Action:
    return {"label": label, "method": method, "params": params}


def _need(
    kind: messages.Need,
    message: str,
    name: str | None = None,
    ids: Sequence[int] = (),
    actions: Sequence[messages.Action] = (),
) -> messages.NeedsYou:
    return {
        "kind": kind,
        "message": message,
        "name": name,
        "task_ids": list(ids[:SHOWN_IDS]),
        "actions": list(actions),
    }


def error_groups(records: Sequence[TaskRecord]) -> list[messages.ErrorGroup]:
    """:param records: tasks that have failed, newest first."""
    groups: dict[tuple[str, str | None], messages.ErrorGroup] = {}
    for record in records:
        if record.error is None:
            continue
        host = _host(record)
        group = groups.setdefault(
            (record.error.kind, host),
            {
                "kind": record.error.kind,
                "host": host,
                "count": 0,
                "message": record.error.message,
                "at": instant_text(record.error.at),
                "task_ids": [],
            },
        )
        group["count"] += 1
        if len(group["task_ids"]) < SHOWN_IDS:
            group["task_ids"].append(record.id)
    return sorted(groups.values(), key=lambda group: -group["count"])[:SHOWN_GROUPS]


def _host(record: TaskRecord) -> str | None:
    """Where it was to come from, as far as that is one place."""
    if record.type != RemoteDownload.type or not isinstance(record.params, Mapping):
        return None
    url = next(iter(record.params.get("urls") or ()), "")
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
