"""Submits and the room there is for them: refused where there is none, or kept waiting until there is, in turn."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from dlqueue.queue.errors import QueueClosed, QueueFull
from dlqueue.queue.intents import Intents
from dlqueue.queue.notices import Notices
from dlqueue.queue.pool import Pool
from dlqueue.queue.rank import rank
from dlqueue.queue.record import NewTask, Submission
from dlqueue.queue.settings import Lanes
from dlqueue.queue.store import Store
from dlqueue.runtime.clock import Clock

OnFull = Literal["refuse", "wait"]


class _Waiter:
    """A submit that waits: as a whole, for room in each of its queues."""

    def __init__(self, queues: frozenset[str]) -> None:
        self.queues = queues
        self.looks = asyncio.Event()


class Capacity:
    """Belongs to the event loop of its queue."""

    def __init__(
        self, store: Store, lanes: Lanes, notices: Notices, intents: Intents, clock: Clock, pool: Pool
    ) -> None:
        self._store = store
        self._pool = pool
        self._lanes = lanes
        self._notices = notices
        self._intents = intents
        self._clock = clock
        self._lines: dict[str, list[_Waiter]] = {}
        self._full: set[str] = set()
        """Queues of which was told that they are."""
        self._taking_back: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def awaited(self) -> bool:
        """Does any submit wait?"""
        return bool(self._lines)

    async def submit(self, tasks: Sequence[NewTask], on_full: OnFull) -> list[Submission]:
        """:raises QueueFull: there is no room; with ``wait`` only if there never will be."""
        limits = self._limits(tasks)
        if not limits:
            return await self._pool.submit(tasks)
        ahead = {name: len(self._lines[name]) for name in limits if name in self._lines}
        if on_full == "wait" and ahead and _impossible(tasks, limits) is None:
            return await self._wait(tasks)
        try:
            if on_full == "wait":
                return await self._try(tasks, limits)
            # Room belongs to those who wait for it; what is answered with a task that is there needs none.
            submissions = await self._store.submit(tasks, self._clock.time(), limits | dict.fromkeys(ahead, 0))
            self._full.difference_update(limits)
            return submissions
        except QueueFull as error:
            self._tell_full(limits)
            never = _impossible(tasks, limits)
            if never is not None:
                raise QueueFull(never) from error
            if on_full == "refuse" and ahead:
                name, count = next(iter(ahead.items()))
                raise QueueFull(f"queue {name!r} is full: submits ({count}) wait for room in it") from error
            if on_full == "refuse":
                raise
        return await self._wait(tasks)

    async def _wait(self, tasks: Sequence[NewTask]) -> list[Submission]:
        waiter = _Waiter(frozenset(new.queue for new in tasks))
        # In all its lines at one moment, so that two submits never wait for each other.
        for name in waiter.queues:
            self._lines.setdefault(name, []).append(waiter)
        try:
            while True:
                waiter.looks.clear()
                if self._closed:
                    raise QueueClosed("the queue is stopping; submit again when it is back")
                if all(self._lines[name][0] is waiter for name in waiter.queues):
                    now = self._clock.time()
                    # It gains by ageing from now on, as if it had come now.
                    come = [self._ranked(new, now) for new in tasks]
                    limits = self._limits(come)
                    try:
                        return await self._try(come, limits)
                    except QueueFull as error:
                        self._tell_full(limits)
                        never = _impossible(come, limits)
                        if never is not None:
                            raise QueueFull(never) from error
                await waiter.looks.wait()
        finally:
            for name in waiter.queues:
                self._lines[name].remove(waiter)
                if not self._lines[name]:
                    del self._lines[name]
            self.look(waiter.queues)

    def _limits(self, tasks: Iterable[NewTask]) -> dict[str, int]:
        rooms = {name: self._lanes.capacity(name) for name in {new.queue for new in tasks}}
        return {name: room for name, room in rooms.items() if room is not None}

    def _ranked(self, new: NewTask, now: float) -> NewTask:
        ageing = self._lanes[new.queue].ageing
        return msgspec.structs.replace(new, rank=rank(new.priority, now, ageing, new.options.standing))

    async def _try(self, tasks: Sequence[NewTask], limits: Mapping[str, int]) -> list[Submission]:
        """One look at the store. If the caller leaves in the middle of it, what it made is taken back."""
        trying = asyncio.ensure_future(self._store.submit(tasks, self._clock.time(), limits))
        try:
            submissions = await asyncio.shield(trying)
        except asyncio.CancelledError:
            taking_back = asyncio.create_task(self._take_back(trying))
            self._taking_back.add(taking_back)
            taking_back.add_done_callback(self._taking_back.discard)
            raise
        self._full.difference_update(limits)
        return submissions

    async def _take_back(self, trying: asyncio.Future[list[Submission]]) -> None:
        (answer,) = await asyncio.gather(trying, return_exceptions=True)
        if not isinstance(answer, BaseException):
            removals = (self._intents.remove(made.record.id) for made in answer if made.created)
            await asyncio.gather(*removals, return_exceptions=True)

    def _tell_full(self, limits: Mapping[str, int]) -> None:
        for name in limits.keys() - self._full:
            self._full.add(name)
            self._notices.tell_of_queue(name, "full")

    def look(self, queues: Iterable[str]) -> None:
        """There may be room in these now: who is first looks."""
        for name in queues:
            if name in self._lines:
                self._lines[name][0].looks.set()

    def look_everywhere(self) -> None:
        """Limits have changed."""
        self.look(tuple(self._lines))

    async def close(self) -> None:
        """Nobody waits any longer."""
        self._closed = True
        for line in self._lines.values():
            for waiter in line:
                waiter.looks.set()
        if self._taking_back:
            await asyncio.wait(self._taking_back)


def _impossible(tasks: Sequence[NewTask], limits: Mapping[str, int]) -> str | None:
    """Why there can never be room for so many; None = there can."""
    wanted = Counter(new.queue for new in tasks)
    for name, room in limits.items():
        if wanted[name] > room:
            return f"queue {name!r} never has room for {wanted[name]} new tasks at once: its capacity is {room}"
    return None
