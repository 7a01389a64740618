"""Who may begin: tasks that have said what they need are claimed only when it is there.

One that does not fit is held (`HOLD`) and woken when it does: as soon as a running one has ended, and at a look now and
then, for the machine has other users too. Smaller ones go past it meanwhile, but not for ever: the first in line
(highest priority, then oldest) that has waited for `PATIENCE` has what it needs set aside, as long as that is a matter
of waiting for tasks of ours; nobody behind it may use that up. Tasks without an estimate never wait for anybody.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from bisect import bisect_left, insort
from functools import partial

import msgspec

from dlqueue.queue import transitions
from dlqueue.queue.errors import StorageError
from dlqueue.queue.estimate import Estimate
from dlqueue.queue.record import Change, TaskRecord
from dlqueue.queue.resources import Lack, Resources, Room
from dlqueue.queue.status import WAITING, Status, Want
from dlqueue.queue.store import Store
from dlqueue.queue.temporary import TemporaryFolders
from dlqueue.runtime.clock import Clock

log = logging.getLogger(__name__)

HOLD = "resources"
LOOK = 5.0
"""Seconds between two looks at what the machine has free, while somebody waits."""
PATIENCE = 60.0
"""Seconds that others may go past a waiting task."""
KEPT = 1000
"""Waiting tasks that are known here; the rest of them is in the store."""
_ALL = Estimate(memory=1, cpu=1, temp=1)

Key = tuple[int, int]


class _Waiting(msgspec.Struct):
    id: int
    key: Key
    estimate: Estimate
    since: float
    in_line: bool = True
    """False once it was woken; should it not fit after all, it has not lost its place."""


class Admission:
    """Asked by the writer of the store (`claim`), told by the event loop; hence the lock."""

    def __init__(self, store: Store, clock: Clock, resources: Resources, folders: TemporaryFolders) -> None:
        self._store = store
        self._clock = clock
        self._resources = resources
        self._folders = folders
        self._lock = threading.Lock()
        self._running: dict[tuple[int, int], tuple[Estimate, float]] = {}
        """By id and lease: what each running step has said, and since when."""
        self._claiming: dict[tuple[int, int], tuple[Estimate, float]] = {}
        """The same of claims that are not known to be written."""
        self._known: dict[int, _Waiting] = {}
        self._line: list[Key] = []
        self._patient: _Waiting | None = None
        """For whom something is set aside."""
        self._beyond = False
        """May more wait in the store than are known here?"""
        self._new: set[int] = set()
        self._look_at_all = False
        self._changed = asyncio.Event()
        self._looker: asyncio.Task[None] | None = None

    async def recover(self) -> None:
        """Let those try again that were waiting when an earlier run ended."""
        self._beyond = await self._store.wake(HOLD, KEPT, self._clock.time()) == KEPT

    def stop(self) -> asyncio.Task[None] | None:
        """Answers what is about to end."""
        if self._looker is not None:
            self._looker.cancel()
        return self._looker

    # -- in the store's transaction -----------------------------------------------------------------------------------

    def claim(self, record: TaskRecord, *, node: str, now: float, runs_step: bool) -> Change | None:
        """`transitions.claim`, or a hold instead of it."""
        change = transitions.claim(record, node, now, runs_step)
        estimate = record.options.estimate
        if estimate is None or change is None or not estimate.needs_room:
            return change
        # The step that prepares a pause is small, and who pauses wants to make room.
        if change.record.status is not Status.PROCESSING or record.want is not Want.RUN:
            return change
        lack = self._reserve(change.record, estimate, now)
        return change if lack is None else transitions.hold(record, HOLD, f"waits for {lack}", now)

    def _reserve(self, record: TaskRecord, estimate: Estimate, now: float) -> Lack | None:
        key = (record.id, record.lease_token)
        with self._lock:
            if key in self._claiming:
                return None  # the store asks again
            room = self._room(now, estimate)
            self._set_aside(room, record)
            lack = room.lack(record.id, estimate)
            if lack is None:
                self._claiming[key] = (estimate, now)
            return lack

    def _room(self, now: float, needed: Estimate) -> Room:
        taken = {**self._running, **self._claiming}.items()
        running = [(task_id, estimate, since) for (task_id, _), (estimate, since) in taken]
        return self._resources.room(running, self._folders.sizes(), now, needed)

    def _set_aside(self, room: Room, record: TaskRecord) -> None:
        first = self._patient
        if first is not None and first.in_line and first.key < _key(record):
            room.take(first.id, first.estimate)

    # -- what the pool tells ------------------------------------------------------------------------------------------

    def started(self, record: TaskRecord) -> None:
        """A claim is written."""
        if self._claiming:
            with self._lock:
                taken = self._claiming.pop((record.id, record.lease_token), None)
                if taken is not None:
                    self._running[record.id, record.lease_token] = taken

    def claimed(self) -> None:
        """The claims of a batch are written or not; those that nobody has started were not."""
        if self._claiming:
            with self._lock:
                self._claiming.clear()

    def ended(self, record: TaskRecord) -> None:
        """The step is over: what it used is free."""
        if self._running:
            with self._lock:
                taken = self._running.pop((record.id, record.lease_token), None)
            if taken is not None:
                self._look_again()

    # -- the line -----------------------------------------------------------------------------------------------------

    def note(self, record: TaskRecord) -> None:
        """A task has changed."""
        estimate = record.options.estimate
        if estimate is None:
            return
        with self._lock:
            known = self._known.pop(record.id, None)
            if known is not None and known.in_line:
                del self._line[bisect_left(self._line, known.key)]
            if record.status not in WAITING:
                return
            if record.hold != HOLD:
                if known is not None:
                    known.in_line = False
                    self._known[record.id] = known
                return
            since = self._clock.time() if known is None else known.since
            self._enter(_Waiting(record.id, _key(record), estimate, since))
        self._begin_looking()

    def _enter(self, waiting: _Waiting) -> None:
        insort(self._line, waiting.key)
        self._known[waiting.id] = waiting
        self._new.add(waiting.id)
        if len(self._line) > KEPT:
            _, last = self._line.pop()
            del self._known[last]
            self._beyond = True

    def _look_again(self) -> None:
        if self._line or self._beyond:
            self._look_at_all = True
            self._begin_looking()

    def _begin_looking(self) -> None:
        self._changed.set()
        if self._looker is None or self._looker.done():
            self._looker = asyncio.create_task(self._look_on(), name="dlqueue-admission")

    async def _look_on(self) -> None:
        while self._line or self._beyond:
            self._changed.clear()
            try:
                await self._look()
            except StorageError as error:
                log.debug("tasks that fit now cannot be woken: %s", error)
            timer = self._clock.call_at(self._clock.time() + LOOK, self._time_to_look)
            try:
                await self._changed.wait()
            finally:
                timer.cancel()

    def _time_to_look(self) -> None:
        self._look_at_all = True
        self._changed.set()

    async def _look(self) -> None:
        """Wake those that fit now."""
        now = self._clock.time()
        with self._lock:
            fitting = self._fitting(now)
        if fitting:
            await self._store.transact([(task_id, partial(transitions.wake, now=now)) for task_id in fitting])
        if self._beyond and not self._line:
            self._beyond = False
            try:
                woken = await self._store.wake(HOLD, KEPT, now)
            except StorageError:
                self._beyond = True
                raise
            self._beyond |= woken == KEPT

    def _fitting(self, now: float) -> list[int]:
        whom = None if self._look_at_all else self._new
        self._look_at_all, self._new = False, set()
        room = self._room(now, _ALL)
        # What ours use comes back when they end, to the machine's figures too.
        running = {task_id for task_id, _ in self._running}
        kept = {task_id: size for task_id, size in self._folders.sizes().items() if task_id not in running}
        alone = self._resources.room((), kept, now, _ALL)
        alone.memory += sum(estimate.memory for estimate, _ in self._running.values())
        alone.disk += sum(estimate.temp for estimate, _ in self._running.values())

        def may_help(waiting: _Waiting) -> bool:
            return now - waiting.since >= PATIENCE and alone.lack(waiting.id, waiting.estimate) is None

        fitting: list[int] = []
        patient = None
        for key in self._line:
            waiting = self._known[key[1]]
            if room.lack(waiting.id, waiting.estimate) is None:
                if whom is None or waiting.id in whom:
                    fitting.append(waiting.id)
                    room.take(waiting.id, waiting.estimate)
            elif patient is None and may_help(waiting):
                patient = waiting
                room.take(waiting.id, waiting.estimate)
        self._patient = patient
        return fitting

    # -- what a person asks -------------------------------------------------------------------------------------------

    def lack(self, record: TaskRecord) -> Lack | None:
        """What a held task waits for, as of now; None = nothing any more."""
        estimate = record.options.estimate
        if estimate is None:
            return None
        with self._lock:
            room = self._room(self._clock.time(), estimate)
            self._set_aside(room, record)
            return room.lack(record.id, estimate)


def _key(record: TaskRecord) -> Key:
    return (-record.priority, record.id)
