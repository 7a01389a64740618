"""Events for one subscriber: first what was missed since a sequence number, then live; a gap is told, never hidden."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, get_args

from dlqueue.downloads.notices import DownloaderNotice
from dlqueue.protocol.events import EventPage, ListEvents, PastEvent, Subscribe, TaskTopic, Topic
from dlqueue.protocol.times import instant_text
from dlqueue.queue import Queue, TaskNotFound
from dlqueue.queue.notices import Notice, ProgressReport, QueueNotice, ScheduleNotice
from dlqueue.queue.record import Change, Event
from dlqueue.runtime.bus import Bus, Missed, Subscription
from dlqueue.service.schedules import notice_data
from dlqueue.service.views import error_view, progress_view

BUFFER = 2000
"""Messages that may wait for a slow reader before it misses some."""
REPLAY = 500
"""Events read from the store at once."""


class _Past:
    """Which stored events a reader may see: they do not tell whose they are."""

    def __init__(self, queue: Queue, ids: frozenset[int] | None, sees: Callable[[str], bool]) -> None:
        self._queue = queue
        self._ids = ids
        self._sees = sees
        self._owners: dict[int, str | None] = {}

    async def shows(self, event: Event) -> bool:
        if self._ids is not None and event.task_id not in self._ids:
            return False
        if event.task_id not in self._owners:
            try:
                self._owners[event.task_id] = (await self._queue.get(event.task_id)).owner
            except TaskNotFound:
                self._owners[event.task_id] = None
        owner = self._owners[event.task_id]
        return owner is not None and self._sees(owner)


async def past_events(queue: Queue, params: ListEvents, sees: Callable[[str], bool]) -> EventPage:
    """A page of what is kept. A page may be empty and yet have a next one: what is not the reader's is left out."""
    past = _Past(queue, None if params.task_ids is None else frozenset(params.task_ids), sees)
    limit = params.limit or 100
    events = await queue.events(params.after(), limit)
    items: list[PastEvent] = [
        {
            "sequence": event.sequence,
            "topic": "task",
            "task_id": event.task_id,
            "at": instant_text(event.at),
            "data": _event_data(event),
        }
        for event in events
        if await past.shows(event)
    ]
    return {"items": items, "next_cursor": str(events[-1].sequence) if len(events) == limit else None, "total": None}


class EventStream:
    """An async iterator over the params of ``event`` notifications. ``close`` ends it.

    :param sees: may the subscriber see the tasks of this owner?
    """

    def __init__(
        self, queue: Queue, downloaders: Bus[DownloaderNotice], params: Subscribe, sees: Callable[[str], bool]
    ) -> None:
        self.id = uuid.uuid4().hex[:16]
        self._queue = queue
        self._since = params.since
        self._topics = frozenset(params.topics or get_args(Topic if params.task_ids is None else TaskTopic))
        self._ids = None if params.task_ids is None else frozenset(params.task_ids)
        self._sees = sees
        # Subscribed before anything is read from the store: nothing falls between the two.
        self._live: Subscription[Notice | DownloaderNotice] = Subscription(self._wanted, BUFFER)
        if self._topics - {"downloader"}:
            queue.bus.join(self._live)
        if "downloader" in self._topics:
            downloaders.join(self._live)
        self._past = _Past(queue, self._ids, sees)

    def close(self) -> None:
        """End the iteration, a pending read too."""
        self._live.close()

    def _wanted(self, notice: Notice | DownloaderNotice) -> bool:
        if isinstance(notice, DownloaderNotice):
            return True  # everybody may list them
        if isinstance(notice, QueueNotice):
            return "queue" in self._topics
        task_id: int | None
        if isinstance(notice, Change):
            task_id, owner, topic = notice.record.id, notice.record.owner, "task"
        elif isinstance(notice, ScheduleNotice):
            task_id, owner, topic = notice.task_id, notice.schedule.owner, "schedule"
        else:
            task_id, owner, topic = notice.task_id, notice.owner, "progress"
        return topic in self._topics and (self._ids is None or task_id in self._ids) and self._sees(owner)

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        last = self._since
        while last is not None and "task" in self._topics:
            events = await self._queue.events(last, REPLAY)
            for event in events:
                last = event.sequence
                if await self._past.shows(event):
                    yield self._message(event.sequence, "task", event.at, event.task_id, _event_data(event))
            if len(events) < REPLAY:
                break
        async for notice in self._live:
            if isinstance(notice, Missed):
                yield self._message(None, "missed", self._queue.clock.time(), None, {"count": notice.count})
            elif isinstance(notice, ProgressReport):
                data = {"progress": progress_view(notice.progress)}
                yield self._message(None, "progress", notice.at, notice.task_id, data)
            elif isinstance(notice, QueueNotice):
                yield self._message(None, "queue", notice.at, None, _queue_data(notice))
            elif isinstance(notice, DownloaderNotice):
                yield self._message(None, "downloader", notice.at, None, _downloader_data(notice))
            elif isinstance(notice, ScheduleNotice):
                yield self._message(None, "schedule", notice.at, notice.task_id, notice_data(notice))
            elif last is None or notice.sequence > last:
                yield self._message(notice.sequence, "task", notice.at, notice.record.id, _change_data(notice))

    def _message(
        self, sequence: int | None, topic: str, at: float, task_id: int | None, data: dict[str, Any]
    ) -> dict[str, Any]:
        message = {"subscription": self.id, "sequence": sequence, "topic": topic, "at": instant_text(at), "data": data}
        if task_id is not None:
            message["task_id"] = task_id
        return message


def _queue_data(notice: QueueNotice) -> dict[str, Any]:
    told = {"settings": notice.settings} if notice.settings else {}
    return {"kind": notice.kind, "queue": notice.queue, **told}


def _downloader_data(notice: DownloaderNotice) -> dict[str, Any]:
    return {
        "kind": notice.kind,
        "name": notice.name,
        "health": notice.health,
        "breaker": "open" if notice.open else "closed",
        "paused": notice.paused,
        "last_error": notice.last_error,
    }


def _change_data(change: Change) -> dict[str, Any]:
    record = change.record
    data: dict[str, Any] = {
        "kind": change.kind,
        "from": None if change.source is None else str(change.source),
        "status": str(record.status),
        "want": str(record.want),
        "type": record.type,
        "queue": record.queue,
        "revision": record.revision,
    }
    return _with_details(data, change.message, change)


def _event_data(event: Event) -> dict[str, Any]:
    data: dict[str, Any] = {
        "kind": event.kind,
        "from": None if event.source is None else str(event.source),
        "status": None if event.target is None else str(event.target),
    }
    return _with_details(data, event.message, event)


def _with_details(data: dict[str, Any], message: str | None, told: Change | Event) -> dict[str, Any]:
    if message is not None:
        data["message"] = message
    error = error_view(told.error)
    if error is not None:
        data["error"] = error
    return data
