"""The verbs about named queues: for everybody to look at, for admins to change."""

from __future__ import annotations

from dlqueue.protocol import queues as messages
from dlqueue.protocol.caller import Caller
from dlqueue.queue import NamedQueue, Queue
from dlqueue.service.access import Access


class QueueVerbs:
    """What `Service` has as ``queues_*``."""

    def __init__(self, queue: Queue, access: Access) -> None:
        self._queues = queue.queues
        self._access = access

    async def list(self, params: messages.ListQueues) -> messages.QueuePage:
        queues = await self._queues.list()
        rest = [queue for queue in queues if params.cursor is None or queue.name > params.cursor]
        limit = params.limit or 100
        following = rest[limit - 1].name if len(rest) > limit else None
        return {"items": [_view(queue) for queue in rest[:limit]], "next_cursor": following, "total": len(queues)}

    async def get(self, params: messages.QueueName) -> messages.Queue:
        return _view(await self._queues.get(params.name))

    async def stats(self, params: messages.QueueName) -> messages.QueueStats:
        return _stats(await self._queues.get(params.name))

    async def create(self, caller: Caller, params: messages.CreateQueue) -> messages.Queue:
        self._access.require_admin(caller, "queues.create")
        return _view(await self._queues.create(params.name, **params.settings()))

    async def update(self, caller: Caller, params: messages.UpdateQueue) -> messages.Queue:
        self._access.require_admin(caller, "queues.update")
        return _view(await self._queues.update(params.name, reset=params.reset or (), **params.settings()))

    async def pause(self, caller: Caller, params: messages.QueueName) -> messages.Queue:
        self._access.require_admin(caller, "queues.pause")
        return _view(await self._queues.pause(params.name))

    async def resume(self, caller: Caller, params: messages.QueueName) -> messages.Queue:
        self._access.require_admin(caller, "queues.resume")
        return _view(await self._queues.resume(params.name))


def _stats(queue: NamedQueue) -> messages.QueueStats:
    return {
        "pending": queue.pending,
        "running": queue.running,
        "completed": queue.completed,
        "failed": queue.failed,
        "size": queue.size,
        "capacity": queue.settings.capacity,
        "concurrency": queue.settings.concurrency or 1,
    }


def _view(queue: NamedQueue) -> messages.Queue:
    settings = queue.settings
    return {
        "name": queue.name,
        **_stats(queue),
        "rate": settings.rate,
        "ageing": settings.ageing,
        "max_retry": settings.max_retry or 0,
        "retry_delay": settings.retry_delay or 0.0,
        "backoff_factor": settings.backoff_factor or 1.0,
        "backoff_max": settings.backoff_max or 0.0,
        "paused": queue.paused,
        "changed": list(queue.changed),
    }
