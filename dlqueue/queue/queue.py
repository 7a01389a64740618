"""`Queue`: the face of the core. Usable without a daemon, ten lines of Python."""

from __future__ import annotations

import asyncio
import datetime
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Literal

import msgspec

from dlqueue.queue import transitions
from dlqueue.queue.agenda import Agenda
from dlqueue.queue.cleaner import Cleaner
from dlqueue.queue.errors import (
    Conflict,
    InvalidTask,
    QueueClosed,
    QueueError,
    TaskNotFound,
    UnknownType,
    WaitTimeout,
)
from dlqueue.queue.memory import MemoryStore
from dlqueue.queue.pool import Pool
from dlqueue.queue.rank import rank
from dlqueue.queue.record import (
    Change,
    Decide,
    Event,
    Filter,
    Json,
    NewTask,
    Options,
    Page,
    Progress,
    Submission,
    TaskRecord,
)
from dlqueue.queue.retry import RetryPolicy
from dlqueue.queue.status import Status, Want
from dlqueue.queue.store import Store
from dlqueue.queue.task import Context, Submitter, Task
from dlqueue.runtime.bus import Bus
from dlqueue.runtime.clock import Clock, SystemClock

CANCEL_GRACE = 5.0
"""Seconds that a step gets to stop after it was told, before it is fenced."""
PROGRESS_EVERY = 0.2
"""Seconds between two progress reports of one step to subscribers."""
INTEGER_MAX = 2**31 - 1
SECONDS_MAX = 10 * 365 * 86400.0
"""No delay, time-out or limit is longer."""


class QueueSettings(msgspec.Struct, frozen=True):
    """How one named queue is run; None = as the `Queue` says."""

    concurrency: int | None = None
    capacity: int | None = None
    max_retry: int | None = None
    retry_delay: float | None = None
    backoff_factor: float | None = None
    backoff_max: float | None = None
    ageing: float = 0.0
    """Points of priority gained per minute waited."""


class ProgressReport(msgspec.Struct, frozen=True):
    """A running step told how far it is."""

    task_id: int
    owner: str
    at: float
    progress: Progress


Notice = Change | ProgressReport
"""What subscribers hear: every committed change that has an event, and progress in between."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Since this queue was started; ``busy_workers`` and ``suspending`` are as of now."""

    busy_workers: int
    submitted: int
    completed: int
    failed: int
    canceled: int
    suspending: int


class Queue:
    """A retrying worker pool over a store.

    :param tasks: the types it can run: classes (made without arguments), or instances.
    :param store: None = in memory; a URL (``sqlite:///queue.db``); or a `Store` of your own.
    :param workers: steps at once over all queues; None = number of processors.
    :param max_retry: and the next three: the retry policy of tasks whose class or queue says nothing.
    :param max_execution: seconds from a task's start to its end; None = no limit.
    :param capacity: unfinished tasks in each queue at most; more are refused with `QueueFull`.
    :param name: the queue that a submit without ``queue`` goes to.
    :param queues: settings of named queues.
    """

    def __init__(
        self,
        tasks: Iterable[type[Task] | Task],
        store: str | Store | None = None,
        *,
        workers: int | None = None,
        max_retry: int = 0,
        retry_delay: float = 0,
        backoff_factor: float = 2,
        backoff_max: float = 60,
        max_execution: float | None = 60 * 3600,
        capacity: int | None = None,
        name: str = "default",
        queues: Mapping[str, QueueSettings] | None = None,
        clock: Clock | None = None,
        durability: str = "disk",
        namespace: str = "default",
    ) -> None:
        self.node = uuid.uuid4().hex[:12]
        self.clock: Clock = clock or SystemClock()
        self.types: dict[str, Task] = {}
        self._state: Literal["new", "running", "stopping", "closed"] = "new"
        for task in tasks:
            self.register(task() if isinstance(task, type) else task)
        self.workers = workers if workers is not None else (os.cpu_count() or 1)
        if self.workers < 1:
            raise ValueError("workers must be at least 1")
        self._store: Store = _make_store(store, durability, namespace)
        self._policy = RetryPolicy(max_retry, retry_delay, backoff_factor, backoff_max)
        self._max_execution = max_execution
        self._capacity = capacity
        self._name = name
        self._settings = dict(queues or {})
        self._default_settings = QueueSettings()
        self._agenda = Agenda()
        self.bus: Bus[Notice] = Bus()
        self._waiters: dict[int, list[_Waiter]] = {}
        self._counts = {"submitted": 0, "completed": 0, "error": 0, "canceled": 0, "suspending": 0}
        self._reported: dict[int, float] = {}
        self._pool = Pool(
            self._store,
            self._agenda,
            self.clock,
            self.types,
            self.node,
            self.workers,
            self._concurrency,
            self._policy_of,
            self._report,
        )
        self._cleaner = Cleaner(self._store, self.clock, self.types, self.node)

    def register(self, task: Task) -> None:
        """Add a type of task. :raises ValueError: the name is taken or missing."""
        name = getattr(task, "type", None)
        if not isinstance(name, str) or not name:
            raise ValueError(f"{type(task).__name__} needs a class attribute `type`, a non-empty string")
        if name in self.types:
            raise ValueError(f"there are two task types {name!r}")
        self.types[name] = task
        if self._state == "running":  # its tasks may have been waiting for it
            self._agenda.expect(())
            self._pool.nudge()

    # -- life ---------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Queue:
        await self.open()
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()

    async def open(self) -> None:
        """Open the store and take over what an earlier run left; nothing is run before `start`.

        :raises StorageError: the store cannot be opened, or another process has it.
        """
        await self._store.open(self._on_commit)
        try:
            await self._recover()
        except BaseException:
            await self._store.close()
            raise

    async def _recover(self) -> None:
        now = self.clock.time()
        left = await self._store.processing()
        decide: Decide = partial(transitions.rescue, now=now)
        for start in range(0, len(left), 100):
            await self._store.transact([(task_id, decide) for task_id in left[start : start + 100]])
        self._counts["suspending"] = (await self._store.tally()).get(Status.SUSPENDING, 0)
        self._agenda.expect(await self._store.queues())

    def start(self) -> None:
        """Begin to work."""
        if self._state != "new":
            raise QueueClosed(f"the queue is {self._state}")
        self._state = "running"
        self._pool.start()
        self._cleanup_start = asyncio.ensure_future(self._cleaner.start())

    async def shutdown(self, grace: float = 10) -> None:
        """Take no more work, give running steps ``grace`` seconds, put the rest back, close the store. Nothing is
        marked failed; what was put back goes on at the next start."""
        if self._state in ("stopping", "closed"):
            return
        started, self._state = self._state == "running", "stopping"
        if started:
            await self._pool.stop(grace)
            self._cleanup_start.cancel()
            await self._cleaner.stop()
        await self._store.close()
        self._state = "closed"
        for waiters in self._waiters.values():
            for waiter in waiters:
                if not waiter.future.done():
                    waiter.future.set_exception(QueueClosed("the queue has stopped"))

    # -- submit -------------------------------------------------------------------------------------------------------

    async def submit(self, type: str, params: Json = None, **options: Any) -> TaskRecord:
        """Store a task; when this returns it will be run, whatever happens.

        Options: ``queue, priority, delay`` (seconds) or ``run_at`` (a time), ``unique_key, owner, labels,
        correlation_id, depends_on, on_dependency_failure`` (``cancel`` or ``run``), ``parent_id, max_retry,
        retry_delay, timeout, max_execution, paused``.

        :raises InvalidTask: something given cannot be right (`UnknownType` among them).
        :raises Conflict: the unique key belongs to a task with another type or other params.
        :raises QueueFull: the capacity is reached.
        """
        return (await self.submit_all([self.prepare(type, params, **options)]))[0].record

    async def submit_many(
        self, tasks: Iterable[tuple[str, Json] | tuple[str, Json, Mapping[str, Any]]]
    ) -> list[TaskRecord]:
        """All or nothing, in one transaction. Each task is (type, params) or (type, params, options)."""
        new = [self.prepare(task[0], task[1], **(task[2] if len(task) > 2 else {})) for task in tasks]
        return [submission.record for submission in await self.submit_all(new)]

    async def submit_all(self, tasks: Sequence[NewTask]) -> list[Submission]:
        """The same for prepared tasks; also tells which of them are new."""
        if self._state not in ("running", "new"):
            raise QueueClosed("the queue is stopping; submit again when it is back")
        if not tasks:
            return []
        capacity = {name: room for name in {new.queue for new in tasks} if (room := self._room(name)) is not None}
        return await self._store.submit(tasks, self.clock.time(), capacity)

    def _room(self, queue: str) -> int | None:
        capacity = self.settings(queue).capacity
        return self._capacity if capacity is None else capacity

    def prepare(
        self,
        type: str,
        params: Json = None,
        *,
        queue: str | None = None,
        priority: int = 0,
        delay: float | None = None,
        run_at: float | datetime.datetime | None = None,
        unique_key: str | None = None,
        join_key: str | None = None,
        owner: str = "",
        cwd: str | None = None,
        labels: Mapping[str, str | Sequence[str]] | None = None,
        correlation_id: str | None = None,
        depends_on: Sequence[int] = (),
        on_dependency_failure: str = "cancel",
        parent_id: int | None = None,
        max_retry: int | None = None,
        retry_delay: float | None = None,
        timeout: float | None = None,
        max_execution: float | None = None,
        paused: bool = False,
    ) -> NewTask:
        """Check a submit and fill in what its class and queue say. :raises InvalidTask: see `submit`."""
        task = self.types.get(type)
        if task is None:
            raise UnknownType(type, list(self.types))
        for field, number in (("priority", priority), ("max_retry", max_retry)):
            least = 0 if field == "max_retry" else -INTEGER_MAX
            if number is not None and not least <= number <= INTEGER_MAX:
                raise InvalidTask(f"must be between {least} and {INTEGER_MAX}", field)
        for field, value in (
            ("delay", delay),
            ("retry_delay", retry_delay),
            ("timeout", timeout),
            ("max_execution", max_execution),
        ):
            if value is not None and not 0 <= value <= SECONDS_MAX:
                raise InvalidTask(f"must be between 0 and {SECONDS_MAX:g} seconds", field)
        if delay is not None and run_at is not None:
            raise InvalidTask("give either delay or run_at", "run_at")
        if on_dependency_failure not in ("cancel", "run"):
            raise InvalidTask("must be cancel or run", "on_dependency_failure")
        better = task.validate(params, Submitter(owner, cwd))
        params = params if better is None else better
        task.read_params(params)
        now = self.clock.time()
        at = run_at.timestamp() if isinstance(run_at, datetime.datetime) else run_at
        if at is not None and not at - now <= SECONDS_MAX:
            raise InvalidTask(f"must be within {SECONDS_MAX:g} seconds from now", "run_at")
        if delay is not None:
            at = now + delay
        lane = queue or task.queue or self._name
        settings = self.settings(lane)
        if max_execution is None and task.limited:
            max_execution = self._max_execution
        retries = (max_retry, task.max_retry, settings.max_retry, self._policy.max_retry)
        params = _checked("params", params)
        for field, text in (
            ("queue", lane),
            ("owner", owner),
            ("unique_key", unique_key),
            ("correlation_id", correlation_id),
            ("labels", labels),
        ):
            _checked(field, text)
        return NewTask(
            type=type,
            params=params,
            queue=lane,
            priority=priority,
            rank=rank(priority, now, settings.ageing),
            owner=owner,
            labels={key: [value] if isinstance(value, str) else list(value) for key, value in (labels or {}).items()},
            correlation_id=correlation_id,
            unique_key=unique_key,
            join_key=join_key,
            parent_id=parent_id,
            depends_on=tuple(dict.fromkeys(depends_on)),
            run_at=at if at is not None and at > now else None,
            paused=paused,
            max_retry=next(value for value in retries if value is not None),
            options=Options(retry_delay, timeout, max_execution, on_dependency_failure),
        )

    # -- look ---------------------------------------------------------------------------------------------------------

    async def get(self, task_id: int) -> TaskRecord:
        """:raises TaskNotFound: there is none."""
        return await self._store.get(task_id)

    async def list(
        self,
        *,
        status: Status | str | Sequence[Status | str] | None = None,
        order: str = "-id",
        limit: int = 100,
        cursor: str | None = None,
        count: bool = False,
        **conditions: Any,
    ) -> Page:
        """A page of tasks. Conditions: ``type queue owner labels`` ((key, value), …) ``text since until correlation_id
        parent_id``. ``total`` is counted only with ``count=True``."""
        return await self.find(make_filter(status, **conditions), order, limit, cursor, count)

    async def count(self, *, status: Status | str | Sequence[Status | str] | None = None, **conditions: Any) -> int:
        """How many tasks match; conditions as for `list`."""
        return await self._store.count(make_filter(status, **conditions))

    async def find(
        self, filter: Filter, order: str = "-id", limit: int = 100, cursor: str | None = None, count: bool = False
    ) -> Page:
        """`list` with a ready-made filter."""
        if limit < 1:
            raise InvalidTask("must be at least 1", "limit")
        return await self._store.find(filter, order, limit, cursor, count)

    async def count_matching(self, filter: Filter) -> int:
        """`count` with a ready-made filter."""
        return await self._store.count(filter)

    async def ids(self, filter: Filter) -> Sequence[int]:
        """Every id that matches, ascending."""
        found: list[int] = []
        while True:
            part = await self._store.ids(filter, 1000, found[-1] if found else 0)
            found += part
            if len(part) < 1000:
                return found

    async def history(self, task_id: int) -> Sequence[Event]:
        """What happened to it, oldest first. :raises TaskNotFound: there is no such task."""
        await self._store.get(task_id)
        return await self._store.history(task_id)

    async def events(self, after: int, limit: int = 1000) -> Sequence[Event]:
        """Events of all tasks with a greater sequence."""
        return await self._store.events(after, limit)

    @property
    def counters(self) -> Counters:
        counts = self._counts
        return Counters(
            self._pool.busy,
            counts["submitted"],
            counts["completed"],
            counts["error"],
            counts["canceled"],
            counts["suspending"],
        )

    def settings(self, queue: str) -> QueueSettings:
        """How a named queue is run."""
        return self._settings.get(queue, self._default_settings)

    def is_full(self, queue: str) -> bool:
        """Does this queue run as many steps as it may at once?"""
        return self._pool.in_lane(queue) >= self._concurrency(queue)

    def progress_of(self, record: TaskRecord) -> Progress | None:
        """The newest progress: of the running step if there is one, else the stored one."""
        interrupt = self._pool.running(record.id)
        context = interrupt.context if interrupt is not None else None
        return record.progress if context is None else context.latest_progress

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
        timer = None
        try:
            record = await self.get(task_id)
            if waiter.wants(record):
                return record
            if timeout is not None:
                timer = self.clock.call_at(self.clock.time() + timeout, partial(self._give_up, waiter, timeout, record))
            return await waiter.future
        finally:
            if timer is not None:
                timer.cancel()
            self._waiters[task_id].remove(waiter)
            if not self._waiters[task_id]:
                del self._waiters[task_id]

    def _give_up(self, waiter: _Waiter, timeout: float, record: TaskRecord) -> None:
        if not waiter.future.done():
            waiter.future.set_exception(WaitTimeout(f"task {record.id} is not {waiter.until} after {timeout:g} s"))

    # -- steer --------------------------------------------------------------------------------------------------------

    async def cancel(self, task_id: int, intent: dict[str, Json] | None = None) -> TaskRecord:
        """End it; answers when its status is ``canceled``. Canceled already is no error.

        :raises Conflict: it has completed or failed, perhaps just now.
        """
        record = await self.get(task_id)
        task = self.types.get(record.type)
        needs = task is None or task.has_cleanup()
        await self._decide(task_id, partial(_cancel, now=self.clock.time(), needs_cleanup=needs, intent=intent))
        record = await self.get(task_id)
        if record.status is Status.PROCESSING:
            interrupt = self._pool.running(task_id)
            if interrupt is not None and interrupt.record.lease_token == record.lease_token:
                interrupt.stop("cancel")
            try:
                record = await self.wait(task_id, timeout=CANCEL_GRACE)
            except WaitTimeout:
                token = record.lease_token
                await self._decide(task_id, partial(_fence, token=token, now=self.clock.time()))
                record = await self.wait(task_id, timeout=CANCEL_GRACE)
        if record.status is not Status.CANCELED:
            raise Conflict(f"task {task_id} had just ended: it is {record.status}", task_id)
        return record

    async def pause(self, task_id: int) -> TaskRecord:
        """Let the running step end and then wait for `resume`. Answers at once; ``want`` is ``pause`` until it is."""
        task = self.types.get((await self.get(task_id)).type)
        runs_step = task is not None and task.pause_runs_step
        await self._decide(task_id, partial(_pause, now=self.clock.time(), runs_step=runs_step))
        return await self.get(task_id)

    async def resume(self, task_id: int) -> TaskRecord:
        """Go on. Not paused is no error. :raises Conflict: it is final."""
        await self._decide(task_id, partial(transitions.resume, now=self.clock.time()))
        return await self.get(task_id)

    async def retry(self, task_id: int) -> TaskRecord:
        """Begin again, with the state it had. :raises Conflict: it has not failed and was not canceled."""
        await self._decide(task_id, partial(transitions.retry, now=self.clock.time()))
        return await self.get(task_id)

    async def remove(self, task_id: int, intent: dict[str, Json] | None = None) -> TaskRecord:
        """Forget it (an unfinished one is cancelled first); answers the task as it was last."""
        record = await self.get(task_id)
        if not record.final:
            try:
                record = await self.cancel(task_id, intent)
            except Conflict:
                record = await self.get(task_id)  # it ended by itself: all the better
        task = self.types.get(record.type)
        needs = (task is None or task.has_cleanup()) and record.touched
        change = await self._decide(
            task_id, partial(_remove, now=self.clock.time(), needs_cleanup=needs, intent=intent)
        )
        if change is not None and not change.delete:
            await self._gone(task_id, CANCEL_GRACE)
        return record

    async def _gone(self, task_id: int, seconds: float) -> None:
        """Wait for the end of a removal's clean-up, but not for ever: it goes on in the background."""
        deadline = self.clock.time() + seconds
        subscription = self.bus.subscribe(
            lambda notice: isinstance(notice, Change) and notice.delete and notice.record.id == task_id
        )
        timer = self.clock.call_at(deadline, subscription.close)
        try:
            if (await self._store.transact([(task_id, lambda record: None)]))[0] is None:
                async for _ in subscription:
                    return
        finally:
            timer.cancel()
            subscription.close()

    async def wake(self, hold: str, n: int | None = None) -> int:
        """End the wait of up to ``n`` tasks that hold ``hold``, best rank first (a trailing ``*`` matches any rest).
        Answers how many there were."""
        self._pool.woken(hold)
        return await self._store.wake(hold, n, self.clock.time())

    async def _decide(self, task_id: int, decide: Decide) -> Change | None:
        def visible(record: TaskRecord) -> Change | None:
            if record.cleanup > 1:
                raise TaskNotFound(task_id)
            return decide(record)

        (answer,) = await self._store.transact([(task_id, visible)])
        if isinstance(answer, QueueError):
            raise answer
        return answer

    # -- what happens -------------------------------------------------------------------------------------------------

    def _on_commit(self, changes: Sequence[Change]) -> None:
        for change in changes:
            record = change.record
            self._agenda.note(record)
            if change.source is Status.PROCESSING and record.status is not Status.PROCESSING:
                self._pool.left(record.id)
            self._cleaner.note(record)
            self._count(change)
            if change.kind:
                self.bus.publish(change)
            for waiter in self._waiters.get(record.id, ()):
                if waiter.wants(record) and not waiter.future.done():
                    waiter.future.set_result(record)
        self._pool.nudge()

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

    def publish_progress(self, task_id: int, owner: str, progress: Progress) -> None:
        """Tell subscribers how far a task is that is between two of its steps."""
        if self.bus.listened_to:
            self.bus.publish(ProgressReport(task_id, owner, self.clock.time(), progress))

    def _report(self, context: Context) -> None:
        if not self.bus.listened_to:
            return
        now = self.clock.time()
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
        loop = self._pool.loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self.bus.publish, report)

    def _concurrency(self, queue: str) -> int:
        concurrency = self.settings(queue).concurrency
        return self.workers if concurrency is None else concurrency

    def _policy_of(self, task: Task, record: TaskRecord) -> RetryPolicy:
        settings, default = self.settings(record.queue), self._policy

        def first(*values: float | None) -> float:
            return next(value for value in values if value is not None)

        return RetryPolicy(
            record.max_retry,
            first(record.options.retry_delay, settings.retry_delay, default.retry_delay),
            first(settings.backoff_factor, default.backoff_factor),
            first(settings.backoff_max, default.backoff_max),
        )


@dataclass(frozen=True, slots=True)
class _Waiter:
    until: str
    future: asyncio.Future[TaskRecord]

    def wants(self, record: TaskRecord) -> bool:
        """Is this what it waits for?"""
        return record.final if self.until == "final" else record.delivered


def make_filter(status: Status | str | Sequence[Status | str] | None = None, **conditions: Any) -> Filter:
    """:raises InvalidTask: a status or condition that does not exist."""
    wanted = [] if status is None else [status] if isinstance(status, str) else list(status)
    try:
        statuses = tuple(Status(name) for name in wanted)
    except ValueError as error:
        raise InvalidTask(f"{error}; one of {', '.join(Status)}", "status") from error
    try:
        return Filter(status=statuses, **conditions)
    except TypeError as error:
        raise InvalidTask(str(error), "filter") from error


def _checked(field: str, value: Json) -> Json:
    try:
        value = msgspec.to_builtins(value)
        msgspec.json.encode(value)
    except Exception as error:
        raise InvalidTask(f"not JSON: {error}", field) from error
    return value


def _make_store(store: str | Store | None, durability: str, namespace: str) -> Store:
    if store is None:
        return MemoryStore()
    if isinstance(store, str):
        from dlqueue.queue.sql import SqlStore

        return SqlStore(store, durability, namespace)
    return store


def _cancel(record: TaskRecord, *, now: float, needs_cleanup: bool, intent: dict[str, Json] | None) -> Change | None:
    return transitions.cancel(record, now, needs_cleanup, intent)


def _fence(record: TaskRecord, *, token: int, now: float) -> Change | None:
    return transitions.fence(record, token, now)


def _pause(record: TaskRecord, *, now: float, runs_step: bool) -> Change | None:
    return transitions.pause(record, now, runs_step)


def _remove(record: TaskRecord, *, now: float, needs_cleanup: bool, intent: dict[str, Json] | None) -> Change | None:
    return transitions.remove(record, now, needs_cleanup, intent)


__all__ = ["Counters", "Notice", "ProgressReport", "Queue", "QueueSettings", "Want", "make_filter"]
