"""What the queue asks of a store for its schedules; a part of the `Store` protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from dlqueue.queue.schedule import Edit, Run, Schedule, ScheduleStats, Tick, Ticked


class ScheduleStore(Protocol):
    """Schedules and the logs of their runs.

    A task whose ``options.schedule_run`` is the id of a run writes its end to that run, in the transaction in which it
    ends: status, time, the counts of the schedule, and its ``last_status`` if there has been no later run. A retry by a
    person takes that back.
    """

    async def edit_schedule(self, name: str, edit: Edit) -> Schedule | None:
        """Let ``edit`` look at the schedule of this name, and write what it answers. What ``edit`` answers for counts,
        times of runs and last task is not looked at for a schedule that exists: only ticks change them. A schedule that
        goes takes its log along; its tasks stay. Answers it as it is now."""
        ...

    async def tick(self, ticks: Sequence[Tick], capacity: Mapping[str, int] | None = None) -> Sequence[Ticked | None]:
        """For each: if the schedule is still of this revision, make its tasks, write its log, and set its next run, in
        one transaction; else None, and nothing has changed.

        :param capacity: as for `Store.submit`. A task that a full queue refuses is logged as refused.
        """
        ...

    async def schedule(self, name: str) -> Schedule:
        """:raises ScheduleNotFound: there is none."""
        ...

    async def schedules(self, owner: str | None, limit: int, after: str = "") -> Sequence[Schedule]:
        """Of this owner (None = of all), by name, those behind ``after``."""
        ...

    async def due_schedules(self, limit: int) -> Sequence[Schedule]:
        """Active ones that have a next run, the earliest first."""
        ...

    async def schedule_runs(
        self, name: str | None, owner: str | None, limit: int, before: int | None = None
    ) -> Sequence[Run]:
        """The log of one schedule, or of all of this owner, or of all; the newest first, those with an id below
        ``before``."""
        ...

    async def schedule_stats(self, name: str | None, owner: str | None) -> ScheduleStats:
        """Sums over one schedule, or all of this owner, or all."""
        ...
