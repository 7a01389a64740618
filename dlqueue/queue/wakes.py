"""Wakes that the database refused are repeated until it takes them: a task that waits to be woken has nothing else."""

from __future__ import annotations

import asyncio
import logging

from dlqueue.queue.errors import StorageError
from dlqueue.queue.store import Store
from dlqueue.runtime.clock import Clock, sleep

log = logging.getLogger(__name__)

AGAIN = 0.5
AGAIN_MAX = 5.0
"""Seconds between tries, doubling."""


class Wakes:
    """Belongs to a running queue."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._missed: dict[str, int | None] = {}
        self._repeater: asyncio.Task[None] | None = None

    async def wake(self, hold: str, n: int | None) -> int:
        """`Store.wake`. :raises StorageError: not now, but it will be done."""
        try:
            return await self._store.wake(hold, n, self._clock.time())
        except StorageError:
            before = self._missed.get(hold, 0)
            self._missed[hold] = None if n is None or before is None else before + n
            if self._repeater is None or self._repeater.done():
                self._repeater = asyncio.create_task(self._repeat(), name="dlqueue-wakes")
            raise

    def stop(self) -> asyncio.Task[None] | None:
        """Answers what is about to end."""
        if self._repeater is not None:
            self._repeater.cancel()
        return self._repeater

    async def _repeat(self) -> None:
        delay = AGAIN
        while self._missed:
            await sleep(self._clock, delay)
            hold, n = next(iter(self._missed.items()))
            try:
                await self._store.wake(hold, n, self._clock.time())
            except StorageError as error:
                delay = min(2 * delay, AGAIN_MAX)
                log.debug("tasks that hold %s cannot be woken yet: %s", hold, error)
            else:
                delay = 0.0
                if self._missed.get(hold, 0) == n:
                    del self._missed[hold]
