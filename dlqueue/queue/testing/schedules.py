"""What a store promises of schedules: a tick is all or nothing, once; the log, the counts, and whose they are."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
import pytest

from dlqueue.queue import wants
from dlqueue.queue.errors import Conflict
from dlqueue.queue.record import Filter, NewTask, TaskError
from dlqueue.queue.schedule import RUNS_KEPT, Run, Schedule, ScheduleNotFound, ScheduleStats, Tick, Ticked, Wanted
from dlqueue.queue.status import Status, Want
from dlqueue.queue.testing.bench import NOW, Bench, Suite

S = Status


def schedule(name: str = "s", **fields: Any) -> Schedule:
    return Schedule(**{"name": name, "type": "test", "cron": "* * * * *", "next_run": NOW, "created_at": NOW, **fields})


async def put(bench: Bench, *made: Schedule) -> None:
    for one in made:
        await bench.store.edit_schedule(one.name, lambda before, one=one: one)  # type: ignore[misc]


def wanted(due_at: float = NOW, task: NewTask | None = None, **fields: Any) -> Wanted:
    return Wanted(**{"due_at": due_at, "kind": "tick", "task": task or NewTask(type="test", params={}), **fields})


def tick(of: Schedule, *runs: Wanted, next_run: float | None = NOW + 60, at: float = NOW, **fields: Any) -> Tick:
    revision = fields.pop("revision", of.revision)
    return Tick(name=of.name, revision=revision, next_run=next_run, runs=runs, at=at, needs_cleanup=lambda type: False)


async def fire(bench: Bench, *runs: Wanted, name: str = "s", **fields: Any) -> Ticked:
    """A tick of the schedule as it is now."""
    (answer,) = await bench.store.tick([tick(await bench.store.schedule(name), *(runs or [wanted()]), **fields)])
    assert answer is not None
    return answer


def task_of(answer: Ticked, index: int = 0) -> int:
    task_id = answer.runs[index].task_id
    assert task_id is not None
    return task_id


async def log(bench: Bench, name: str = "s") -> Sequence[Run]:
    return await bench.store.schedule_runs(name, None, 1000)


class Schedules(Suite):
    # -- definitions --------------------------------------------------------------------------------------------------

    async def test_every_field_of_a_schedule_is_kept(self, bench: Bench) -> None:
        full = schedule(
            owner="me",
            params={"ü": [1]},
            queue="q",
            cron=None,
            every=1.5,
            timezone="Europe/Berlin",
            missed="all",
            overlap="replace",
            anchor=NOW + 0.25,
            cwd="/here",
            next_run=NOW + 1.75,
        )
        await put(bench, full)
        if self.durable:
            await bench.reopen()
        assert await bench.store.schedule("s") == full
        assert list(await bench.store.schedules(None, 10)) == list(await bench.store.due_schedules(10)) == [full]

    async def test_an_edit_sees_what_is_there(self, bench: Bench) -> None:
        with pytest.raises(ScheduleNotFound, match="no schedule 's'"):
            await bench.store.schedule("s")
        seen: list[Schedule | None] = []

        def edit(before: Schedule | None) -> Schedule:
            seen.append(before)
            return schedule(revision=1 if before is None else before.revision + 1)

        assert (await bench.store.edit_schedule("s", edit)) == schedule()
        assert (await bench.store.edit_schedule("s", edit)) == schedule(revision=2)
        assert seen == [None, schedule()]
        assert await bench.store.schedule("s") == schedule(revision=2)

    async def test_an_edit_that_refuses_changes_nothing(self, bench: Bench) -> None:
        await put(bench, schedule())

        def edit(before: Schedule | None) -> Schedule:
            raise Conflict("no")

        with pytest.raises(Conflict, match="no"):
            await bench.store.edit_schedule("s", edit)
        with pytest.raises(Conflict, match="no"):
            await bench.store.edit_schedule("other", edit)
        assert await bench.store.schedules(None, 10) == [schedule()]

    async def test_an_edit_does_not_touch_what_runs_have_left(self, bench: Bench) -> None:
        await put(bench, schedule())
        await fire(bench)
        before = await bench.store.schedule("s")
        await put(bench, schedule(cron="1 * * * *", revision=9, active=False, next_run=None))
        after = await bench.store.schedule("s")
        assert (after.runs, after.last_task_id, after.previous_run, after.last_status) == (
            1, before.last_task_id, NOW, "running",
        )  # fmt: skip
        assert (after.cron, after.revision, after.active, after.next_run) == ("1 * * * *", 9, False, None)

    async def test_a_schedule_goes_with_its_log_and_its_tasks_stay(self, bench: Bench) -> None:
        await put(bench, schedule(), schedule("other"))
        made = task_of(await fire(bench))
        await fire(bench, name="other")
        assert await bench.store.edit_schedule("s", lambda before: None) is None
        assert await bench.store.edit_schedule("s", lambda before: None) is None
        assert [s.name for s in await bench.store.schedules(None, 10)] == ["other"]
        assert (await log(bench), len(await log(bench, "other"))) == ([], 1)
        await put(bench, schedule())
        await bench.end(made)  # the end of the old one's task is not the new one's
        assert await bench.store.schedule("s") == schedule()
        assert await log(bench) == []

    async def test_lists_are_by_name_and_owner(self, bench: Bench) -> None:
        await put(bench, *(schedule(name, owner=owner) for name, owner in (("c", "me"), ("a", "me"), ("b", "you"))))

        async def names(owner: str | None, limit: int = 10, after: str = "") -> list[str]:
            return [s.name for s in await bench.store.schedules(owner, limit, after)]

        assert await names(None) == ["a", "b", "c"]
        assert await names("me") == ["a", "c"]
        assert await names(None, 1, "a") == ["b"]
        assert await names("nobody") == []

    async def test_what_is_due_first_comes_first(self, bench: Bench) -> None:
        await put(
            bench,
            schedule("late", next_run=NOW + 9),
            schedule("soon", next_run=NOW + 1),
            schedule("also", next_run=NOW + 1),
            schedule("paused", active=False, next_run=None),
            schedule("never", next_run=None),
        )
        assert [s.name for s in await bench.store.due_schedules(10)] == ["also", "soon", "late"]
        assert [s.name for s in await bench.store.due_schedules(1)] == ["also"]

    # -- ticks --------------------------------------------------------------------------------------------------------

    async def test_a_tick_makes_task_line_and_next_run(self, bench: Bench) -> None:
        await put(bench, schedule(owner="me"))
        bench.told.clear()
        new = NewTask(type="test", params={"a": 1}, owner="me", labels={"schedule": ["s"]})
        answer = await fire(bench, wanted(NOW - 1, new), at=NOW + 2)
        (change,) = bench.told
        record = await bench.store.get(task_of(answer))
        assert (change.record, change.source, change.kind) == (record, None, "submitted")
        assert (record.params, record.owner, record.status, record.created_at) == ({"a": 1}, "me", S.QUEUED, NOW + 2)
        assert await bench.store.ids(Filter(labels=(("schedule", "s"),)), 10) == [record.id]
        changed = await bench.store.schedule("s")
        assert changed == answer.schedule
        assert (changed.runs, changed.revision, changed.next_run, changed.previous_run) == (1, 2, NOW + 60, NOW - 1)
        assert (changed.last_task_id, changed.last_status, changed.running) == (record.id, "running", 1)
        (line,) = await log(bench)
        assert [line] == list(answer.runs)
        assert (line.schedule, line.due_at, line.at, line.kind) == ("s", NOW - 1, NOW + 2, "tick")
        assert (line.task_id, line.status, line.finished_at, line.message) == (record.id, "running", None, None)
        if self.durable:
            await bench.reopen()
            assert await bench.store.schedule("s") == changed
            assert list(await log(bench)) == [line]

    async def test_of_two_ticks_one_happens(self, bench: Bench) -> None:
        await put(bench, schedule())
        seen = await bench.store.schedule("s")
        answers = await asyncio.gather(*(bench.store.tick([tick(seen, wanted())]) for _ in range(5)))
        answers += [await bench.store.tick([tick(seen, wanted()), tick(seen, wanted())])]
        assert sum(one is not None for answer in answers for one in answer) == 1
        assert await bench.store.count(Filter()) == 1
        assert len(await log(bench)) == 1

    async def test_one_of_a_schedule_that_was_changed_or_is_gone_does_nothing(self, bench: Bench) -> None:
        await put(bench, schedule(), schedule("there"))
        seen = await bench.store.schedule("s")
        await put(bench, schedule(revision=2))
        answers = await bench.store.tick(
            [tick(seen, wanted()), tick(schedule("gone"), wanted()), tick(schedule("there"), wanted())]
        )
        assert [answer is None for answer in answers] == [True, True, False]
        assert await bench.store.schedule("s") == schedule(revision=2)
        assert await bench.store.count(Filter()) == 1

    async def test_a_manual_run_leaves_the_next_one(self, bench: Bench) -> None:
        await put(bench, schedule(next_run=NOW + 7, revision=5))
        answer = await fire(bench, wanted(kind="manual"), revision=None, next_run=None)
        assert (answer.schedule.next_run, answer.schedule.runs, answer.schedule.revision) == (NOW + 7, 1, 6)

    async def test_many_runs_at_once_and_none(self, bench: Bench) -> None:
        await put(bench, schedule())
        left_out = wanted(NOW + 3, status="skipped", message="why")
        left_out = msgspec.structs.replace(left_out, task=None)
        answer = await fire(bench, wanted(NOW), wanted(NOW + 1), left_out)
        assert [run.status for run in answer.runs] == ["running", "running", "skipped"]
        assert (answer.schedule.runs, answer.schedule.skipped, answer.schedule.last_status) == (2, 1, "skipped")
        assert answer.schedule.previous_run == NOW + 1
        assert [run.id for run in await log(bench)] == sorted((run.id for run in answer.runs), reverse=True)
        (none,) = await bench.store.tick([tick(answer.schedule, next_run=None)])
        assert none is not None
        assert (none.runs, none.schedule.next_run, none.schedule.last_status) == ([], None, "skipped")

    async def test_a_full_queue_refuses_the_task_and_not_the_tick(self, bench: Bench) -> None:
        await put(bench, schedule())
        room = {"default": 1}
        (answer,) = await bench.store.tick([tick(schedule(), wanted(NOW), wanted(NOW + 1))], room)
        assert answer is not None
        assert [(run.status, run.task_id is None) for run in answer.runs] == [("running", False), ("refused", True)]
        assert "is full" in (answer.runs[1].message or "")
        assert (answer.schedule.refused, answer.schedule.runs, answer.schedule.next_run) == (1, 1, NOW + 60)

    async def test_a_tick_is_never_joined(self, bench: Bench) -> None:
        await put(bench, schedule())
        first, second = task_of(await fire(bench)), task_of(await fire(bench))
        assert first != second

    # -- overlap ------------------------------------------------------------------------------------------------------

    async def test_overlap_skip(self, bench: Bench) -> None:
        await put(bench, schedule(overlap="skip"))
        first = task_of(await fire(bench))
        second = await fire(bench)
        assert [(run.status, run.task_id) for run in second.runs] == [("skipped", None)]
        assert second.runs[0].message == f"task {first} of an earlier run is not over"
        assert (second.schedule.skipped, second.schedule.last_task_id, second.schedule.runs) == (1, first, 1)
        await bench.end(first)
        assert task_of(await fire(bench)) != first

    async def test_overlap_replace(self, bench: Bench) -> None:
        await put(bench, schedule(overlap="replace"), schedule("other"))
        other = task_of(await fire(bench, name="other"))
        first = task_of(await fire(bench))
        second = await fire(bench)
        assert list(second.replaced) == [first]
        assert (await bench.store.get(first)).status is S.CANCELED
        await bench.claim(task_of(second))
        third = await fire(bench)
        assert list(third.replaced) == [task_of(second)]
        running = await bench.store.get(task_of(second))
        assert (running.status, running.want) == (S.PROCESSING, Want.CANCEL)
        assert (await bench.store.get(other)).status is S.QUEUED
        refused = msgspec.structs.replace(wanted(status="refused"), task=None)
        assert not (await fire(bench, refused)).replaced, "nothing takes its place"
        assert (await bench.store.schedule("s")).canceled == 1

    # -- how it ended -------------------------------------------------------------------------------------------------

    async def test_the_end_of_a_task_is_written_to_its_line(self, bench: Bench) -> None:
        await put(bench, schedule())
        done, failed, gone = [task_of(await fire(bench, at=NOW + n)) for n in range(3)]
        await bench.end(done, now=NOW + 10)
        await bench.end(failed, S.ERROR, now=NOW + 11, error=TaskError("k", "m", NOW))
        assert (await bench.store.schedule("s")).last_status == "running", "of the last run"
        await bench.cancel(gone)
        lines = {line.task_id: line for line in await log(bench)}
        assert [(lines[i].status, lines[i].seconds) for i in (done, failed)] == [("completed", 10.0), ("error", 10.0)]
        assert lines[gone].status == "canceled"
        found = await bench.store.schedule("s")
        assert (found.completed, found.failed, found.canceled, found.running) == (1, 1, 1, 0)
        assert found.last_status == "canceled"
        assert found.revision == 4, "ticks alone count"

    async def test_the_last_status_is_that_of_the_newest_line(self, bench: Bench) -> None:
        await put(bench, schedule(overlap="skip"))
        task_id = task_of(await fire(bench))
        await fire(bench)
        await bench.end(task_id)
        found = await bench.store.schedule("s")
        assert (found.last_status, found.completed) == ("skipped", 1)

    async def test_a_retry_takes_the_failure_back(self, bench: Bench) -> None:
        await put(bench, schedule(overlap="skip"))
        task_id = task_of(await fire(bench))
        await bench.end(task_id, S.ERROR)
        await bench.decide(task_id, partial(wants.retry, now=NOW))
        found = await bench.store.schedule("s")
        assert (found.failed, found.running, found.last_status) == (0, 1, "running")
        assert (await fire(bench)).runs[0].status == "skipped", "it is not over any more"
        await bench.end(task_id)
        found = await bench.store.schedule("s")
        assert (found.failed, found.completed, found.running) == (0, 1, 0)
        assert [line.status for line in await log(bench)] == ["skipped", "completed"]

    async def test_other_tasks_write_nothing(self, bench: Bench) -> None:
        await put(bench, schedule())
        record = await bench.submit()
        await bench.end(record.id)
        assert await bench.store.schedule("s") == schedule()

    # -- the log ------------------------------------------------------------------------------------------------------

    async def test_the_log_page_by_page_and_by_owner(self, bench: Bench) -> None:
        await put(bench, schedule(owner="me"), schedule("t", owner="you"))
        for name in ("s", "t", "s", "s"):
            await fire(bench, name=name)
        runs = bench.store.schedule_runs
        everything = await runs(None, None, 10)
        assert [run.schedule for run in everything] == ["s", "s", "t", "s"]
        assert await runs(None, None, 2, everything[1].id) == everything[2:]
        assert await runs("s", None, 2) == everything[:2]
        assert await runs("s", None, 9, everything[1].id) == everything[3:]
        assert await runs(None, "you", 9) == [everything[2]]
        assert await runs(None, "nobody", 9) == []

    async def test_the_log_is_bounded_but_for_what_is_not_over(self, bench: Bench) -> None:
        await put(bench, schedule())
        first = task_of(await fire(bench))
        left_out = msgspec.structs.replace(wanted(status="skipped"), task=None)
        for _ in range(3):
            await fire(bench, *[left_out] * RUNS_KEPT)
        lines = await bench.store.schedule_runs("s", None, RUNS_KEPT * 3)
        assert len(lines) <= RUNS_KEPT + 51
        assert lines[-1].task_id == first
        assert (await bench.store.schedule("s")).skipped == 3 * RUNS_KEPT

    async def test_sums(self, bench: Bench) -> None:
        assert await bench.store.schedule_stats(None, None) == ScheduleStats()
        await put(bench, schedule(owner="me"), schedule("t", owner="you"), schedule("p", owner="me", active=False))
        task_id = task_of(await fire(bench))
        await fire(bench)
        await fire(bench, name="t")
        await bench.end(task_id)
        assert await bench.store.schedule_stats(None, None) == ScheduleStats(active=2, paused=1, runs=3, completed=1)
        assert await bench.store.schedule_stats(None, "me") == ScheduleStats(active=1, paused=1, runs=2, completed=1)
        mine = await bench.store.schedule_stats("s", None)
        assert (mine, mine.running) == (ScheduleStats(active=1, runs=2, completed=1), 1)
