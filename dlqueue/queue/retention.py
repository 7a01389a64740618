"""What has ended long ago goes: in small batches on a schedule of its own, and when a person says so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from dlqueue.queue.errors import InvalidTask, QueueClosed, StorageError
from dlqueue.queue.figures import HOUR
from dlqueue.queue.record import Filter
from dlqueue.queue.status import FINAL
from dlqueue.queue.store import Store
from dlqueue.queue.task import Task
from dlqueue.runtime.clock import Clock, sleep

log = logging.getLogger(__name__)

KEPT = 30 * 86400.0
"""Seconds that tasks are kept after their end, where nothing else is said."""
BATCH = 200
"""Tasks that go in one transaction: some milliseconds, so that nobody waits for them."""
FIRST_ROUND = 90.0
EVERY = 3600.0
"""Seconds from the start to the first look, and between two."""
PAUSE = 0.1
"""Seconds between two batches of a round, in which others write."""


class Retention:
    """Belongs to a running queue.

    :param kept: seconds that a task is kept after its end; None = for ever.
    """

    def __init__(self, store: Store, clock: Clock, types: Mapping[str, Task], kept: float | None) -> None:
        self._store = store
        self._clock = clock
        self._types = types
        self._kept = kept
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._rounds(), name="dlqueue-retention")

    async def stop(self) -> None:
        """What is left goes after the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def keep(self, kept: float | None) -> None:
        """From now on so long; if that is another time, the next round begins at once."""
        if kept != self._kept:
            self._kept = kept
            self._changed.set()

    async def purge(self, filter: Filter, older_than: float, pause: float = 0.0) -> int:
        """Forget the tasks that match and ended more than ``older_than`` seconds ago; answers how many.

        A task stays if its clean-up is due, or if an unfinished task depends on it. One of a type with a clean-up that
        failed or was canceled is counted, hidden, and goes when its clean-up has run.

        :raises InvalidTask: the filter asks for tasks that have not ended.
        """
        if filter.status and not FINAL.issuperset(filter.status):
            raise InvalidTask("only tasks that have ended can be purged: completed, error or canceled", "status")
        before = self._clock.time() - older_than
        count, after = 0, (0.0, 0)
        while True:
            found = await self._store.expired(filter, before, BATCH, after)
            if found:
                cleaned = {name for name, task in self._types.items() if task.has_cleanup()}
                ids = [task_id for _, task_id in found]
                count += await self._store.purge(ids, before, cleaned, self._clock.time())
                after = found[-1]
            if len(found) < BATCH:
                return count
            if pause:
                await sleep(self._clock, pause)

    async def _rounds(self) -> None:
        wait = FIRST_ROUND
        while True:
            await self._wait(wait)
            wait = EVERY
            try:
                await self._store.forget_hours(int(self._clock.time() // HOUR))
                if self._kept is not None and (count := await self.purge(Filter(), self._kept, PAUSE)):
                    log.info("%d tasks that ended more than %.3g days ago are forgotten", count, self._kept / 86400)
            except StorageError as error:
                log.warning("old tasks cannot be removed now: %s", error)
            except QueueClosed:
                return
            except Exception:
                log.exception("old tasks cannot be removed now")

    async def _wait(self, seconds: float) -> None:
        """So long, or until something else is to be kept."""
        waiting = {asyncio.ensure_future(sleep(self._clock, seconds)), asyncio.ensure_future(self._changed.wait())}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
        self._changed.clear()
