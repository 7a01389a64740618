"""The `Store` protocol: all that the queue asks of whatever keeps its tasks. `dlqueue.queue.testing` proves one.

A store is driven from one event loop. Each verb that writes is one transaction: when it returns, the change is as
durable as the store promises; when it raises `StorageError`, nothing was changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from dlqueue.queue.figures import Figure
from dlqueue.queue.glance import Glance, Look
from dlqueue.queue.outbox import OutboxStore
from dlqueue.queue.record import (
    Answer,
    Change,
    Decide,
    Decision,
    Due,
    Event,
    Filter,
    NewTask,
    Page,
    QueueRow,
    Submission,
    TaskRecord,
)
from dlqueue.queue.schedule_store import ScheduleStore
from dlqueue.queue.status import Status

Listener = Callable[[Sequence[Change]], None]
"""Is told of every committed change, in commit order, before the verb that made it returns."""


class Store(ScheduleStore, OutboxStore, Protocol):
    """Tasks, their events and their dependencies; schedules; and the outbox."""

    async def open(self, listener: Listener) -> None:
        """Make ready: create what is missing, lock out others where the store is for one process only."""
        ...

    async def close(self) -> None:
        """Finish what was accepted, then let go."""
        ...

    # -- writes -----------------------------------------------------------------------------------------------------

    async def submit(
        self,
        tasks: Sequence[NewTask],
        now: float,
        capacity: Mapping[str, int] | None = None,
        take: Decide | None = None,
    ) -> list[Submission]:
        """Store them, all or nothing, in this order; answers them as they were stored.

        :param capacity: of the queues that have one, how many unfinished tasks they hold at most. Tasks that are
            answered instead of made need no room.
        :param take: looks at each new task that is queued; what it answers is a second change of the same transaction.

        The same (owner, unique key) answers the first task. A join key answers an unfinished task that has it.
        :raises Conflict: a unique key is taken by a task with another type or other params.
        :raises InvalidTask: a dependency or parent does not exist.
        :raises QueueFull: the queue of one of them has no room for it.
        """
        ...

    async def transact(self, decisions: Sequence[Decision]) -> list[Answer]:
        """For each (id, decide): read the task, let ``decide`` look at it, write what it answers. Decisions of one
        call commit together; one that refuses (a `QueueError`) does not stop the others. A missing task answers
        `TaskNotFound`. Changes that end a task, deliver a result or enter ``blocked`` resolve dependencies in the
        same transaction."""
        ...

    async def wake(self, hold: str, limit: int | None, now: float) -> int:
        """End the wait of tasks that hold ``hold`` (best rank first, ``limit`` at most). A trailing ``*`` stands for
        every hold that begins so. Answers how many."""
        ...

    async def rerank(self, queue: str, ageing: float) -> bool:
        """Give all unfinished tasks of a queue the rank of `dlqueue.queue.rank` under this ageing (and with the
        ``standing`` of their options), and a new revision;
        nobody is told. False if they have it already: one look at one of them tells."""
        ...

    async def purge(self, ids: Collection[int], before: float, cleaned: Collection[str], now: float) -> int:
        """Delete those of these tasks that ended before ``before``, whose clean-up is not due and that no unfinished
        task depends on, with all that belongs to them. A failed or canceled task of a type in ``cleaned`` that has
        ever run goes when its clean-up has run once more (as `wants.remove` says). Answers how many went or
        will."""
        ...

    # -- reads ------------------------------------------------------------------------------------------------------

    async def get(self, task_id: int) -> TaskRecord:
        """:raises TaskNotFound: there is no such task, or it is being removed."""
        ...

    async def find(
        self, filter: Filter, order: str = "-id", limit: int = 100, cursor: str | None = None, count: bool = False
    ) -> Page:
        """A page of tasks. ``order`` is ``id``, ``priority``, ``created_at`` or ``finished_at``, with ``-`` for
        descending. :raises InvalidTask: order or cursor cannot be right."""
        ...

    async def ids(self, filter: Filter, limit: int, after: int = 0) -> list[int]:
        """Ids above ``after``, ascending."""
        ...

    async def count(self, filter: Filter) -> int: ...

    async def history(self, task_id: int, limit: int = 1000) -> list[Event]:
        """The events of a task, oldest first (the newest ``limit`` of them)."""
        ...

    async def events(self, after: int, limit: int) -> list[Event]:
        """Events of all tasks with a greater sequence, in order."""
        ...

    async def queues(self) -> list[str]:
        """Every queue that ever had a task."""
        ...

    async def owners(self) -> tuple[dict[str, int], int]:
        """How many unfinished tasks each owner has, of those who have any; and the sequence of the last event that was
        written before it was looked."""
        ...

    async def ready(
        self, queue: str, types: Collection[str], now: float, limit: int, fresh: bool | None = None
    ) -> list[Due]:
        """Waiting tasks of these types that may run by ``now`` (without hold and wake time, or the time has come),
        best first.

        :param fresh: only those of which `TaskRecord.fresh` says so; None = all.
        """
        ...

    async def timed(self, types: Collection[str], after: float, limit: int) -> list[Due]:
        """Waiting tasks of these types with a wake time later than ``after``, earliest first."""
        ...

    async def processing(self) -> list[int]:
        """Tasks in the middle of a step, by whomever."""
        ...

    async def cleanups(self, limit: int, after: int = 0) -> list[int]:
        """Final tasks whose clean-up is due, with ids above ``after``, ascending."""
        ...

    async def expired(
        self, filter: Filter, before: float, limit: int, after: tuple[float, int] = (0.0, 0)
    ) -> list[tuple[float, int]]:
        """When they ended, and the ids, of final tasks that ended before ``before`` and match, the oldest first;
        ``after``: behind this one. What `purge` may refuse is among them."""
        ...

    async def midway(self, holds: Collection[str]) -> list[int]:
        """Tasks that hold something that begins with one of ``holds``, and those that wait for a worker only though a
        step of them has begun before (woken, or put back by a stop, a crash or a person); ascending. Those that have
        not begun are not looked at."""
        ...

    async def tally(self, queue: str | None = None) -> dict[Status, int]:
        """How many tasks there are in each status (in this queue); statuses without any may be left out. Costs the
        same however many they are."""
        ...

    async def hours(self, filter: Filter, first: int | None, last: int | None, groups: bool = True) -> list[Figure]:
        """The sums of these hours since 1970, ``first <= hour < last``: of all tasks that ended then, also of those
        that are gone. Of the filter, status, queue and type count.

        :param groups: False: whichever queue and type they are of does not matter; the store may add them up."""
        ...

    async def ended(
        self, filter: Filter, since: float | None, until: float | None, limit: int | None
    ) -> list[Figure] | None:
        """The same of the rows that are there, of tasks that match and ended in ``[since, until)``. None if more than
        ``limit`` tasks ended then."""
        ...

    async def forget_hours(self, now: int) -> None:
        """In this hour: drop the sums that are older than `dlqueue.queue.figures` says."""
        ...

    async def tallies(self) -> dict[str, dict[Status, int]]:
        """`tally` of each queue that has tasks."""
        ...

    async def glance(self, look: Look) -> Glance:
        """One look at everything; costs the same however many tasks there are."""
        ...

    # -- queues that are set at run time ----------------------------------------------------------------------------

    async def save_queues(self, rows: Sequence[QueueRow]) -> None:
        """Keep these, each in place of the one of its name, all or nothing."""
        ...

    async def queue_rows(self) -> list[QueueRow]:
        """All that were kept."""
        ...
