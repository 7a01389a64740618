"""Schedules of a queue: they fire when they are due, once, and by their policies; on either store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from dlqueue.queue import (
    Completed,
    Conflict,
    Context,
    InvalidTask,
    Outcome,
    Queue,
    QueueFull,
    QueueSettings,
    Run,
    Schedule,
    ScheduleNotFound,
    StorageError,
    Store,
    Submitter,
    Task,
)
from dlqueue.queue.notices import ScheduleNotice
from dlqueue.queue.schedule import ALL_MISSED, Tick, Ticked
from dlqueue.queue.testing import PATIENCE
from dlqueue.queue.ticker import AT_ONCE, GRACE, WINDOW
from tests.queue.rig import Gate, Rig, S, done, settled, task

pytestmark = pytest.mark.anyio

START = 1_700_000_000.0
"""22:13:20 UTC: 40 s before the next full minute."""
MINUTE = START + 40
EVERY_MINUTE = "* * * * *"


async def ticked(queue: Queue, name: str, wanted: Callable[[Schedule], bool]) -> Schedule:
    """The schedule as soon as it is so."""
    async with asyncio.timeout(PATIENCE):
        while not wanted(found := await queue.schedules.get(name)):
            await asyncio.sleep(0.002)
    return found


async def fired(queue: Queue, name: str, runs: int) -> Schedule:
    """The schedule when it has made so many tasks."""
    found = await ticked(queue, name, lambda schedule: schedule.runs >= runs)
    assert found.runs == runs
    return found


async def due(rig: Rig, queue: Queue, name: str = "s") -> None:
    """Let time pass until it is due."""
    when = (await queue.schedules.get(name)).next_run
    assert when is not None
    await rig.timer(when - rig.clock.time())
    rig.clock.advance(when - rig.clock.time())


async def lines(queue: Queue, name: str = "s") -> Sequence[Run]:
    """The log, the oldest first."""
    return list(reversed(await queue.schedules.log(name, limit=1000)))


async def test_it_fires_when_it_is_due(rig: Rig) -> None:
    queue = await rig.start(task(done))
    made = await queue.schedules.create("s", "test", {"n": 1}, cron=EVERY_MINUTE, owner="me")
    assert (made.next_run, made.active, made.runs) == (MINUTE, True, 0)
    rig.clock.advance(39)
    await settled()
    assert (await queue.schedules.get("s")).runs == 0
    for n in range(1, 4):
        await due(rig, queue)
        found = await fired(queue, "s", n)
        assert (found.previous_run, found.next_run) == (MINUTE + 60 * (n - 1), MINUTE + 60 * n)
        assert found.last_task_id is not None
        record = await rig.done(found.last_task_id)
        assert (record.params, record.owner, record.labels, record.unique_key) == (
            {"n": 1}, "me", {"schedule": ["s"]}, None,
        )  # fmt: skip
        assert record.join_key is None
    log = await lines(queue)
    assert [(run.kind, run.status, run.due_at) for run in log] == [
        ("tick", "completed", MINUTE + 60 * n) for n in range(3)
    ]
    assert [run.seconds for run in log] == [0.0] * 3


async def test_one_timer_for_all_and_none_for_none(memory_rig: Rig) -> None:
    queue = await memory_rig.start(task(done))
    await settled()
    before = len(memory_rig.clock._timers)
    for n in range(20):
        await queue.schedules.create(f"s{n}", "test", every=60.0 + n)
    await memory_rig.timer(60)
    assert sum(not timer.cancelled for timer in memory_rig.clock._timers) <= before + 1


async def test_seconds_first(rig: Rig) -> None:
    queue = await rig.start(task(done))
    await queue.schedules.create("s", "test", cron="*/5 * * * * *")
    for n in range(1, 4):
        await due(rig, queue)
        assert (await fired(queue, "s", n)).previous_run == START + 5 * n


async def test_every_is_kept_to_its_grid_by_late_ticks(rig: Rig) -> None:
    queue = await rig.start(task(done))
    await queue.schedules.create("s", "test", cron="@every 30s")
    await rig.timer(30)
    rig.clock.advance(33)
    assert (await fired(queue, "s", 1)).next_run == START + 60


async def test_more_than_the_window_holds(memory_rig: Rig) -> None:
    queue = await memory_rig.start(task(done), workers=8)
    count = WINDOW + AT_ONCE + 7
    for n in range(count):
        await queue.schedules.create(f"s{n:05}", "test", every=10.0 + n % 3)
    await memory_rig.timer(10)
    memory_rig.clock.advance(12)
    async with asyncio.timeout(PATIENCE * 3):
        while (await queue.schedules.stats()).runs < count:
            await asyncio.sleep(0.01)
    assert (await queue.schedules.stats()).runs == count
    assert {schedule.runs for schedule in await queue.schedules.list(limit=count)} == {1}


async def test_an_earlier_one_made_later_is_seen(rig: Rig) -> None:
    queue = await rig.start(task(done))
    await queue.schedules.create("late", "test", every=500.0)
    await rig.timer(500)
    await queue.schedules.create("soon", "test", every=5.0)
    await due(rig, queue, "soon")
    await fired(queue, "soon", 1)
    assert (await queue.schedules.get("late")).runs == 0


# -- missed runs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missed", "made"),
    [("skip", []), ("once", [MINUTE]), ("all", [MINUTE, MINUTE + 60, MINUTE + 120])],
)
@pytest.mark.parametrize("kindly", [True, False])
async def test_runs_that_were_due_during_a_stop(rig: Rig, missed: Any, made: list[float], kindly: bool) -> None:
    queue = await rig.start(task(done))
    await queue.schedules.create("s", "test", cron=EVERY_MINUTE, missed=missed)
    await (rig.stop() if kindly else rig.crash())
    rig.clock.advance(MINUTE + 130 - rig.clock.time())
    queue = await rig.start(task(done))
    found = await ticked(queue, "s", lambda schedule: schedule.next_run == MINUTE + 180)
    assert found.runs == len(made)
    log = await lines(queue)
    assert [run.due_at for run in log if run.task_id] == made
    assert {run.kind for run in log} == {"missed"}
    assert [run.message for run in log if run.status == "skipped"] == (
        ["it was due while the daemon was not there"] if missed == "skip" else []
    )
    await due(rig, queue)
    assert (await fired(queue, "s", len(made) + 1)).previous_run == MINUTE + 180
    assert (await lines(queue))[-1].kind == "tick"


async def test_all_missed_runs_have_a_bound(rig: Rig) -> None:
    queue = await rig.start(task(done))
    await queue.schedules.create("s", "test", cron="* * * * * *", missed="all")
    await rig.stop()
    rig.clock.advance(5000)
    queue = await rig.start(task(done))
    found = await ticked(queue, "s", lambda schedule: schedule.runs > 0)
    assert (found.runs, found.skipped, found.last_status) == (ALL_MISSED, 1, "skipped")
    assert found.next_run is not None and found.next_run > rig.clock.time()
    assert "more than 1000 runs were missed" in ((await queue.schedules.log("s", limit=1))[0].message or "")


@pytest.mark.parametrize("overlap", ["skip", "replace"])
async def test_what_must_not_overlap_is_made_up_for_once(rig: Rig, overlap: Any) -> None:
    queue = await rig.start(task(done))
    await queue.schedules.create("s", "test", cron=EVERY_MINUTE, missed="all", overlap=overlap)
    await rig.stop()
    rig.clock.advance(300)
    queue = await rig.start(task(done))
    assert (await ticked(queue, "s", lambda schedule: schedule.runs > 0)).runs == 1


async def test_a_clock_set_forward_fires_by_the_policy(rig: Rig) -> None:
    queue = await rig.start(task(done))
    for missed in ("skip", "once", "all"):
        await queue.schedules.create(missed, "test", cron=EVERY_MINUTE, missed=missed)
    await rig.timer(40)
    rig.clock.advance(40 + 60 * 2 + GRACE + 1)
    for name, runs in (("skip", 0), ("once", 1), ("all", 3)):
        assert (await ticked(queue, name, lambda s: (s.next_run or 0) > rig.clock.time())).runs == runs


async def test_a_little_late_is_not_missed(rig: Rig) -> None:
    queue = await rig.start(task(done))
    await queue.schedules.create("s", "test", cron=EVERY_MINUTE)
    await rig.timer(40)
    rig.clock.advance(40 + GRACE - 1)
    assert (await fired(queue, "s", 1)).previous_run == MINUTE
    assert [(run.kind, run.at - run.due_at) for run in await lines(queue)] == [("tick", GRACE - 1)]


async def test_a_clock_set_back_fires_nothing_twice(rig: Rig) -> None:
    queue = await rig.start(task(done))
    await queue.schedules.create("s", "test", cron=EVERY_MINUTE, missed="all")
    await due(rig, queue)
    await fired(queue, "s", 1)
    rig.clock.set_back(3600)
    await queue.schedules.create("other", "test", every=7.0)  # wakes it up
    rig.clock.advance(7)
    await ticked(queue, "other", lambda schedule: schedule.runs == 1)  # on time, though before the start by this clock
    rig.clock.advance(3600 - 8)
    await settled()
    assert (await queue.schedules.get("s")).runs == 1
    rig.clock.advance(62)
    await fired(queue, "s", 2)


# -- overlap ----------------------------------------------------------------------------------------------------------


async def test_overlap_allow(rig: Rig) -> None:
    gate = Gate()
    queue = await rig.start(task(gate_step(gate)))
    await queue.schedules.create("s", "test", cron=EVERY_MINUTE)
    for n in range(1, 3):
        await due(rig, queue)
        await fired(queue, "s", n)
        await gate.entered()
    gate.open()


def gate_step(gate: Gate) -> Callable[[Context], Any]:
    async def run(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        return Completed()

    return run


async def test_overlap_skip(rig: Rig) -> None:
    gate = Gate()
    queue = await rig.start(task(gate_step(gate)))
    await queue.schedules.create("s", "test", cron=EVERY_MINUTE, overlap="skip")
    await due(rig, queue)
    first = await gate.entered()
    await due(rig, queue)
    found = await ticked(queue, "s", lambda schedule: schedule.skipped == 1)
    assert (found.runs, found.last_task_id, found.last_status) == (1, first, "skipped")
    assert (await lines(queue))[-1].message == f"task {first} of an earlier run is not over"
    with pytest.raises(Conflict, match=f"task {first} of an earlier run is not over, and its overlap is skip"):
        await queue.schedules.run("s")
    gate.open()
    await rig.done(first)
    await due(rig, queue)
    await fired(queue, "s", 2)


async def test_overlap_replace(rig: Rig) -> None:
    gate = Gate()
    queue = await rig.start(task(gate_step(gate)))
    await queue.schedules.create("s", "test", cron=EVERY_MINUTE, overlap="replace")
    await due(rig, queue)
    first = await gate.entered()
    await due(rig, queue)
    second = await gate.entered()
    await rig.reached(first, S.CANCELED)
    assert first != second
    gate.open()
    await rig.done(second)
    found = await ticked(queue, "s", lambda schedule: schedule.completed == 1)
    assert (found.runs, found.canceled, found.last_status) == (2, 1, "completed")


async def test_what_is_replaced_is_canceled_even_if_we_die_right_then(rig: Rig) -> None:
    gate = Gate()
    queue = await rig.start(task(gate_step(gate)))
    await queue.schedules.create("s", "test", every=60.0, overlap="replace")
    await queue.schedules.run("s")
    first = await gate.entered()

    async def die(task_id: int) -> None:
        await asyncio.Event().wait()

    queue.schedules.ticker._cancel = die
    await queue.schedules.run("s")
    await rig.crash()
    queue = await rig.start(task(done))
    await rig.reached(first, S.CANCELED)


# -- what it makes ----------------------------------------------------------------------------------------------------


class Fussy(Task):
    """Its params are looked at with other eyes later."""

    type = "fussy"
    allowed = True

    def validate(self, params: Any, submitter: Submitter) -> Any:
        if params == "boom":
            raise RuntimeError("a defect")
        if not self.allowed:
            raise InvalidTask(f"not allowed for {submitter.owner} in {submitter.cwd}", "url")
        return {"better": params}

    async def run(self, ctx: Context) -> Outcome:
        return Completed(ctx.params)


async def test_params_are_looked_at_on_every_tick(rig: Rig) -> None:
    fussy = Fussy()
    queue = await rig.start(fussy)
    await queue.schedules.create("s", "fussy", {"a": 1}, cron=EVERY_MINUTE, owner="me", cwd="/here")
    assert (await queue.schedules.get("s")).params == {"a": 1}, "as given"
    await due(rig, queue)
    found = await fired(queue, "s", 1)
    assert (await queue.get(found.last_task_id or 0)).params == {"better": {"a": 1}}
    fussy.allowed = False
    await due(rig, queue)
    found = await ticked(queue, "s", lambda schedule: schedule.refused == 1)
    assert (found.active, found.runs, found.last_status) == (True, 1, "refused")
    assert (await lines(queue))[-1].message == "url: not allowed for me in /here"
    with pytest.raises(InvalidTask, match="not allowed"):
        await queue.schedules.run("s")
    fussy.allowed = True
    await due(rig, queue)
    await fired(queue, "s", 2)


async def test_a_class_that_fails_stops_nobody(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    fussy = Fussy()
    queue = await rig.start(fussy, task(done))
    await queue.schedules.create("s", "fussy", "fine", cron=EVERY_MINUTE)
    await queue.schedules.create("other", "test", cron=EVERY_MINUTE)
    await queue._store.edit_schedule("s", lambda before: before and _with(before, params="boom"))
    queue.schedules.ticker.note(await queue.schedules.get("s"), "s")
    await due(rig, queue)
    await ticked(queue, "s", lambda schedule: schedule.refused == 1)
    assert (await lines(queue))[-1].message == "RuntimeError in validate of fussy: a defect"
    await fired(queue, "other", 1)
    assert "a defect" in caplog.text


def _with(schedule: Schedule, **fields: Any) -> Schedule:
    import msgspec

    return msgspec.structs.replace(schedule, **fields, revision=schedule.revision + 1)


async def test_a_type_that_is_gone(rig: Rig) -> None:
    queue = await rig.start(task(done, type="old"))
    await queue.schedules.create("s", "old", cron=EVERY_MINUTE)
    await rig.stop()
    queue = await rig.start(task(done))
    await due(rig, queue)
    await ticked(queue, "s", lambda schedule: schedule.refused == 1)
    assert "no task type 'old'" in ((await lines(queue))[-1].message or "")


async def test_a_full_queue(rig: Rig) -> None:
    queue = await rig.start(task(done), queues={"full": QueueSettings(capacity=0)})
    await queue.schedules.create("s", "test", cron=EVERY_MINUTE, queue="full")
    await due(rig, queue)
    await ticked(queue, "s", lambda schedule: schedule.refused == 1)
    with pytest.raises(QueueFull, match="queue 'full' is full"):
        await queue.schedules.run("s")


# -- verbs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "cron"),
        ({"cron": "* * * *"}, "cron"),
        ({"cron": EVERY_MINUTE, "every": 5.0}, "cron"),
        ({"every": 0.0}, "every"),
        ({"cron": EVERY_MINUTE, "timezone": "Mars/City"}, "timezone"),
        ({"cron": EVERY_MINUTE, "missed": "never"}, "missed"),
        ({"cron": EVERY_MINUTE, "overlap": "never"}, "overlap"),
        ({"cron": EVERY_MINUTE, "type": "nope"}, "type"),
        ({"cron": EVERY_MINUTE, "params": object()}, "params"),
        ({"cron": EVERY_MINUTE, "name": ""}, "name"),
        ({"cron": EVERY_MINUTE, "name": "a/b"}, "name"),
        ({"cron": EVERY_MINUTE, "name": "a\nb"}, "name"),
        ({"cron": EVERY_MINUTE, "name": "-a"}, "name"),
        ({"cron": EVERY_MINUTE, "name": "n" * 129}, "name"),
        ({"cron": "0 0 */30 2 MON#5"}, "cron"),
    ],
)
async def test_what_cannot_be_right_is_refused_and_named(memory_rig: Rig, fields: dict[str, Any], field: str) -> None:
    queue = await memory_rig.start(task(done))
    with pytest.raises(InvalidTask) as caught:
        await queue.schedules.create(**{"name": "s", "type": "test", **fields})
    assert caught.value.field == field
    assert await queue.schedules.list() == []


async def test_a_name_is_taken_once(rig: Rig) -> None:
    queue = await rig.start(task(done))
    await queue.schedules.create("s", "test", every=5.0, owner="me")
    with pytest.raises(Conflict, match="the schedule name 's' is taken"):
        await queue.schedules.create("s", "test", every=9.0, owner="you")
    assert (await queue.schedules.get("s")).every == 5.0
    for verb in (queue.schedules.get, queue.schedules.pause, queue.schedules.resume, queue.schedules.run,
                 queue.schedules.delete, queue.schedules.update):  # fmt: skip
        with pytest.raises(ScheduleNotFound, match="no schedule 'x'"):
            await verb("x")


async def test_update(rig: Rig) -> None:
    queue = await rig.start(task(done), task(done, type="other"))
    await queue.schedules.create("s", "test", {"a": 1}, cron=EVERY_MINUTE)
    rig.clock.advance(10)
    made = await queue.schedules.update("s", type="other", params={"b": 2}, overlap="skip")
    assert (made.type, made.params, made.overlap, made.cron, made.next_run) == (
        "other", {"b": 2}, "skip", EVERY_MINUTE, MINUTE,
    )  # fmt: skip
    made = await queue.schedules.update("s", every=25.0)
    assert (made.cron, made.every, made.next_run) == (None, 25.0, START + 35)
    made = await queue.schedules.update("s", cron="0 12 * * *", timezone="Europe/Berlin")
    assert (made.cron, made.every, made.timezone) == ("0 12 * * *", None, "Europe/Berlin")
    for changes, field in (
        ({"cron": "x"}, "cron"), ({"type": "nope"}, "type"), ({"missed": "x"}, "missed"), ({"owner": "x"}, "owner"),
        ({"cron": EVERY_MINUTE, "every": 1.0}, "cron"), ({"timezone": "x"}, "timezone"),
    ):  # fmt: skip
        with pytest.raises(InvalidTask) as caught:
            await queue.schedules.update("s", **changes)
        assert caught.value.field == field
    assert await queue.schedules.get("s") == made
    await queue.schedules.update("s", cron=EVERY_MINUTE, timezone="UTC")
    await due(rig, queue)
    assert (await fired(queue, "s", 1)).last_task_id is not None


async def test_an_update_beside_a_tick_loses_nothing(rig: Rig) -> None:
    queue = await rig.start(task(done))
    await queue.schedules.create("s", "test", every=60.0)
    await asyncio.gather(
        *(queue.schedules.run("s") for _ in range(10)),
        *(queue.schedules.update("s", params={"n": n}) for n in range(10)),
    )
    found = await queue.schedules.get("s")
    assert (found.runs, found.revision) == (10, 21)


async def test_pause_and_resume(rig: Rig) -> None:
    queue = await rig.start(task(done))
    await queue.schedules.create("s", "test", cron=EVERY_MINUTE, missed="all")
    paused = await queue.schedules.pause("s")
    assert (paused.active, paused.next_run) == (False, None)
    assert await queue.schedules.pause("s") == paused, "paused already is no error"
    rig.clock.advance(200)
    await settled()
    resumed = await queue.schedules.resume("s")
    assert (resumed.active, resumed.runs) == (True, 0)
    assert resumed.next_run == MINUTE + 180, "what was due meanwhile is not missed"
    assert await queue.schedules.resume("s") == resumed
    await due(rig, queue)
    await fired(queue, "s", 1)
    stats = await queue.schedules.stats()
    assert (stats.active, stats.paused, stats.runs) == (1, 0, 1)


async def test_an_update_of_a_paused_one_does_not_wake_it(rig: Rig) -> None:
    queue = await rig.start(task(done))
    await queue.schedules.create("s", "test", cron=EVERY_MINUTE)
    await queue.schedules.pause("s")
    assert (await queue.schedules.update("s", every=5.0)).next_run is None
    assert (await queue.schedules.resume("s")).next_run == START + 5


async def test_run_now(rig: Rig) -> None:
    queue = await rig.start(task(done))
    await queue.schedules.create("s", "test", 7, cron=EVERY_MINUTE)
    rig.clock.advance(1)
    for n in range(1, 3):
        made = await queue.schedules.run("s")
        assert (made.next_run, made.runs, made.previous_run) == (MINUTE, n, START + 1)
        assert (await rig.done(made.last_task_id or 0)).result == 7
    await queue.schedules.pause("s")
    assert (await queue.schedules.run("s")).runs == 3, "paused or not"
    await queue.schedules.resume("s")
    await due(rig, queue)
    await fired(queue, "s", 4)
    assert [run.kind for run in await lines(queue)] == ["manual"] * 3 + ["tick"]


async def test_delete(rig: Rig) -> None:
    queue = await rig.start(task(done))
    await queue.schedules.create("s", "test", cron=EVERY_MINUTE)
    made = await queue.schedules.run("s")
    assert (await queue.schedules.delete("s")).last_task_id == made.last_task_id
    assert await queue.schedules.list() == []
    rig.clock.advance(200)
    await rig.done(made.last_task_id or 0)
    await settled()
    assert await queue.count() == 1


async def test_subscribers_hear_of_it(rig: Rig) -> None:
    queue = await rig.start(task(done))
    heard = queue.bus.subscribe(lambda notice: isinstance(notice, ScheduleNotice))
    await queue.schedules.create("s", "test", cron=EVERY_MINUTE, owner="me")
    await queue.schedules.update("s", missed="once")
    await queue.schedules.pause("s")
    await queue.schedules.pause("s")
    await queue.schedules.resume("s")
    await due(rig, queue)
    found = await fired(queue, "s", 1)
    await queue.schedules.delete("s")
    kinds = []
    async for notice in heard:
        assert isinstance(notice, ScheduleNotice) and notice.schedule.owner == "me"
        kinds.append(notice.kind)
        if notice.kind == "fired":
            assert notice.task_id == found.last_task_id
        if notice.kind == "deleted":
            break
    assert kinds == ["created", "updated", "paused", "resumed", "fired", "deleted"]


# -- faults -----------------------------------------------------------------------------------------------------------


async def test_a_store_that_refuses_a_tick_gets_it_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = await rig.start(task(done))
    await queue.schedules.create("s", "test", cron=EVERY_MINUTE)
    tick = queue._store.tick
    refused: list[int] = []

    async def faulty(ticks: Sequence[Tick], capacity: Any = None) -> Sequence[Ticked | None]:
        if len(refused) < 2:
            refused.append(1)
            raise StorageError("the disk is full")
        return await tick(ticks, capacity)

    monkeypatch.setattr(queue._store, "tick", faulty)
    await due(rig, queue)
    await rig.timer(0.5)
    rig.clock.advance(0.5)
    await rig.timer(1.0)
    rig.clock.advance(1.0)
    await fired(queue, "s", 1)
    assert len(refused) == 2


async def test_two_nodes_fire_once(new_store: Callable[[], Store], rig: Rig) -> None:
    """Two tickers over one store, each with a window of its own."""
    queue = await rig.start(task(done))
    await queue.schedules.create("s", "test", cron=EVERY_MINUTE)
    other = type(queue.schedules.ticker)(
        queue._store,
        rig.clock,
        queue._preparer,
        queue.lanes,
        queue.types,
        lambda ticked: None,
        queue.cancel,
        queue.quotas,
    )
    other.start()
    try:
        for n in range(1, 6):
            await due(rig, queue)
            await fired(queue, "s", n)
        await settled()
        assert (await queue.schedules.get("s")).runs == 5
        assert await queue.count() == 5
    finally:
        await other.stop()
