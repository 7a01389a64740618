"""Workers: take what is due, run one step, write how it ended. Refills when a slot frees, never on a timer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from msgspec import UNSET, UnsetType

from dlqueue.queue import transitions
from dlqueue.queue.admission import Admission
from dlqueue.queue.agenda import WINDOW, Agenda, Lane
from dlqueue.queue.errors import CriticalError, QueueClosed, QueueError, StorageError
from dlqueue.queue.meters import Meters
from dlqueue.queue.rate import Rates
from dlqueue.queue.record import (
    Answer,
    Change,
    Decide,
    Due,
    Json,
    NewTask,
    Progress,
    Submission,
    TaskError,
    TaskRecord,
)
from dlqueue.queue.runner import Interrupt, run_step
from dlqueue.queue.settings import Lanes
from dlqueue.queue.status import Status
from dlqueue.queue.store import Store
from dlqueue.queue.task import Context, LeaseLost, Task
from dlqueue.queue.temporary import TemporaryFolders
from dlqueue.queue.transitions import Settlement
from dlqueue.runtime.clock import Clock, Timer, sleep
from dlqueue.runtime.logcontext import task_context

log = logging.getLogger(__name__)

STORE_RETRY = 0.5
STORE_RETRY_MAX = 5.0
"""Seconds between tries of a write that the database refused; doubling."""
WAKES_KEPT = 1000
SLACK = 0.02
"""Seconds from one look at what has become due to the next: a thousand tasks that sleep are claimed in a few dozen
transactions, not each in one of its own."""
TOGETHER = 0.002
"""Seconds in which submits have the same time: a store writes what is alike faster."""
PROGRESS_SAVED = 5.0
"""Seconds between two writes of the progress of a step that is still running."""


class Pool:
    """``workers`` long-lived coroutines and one dispatcher."""

    def __init__(
        self,
        store: Store,
        agenda: Agenda,
        clock: Clock,
        types: Mapping[str, Task],
        node: str,
        lanes: Lanes,
        report: Callable[[Context], None],
        admission: Admission,
        folders: TemporaryFolders,
        meters: Meters,
    ) -> None:
        self._store = store
        self._agenda = agenda
        self._clock = clock
        self._types = types
        self._node = node
        self._lanes = lanes
        self._report = report
        self.rates = Rates()
        self._admission = admission
        self._folders = folders
        self._meters = meters
        self._idle: list[asyncio.Future[TaskRecord]] = []
        self._in_lane: Counter[str] = Counter()
        self._promised: Counter[str] = Counter()
        """Steps of each queue that may begin with what is being written."""
        self._changed = asyncio.Event()
        self._timer: Timer | None = None
        self._woke = 0.0
        """When the timer was set off last."""
        self._lately = 0.0
        """When the newest tasks were submitted."""
        self._running: dict[int, Interrupt] = {}
        self._overrun: set[asyncio.Future[object]] = set()
        self._ended = asyncio.Event()
        self._stopping = False
        self._wakes: dict[str, int] = {}
        self._wake_patterns: dict[str, int] = {}
        self._wake_count = 0
        self._forgotten = 0
        """The latest wake that is not in ``_wakes`` any more."""
        self._dispatcher: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._workers = 0
        """Coroutines that work. After the limit was lowered there are more of them than may be busy."""

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.resized()
        self._dispatcher = asyncio.create_task(self._dispatch(), name="dlqueue-dispatch")
        self._tasks.append(asyncio.create_task(self._save_progress(), name="dlqueue-progress"))

    def resized(self) -> None:
        """The lanes have other limits now. Steps that run beyond a lower one are let through."""
        rates = self._lanes.rates()
        self.rates.set(rates)
        self._agenda.split(rates)
        while self._workers < self._lanes.workers:
            self._tasks.append(asyncio.create_task(self._work(), name=f"dlqueue-worker-{self._workers}"))
            self._workers += 1
        self.nudge()

    async def stop(self, grace: float) -> None:
        """Take no more; give running steps ``grace`` seconds; stop the rest and put them back. Nothing has failed."""
        self._stopping = True
        # A claim that is on its way is let through: a task must not be left claimed without a worker.
        self._changed.set()
        if self._dispatcher is not None:
            await asyncio.wait({self._dispatcher})
        if self._promised:
            await self._written()
        deadline = self._clock.time() + grace
        while self._running and self._clock.time() < deadline:
            await self._ended_before(deadline)
        for interrupt in tuple(self._running.values()):
            interrupt.stop("stop")
        # What was cancelled writes its own end; a blocking step cannot be, so it is put back over its head.
        deadline = self._clock.time() + 2.0
        while self._running and self._clock.time() < deadline:
            await self._ended_before(deadline)
        left = [interrupt.record for interrupt in self._running.values()]
        now = self._clock.time()
        try:
            await self._store.transact([(r.id, partial(_release, token=r.lease_token, now=now)) for r in left])
        except StorageError as error:
            log.warning("%d running tasks could not be put back (%s); the next start will", len(left), error)
        for task in self._tasks:
            task.cancel()
        # A step that will not be cancelled is left behind: its task has been put back, and its lease is gone.
        await asyncio.wait(self._tasks, timeout=1.0)
        if self._timer is not None:
            self._timer.cancel()

    async def _ended_before(self, deadline: float) -> None:
        self._ended.clear()
        timer = self._clock.call_at(deadline, self._ended.set)
        try:
            await self._ended.wait()
        finally:
            timer.cancel()

    @property
    def busy(self) -> int:
        """Workers in the middle of a step, or kept by a blocking one that has overrun."""
        return len(self._running) + len(self._overrun)

    def running(self, task_id: int) -> Interrupt | None:
        """The step of this task that is running here, if one is."""
        return self._running.get(task_id)

    def lease_of(self, task_id: int) -> int | None:
        """The lease of the step of this task that is running here, if one is."""
        interrupt = self.running(task_id)
        return None if interrupt is None else interrupt.record.lease_token

    def left(self, task_id: int) -> None:
        """The task is not being processed any more: whoever hears of that also sees its worker as free."""
        interrupt = self._running.pop(task_id, None)
        if interrupt is None:
            return
        self._ended.set()
        if interrupt.thread is not None and not interrupt.thread.done():
            self._overrun.add(interrupt.thread)
            interrupt.thread.add_done_callback(self._overrun.discard)

    def in_lane(self, queue: str) -> int:
        """Steps of this queue that are running."""
        return self._in_lane[queue]

    def nudge(self) -> None:
        """Something may be due: look."""
        self._changed.set()

    def woken(self, hold: str) -> None:
        """Somebody wakes ``hold``: a step that is about to hold it must not sleep through it."""
        self._wake_count += 1
        # A pattern is kept for good: there are few, and they cannot be looked up by the hold.
        wakes = self._wake_patterns if hold.endswith("*") else self._wakes
        wakes.pop(hold, None)
        wakes[hold] = self._wake_count
        while len(self._wakes) > WAKES_KEPT:
            self._forgotten = self._wakes.pop(next(iter(self._wakes)))

    def _woken_since(self, hold: str, asked: int) -> bool:
        # A wake that nobody remembers may have been for this hold; one too many does no harm.
        latest = max(self._wakes.get(hold, 0), self._forgotten)
        patterns = self._wake_patterns.copy().items()
        return latest > asked or any(at > asked and hold.startswith(pattern[:-1]) for pattern, at in patterns)

    # -- dispatch -----------------------------------------------------------------------------------------------------

    async def _dispatch(self) -> None:
        refused = False
        while not self._stopping:
            self._changed.clear()
            try:
                self._agenda.promote(self._clock.time())
                await self._fill()
                batch = self._choose()
                if batch:
                    await self._claim(batch)
                if refused:
                    log.warning("the queue can read and write its store again")
                refused = False
                if batch:
                    continue
            except StorageError as error:
                if not refused:  # once: a disk may be full for a night
                    log.warning("the queue cannot read or write its store: %s; it tries until it can", error)
                refused = True
                self._timer = self._clock.call_at(self._clock.time() + STORE_RETRY, self.nudge)
                await self._changed.wait()
                continue
            except QueueClosed:
                return
            except Exception:
                # A defect of ours must not stop everything for good.
                log.exception("the dispatcher failed; trying again")
                self._timer = self._clock.call_at(self._clock.time() + STORE_RETRY, self.nudge)
                await self._changed.wait()
                continue
            self._set_timer()
            await self._changed.wait()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        when = self._agenda.next_time()
        opens = self.rates.next_time(self._clock.time()) if self.rates else None
        if opens is not None:
            when = opens if when is None else min(when, opens)
        self._timer = None if when is None else self._clock.call_at(max(when, self._woke + SLACK), self._time_has_come)

    def _time_has_come(self) -> None:
        self._woke = self._clock.time()
        self.nudge()

    def _choose(self) -> list[Due]:
        batch: list[Due] = []
        taken: Counter[str] = Counter()
        now = self._clock.time()

        def admits(lane: str) -> bool:
            return self._admits(lane, taken[lane] + 1)

        def starts(lane: str) -> bool:
            return self.rates.opens_at(lane, now) <= now

        while len(batch) < self._free():
            due = self._agenda.pop(admits, starts)
            if due is None:
                break
            # A type that nobody here knows is kept in the store, and reported, but cannot be run.
            if due.type in self._types:
                batch.append(due)
                taken[due.queue] += 1
                if due.fresh:
                    self.rates.started(due.queue, now)
        return batch

    def _admits(self, lane: str, count: int) -> bool:
        """May so many more steps of this queue begin?"""
        running = self._in_lane[lane] + self._promised[lane]
        return running + count <= self._lanes.concurrency(lane) and lane not in self._lanes.paused

    def _free(self) -> int:
        """Workers for which there is nothing yet."""
        return len(self._idle) - (self._workers - self._lanes.workers) - self._promised.total()

    async def submit(self, tasks: Sequence[NewTask]) -> list[Submission]:
        """`Store.submit`. Where all of them can begin at once, before anything that is there, the transaction that
        stores them claims them too: one commit until they run, not two."""
        now = self._clock.time()
        if 0 <= now - self._lately < TOGETHER:
            now = self._lately
        self._lately = now
        promised = self._promise(tasks, now)
        if promised is None:
            return await self._store.submit(tasks, now)
        self._promised += promised
        try:
            made = await self._store.submit(tasks, now, take=partial(self._taken, now=now))
        except asyncio.CancelledError:
            # It may be written all the same: what is handed over behind it tells when it is through.
            behind = asyncio.ensure_future(self._written())
            behind.add_done_callback(lambda _: self._kept(promised))
            raise
        except BaseException:
            self._kept(promised)
            raise
        self._kept(promised)
        return made

    def _kept(self, promised: Counter[str]) -> None:
        self._promised -= promised
        self.nudge()

    async def _written(self) -> None:
        """All that was handed over before is written, or never will be."""
        with contextlib.suppress(QueueError):
            await self._store.transact([])

    def _promise(self, tasks: Sequence[NewTask], now: float) -> Counter[str] | None:
        """Steps of each queue, if all of these may begin; None = they wait for their turn."""
        if self._dispatcher is None or self._stopping or self.rates or len(tasks) > self._free():
            return None
        if any(new.type not in self._types or new.options.estimate is not None for new in tasks):
            return None
        lanes = Counter(new.queue for new in tasks)
        if all(self._admits(lane, count) for lane, count in lanes.items()) and self._agenda.nothing_ready(now):
            return lanes
        return None

    def _taken(self, record: TaskRecord, *, now: float) -> Change | None:
        runs_step = self._types[record.type].pause_runs_step
        change = self._admission.claim(record, node=self._node, now=now, runs_step=runs_step)
        if change is not None and change.kind == "claimed":
            self._meters.claimed(record, now)
        return change

    def claimed(self, record: TaskRecord) -> None:
        """A claim is committed: a worker begins, before anybody else can hear of it."""
        self._running[record.id] = Interrupt(record)
        self._in_lane[record.queue] += 1
        self._admission.started(record)
        turn = self._idle.pop()
        if not turn.done():  # cancelled: this pool is dying
            turn.set_result(record)

    async def _claim(self, batch: Sequence[Due]) -> None:
        now = self._clock.time()
        take = partial(self._taken, now=now)
        promised = Counter(due.queue for due in batch)
        self._promised += promised
        try:
            answers = await self._store.transact([(due.id, take) for due in batch])
        except BaseException:
            self._promised -= promised
            for due in batch:
                self._agenda.put_back(due)
                self._not_started(due)
            self._admission.claimed()
            raise
        self._promised -= promised
        for due, answer in zip(batch, answers, strict=True):
            if not (isinstance(answer, Change) and answer.record.status is Status.PROCESSING):
                self._not_started(due)
            if answer is None and due.run_at is not None and due.run_at > now:
                self._agenda.put_back(due)  # the clock has been turned back since it was found due
        self._admission.claimed()

    def _not_started(self, due: Due) -> None:
        if due.fresh:
            self.rates.take_back(due.queue)

    async def _fill(self) -> None:
        # Later first: it may turn out that the lanes have missed something.
        if self._agenda.later_hungry():
            await self._fill_one(None)
        for lane in self._agenda.hungry():
            await self._fill_one(lane)

    async def _fill_one(self, lane: Lane | None) -> None:
        self._agenda.start_filling(lane)
        try:
            if lane is None:
                rows = await self._store.timed(self._types, self._agenda.now, WINDOW)
            else:
                rows = await self._store.ready(lane.name, self._types, self._agenda.now, WINDOW, lane.fresh)
        except BaseException:
            self._agenda.filling_failed(lane)
            raise
        self._agenda.filled(lane, rows, complete=len(rows) < WINDOW)

    # -- a worker -----------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        turn: asyncio.Future[TaskRecord] | None = None
        while True:
            record = await (turn or self._take_turn())
            interrupt = self._running[record.id]
            with task_context(record.id, record.correlation_id):
                try:
                    await self._run(record, interrupt)
                except (StorageError, QueueClosed) as error:
                    log.warning("task %d: its end could not be written (%s); it will be run again", record.id, error)
                except Exception:
                    # A defect of ours must not cost a worker; the row stays where the database says it is.
                    log.exception("task %d: its worker failed", record.id)
                    await self._write(record.id, partial(_abandon, token=record.lease_token, now=self._clock.time()))
                finally:
                    self._forget(interrupt)
                    self._admission.ended(record)
                    turn = interrupt.following
                    if turn is None:
                        self._in_lane[record.queue] -= 1

    def _take_turn(self) -> asyncio.Future[TaskRecord]:
        """A worker is free, or will be in the transaction that is handed over next."""
        turn: asyncio.Future[TaskRecord] = asyncio.get_running_loop().create_future()
        self._idle.append(turn)
        self._changed.set()
        return turn

    def _forget(self, interrupt: Interrupt) -> None:
        # The task may have been taken again by another worker as soon as its end was written.
        if self._running.get(interrupt.record.id) is interrupt:
            del self._running[interrupt.record.id]
        self._ended.set()

    async def _run(self, record: TaskRecord, interrupt: Interrupt) -> None:
        task = self._types[record.type]
        asked = self._wake_count
        try:
            context = Context(task, record, partial(self._save, record), self._report, self._folders)
        except (CriticalError, QueueError) as error:
            problem = error if isinstance(error, CriticalError) else CriticalError(str(error), "params")
            end: Settlement | None = _unreadable(task, problem, self._clock.time())
            await self._settle(record, end, asked)
            return
        end, left_behind = await run_step(task, context, interrupt, self._lanes.policy_of, self._clock)
        if end is not None:
            self._meters.steps[record.type].observe(end.executed)
        if self._folders.has(record.id):
            await self._folders.measure(record.id)
        if left_behind is None:
            self._admission.ended(record)
        if end is not None and left_behind is None and not _again_at_once(end, self._clock.time()):
            # The next claim goes into the transaction that writes this end, behind it: one commit, not two, and at no
            # point of the database's history are more steps running than may.
            interrupt.following = self._take_turn()
            self._in_lane[record.queue] -= 1
        await self._settle(record, end, asked)
        if left_behind is not None:
            log.warning("task %d: its blocking step overran and is still running; it keeps its worker", record.id)
            self._forget(interrupt)
            await asyncio.gather(left_behind, return_exceptions=True)

    async def _settle(self, record: TaskRecord, end: Settlement | None, asked: int) -> None:
        now = self._clock.time()
        if end is None:
            await self._write(record.id, partial(_release, token=record.lease_token, now=now))
            return
        answer = await self._write(record.id, partial(self._settled, token=record.lease_token, end=end, asked=asked))
        if answer is None:
            self._meters.stale += 1
            log.info("task %d: the end of a step came too late and was dropped", record.id)

    def _settled(self, record: TaskRecord, *, token: int, end: Settlement, asked: int) -> Change | None:
        # Asked inside the transaction, in the order of the store: a wake from here on finds the task holding.
        if end.hold is not None and self._woken_since(end.hold, asked):
            end.hold, end.run_at = None, None
        return transitions.settle(record, token, end, self._clock.time())

    async def _save(
        self, record: TaskRecord, state: bytes, progress: Progress | None, result: Json | UnsetType
    ) -> None:
        now = self._clock.time()
        answer = await self._write(
            record.id,
            partial(transitions.save, token=record.lease_token, now=now, state=state, progress=progress, result=result),
        )
        if not isinstance(answer, Change):
            self._meters.stale += 1
            raise LeaseLost(f"task {record.id} was taken away from this step")

    async def _write(self, task_id: int, decide: Decide) -> Answer:
        """Until the database has it: a failed write never loses a task."""
        delay = STORE_RETRY
        while True:
            try:
                return (await self._store.transact([(task_id, decide)]))[0]
            except StorageError as error:
                if self._stopping:
                    raise
                log.warning("task %d: not written yet (%s); next try in %g s", task_id, error, delay)
                await sleep(self._clock, delay)
                delay = min(delay * 2, STORE_RETRY_MAX)

    async def _save_progress(self) -> None:
        """Long steps: what they report is written now and then."""
        while True:
            await sleep(self._clock, PROGRESS_SAVED)
            decisions = []
            for interrupt in self._running.values():
                context = interrupt.context
                if context is not None and context.progress_dirty:
                    context.progress_dirty = False
                    decisions.append((interrupt.record.id, self._progress_of(interrupt.record, context)))
            try:
                if decisions:
                    await self._store.transact(decisions)
            except QueueError as error:
                log.debug("progress not saved: %s", error)

    def _progress_of(self, record: TaskRecord, context: Context) -> Decide:
        return partial(
            transitions.save,
            token=record.lease_token,
            now=self._clock.time(),
            state=UNSET,
            progress=context.latest_progress,
            checkpoint=False,
        )


def _again_at_once(end: Settlement, now: float) -> bool:
    """Does the task want to go on without a pause? Then it takes part in the choice of the next one."""
    return end.target is Status.SUSPENDING and end.hold is None and end.run_at is not None and end.run_at <= now


def _release(record: TaskRecord, *, token: int, now: float) -> Change | None:
    return transitions.release(record, token, now)


def _abandon(record: TaskRecord, *, token: int, now: float) -> Change | None:
    # Counted like a crash, so that a task which makes workers fail comes to an end.
    return transitions.rescue(record, now) if record.lease_token == token else None


def _unreadable(task: Task, error: CriticalError, now: float) -> Settlement:
    told = TaskError(error.kind, str(error), now)
    return Settlement(
        target=Status.ERROR, kind="error", error=told, message=told.message, started_at=now, cleanup=task.has_cleanup()
    )
