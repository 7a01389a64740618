"""`Queue.schedules`: tasks that come again and again, by the clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, get_args

import msgspec

from dlqueue.queue.errors import Conflict, InvalidTask, QueueFull
from dlqueue.queue.notices import Notices, ScheduleNotice
from dlqueue.queue.quotas import Quotas
from dlqueue.queue.record import Json
from dlqueue.queue.schedule import (
    DEFINITION,
    REFUSED,
    SKIPPED,
    Missed,
    Overlap,
    Run,
    Schedule,
    ScheduleNotFound,
    ScheduleStats,
    Tick,
    Ticked,
    Wanted,
    taken,
)
from dlqueue.queue.settings import Lanes
from dlqueue.queue.store import Store
from dlqueue.queue.submission import Preparer
from dlqueue.queue.task import Task
from dlqueue.queue.ticker import Ticker
from dlqueue.runtime.clock import Clock

NAME_MAX = 128
_TIMING = ("cron", "every", "timezone")


class Schedules:
    """Each makes a task of its type whenever it is due. Names are unique over all owners."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        preparer: Preparer,
        lanes: Lanes,
        types: Mapping[str, Task],
        notices: Notices,
        cancel: Callable[[int], Awaitable[object]],
        quotas: Quotas,
    ) -> None:
        self._store = store
        self._clock = clock
        self._preparer = preparer
        self._notices = notices
        self.ticker = Ticker(store, clock, preparer, lanes, types, self._tell, cancel, quotas)

    # -- change -------------------------------------------------------------------------------------------------------

    async def create(
        self,
        name: str,
        type: str,
        params: Json = None,
        *,
        cron: str | None = None,
        every: float | None = None,
        timezone: str = "UTC",
        missed: Missed = "skip",
        overlap: Overlap = "allow",
        queue: str | None = None,
        owner: str = "",
        cwd: str | None = None,
    ) -> Schedule:
        """A new one; it begins at once.

        :param cron: ``minute hour day month weekday``, with seconds first if there are six fields; ``@hourly @daily
            @midnight @weekly @monthly @yearly @annually``; or ``@every 1h30m``.
        :param every: seconds, in place of ``cron``.
        :param missed: what becomes of runs that were due while nobody was there: none, one for all, or each.
        :param overlap: when the task of an earlier run is not over: make another, make none, or cancel that one.
        :raises InvalidTask: naming what cannot be right, in the schedule or in the task that it would make.
        :raises Conflict: the name is taken.
        """
        _check_name(name)
        now = self._clock.time()
        wanted = Schedule(
            name=name,
            owner=owner,
            type=type,
            params=params,
            queue=queue,
            cron=cron,
            every=every,
            timezone=timezone,
            missed=missed,
            overlap=overlap,
            anchor=now,
            cwd=cwd,
            created_at=now,
        )
        wanted = self._timed(self._checked(wanted), now)

        def edit(before: Schedule | None) -> Schedule:
            if before is not None:
                raise taken(name)
            return wanted

        return await self._edit(name, edit, "created")

    async def update(self, name: str, **changes: Any) -> Schedule:
        """Other values for some of ``type params queue cron every timezone missed overlap cwd``; the rest stays.
        ``cron`` takes the place of ``every`` and the other way round. When it is due next is reckoned anew, from now,
        if any of that is about time.

        :raises InvalidTask: naming what cannot be right. :raises ScheduleNotFound: there is none.
        """
        for field in changes:
            if field not in ("type", *DEFINITION) or field == "anchor":
                raise InvalidTask("cannot be changed", field)
        given = [field for field in ("cron", "every") if changes.get(field) is not None]
        if len(given) > 1:
            raise InvalidTask("give either cron or every", "cron")
        if given:
            changes["every" if given == ["cron"] else "cron"] = None
        now = self._clock.time()
        timed = any(field in changes for field in _TIMING)
        if timed:
            changes["anchor"] = now
        while True:
            seen = await self._store.schedule(name)
            # Checked here and not in the transaction: what a class makes of params may take its time.
            wanted = self._checked(msgspec.structs.replace(seen, **changes, revision=seen.revision + 1))
            if timed and wanted.active:
                wanted = self._timed(wanted, now)
            made, changed = await self._tried(name, partial(_replaced, seen=seen, wanted=wanted), "updated")
            if changed:
                return made

    async def pause(self, name: str) -> Schedule:
        """No runs until `resume`; what was due meanwhile is not missed. Its tasks go on. Paused already is no error."""

        def edit(before: Schedule | None) -> Schedule:
            found = _there(before, name)
            return _changed(found, active=False, next_run=None) if found.active else found

        return await self._edit(name, edit, "paused")

    async def resume(self, name: str) -> Schedule:
        """Runs again, from the next time on. Not paused is no error."""
        now = self._clock.time()

        def edit(before: Schedule | None) -> Schedule:
            found = _there(before, name)
            return found if found.active else _changed(found, active=True, next_run=found.timing.next(now))

        return await self._edit(name, edit, "resumed")

    async def delete(self, name: str) -> Schedule:
        """Forget it and its log; its tasks stay. Answers it as it was last."""
        last: list[Schedule] = []

        def edit(before: Schedule | None) -> None:
            last.append(_there(before, name))

        await self._store.edit_schedule(name, edit)
        self.ticker.note(None, name)
        self._publish("deleted", last[-1])
        return last[-1]

    async def run(self, name: str) -> Schedule:
        """Make a task now; when it is due next stays as it is. ``last_task_id`` of the answer is the task.

        :raises Conflict: the task of an earlier run is not over, and ``overlap`` is ``skip``.
        :raises InvalidTask: its params are not right any more. :raises QueueFull: the queue has no room.
        :raises QuotaExceeded: its owner may have no more tasks.
        """
        found = await self._store.schedule(name)
        now = self._clock.time()
        wanted = Wanted(due_at=now, kind="manual", task=self.ticker.prepared(found))
        tick = Tick(name=name, revision=None, runs=[wanted], at=now, needs_cleanup=self.ticker.needs_cleanup)
        (answer,) = await self.ticker.write([tick], strict=True)
        if answer is None:
            raise ScheduleNotFound(name)
        self.ticker.note(answer.schedule, name)
        (run,) = answer.runs
        if run.status == SKIPPED:
            raise Conflict(f"schedule {name!r}: {run.message}, and its overlap is skip", found.last_task_id)
        if run.status == REFUSED:
            raise QueueFull(run.message or "no task was made")
        return answer.schedule

    def _checked(self, wanted: Schedule) -> Schedule:
        """:raises InvalidTask: it cannot be right, or what it makes cannot."""
        for field, value, choices in (
            ("missed", wanted.missed, get_args(Missed)),
            ("overlap", wanted.overlap, get_args(Overlap)),
        ):
            if value not in choices:
                raise InvalidTask(f"must be one of {', '.join(choices)}", field)
        if wanted.timing.next(self._clock.time()) is None:
            raise InvalidTask(f"{wanted.cron!r} never comes", "cron")
        self._preparer.prepare(wanted.type, wanted.params, queue=wanted.queue, owner=wanted.owner, cwd=wanted.cwd)
        # What is stored is a copy: a caller who changes his params later changes his own.
        return msgspec.structs.replace(wanted, params=msgspec.json.decode(msgspec.json.encode(wanted.params)))

    @staticmethod
    def _timed(schedule: Schedule, now: float) -> Schedule:
        return msgspec.structs.replace(schedule, next_run=schedule.timing.next(now))

    async def _edit(self, name: str, edit: Callable[[Schedule | None], Schedule], kind: str) -> Schedule:
        return (await self._tried(name, edit, kind))[0]

    async def _tried(self, name: str, edit: Callable[[Schedule | None], Schedule], kind: str) -> tuple[Schedule, bool]:
        """The schedule, and whether it is another one now; if not, that is no event."""
        unchanged: list[bool] = []

        def noting(before: Schedule | None) -> Schedule:
            made = edit(before)
            unchanged.append(made is before)
            return made

        made = await self._store.edit_schedule(name, noting)
        assert made is not None
        self.ticker.note(made, name)
        if not unchanged[-1]:
            self._publish(kind, made)
        return made, not unchanged[-1]

    # -- look ---------------------------------------------------------------------------------------------------------

    async def get(self, name: str) -> Schedule:
        """:raises ScheduleNotFound: there is none."""
        return await self._store.schedule(name)

    async def list(self, owner: str | None = None, limit: int = 100, after: str = "") -> Sequence[Schedule]:
        """By name, those behind ``after``."""
        return await self._store.schedules(owner, limit, after)

    async def log(
        self, name: str | None = None, owner: str | None = None, limit: int = 100, before: int | None = None
    ) -> Sequence[Run]:
        """What came of the last runs, the newest first; of one schedule, of those of an owner, or of all.

        :param before: the id of the last line of the page before.
        """
        return await self._store.schedule_runs(name, owner, limit, before)

    async def stats(self, name: str | None = None, owner: str | None = None) -> ScheduleStats:
        """How many there are, and what came of all their runs."""
        return await self._store.schedule_stats(name, owner)

    async def any_due(self) -> bool:
        """Will any of them ever run?"""
        return bool(await self._store.due_schedules(1))

    async def lateness(self) -> float:
        """Seconds for which the one that should have made a task first has been due; 0 = none is overdue."""
        first = await self._store.due_schedules(1)
        when = first[0].next_run if first else None
        return 0.0 if when is None else max(self._clock.time() - when, 0.0)

    # -- telling ------------------------------------------------------------------------------------------------------

    def _publish(self, kind: str, schedule: Schedule, run: Run | None = None) -> None:
        if self._notices.bus.listened_to:
            self._notices.bus.publish(ScheduleNotice(kind, schedule, run, self._clock.time()))

    def _tell(self, ticked: Ticked) -> None:
        for run in ticked.runs:
            self._publish("fired" if run.task_id is not None else run.status, ticked.schedule, run)


def _there(schedule: Schedule | None, name: str) -> Schedule:
    if schedule is None:
        raise ScheduleNotFound(name)
    return schedule


def _replaced(before: Schedule | None, *, seen: Schedule, wanted: Schedule) -> Schedule:
    """The new one, if nobody was faster."""
    found = _there(before, seen.name)
    return wanted if found.revision == seen.revision else found


def _changed(schedule: Schedule, **changes: Any) -> Schedule:
    return msgspec.structs.replace(schedule, revision=schedule.revision + 1, **changes)


def _check_name(name: str) -> None:
    if not 0 < len(name) <= NAME_MAX:
        raise InvalidTask(f"must have between 1 and {NAME_MAX} characters", "name")
    if not name.isprintable() or "/" in name or name != name.strip() or name.startswith("-"):
        raise InvalidTask("must be printable, without '/', and not begin with '-' or a space", "name")
