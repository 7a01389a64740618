"""Runs what is to be done after a task's end, until it is done: durable, and repeated on failure."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Mapping, Sequence
from functools import partial

from msgspec import UnsetType

from dlqueue.queue import transitions
from dlqueue.queue.errors import CriticalError, QueueError, StorageError
from dlqueue.queue.record import Change, Json, Progress, TaskRecord
from dlqueue.queue.store import Store
from dlqueue.queue.task import Context, LeaseLost, Task
from dlqueue.queue.temporary import TemporaryFolders
from dlqueue.runtime.clock import Clock, sleep
from dlqueue.runtime.logcontext import task_context

log = logging.getLogger(__name__)

AT_ONCE = 8
WINDOW = 1000
"""Clean-ups that are in memory; more of them wait in the store."""
FIRST_RETRY = 1.0
LAST_RETRY = 600.0
"""Seconds between tries of a clean-up that fails, doubling from the first to the last."""


class Cleaner:
    """Belongs to a running queue."""

    def __init__(
        self, store: Store, clock: Clock, types: Mapping[str, Task], node: str, folders: TemporaryFolders
    ) -> None:
        self._store = store
        self._clock = clock
        self._types = types
        self._node = node
        self._folders = folders
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._again: set[int] = set()
        self._watched: dict[int, list[asyncio.Future[None]]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._stopped = False
        self._after = 0
        """Above this id there may be clean-ups in the store that had no room here."""
        self._filling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take up what an earlier run left."""
        await self._fill()

    async def _fill(self) -> None:
        delay = FIRST_RETRY
        left: Sequence[int] | None = None
        while left is None:
            room, after = WINDOW - len(self._tasks), self._after
            self._after = sys.maxsize  # what has no room while the store is asked sets it back
            try:
                left = await self._store.cleanups(room, after)
            except StorageError as error:
                self._after = min(self._after, after)
                log.warning("clean-ups that are due cannot be read: %s; next try in %g s", error, delay)
                await sleep(self._clock, delay)
                delay = min(delay * 2, LAST_RETRY)
            else:
                if len(left) == room:
                    self._after = min(self._after, left[-1])
        for task_id in left:
            self._begin(task_id)

    async def stop(self) -> None:
        """What is not done stays due."""
        self._stopped = True
        for task in self._tasks.values():
            task.cancel()
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.gather(self._filling, return_exceptions=True)
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def note(self, record: TaskRecord) -> None:
        """A task has changed."""
        running = self._tasks.get(record.id)
        if not record.final:
            self._again.discard(record.id)
            if running is not None:
                running.cancel()  # it lives again
        elif record.cleanup and running is None:
            self._begin(record.id)
        elif record.cleanup and record.node != self._node:
            # Not the mark of the clean-up itself: whether it still sees this is open, so one more look at its end.
            self._again.add(record.id)

    async def tried(self, task_id: int) -> None:
        """Wait until a clean-up that is due has been run once, well or not."""
        if task_id in self._tasks and not self._stopped:
            seen: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._watched.setdefault(task_id, []).append(seen)
            await seen

    def _tell(self, task_id: int) -> None:
        for seen in self._watched.pop(task_id, ()):
            if not seen.done():
                seen.set_result(None)

    def _begin(self, task_id: int) -> None:
        if len(self._tasks) >= WINDOW:
            self._after = min(self._after, task_id - 1)
        elif task_id not in self._tasks and not self._stopped:
            task = self._tasks[task_id] = asyncio.create_task(self._clean(task_id), name=f"dlqueue-cleanup-{task_id}")
            task.add_done_callback(partial(self._ended, task_id))

    def _ended(self, task_id: int, _: object) -> None:
        del self._tasks[task_id]
        self._tell(task_id)
        if task_id in self._again:
            self._again.discard(task_id)
            self._begin(task_id)
        filling = self._filling is not None and not self._filling.done()
        if self._after < sys.maxsize and not filling and not self._stopped and len(self._tasks) < WINDOW // 2:
            self._filling = asyncio.create_task(self._fill(), name="dlqueue-cleanups")

    async def _clean(self, task_id: int) -> None:
        delay = FIRST_RETRY
        while True:
            try:
                async with self._slots:
                    again = await self._try(task_id)
                if not again:
                    return
                continue
            except LeaseLost:
                return
            except Exception as error:  # noqa: BLE001 - whatever it raises, it is tried again
                log.warning("task %d: its clean-up failed (%s); next try in %g s", task_id, error, delay)
            self._tell(task_id)
            await sleep(self._clock, delay)
            delay = min(delay * 2, LAST_RETRY)

    async def _try(self, task_id: int) -> bool:
        """True if there is one more to be run, at once."""
        now = self._clock.time()
        (answer,) = await self._store.transact(
            [(task_id, partial(transitions.begin_cleanup, node=self._node, now=now))]
        )
        if not isinstance(answer, Change):
            return False
        record = answer.record
        task = self._types.get(record.type)
        if task is None:
            return False  # kept until a program that knows the type comes
        state = record.state
        with task_context(record.id, record.correlation_id):
            try:
                context = Context(task, record, partial(self._save, record), folders=self._folders)
            except (CriticalError, QueueError) as error:
                log.warning("task %d: nothing cleaned up: %s", task_id, error)
            else:
                if task.has_cleanup():
                    await task.cleanup(context)
                    state = context.saved_state()
        (ended,) = await self._store.transact(
            [(task_id, partial(_end, begun=record, state=state, now=self._clock.time(), done=True))]
        )
        # A removal asked for in between wants one more round, with what it asked for.
        return isinstance(ended, Change) and bool(ended.record.cleanup) and not ended.delete

    async def _save(
        self, record: TaskRecord, state: bytes, progress: Progress | None, result: Json | UnsetType
    ) -> None:
        now = self._clock.time()
        (answer,) = await self._store.transact(
            [(record.id, partial(_end, begun=record, state=state, now=now, done=False))]
        )
        if not isinstance(answer, Change):
            raise LeaseLost(f"task {record.id} was taken away from its clean-up")


def _end(record: TaskRecord, *, begun: TaskRecord, state: bytes | None, now: float, done: bool) -> Change | None:
    return transitions.end_cleanup(record, begun, state, now, done)
