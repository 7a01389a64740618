"""At start: who was in the middle of a transfer has its slot back before anybody else may ask for one."""

from __future__ import annotations

import asyncio

import msgspec

from dlqueue.downloads.endpoints import Endpoints
from dlqueue.downloads.state import DownloadState
from dlqueue.downloads.task import RemoteDownload
from dlqueue.downloads.upload import Uploads
from dlqueue.queue import Filter, Queue, Status, TaskRecord
from dlqueue.queue.status import UNFINISHED


async def adopt_transfers(queue: Queue, endpoints: Endpoints, uploads: Uploads) -> None:
    """Give running transfers their slots, and sweep the files that nobody needs. Call it after `Queue.open` and before
    `Queue.start`."""
    needed: list[str] = []
    cursor = None
    while True:
        page = await queue.find(
            Filter(status=tuple(UNFINISHED), type=RemoteDownload.type), order="id", limit=1000, cursor=cursor
        )
        for record in page.items:
            needed += [kept for field in ("torrent", "metalink") if (kept := record.params.get(field)) is not None]
            downloader = running_in(record)
            if downloader is not None and downloader in endpoints:
                endpoints.slots.adopt(downloader, record.id)
            elif (waited := _waits_for_slot(record)) is not None:
                endpoints.slots.want(waited, record.id)
        cursor = page.next_cursor
        if cursor is None:
            break
    await asyncio.to_thread(uploads.sweep, needed)


async def look_again(queue: Queue, endpoints: Endpoints) -> None:
    """Whatever was waited for may have come while nobody was there. Call it after `Queue.start`."""
    await queue.wake("transfer:*")
    await queue.wake("route")
    await queue.wake("space")
    await queue.wake("paused:*")
    for name in endpoints.names():
        await queue.wake(f"slot:{name}", endpoints.slots.free(name))


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
