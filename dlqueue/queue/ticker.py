"""Fires schedules when they are due. One timer for the earliest of a window of what is due soon; nothing is polled."""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from dlqueue.queue.errors import InvalidTask, QueueClosed, QuotaExceeded, StorageError
from dlqueue.queue.quotas import Promises, Quotas
from dlqueue.queue.record import NewTask
from dlqueue.queue.schedule import REFUSED, SKIPPED, RunKind, Schedule, Tick, Ticked, Wanted, occurrences
from dlqueue.queue.settings import Lanes
from dlqueue.queue.store import Store
from dlqueue.queue.submission import Preparer
from dlqueue.queue.task import Task
from dlqueue.runtime.clock import Clock, sleep
from dlqueue.runtime.failpoint import reach

log = logging.getLogger(__name__)

WINDOW = 1000
"""Schedules that are kept in memory: those that are due first."""
AT_ONCE = 200
"""Ticks in one transaction at most, so that the steps of tasks get their turn."""
GRACE = 10.0
"""Seconds that a tick may be late, because there is much to do, and still be no missed one."""
STORE_RETRY = 0.5
STORE_RETRY_MAX = 10.0
LABEL = "schedule"
"""The label of tasks that a schedule made; its value is the name."""


class Ticker:
    """:param told: is told of every tick after its commit.

    :param cancel: stops the running step of a task that is to be cancelled.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        preparer: Preparer,
        lanes: Lanes,
        types: Mapping[str, Task],
        told: Callable[[Ticked], None],
        cancel: Callable[[int], Awaitable[object]],
        quotas: Quotas,
    ) -> None:
        self._quotas = quotas
        self._store = store
        self._clock = clock
        self._preparer = preparer
        self._lanes = lanes
        self._types = types
        self._told = told
        self._cancel = cancel
        self._known: dict[str, Schedule] = {}
        self._heap: list[tuple[float, str]] = []
        """May hold entries that have been overtaken: those do not agree with ``_known``."""
        self._edge: float | None = None
        """What is due later is not in the window; None = all are in it."""
        self._stale = True
        self._reading = False
        self._changed = asyncio.Event()
        self._since = 0.0
        self._cancels: set[asyncio.Future[object]] = set()
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._since = self._clock.time()
        self.task = asyncio.create_task(self._run(), name="dlqueue-ticker")

    async def stop(self) -> None:
        """No more ticks. One that is being written is written all the same, and its tasks wait for the next start."""
        tasks = [task for task in (self.task, *self._cancels) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def note(self, schedule: Schedule | None, name: str) -> None:
        """A schedule has changed; None = it is gone."""
        self._known.pop(name, None)
        if self._reading:
            self._stale = True  # what is being read may be older
        elif schedule is not None:
            self._keep(schedule)
        self._changed.set()

    def _keep(self, schedule: Schedule) -> None:
        when = schedule.next_run
        if not schedule.active or when is None or (self._edge is not None and when > self._edge):
            self._known.pop(schedule.name, None)
            return
        self._known[schedule.name] = schedule
        heapq.heappush(self._heap, (when, schedule.name))

    # -- the loop -----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        delay = STORE_RETRY
        while True:
            try:
                earliest = await self._round()
                delay = STORE_RETRY
            except QueueClosed:
                return
            except Exception as error:
                # Whatever it is, the other schedules must not stand still because of it.
                if isinstance(error, StorageError):
                    log.warning("schedules cannot be looked at: %s; next try in %g s", error, delay)
                else:
                    log.exception("a defect while firing schedules; next try in %g s", delay)
                self._stale = True
                await sleep(self._clock, delay)
                delay = min(delay * 2, STORE_RETRY_MAX)
                continue
            await self._until(earliest)

    async def _until(self, when: float | None) -> None:
        """Until then, or until something changes."""
        if when is None:
            await self._changed.wait()
            return
        timer = self._clock.call_at(when, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            timer.cancel()

    async def _round(self) -> float | None:
        """Fire what is due; answers when there will be something again."""
        while True:
            self._changed.clear()
            if self._stale or (self._first() is None and self._edge is not None):
                await self._fill()
            now = self._clock.time()
            self._since = min(self._since, now)  # somebody has set the clock back
            due = self._due(now)
            if not due:
                return self._first()
            await self._fire(due, now)

    def _first(self) -> float | None:
        while self._heap:
            when, name = self._heap[0]
            known = self._known.get(name)
            if known is not None and known.next_run == when:
                return when
            heapq.heappop(self._heap)
        return None

    def _due(self, now: float) -> list[Schedule]:
        found: dict[str, Schedule] = {}
        while len(found) < AT_ONCE and (first := self._first()) is not None and first <= now:
            _, name = heapq.heappop(self._heap)
            found[name] = self._known.pop(name)
        return list(found.values())

    async def _fill(self) -> None:
        self._stale, self._reading = False, True
        try:
            found = await self._store.due_schedules(WINDOW)
        finally:
            self._reading = False
        self._known.clear()
        self._heap.clear()
        self._edge = found[-1].next_run if len(found) == WINDOW else None
        for schedule in found:
            self._keep(schedule)

    # -- firing -------------------------------------------------------------------------------------------------------

    async def _fire(self, due: Sequence[Schedule], now: float) -> None:
        answers = await self.write([self._planned(schedule, now) for schedule in due])
        for schedule, answer in zip(due, answers, strict=True):
            if answer is None:  # somebody else was first, or it has been changed
                log.debug("schedule %s was ticked or changed by somebody else", schedule.name)
                self._stale = True
            elif schedule.name not in self._known:
                self._keep(answer.schedule)

    def _planned(self, schedule: Schedule, now: float) -> Tick:
        due = schedule.next_run
        assert due is not None
        try:
            was_there = due >= self._since and now - due <= GRACE
            runs, left_out, following = occurrences(schedule, now, was_there)
        except Exception as error:  # noqa: BLE001 - a time zone that this machine does not have any more, say
            log.warning("schedule %s is not due any more until it is changed: %s", schedule.name, error)
            lost = Wanted(due_at=due, kind="tick", status=REFUSED, message=str(error))
            return self._tick(schedule, None, [lost], now)
        wanted = [self._wanted(schedule, when, kind) for when, kind in runs]
        if left_out:
            wanted.append(Wanted(due_at=due, kind="missed", status=SKIPPED, message=left_out))
        return self._tick(schedule, following, wanted, now)

    def _tick(self, schedule: Schedule, following: float | None, runs: Sequence[Wanted], now: float) -> Tick:
        return Tick(
            name=schedule.name,
            revision=schedule.revision,
            next_run=following,
            runs=runs,
            at=now,
            needs_cleanup=self.needs_cleanup,
        )

    def needs_cleanup(self, type: str) -> bool:
        """Has this type of task something to clean up?"""
        task = self._types.get(type)
        return task is None or task.has_cleanup()

    def prepared(self, schedule: Schedule) -> NewTask:
        """The task of a run. Never with a key: each run is a task of its own, whatever the one before is doing.

        :raises InvalidTask: it cannot be right.
        """
        return self._preparer.prepare(
            schedule.type,
            schedule.params,
            queue=schedule.queue,
            owner=schedule.owner,
            cwd=schedule.cwd,
            labels={LABEL: schedule.name},
        )

    def _wanted(self, schedule: Schedule, due_at: float, kind: RunKind) -> Wanted:
        """A run; one that makes no task and says why, if its params cannot be right."""
        try:
            return Wanted(due_at=due_at, kind=kind, task=self.prepared(schedule))
        except InvalidTask as error:
            message = str(error)
            log.warning("schedule %s: no task is made: %s", schedule.name, message)
        except Exception as error:  # a class that fails must not stop the other schedules
            message = f"{type(error).__name__} in validate of {schedule.type}: {error}"
            log.exception("schedule %s: no task is made", schedule.name)
        return Wanted(due_at=due_at, kind=kind, status=REFUSED, message=message[:2000])

    async def write(self, ticks: Sequence[Tick], strict: bool = False) -> Sequence[Ticked | None]:
        """Commit them, tell of them, and stop what they replace.

        :param strict: False: a task that its owner may not have is logged as refused.
        :raises QuotaExceeded: with ``strict``.
        """
        promise, ticks = self._promise(ticks, strict)
        queues = {run.task.queue for tick in ticks for run in tick.runs if run.task is not None}
        rooms = {name: room for name in queues if (room := self._lanes.capacity(name)) is not None}

        def made(answers: Sequence[Ticked | None]) -> list[NewTask]:
            ticked = [(tick, answer) for tick, answer in zip(ticks, answers, strict=True) if answer is not None]
            runs = [pair for tick, answer in ticked for pair in zip(tick.runs, answer.runs, strict=True)]
            return [wanted.task for wanted, run in runs if wanted.task is not None and run.task_id is not None]

        answers = await self._quotas.promised(promise, self._store.tick(ticks, rooms), made)
        reach("ticked")
        for answer in answers:
            if answer is not None:
                self._told(answer)
                for task_id in answer.replaced:
                    self._stop_step(task_id)
        return answers

    def _promise(self, ticks: Sequence[Tick], strict: bool) -> tuple[Promises, Sequence[Tick]]:
        """Room for their tasks, and the ticks with the runs refused for which there is none."""
        promise: Promises = {}
        allowed = []
        for tick in ticks:
            runs = []
            for wanted in tick.runs:
                run = wanted
                try:
                    promise = self._quotas.promise(() if run.task is None else (run.task,), promise)
                except QuotaExceeded as error:
                    if strict:
                        raise
                    log.warning("schedule %s: no task is made: %s", tick.name, error)
                    run = Wanted(due_at=run.due_at, kind=run.kind, status=REFUSED, message=str(error))
                runs.append(run)
            allowed.append(msgspec.structs.replace(tick, runs=runs))
        return promise, allowed

    def _stop_step(self, task_id: int) -> None:
        async def stop() -> None:
            try:
                await self._cancel(task_id)
            except Exception as error:  # noqa: BLE001 - it ended by itself, most likely; else its want is stored
                log.info("task %d, which a later run replaces: %s", task_id, error)

        future: asyncio.Future[object] = asyncio.ensure_future(stop())
        self._cancels.add(future)
        future.add_done_callback(self._cancels.discard)
