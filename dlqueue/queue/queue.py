"""`Queue`: the face of the core. Usable without a daemon, ten lines of Python."""

from __future__ import annotations

import asyncio
import os
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal
from urllib.parse import quote

from dlqueue.queue import transitions
from dlqueue.queue.admission import Admission
from dlqueue.queue.agenda import Agenda
from dlqueue.queue.capacity import Capacity, OnFull
from dlqueue.queue.cleaner import Cleaner
from dlqueue.queue.errors import InvalidSetting, InvalidTask, QueueClosed
from dlqueue.queue.glance import Glance, Look
from dlqueue.queue.intents import Intents
from dlqueue.queue.memory import MemoryStore
from dlqueue.queue.meters import Meters
from dlqueue.queue.notices import Counters, Notice, Notices
from dlqueue.queue.outbox import Outbox
from dlqueue.queue.pool import Pool
from dlqueue.queue.queues import Queues, check_name, checked
from dlqueue.queue.quotas import Limits, Quotas
from dlqueue.queue.record import (
    Change,
    Decide,
    Event,
    Filter,
    Json,
    NewTask,
    Page,
    Progress,
    Submission,
    TaskRecord,
)
from dlqueue.queue.resources import Lack, Machine, Resources, ThisMachine
from dlqueue.queue.retention import KEPT, Retention
from dlqueue.queue.retry import RetryPolicy
from dlqueue.queue.schedules import Schedules
from dlqueue.queue.settings import Lanes, QueueSettings
from dlqueue.queue.statistics import Statistics, measure
from dlqueue.queue.status import Status
from dlqueue.queue.store import Store
from dlqueue.queue.submission import OwnerLevel, Preparer
from dlqueue.queue.task import Task
from dlqueue.queue.temporary import TemporaryFolders
from dlqueue.queue.wakes import Wakes
from dlqueue.runtime.bus import Bus
from dlqueue.runtime.clock import Clock, SystemClock


class Queue:
    """A retrying worker pool over a store.

    :param tasks: the types it can run: classes (made without arguments), or instances.
    :param store: None = in memory; a URL (``sqlite:///queue.db``); or a `Store` of your own.
    :param workers: steps at once over all queues; None = number of processors.
    :param max_retry: and the next three: the retry policy of tasks whose class or queue says nothing.
    :param max_execution: seconds from a task's start to its end; None = no limit.
    :param capacity: unfinished tasks in each queue at most; more are refused with `QueueFull`, or wait.
    :param name: the queue that a submit without ``queue`` goes to.
    :param retention: seconds that tasks are kept after their end; None = for ever.
    :param queues: settings of named queues; what is set at run time (`Queue.queues`) lies over them.
    :param owner_level: of an owner (a mapping, or asked at each submit); each level is worth 10 points of priority.
    :param memory_budget: bytes that tasks with an ``estimate`` may use together; None = as much as the machine has.
    :param cpu_budget: cores, likewise.
    :param temp_root: where the temporary folders of the tasks are made; no other queue may use it. None = beside a
        SQLite file, else a folder that is gone when the queue is shut down.
    :param temp_cap: bytes of all temporary folders together; None = as much as there is space.
    :param temp_age: seconds after which an untouched temporary folder goes, though its task is not over.
    :param quotas: what an owner may have; None = as much as there is. Asked at each submit.
    :param machine: what is asked for memory, cores and disk space.
    :raises InvalidSetting: one of them cannot be right.
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
        retention: float | None = KEPT,
        owner_level: OwnerLevel | None = None,
        memory_budget: int | None = None,
        cpu_budget: float | None = None,
        temp_root: str | os.PathLike[str] | None = None,
        temp_cap: int | None = None,
        temp_age: float = 7 * 86400,
        machine: Machine | None = None,
        quotas: Limits | None = None,
    ) -> None:
        defaults = {"max_retry": max_retry, "retry_delay": retry_delay, "capacity": capacity}
        checked({**defaults, "backoff_factor": backoff_factor, "backoff_max": backoff_max})
        if max_execution is not None and not max_execution > 0:
            raise InvalidSetting("must be more than 0 seconds, or None", "max_execution")
        check_name(name)
        self.node = uuid.uuid4().hex[:12]
        self.clock: Clock = clock or SystemClock()
        self.types: dict[str, Task] = {}
        self._state: Literal["new", "running", "stopping", "closed"] = "new"
        for task in tasks:
            self.register(task() if isinstance(task, type) else task)
        self.workers = workers if workers is not None else (os.cpu_count() or 1)
        if self.workers < 1:
            raise ValueError("workers must be at least 1")
        policy = RetryPolicy(max_retry, retry_delay, backoff_factor, backoff_max)
        self.lanes = Lanes(queues or {}, name, self.workers, policy, max_execution, capacity)
        self._store: Store = _make_store(store, durability, namespace)
        self.outbox = Outbox(self._store)
        """What somebody is to be told of tasks, until it has arrived."""
        root = _temp_root(store, namespace) if temp_root is None else Path(temp_root)
        self._folders = TemporaryFolders(root, temp_cap, temp_age, self.clock, self._store)
        resources = Resources(
            machine or ThisMachine(), memory_budget, cpu_budget, temp_cap, root or Path(tempfile.gettempdir())
        )
        self._wakes = Wakes(self._store, self.clock)
        self._admission = Admission(self._store, self.clock, resources, self._folders)
        self._agenda = Agenda()
        self._notices = Notices(self._store, self.clock)
        self.meters = Meters()
        """What happened since this queue was made, for whoever watches how it is going."""
        self._pool = Pool(
            self._store,
            self._agenda,
            self.clock,
            self.types,
            self.node,
            self.lanes,
            self._notices.report,
            self._admission,
            self._folders,
            self.meters,
        )
        self._notices.lease_of = self._pool.lease_of
        self._folders.is_running = lambda task_id: self._pool.running(task_id) is not None
        self._cleaner = Cleaner(self._store, self.clock, self.types, self.node, self._folders)
        self._retention = Retention(self._store, self.clock, self.types, retention)
        self._preparer = Preparer(self.types, self.lanes, self.clock, resources, owner_level)
        self._intents = Intents(self._store, self._pool, self._notices, self.types, self.lanes, self.clock)
        self._capacity = Capacity(self._store, self.lanes, self._notices, self._intents, self.clock, self._pool)
        self.queues = Queues(self._store, self.lanes, self._notices, self.clock, self._apply)
        """The named queues: create, change, pause, resume, look."""
        self.quotas = Quotas(self._store, self.types, self.wake)
        """What each owner has, and may have."""
        self._limits = quotas
        self.schedules = Schedules(
            self._store,
            self.clock,
            self._preparer,
            self.lanes,
            self.types,
            self._notices,
            self._intents.cancel,
            self.quotas,
        )
        """Tasks that come again and again, by the clock."""

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
        self._notices.open((await self._store.tally()).get(Status.SUSPENDING, 0))
        await self.queues.open()
        queues = await self._store.queues()
        await self._rank_again(queues)
        self._agenda.expect(queues)
        await self._admission.recover()
        await self.quotas.open(self._limits)

    def start(self) -> None:
        """Begin to work."""
        if self._state != "new":
            raise QueueClosed(f"the queue is {self._state}")
        self._state = "running"
        self._pool.start()
        self._folders.start()
        self.schedules.ticker.start()
        self._cleanup_start = asyncio.ensure_future(self._cleaner.start())
        self._retention.start()

    async def shutdown(self, grace: float = 10) -> None:
        """Take no more work, give running steps ``grace`` seconds, put the rest back, close the store. Nothing is
        marked failed; what was put back goes on at the next start."""
        if self._state in ("stopping", "closed"):
            return
        started, self._state = self._state == "running", "stopping"
        await self._capacity.close()
        await self.quotas.stop()
        if started:
            await self.schedules.ticker.stop()
            await self._pool.stop(grace)
            self._cleanup_start.cancel()
            await self._retention.stop()
            await self._cleaner.stop()
        self._admission.stop()
        self._wakes.stop()
        await self._folders.stop()
        await self._store.close()
        self._state = "closed"
        self._notices.close()

    def _on_commit(self, changes: Sequence[Change]) -> None:
        self.quotas.note(changes)
        for change in changes:
            record = change.record
            self._agenda.note(record)
            if change.source is Status.PROCESSING and record.status is not Status.PROCESSING:
                self._pool.left(record.id)
            elif change.kind == "claimed":
                self._pool.claimed(record)
            self._cleaner.note(record)
            self._admission.note(record)
            self._folders.note(record)
            self.meters.note(change)
            self._notices.tell(change)
            if change.posted:
                self.outbox.arrived.set()
        if self._capacity.awaited:
            self._capacity.look({change.record.queue for change in changes if change.record.final or change.delete})
        self._pool.nudge()

    async def configure(self, workers: int, queues: Mapping[str, QueueSettings]) -> None:
        """Go by these settings from now on; steps that run are let through. ``max_retry`` counts for new tasks.

        :raises StorageError: nothing has changed.
        """
        await self.queues.configure(queues)
        self.workers = self.lanes.workers = workers
        self._resized()

    async def _apply(self, queues: Iterable[str]) -> None:
        """What the lanes say of these queues now takes effect."""
        await self._rank_again(queues)
        self._resized()

    def _resized(self) -> None:
        if self._state == "running":
            self._pool.resized()
        self._capacity.look_everywhere()

    def keep(self, retention: float | None) -> None:
        """Keep tasks so many seconds after their end from now on; None = for ever."""
        self._retention.keep(retention)

    async def _rank_again(self, queues: Iterable[str]) -> None:
        """Ranks are stored, and those of different ageing cannot be compared."""
        changed = [name for name in queues if await self._store.rerank(name, self.lanes[name].ageing)]
        if changed:
            self._agenda.forget()
            self._agenda.expect(changed)
            self._pool.nudge()

    # -- submit -------------------------------------------------------------------------------------------------------

    async def submit(self, type: str, params: Json = None, *, on_full: OnFull = "refuse", **options: Any) -> TaskRecord:
        """Store a task; when this returns it will be run, whatever happens.

        Options: ``queue, priority, delay`` (seconds) or ``run_at`` (a time), ``unique_key, owner, labels,
        correlation_id, depends_on, on_dependency_failure`` (``cancel`` or ``run``), ``parent_id, max_retry,
        retry_delay, timeout, max_execution, paused``, ``estimate`` (``{"memory": bytes, "cpu": cores, "temp": bytes,
        "seconds": …}``: it begins only when that is free), ``notify`` (kept for whoever addresses the `outbox`).

        :param on_full: where the queue has as many unfinished tasks as its capacity: refuse, or wait until there is
            room, in turn with others who wait. Who is cancelled meanwhile has submitted nothing.
        :raises InvalidTask: something given cannot be right (`UnknownType` among them).
        :raises Conflict: the unique key belongs to a task with another type or other params.
        :raises QueueFull: the capacity is reached, or the quota of the owner (`QuotaExceeded`).
        """
        return (await self.submit_all([self.prepare(type, params, **options)], on_full))[0].told()

    async def submit_many(
        self,
        tasks: Iterable[tuple[str, Json] | tuple[str, Json, Mapping[str, Any]]],
        *,
        on_full: OnFull = "refuse",
    ) -> list[TaskRecord]:
        """All or nothing, in one transaction. Each task is (type, params) or (type, params, options)."""
        new: list[NewTask] = []
        plain: NewTask | None = None
        for task in tasks:
            if len(task) > 2:
                new.append(self.prepare(task[0], task[1], **task[2]))
            elif plain is not None and plain.type == task[0]:
                new.append(self._preparer.another(plain, task[1]))
            else:
                plain = self.prepare(task[0], task[1])
                new.append(plain)
        return [submission.told() for submission in await self.submit_all(new, on_full)]

    async def submit_all(self, tasks: Sequence[NewTask], on_full: OnFull = "refuse") -> list[Submission]:
        """The same for prepared tasks; also tells which of them are new."""
        if on_full not in ("refuse", "wait"):
            raise InvalidTask("must be refuse or wait", "on_full")
        if self._state not in ("running", "new"):
            raise QueueClosed("the queue is stopping; submit again when it is back")
        if not tasks:
            return []
        return await self.quotas.keep(tasks, partial(self._capacity.submit, tasks, on_full))

    def prepare(self, type: str, params: Json = None, **options: Any) -> NewTask:
        """Check a submit and fill in what its class and queue say, without storing it. :raises InvalidTask: see
        `submit`."""
        return self._preparer.prepare(type, params, **options)

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

    async def stats(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        status: Status | str | Sequence[Status | str] | None = None,
        **conditions: Any,
    ) -> Statistics:
        """What ended in ``[since, until)``: how many tasks, how they ended, how long they took. Conditions as for
        `list`; see `dlqueue.queue.statistics.measure`."""
        return await self.measure(make_filter(status, since=since, until=until, **conditions))

    async def measure(self, filter: Filter, groups: bool = True) -> Statistics:
        """`stats` with a ready-made filter. Without ``groups`` it costs less."""
        return await measure(self._store, filter, self.clock.time(), groups)

    async def tally(self, queue: str | None = None) -> Mapping[Status, int]:
        """How many tasks there are in each status (in this queue), however many they are."""
        return await self._store.tally(queue)

    async def tallies(self) -> Mapping[str, Mapping[Status, int]]:
        """`tally` of each queue that has tasks."""
        return await self._store.tallies()

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

    async def remark(self, task_id: int, kind: str, message: str) -> None:
        """Write a line into the history of a task; nothing if it is gone."""
        decide: Decide = partial(transitions.remark, now=self.clock.time(), kind=kind, message=message)
        await self._store.transact([(task_id, decide)])

    async def history(self, task_id: int) -> Sequence[Event]:
        """What happened to it, oldest first. :raises TaskNotFound: there is no such task."""
        await self._store.get(task_id)
        return await self._store.history(task_id)

    async def events(self, after: int, limit: int = 1000) -> Sequence[Event]:
        """Events of all tasks with a greater sequence."""
        return await self._store.events(after, limit)

    async def glance(self, look: Look) -> Glance:
        """Counts, recent errors and who waits, however many tasks there are."""
        return await self._store.glance(look)

    def throttled(self, queue: str) -> bool:
        """Is it the rate of this queue that keeps its next task from starting now?"""
        now = self.clock.time()
        return self._pool.rates.opens_at(queue, now) > now

    @property
    def counters(self) -> Counters:
        """Since this queue was opened; busy workers and suspended tasks as of now."""
        return self._notices.counters(self._pool.busy)

    def runs(self, task_id: int) -> bool:
        """Is a step of this task running here?"""
        return self._pool.running(task_id) is not None

    def is_full(self, queue: str) -> bool:
        """Does this queue run as many steps as it may at once?"""
        return self._pool.in_lane(queue) >= self.lanes.concurrency(queue)

    def opens_at(self, record: TaskRecord) -> float | None:
        """When the rate of its queue lets this task start; None = it is not what it waits for."""
        now = self.clock.time()
        opens = self._pool.rates.opens_at(record.queue, now) if record.fresh else now
        return opens if opens > now else None

    def lack(self, record: TaskRecord) -> Lack | None:
        """What a task with an ``estimate`` waits for (hold ``resources``), as of now."""
        return self._admission.lack(record)

    def progress_of(self, record: TaskRecord) -> Progress | None:
        """The newest progress: of the running step if there is one, else the stored one."""
        interrupt = self._pool.running(record.id)
        context = interrupt.context if interrupt is not None else None
        return record.progress if context is None else context.latest_progress

    async def wait(
        self, task_id: int, timeout: float | None = None, until: Literal["final", "delivered"] = "final"
    ) -> TaskRecord:
        """The task once it is final (or delivered: its result is there, or never will be).

        :raises TaskNotFound: there is none.
        :raises WaitTimeout: not within ``timeout`` seconds.
        """
        return await self._notices.wait(task_id, timeout, until)

    @property
    def bus(self) -> Bus[Notice]:
        """Every committed change that has an event, and progress in between."""
        return self._notices.bus

    def publish_progress(self, task_id: int, owner: str, progress: Progress) -> None:
        """Tell subscribers how far a task is that is between two of its steps."""
        self._notices.publish_progress(task_id, owner, progress)

    # -- steer --------------------------------------------------------------------------------------------------------

    async def cancel(self, task_id: int, intent: dict[str, Json] | None = None) -> TaskRecord:
        """See `Intents.cancel`."""
        return await self._intents.cancel(task_id, intent)

    async def cleaned(self, task_id: int) -> None:
        """Wait until the clean-up of a task that has ended was run once; if that failed it is tried again later."""
        await self._cleaner.tried(task_id)

    async def pause(self, task_id: int) -> TaskRecord:
        """See `Intents.pause`."""
        return await self._intents.pause(task_id)

    async def resume(self, task_id: int) -> TaskRecord:
        """See `Intents.resume`."""
        return await self._intents.resume(task_id)

    async def retry(self, task_id: int) -> TaskRecord:
        """See `Intents.retry`. :raises QuotaExceeded: its owner has as many unfinished tasks as he may have."""
        retry = partial(self._intents.retry, task_id)
        return await (self.quotas.retry(await self.get(task_id), retry) if self.quotas.any else retry())

    async def reword(self, task_id: int, reworded: Callable[[Json], Json], message: str) -> TaskRecord:
        """See `Intents.reword`."""
        return await self._intents.reword(task_id, reworded, message)

    async def update(self, task_id: int, **changes: Any) -> TaskRecord:
        """See `Intents.update`."""
        return await self._intents.update(task_id, **changes)

    async def remove(self, task_id: int, intent: dict[str, Json] | None = None) -> TaskRecord:
        """See `Intents.remove`."""
        return await self._intents.remove(task_id, intent)

    async def purge(
        self, older_than: float, *, status: Status | str | Sequence[Status | str] | None = None, **conditions: Any
    ) -> int:
        """Forget tasks that ended more than ``older_than`` seconds ago; see `Retention.purge`. Conditions as for
        `list`."""
        return await self.purge_matching(make_filter(status, **conditions), older_than)

    async def purge_matching(self, filter: Filter, older_than: float) -> int:
        """`purge` with a ready-made filter."""
        return await self._retention.purge(filter, older_than)

    async def midway(self, holds: Collection[str]) -> Sequence[int]:
        """Unfinished tasks that have begun: those that hold something beginning with one of ``holds``, and those that
        were put back into the queue."""
        return await self._store.midway(holds)

    async def wake(self, hold: str, n: int | None = None) -> int:
        """End the wait of up to ``n`` tasks that hold ``hold``, best rank first (a trailing ``*`` matches any rest).
        Answers how many there were.

        :raises StorageError: not now; it is done as soon as the store works again.
        """
        self._pool.woken(hold)
        return await self._wakes.wake(hold, n)


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


def _make_store(store: str | Store | None, durability: str, namespace: str) -> Store:
    if store is None:
        return MemoryStore()
    if isinstance(store, str):
        from dlqueue.queue.sql import SqlStore

        return SqlStore(store, durability, namespace)
    return store


def _temp_root(store: str | Store | None, namespace: str) -> Path | None:
    """Beside the file that knows whose the folders are."""
    if not isinstance(store, str):
        return None
    from dlqueue.queue.sql.engine import parse_url

    file = Path(parse_url(store).database or "")
    mine = "" if namespace == "default" else f".{quote(namespace, safe='')}"
    return file.with_name(f"{file.name}{mine}.temp").absolute()
