"""The `Store` protocol: all that the queue asks of whatever keeps its tasks. `dlqueue.queue.testing` proves one.

A store is driven from one event loop. Each verb that writes is one transaction: when it returns, the change is as
durable as the store promises; when it raises `StorageError`, nothing was changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from dlqueue.queue.record import Answer, Change, Decision, Due, Event, Filter, NewTask, Page, Submission, TaskRecord
from dlqueue.queue.schedule_store import ScheduleStore
from dlqueue.queue.status import Status

Listener = Callable[[Sequence[Change]], None]
"""Is told of every committed change, in commit order, before the verb that made it returns."""


class Store(ScheduleStore, Protocol):
    """Tasks, their events and their dependencies; and schedules."""

    async def open(self, listener: Listener) -> None:
        """Make ready: create what is missing, lock out others where the store is for one process only."""
        ...

    async def close(self) -> None:
        """Finish what was accepted, then let go."""
        ...

    # -- writes -----------------------------------------------------------------------------------------------------

    async def submit(
        self, tasks: Sequence[NewTask], now: float, capacity: Mapping[str, int] | None = None
    ) -> list[Submission]:
        """Store them, all or nothing, in this order.

        :param capacity: of the queues that have one, how many unfinished tasks they hold at most. Tasks that are
            answered instead of made need no room.

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
        """Give all unfinished tasks of a queue the rank of `dlqueue.queue.rank` under this ageing, and a new revision;
        nobody is told. False if they have it already: one look at one of them tells."""
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

    async def ready(self, queue: str, types: Collection[str], now: float, limit: int) -> list[Due]:
        """Waiting tasks of these types that may run by ``now`` (without hold and wake time, or the time has come),
        best first."""
        ...

    async def timed(self, types: Collection[str], after: float, limit: int) -> list[Due]:
        """Waiting tasks of these types with a wake time later than ``after``, earliest first."""
        ...

    async def processing(self) -> list[int]:
        """Tasks in the middle of a step, by whomever."""
        ...

    async def cleanups(self, limit: int) -> list[int]:
        """Final tasks whose clean-up is due."""
        ...

    async def tally(self) -> dict[Status, int]:
        """How many tasks there are in each status."""
        ...
