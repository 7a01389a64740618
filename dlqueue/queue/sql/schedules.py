"""Schedules in SQL: what the writer's thread does with them, and how they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Connection, Select, and_, bindparam, case, delete, func, insert, select, text, update

from dlqueue.queue import schedule as rules
from dlqueue.queue.errors import QueueError
from dlqueue.queue.record import Change, NewTask, TaskRecord
from dlqueue.queue.schedule import (
    COUNTED,
    DEFINITION,
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
from dlqueue.queue.sql.rows import Driver, Statement, encode
from dlqueue.queue.sql.tables import schedule, schedule_run
from dlqueue.runtime.failpoint import reach

if TYPE_CHECKING:
    from dlqueue.queue.sql.verbs import Verbs

_COLUMNS = tuple(column for column in schedule.c if column.name != "namespace")
_NAMES = [column.name for column in _COLUMNS]
_RUN_COLUMNS = tuple(column for column in schedule_run.c if column.name != "namespace")
_RUN_NAMES = [column.name for column in _RUN_COLUMNS]
_SUMS = ("runs", "completed", "failed", "canceled", "skipped", "refused")
_OUTCOMES = ("completed", "failed", "canceled")

_ONE = and_(schedule.c.namespace == bindparam("namespace_"), schedule.c.name == bindparam("name_"))
SELECT = Statement(select(*_COLUMNS).where(_ONE))
_INSERT = Statement(insert(schedule).values({column.name: bindparam(column.name) for column in schedule.c}))
_EDIT = Statement(
    update(schedule)
    .where(_ONE)
    .values({name: bindparam(name) for name in ("type", "owner", "definition", "active", "next_run", "revision")})
)
_TICKING = (
    "next_run", "previous_run", "last_task_id", "last_status", "runs", "skipped", "refused", "revision",
)  # fmt: skip
_TICK = Statement(update(schedule).where(_ONE).values({name: bindparam(name) for name in _TICKING}))
_DELETE = Statement(delete(schedule).where(_ONE))
_OF_SCHEDULE = and_(schedule_run.c.namespace == bindparam("namespace_"), schedule_run.c.schedule == bindparam("name_"))
_DELETE_RUNS = Statement(delete(schedule_run).where(_OF_SCHEDULE))
OPEN_RUNS = Statement(
    select(schedule_run.c.task_id).where(_OF_SCHEDULE, text("finished_at IS NULL")).order_by(schedule_run.c.task_id)
)
_INSERT_RUN = Statement(insert(schedule_run).values({column.name: bindparam(column.name) for column in schedule_run.c}))
TRIM = Statement(
    delete(schedule_run).where(
        _OF_SCHEDULE,
        schedule_run.c.finished_at.is_not(None),
        schedule_run.c.id
        <= select(schedule_run.c.id)
        .where(_OF_SCHEDULE)
        .order_by(schedule_run.c.id.desc())
        .offset(RUNS_KEPT)
        .limit(1)
        .scalar_subquery(),
    )
)
CLOSE_RUN = Statement(
    update(schedule_run)
    .where(schedule_run.c.id == bindparam("run"))
    .values(status=bindparam("status"), finished_at=bindparam("finished_at"))
)
_NEWEST = (
    select(func.max(schedule_run.c.id))
    .where(schedule_run.c.namespace == schedule.c.namespace, schedule_run.c.schedule == schedule.c.name)
    .correlate(schedule)
    .scalar_subquery()
)
COUNT_RUN = Statement(
    update(schedule)
    .where(
        schedule.c.namespace == bindparam("namespace_"),
        schedule.c.name
        == select(schedule_run.c.schedule).where(schedule_run.c.id == bindparam("run")).scalar_subquery(),
    )
    .values(
        last_status=case((bindparam("run") == _NEWEST, bindparam("status")), else_=schedule.c.last_status),
        **{name: schedule.c[name] + bindparam(f"more_{name}") for name in _OUTCOMES},
    )
)
_TRIM_EVERY = 50
"""Ticks of one schedule between two looks at the length of its log."""


def _schedule(row: Sequence[Any]) -> Schedule:
    values = dict(zip(_NAMES, row, strict=True))
    definition = msgspec.json.decode(values.pop("definition"))
    values["active"] = bool(values["active"])
    return Schedule(**values, **definition)


def _run(row: Sequence[Any]) -> Run:
    return Run(**dict(zip(_RUN_NAMES, row, strict=True)))


def _row(made: Schedule, namespace: str) -> dict[str, Any]:
    values = {name: getattr(made, name) for name in _NAMES if name != "definition"}
    values["definition"] = encode({name: getattr(made, name) for name in DEFINITION})
    return {
        **values,
        "active": int(made.active),
        "namespace": namespace,
        "namespace_": namespace,
        "name_": made.name,
    }


def _ticked(made: Schedule, namespace: str) -> dict[str, Any]:
    values = {name: getattr(made, name) for name in _TICKING}
    return {**values, "namespace_": namespace, "name_": made.name}


def close_runs(driver: Driver, namespace: str, changes: Sequence[Change]) -> None:
    """Tasks have changed: where one that a schedule made has ended (or begins again), so has its run."""
    rows = [
        {
            "run": change.record.options.schedule_run,
            "namespace_": namespace,
            "status": outcome[0],
            "finished_at": outcome[1],
            **{f"more_{name}": 0 for name in _OUTCOMES},
            **_counted(change, outcome[0]),
        }
        for change in changes
        if change.record.options.schedule_run is not None
        and not change.delete
        and (outcome := rules.outcome_of(change.record, change.source)) is not None
    ]
    if rows:
        COUNT_RUN.each(driver, rows)
        CLOSE_RUN.each(driver, rows)


def _counted(change: Change, status: str) -> dict[str, int]:
    if status in COUNTED:
        return {f"more_{COUNTED[status]}": 1}
    assert change.source is not None
    return {f"more_{COUNTED[change.source]}": -1}


class ScheduleVerbs:
    """In the writer's thread; see `dlqueue.queue.sql.verbs.Verbs`."""

    def __init__(self, verbs: Verbs) -> None:
        self._verbs = verbs

    def _key(self, name: str) -> dict[str, str]:
        return {"namespace_": self._verbs.namespace, "name_": name}

    def _find(self, driver: Driver, name: str) -> Schedule | None:
        found = SELECT.run(driver, self._key(name))
        return _schedule(found[0]) if found else None

    def edit(self, driver: Driver, payloads: Sequence[tuple[str, Edit]], changes: list[Change]) -> list[Any]:
        answers: list[Any] = []
        for name, edit in payloads:
            before = self._find(driver, name)
            try:
                made = edit(before)
            except QueueError as error:
                answers.append(error)
                continue
            if made is None:
                _DELETE.run(driver, self._key(name))
                _DELETE_RUNS.run(driver, self._key(name))
            elif made is not before:
                (_INSERT if before is None else _EDIT).run(driver, _row(made, self._verbs.namespace))
            answers.append(made)
        return answers

    def tick(
        self, driver: Driver, payloads: Sequence[tuple[Sequence[Tick], Mapping[str, int]]], changes: list[Change]
    ) -> list[Any]:
        answers: list[Any] = []
        for ticks, capacity in payloads:
            batch = _Ticks(self._verbs, driver, capacity)
            begun = [batch.begin(tick, self._find(driver, tick.name)) for tick in ticks]
            batch.write(changes)
            answers.append([None if one is None else one.answer() for one in begun])
        reach("ticking")
        return answers


class _Begun:
    """One tick on its way."""

    def __init__(self, tick: Tick, found: Schedule, wanted: Sequence[Wanted], first_run: int, unfinished: list[int]):
        self.tick = tick
        self.found = found
        self.wanted = wanted
        self.first_run = first_run
        self.unfinished = unfinished
        self.tasks: dict[int, TaskRecord | QueueError] = {}

    def news(self) -> list[tuple[int, NewTask]]:
        """The tasks to be made, each with the id of its run."""
        numbered = enumerate(self.wanted, self.first_run)
        return [(run_id, rules.marked(w.task, run_id)) for run_id, w in numbered if w.task is not None]

    def finish(self) -> None:
        """The tasks have been made."""
        self.runs = [
            rules.run_of(self.found, wanted, run_id, self.tick, self.tasks.get(run_id))
            for run_id, wanted in enumerate(self.wanted, self.first_run)
        ]
        self.changed = rules.after(self.found, self.tick, self.runs)
        made_some = self.changed.runs > self.found.runs
        self.replaced = self.unfinished if self.found.overlap == "replace" and made_some else []

    def answer(self) -> Ticked:
        return Ticked(schedule=self.changed, runs=self.runs, replaced=self.replaced)


class _Ticks:
    """The ticks of one request: all are looked at before the first row is written."""

    def __init__(self, verbs: Verbs, driver: Driver, capacity: Mapping[str, int]) -> None:
        self._verbs = verbs
        self._driver = driver
        self._capacity = capacity
        self._begun: dict[str, _Begun] = {}

    def begin(self, tick: Tick, found: Schedule | None) -> _Begun | None:
        """None if it is not as it was seen."""
        if found is None or tick.revision not in (None, found.revision) or tick.name in self._begun:
            return None
        unfinished: list[int] = []
        if found.overlap != "allow":
            rows = OPEN_RUNS.run(self._driver, {"namespace_": self._verbs.namespace, "name_": tick.name})
            unfinished = [row[0] for row in rows]
        wanted = rules.resolve(found, tick, unfinished)
        first = self._verbs.take_ids(self._driver, "schedule_run", len(wanted)) if wanted else 0
        begun = self._begun[tick.name] = _Begun(tick, found, wanted, first, unfinished)
        return begun

    def write(self, changes: list[Change]) -> None:
        """The tasks, the log, the schedules; and the cancellation of what is replaced."""
        driver, namespace = self._driver, self._verbs.namespace
        made = [(begun, run_id, new) for begun in self._begun.values() for run_id, new in begun.news()]
        submits = [([new], begun.tick.at, self._capacity, None) for begun, _, new in made]
        answers = self._verbs.submit(driver, submits, changes) if submits else []
        for (begun, run_id, _), answer in zip(made, answers, strict=True):
            begun.tasks[run_id] = answer if isinstance(answer, QueueError) else answer[0].record
        for begun in self._begun.values():
            begun.finish()
        runs = [run for begun in self._begun.values() for run in begun.runs]
        _INSERT_RUN.each(driver, ({**msgspec.structs.asdict(run), "namespace": namespace} for run in runs))
        _TICK.each(driver, (_ticked(begun.changed, namespace) for begun in self._begun.values()))
        decisions = [
            (task_id, rules.supersede(begun.tick)) for begun in self._begun.values() for task_id in begun.replaced
        ]
        if decisions:
            self._verbs.transact(driver, [decisions], changes)
        for name, begun in self._begun.items():
            if begun.changed.revision % _TRIM_EVERY == 0 or len(begun.runs) > _TRIM_EVERY:
                TRIM.run(driver, {"namespace_": namespace, "name_": name})


class SqlSchedules:
    """A part of `SqlStore`: the verbs of schedules handed to the writer, and the queries."""

    _namespace: str
    _schedule_verbs: ScheduleVerbs

    async def _do(self, verb: Callable[..., Any], payload: Any) -> Any:
        raise NotImplementedError

    async def _read(self, query: Callable[[Connection], Any]) -> Any:
        raise NotImplementedError

    async def edit_schedule(self, name: str, edit: Edit) -> Schedule | None:
        answer: Schedule | None = await self._do(self._schedule_verbs.edit, (name, edit))
        return answer

    async def tick(self, ticks: Sequence[Tick], capacity: Mapping[str, int] | None = None) -> Sequence[Ticked | None]:
        answer: Sequence[Ticked | None] = await self._do(self._schedule_verbs.tick, (ticks, capacity or {}))
        return answer

    async def schedule(self, name: str) -> Schedule:
        statement = select(*_COLUMNS).where(schedule.c.namespace == self._namespace, schedule.c.name == name)
        found = await self._schedules_of(statement)
        if not found:
            raise ScheduleNotFound(name)
        return found[0]

    async def schedules(self, owner: str | None, limit: int, after: str = "") -> Sequence[Schedule]:
        statement = select(*_COLUMNS).where(schedule.c.namespace == self._namespace, schedule.c.name > after)
        if owner is not None:
            statement = statement.where(schedule.c.owner == owner)
        return await self._schedules_of(statement.order_by(schedule.c.name).limit(limit))

    async def due_schedules(self, limit: int) -> Sequence[Schedule]:
        return await self._schedules_of(due(self._namespace, limit))

    async def _schedules_of(self, statement: Select[Any]) -> list[Schedule]:
        found: list[Schedule] = await self._read(lambda c: [_schedule(row) for row in c.execute(statement)])
        return found

    async def schedule_runs(
        self, name: str | None, owner: str | None, limit: int, before: int | None = None
    ) -> Sequence[Run]:
        statement = select(*_RUN_COLUMNS).where(schedule_run.c.namespace == self._namespace)
        if name is not None:
            statement = statement.where(schedule_run.c.schedule == name)
        if owner is not None:
            mine = and_(schedule.c.namespace == schedule_run.c.namespace, schedule.c.name == schedule_run.c.schedule)
            statement = statement.join(schedule, mine).where(schedule.c.owner == owner)
        if before is not None:
            statement = statement.where(schedule_run.c.id < before)
        statement = statement.order_by(schedule_run.c.id.desc()).limit(limit)
        found: Sequence[Run] = await self._read(lambda c: [_run(row) for row in c.execute(statement)])
        return found

    async def schedule_stats(self, name: str | None, owner: str | None) -> ScheduleStats:
        sums = [func.coalesce(func.sum(schedule.c[name]), 0) for name in _SUMS]
        active = func.coalesce(func.sum(schedule.c.active), 0)
        statement = select(active, func.count() - active, *sums).where(schedule.c.namespace == self._namespace)
        for column, wanted in ((schedule.c.name, name), (schedule.c.owner, owner)):
            if wanted is not None:
                statement = statement.where(column == wanted)
        return ScheduleStats(*await self._read(lambda c: c.execute(statement).one()))


def due(namespace: str, limit: int) -> Select[Any]:
    """The conditions are those of the partial index, word for word, or SQLite would not use it."""
    statement = select(*_COLUMNS).where(schedule.c.namespace == namespace, text("active = 1 AND next_run IS NOT NULL"))
    return statement.order_by(schedule.c.next_run, schedule.c.name).limit(limit)
