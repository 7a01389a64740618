"""Schedules of the store in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from dlqueue.queue import schedule as rules
from dlqueue.queue.errors import QueueError, QueueFull
from dlqueue.queue.record import Answer, Change, Decision, NewTask, Submission, TaskRecord
from dlqueue.queue.schedule import (
    COUNTED,
    RUNS_KEPT,
    Edit,
    Run,
    Schedule,
    ScheduleNotFound,
    ScheduleStats,
    Tick,
    Ticked,
    Wanted,
)


class MemorySchedules:
    """A part of `MemoryStore`. Nothing in it waits for anything, so that what a verb does is one transaction."""

    def __init__(self) -> None:
        self._schedules: dict[str, Schedule] = {}
        self._runs: dict[int, Run] = {}
        self._last_run = 0

    async def submit(
        self, tasks: Sequence[NewTask], now: float, capacity: Mapping[str, int] | None = None
    ) -> list[Submission]:
        raise NotImplementedError

    async def transact(self, decisions: Sequence[Decision]) -> list[Answer]:
        raise NotImplementedError

    # -- writes -------------------------------------------------------------------------------------------------------

    async def edit_schedule(self, name: str, edit: Edit) -> Schedule | None:
        before = self._schedules.get(name)
        made = edit(before)
        if made is None:
            self._schedules.pop(name, None)
            self._runs = {run_id: run for run_id, run in self._runs.items() if run.schedule != name}
            return None
        if before is not None:
            made = msgspec.structs.replace(made, **{field: getattr(before, field) for field in rules.TICKED})
        self._schedules[name] = made
        return made

    async def tick(self, ticks: Sequence[Tick], capacity: Mapping[str, int] | None = None) -> Sequence[Ticked | None]:
        return [await self._tick(tick, capacity) for tick in ticks]

    async def _tick(self, tick: Tick, capacity: Mapping[str, int] | None) -> Ticked | None:
        found = self._schedules.get(tick.name)
        if found is None or tick.revision not in (None, found.revision):
            return None
        open_runs = [run for run in self._runs.values() if run.schedule == tick.name and run.finished_at is None]
        unfinished = [run.task_id for run in open_runs if run.task_id is not None]
        runs: list[Run] = []
        for wanted in rules.resolve(found, tick, unfinished):
            self._last_run += 1
            made = await self._make(wanted, self._last_run, tick, capacity)
            runs.append(rules.run_of(found, wanted, self._last_run, tick, made))
        self._runs |= {run.id: run for run in runs}
        changed = self._schedules[tick.name] = rules.after(found, tick, runs)
        replaced = unfinished if changed.overlap == "replace" and changed.runs > found.runs else []
        cancel = rules.supersede(tick)
        await self.transact([(task_id, cancel) for task_id in replaced])
        self._trim(tick.name)
        return Ticked(schedule=self._schedules[tick.name], runs=runs, replaced=replaced)

    async def _make(
        self, wanted: Wanted, run_id: int, tick: Tick, capacity: Mapping[str, int] | None
    ) -> TaskRecord | QueueError | None:
        if wanted.task is None:
            return None
        try:
            (submission,) = await self.submit([rules.marked(wanted.task, run_id)], tick.at, capacity)
        except QueueFull as error:
            return error
        return submission.record

    def _trim(self, name: str) -> None:
        closed = [run.id for run in self._runs.values() if run.schedule == name and run.finished_at is not None]
        for run_id in closed[:-RUNS_KEPT]:
            del self._runs[run_id]

    def _close_run(self, change: Change) -> None:
        """A task has changed: what that means for the run that made it."""
        run_id, outcome = change.record.options.schedule_run, rules.outcome_of(change.record, change.source)
        run = None if run_id is None else self._runs.get(run_id)
        if run is None or outcome is None or change.delete:
            return
        status, finished_at = outcome
        self._runs[run.id] = msgspec.structs.replace(run, status=status, finished_at=finished_at)
        found = self._schedules[run.schedule]
        field, step = (COUNTED[status], 1) if status in COUNTED else (COUNTED[run.status], -1)
        counts: dict[str, int] = {field: getattr(found, field) + step}
        if run.id == max(run_id for run_id, line in self._runs.items() if line.schedule == run.schedule):
            found = msgspec.structs.replace(found, last_status=status)
        self._schedules[run.schedule] = msgspec.structs.replace(found, **counts)

    # -- reads --------------------------------------------------------------------------------------------------------

    async def schedule(self, name: str) -> Schedule:
        if name not in self._schedules:
            raise ScheduleNotFound(name)
        return self._schedules[name]

    def _of(self, name: str | None, owner: str | None) -> list[Schedule]:
        found = (s for s in self._schedules.values() if name in (None, s.name) and owner in (None, s.owner))
        return sorted(found, key=lambda schedule: schedule.name)

    async def schedules(self, owner: str | None, limit: int, after: str = "") -> Sequence[Schedule]:
        return [schedule for schedule in self._of(None, owner) if schedule.name > after][:limit]

    async def due_schedules(self, limit: int) -> Sequence[Schedule]:
        found = [(s.next_run, s.name, s) for s in self._schedules.values() if s.active and s.next_run is not None]
        return [schedule for _, _, schedule in sorted(found, key=lambda due: due[:2])[:limit]]

    async def schedule_runs(
        self, name: str | None, owner: str | None, limit: int, before: int | None = None
    ) -> Sequence[Run]:
        names = {schedule.name for schedule in self._of(name, owner)}
        runs = [r for r in self._runs.values() if r.schedule in names and (before is None or r.id < before)]
        return runs[: -limit - 1 : -1]

    async def schedule_stats(self, name: str | None, owner: str | None) -> ScheduleStats:
        found = self._of(name, owner)
        active = sum(schedule.active for schedule in found)
        sums = [sum(getattr(schedule, field) for schedule in found) for field in ScheduleStats.__struct_fields__[2:]]
        return ScheduleStats(active, len(found) - active, *sums)
