"""At start: who was in the middle of a transfer has its slot back before anybody else may ask for one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from dlqueue.downloads.endpoints import Endpoints
from dlqueue.downloads.request import DownloadParams
from dlqueue.downloads.room import Places
from dlqueue.downloads.state import DownloadState
from dlqueue.downloads.task import RemoteDownload
from dlqueue.downloads.upload import Uploads
from dlqueue.downloads.uses import Uses
from dlqueue.queue import Filter, Queue, Status, TaskRecord
from dlqueue.queue.status import UNFINISHED

_PAGE = 500
_RUNNING = ("transfer:", "downloader:", "route")
"""Holds of a task whose transfer may run."""


async def adopt_transfers(queue: Queue, endpoints: Endpoints) -> None:
    """Give running transfers their slots. Only what has begun is read: a million that have not are not. Call it after
    `Queue.open` and before `Queue.start`."""
    begun = await queue.midway(_RUNNING)
    for start in range(0, len(begun), _PAGE):
        wanted = Filter(ids=tuple(begun[start : start + _PAGE]), type=RemoteDownload.type)
        for record in (await queue.find(wanted, limit=_PAGE)).items:
            downloader = running_in(record)
            if downloader is not None and downloader in endpoints:
                endpoints.slots.adopt(downloader, record.id)
                endpoints.shares.adopt(record.owner, record.id)
                await _keep_room(record, endpoints)


async def _keep_room(record: TaskRecord, endpoints: Endpoints) -> None:
    state = read_state(record)
    if state.staging is not None and not state.attached:
        directory = Path(msgspec.convert(record.params, DownloadParams).directory)
        places = Places(Path(state.staging).parent, directory, state.mounts)
        await endpoints.room.adopt(record.id, state.key or "", places, state.total, state.downloaded)


async def sweep_uploads(queue: Queue, uploads: Uploads) -> None:
    """Drop the files that no unfinished task has needed for long. The tasks are read only if one of them is so old."""
    stale = await asyncio.to_thread(uploads.stale)
    needed: list[str] = []
    for field in ("torrent", "metalink") if stale else ():
        cursor = None
        while True:
            unfinished = Filter(status=tuple(UNFINISHED), type=RemoteDownload.type, text=f'"{field}":"')
            page = await queue.find(unfinished, order="id", limit=_PAGE, cursor=cursor)
            needed += [kept for record in page.items if (kept := record.params.get(field)) is not None]
            cursor = page.next_cursor
            if cursor is None:
                break
    await asyncio.to_thread(uploads.sweep, needed)


async def sweep_uses(queue: Queue, uses: Uses) -> None:
    """Forget the tasks that are not there any more."""
    noted = sorted(await asyncio.to_thread(uses.tasks))
    there: set[int] = set()
    for start in range(0, len(noted), _PAGE):
        found = await queue.find(Filter(ids=tuple(noted[start : start + _PAGE])), limit=_PAGE)
        there.update(record.id for record in found.items)
    await asyncio.to_thread(uses.sweep, there)


async def look_again(queue: Queue, endpoints: Endpoints) -> None:
    """Whatever was waited for may have come while nobody was there. Call it after `Queue.start`."""
    await queue.wake("transfer:*")
    await queue.wake("route")
    await queue.wake("space")
    await queue.wake("space:*")
    await queue.wake("paused:*")
    await endpoints.shares.changed(queue.quotas.owners())
    await queue.quotas.look_again()
    if await asyncio.to_thread(endpoints.groups_changed):
        await queue.wake("slot:*")
        await asyncio.to_thread(endpoints.note_groups)
    for name in endpoints.names():
        await endpoints.offer(name)


def running_in(record: TaskRecord) -> str | None:
    """The downloader in which a transfer of this task takes a slot."""
    if record.status is Status.PAUSED or record.state is None or _waits_for_slot(record) is not None:
        return None
    state = read_state(record)
    return state.downloader if state.phase == "monitor" else None


def _waits_for_slot(record: TaskRecord) -> str | None:
    what, _, downloader = (record.hold or "").partition(":")
    return downloader if what in ("slot", "paused") else None


def read_state(record: TaskRecord) -> DownloadState:
    """The private state; an empty one if there is none that can be read."""
    if record.state is None:
        return DownloadState()
    try:
        return msgspec.json.decode(record.state, type=DownloadState)
    except msgspec.MsgspecError:
        return DownloadState()
