"""Who hears of what: subscribers, those who wait for a task, and the counters. All after the commit, never before."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from dlqueue.queue.errors import QueueClosed, WaitTimeout
from dlqueue.queue.record import Change, Json, Progress, TaskRecord
from dlqueue.queue.schedule import Run, Schedule
from dlqueue.queue.status import Status
from dlqueue.queue.store import Store
from dlqueue.queue.task import Context
from dlqueue.runtime.bus import Bus
from dlqueue.runtime.clock import Clock, sleep
from dlqueue.runtime.logcontext import task_context

log = logging.getLogger(__name__)

PROGRESS_EVERY = 0.2
"""Seconds between two progress reports of one step to subscribers."""


class ProgressReport(msgspec.Struct, frozen=True):
    """A running step told how far it is."""

    task_id: int
    owner: str
    at: float
    progress: Progress


class QueueNotice(msgspec.Struct, frozen=True):
    """Something happened to a queue itself."""

    queue: str
    kind: str
    """``created changed paused resumed``, or ``full``: from now on submits are refused or wait."""
    at: float
    settings: dict[str, Json] = {}
    """What was set, where something was; None = as the program says again."""


class ScheduleNotice(msgspec.Struct, frozen=True):
    """Something has become of a schedule."""

    kind: str
    """``created updated paused resumed deleted``; ``fired``: it has made a task; ``skipped refused``: it has not."""
    schedule: Schedule
    run: Run | None
    at: float

    @property
    def task_id(self) -> int | None:
        """The task that was made."""
        return None if self.run is None else self.run.task_id


Notice = Change | ProgressReport | QueueNotice | ScheduleNotice
"""What subscribers hear: every committed change that has an event, progress in between, queues and schedules."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Since this queue was started; ``busy_workers`` and ``suspending`` are as of now."""

    busy_workers: int
    submitted: int
    completed: int
    failed: int
    canceled: int
    suspending: int


@dataclass(frozen=True, slots=True)
class _Waiter:
    until: str
    future: asyncio.Future[TaskRecord]

    def wants(self, record: TaskRecord) -> bool:
        """Is this what it waits for?"""
        return record.final if self.until == "final" else record.delivered


class Notices:
    """Belongs to the event loop of its queue."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.bus: Bus[Notice] = Bus()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.lease_of: Callable[[int], int | None] = lambda task_id: None
        """Of the step of a task that is running, as far as has been told."""
        self._waiters: dict[int, list[_Waiter]] = {}
        self._counts = {"submitted": 0, "completed": 0, "error": 0, "canceled": 0, "suspending": 0}
        self._reported: dict[int, float] = {}

    def open(self, suspending: int) -> None:
        """Take up a store in which so many tasks are suspended."""
        self.loop = asyncio.get_running_loop()
        self._counts["suspending"] = suspending

    def close(self) -> None:
        """Nothing will happen any more: who waits is told."""
        for waiters in self._waiters.values():
            for waiter in waiters:
                if not waiter.future.done():
                    waiter.future.set_exception(QueueClosed("the queue has stopped"))

    def tell(self, change: Change) -> None:
        """A change has been committed."""
        self._count(change)
        record = change.record
        if record.status is Status.ERROR and change.source is not Status.ERROR and record.error is not None:
            with task_context(record.id, record.correlation_id):
                log.info("has failed: %s: %s", record.error.kind, record.error.message)
        if change.kind and self.bus.listened_to:
            self.bus.publish(change)
        for waiter in self._waiters.get(change.record.id, ()):
            if waiter.wants(change.record) and not waiter.future.done():
                waiter.future.set_result(change.record)

    def counters(self, busy: int) -> Counters:
        """As of now."""
        counts = self._counts
        return Counters(
            busy,
            counts["submitted"],
            counts["completed"],
            counts["error"],
            counts["canceled"],
            counts["suspending"],
        )

    def _count(self, change: Change) -> None:
        status, source = change.record.status, change.source
        if source is None:
            self._counts["submitted"] += 1
        if status is source:
            return
        if status in self._counts:
            self._counts[status] += 1
        if source is Status.SUSPENDING:
            self._counts["suspending"] -= 1

    def tell_of_queue(self, queue: str, kind: str, settings: dict[str, Json] | None = None) -> None:
        """Something happened to a queue itself."""
        self.bus.publish(QueueNotice(queue, kind, self._clock.time(), settings or {}))

    def publish_progress(self, task_id: int, owner: str, progress: Progress) -> None:
        """Tell subscribers how far a task is that is between two of its steps."""
        if self.bus.listened_to:
            self.bus.publish(ProgressReport(task_id, owner, self._clock.time(), progress))

    def report(self, context: Context) -> None:
        if not self.bus.listened_to:
            return
        now = self._clock.time()
        if now - self._reported.get(context.task_id, 0.0) < PROGRESS_EVERY or context.latest_progress is None:
            return
        if len(self._reported) > 10_000:
            self._reported.clear()
        self._reported[context.task_id] = now
        report = ProgressReport(context.task_id, context.owner, now, context.latest_progress)
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # a blocking step, in its thread
            self._loop_call(report)
        else:
            self.bus.publish(report)

    def _loop_call(self, report: ProgressReport) -> None:
        loop = self.loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self.bus.publish, report)

    async def wait(
        self, task_id: int, timeout: float | None = None, until: Literal["final", "delivered"] = "final"
    ) -> TaskRecord:
        """The task once it is final (or delivered: its result is there, or never will be).

        :raises TaskNotFound: there is none, or it was removed meanwhile.
        :raises WaitTimeout: not within ``timeout`` seconds.
        """
        waiter = _Waiter(until, asyncio.get_running_loop().create_future())
        # Asked for before looking, so that nothing can happen between the two.
        self._waiters.setdefault(task_id, []).append(waiter)
        giving_up: asyncio.Future[None] | None = None
        try:
            record = await self._store.get(task_id)
            if waiter.wants(record):
                if record.final and record.lease_token == self.lease_of(task_id):
                    # Read before it was told: whoever hears of the end sees it counted, and its worker free.
                    await waiter.future
                return record
            if timeout is None:
                return await waiter.future
            giving_up = asyncio.ensure_future(sleep(self._clock, timeout))
            either: set[asyncio.Future[Any]] = {waiter.future, giving_up}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not waiter.future.done():
                raise WaitTimeout(f"task {task_id} is not {until} after {timeout:.3g} s")
            return waiter.future.result()
        finally:
            if giving_up is not None:
                giving_up.cancel()
            self._waiters[task_id].remove(waiter)
            if not self._waiters[task_id]:
                del self._waiters[task_id]
