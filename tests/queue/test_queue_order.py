"""What runs next: strict priority, then first in, first out; and nobody waits for who cannot run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dlqueue.queue import Completed, Context, Outcome, Queue, QueueSettings, ResumeAfter, Status, StorageError, pool
from dlqueue.queue.testing import drain
from tests.queue.rig import Gate, Rig, S, done, settled, task

pytestmark = pytest.mark.anyio


class Recorder:
    """Steps note who they are; the very first one waits, so that everything else is submitted behind its back."""

    def __init__(self) -> None:
        self.order: list[object] = []
        self.gate = Gate()

    async def run(self, ctx: Context) -> Outcome:
        if ctx.params == "first":
            await self.gate.passing(ctx)
        else:
            self.order.append(ctx.params)
        return Completed()


async def busy(rig: Rig, recorder: Recorder, **settings: Any) -> Queue:
    """One worker, and it is busy."""

    async def run(ctx: Context) -> Outcome:
        return await recorder.run(ctx)

    queue = await rig.start(task(run), task(run, "other"), workers=1, **settings)
    await queue.submit("test", "first")
    await recorder.gate.entered()
    return queue


async def test_strict_priority_then_first_in(rig: Rig) -> None:
    recorder = Recorder()
    queue = await busy(rig, recorder)
    ids = [
        (await queue.submit("test", [priority, number], priority=priority)).id
        for number in range(3)
        for priority in (0, 10, -5, 10)
    ]
    recorder.gate.open()
    for task_id in ids:
        await rig.done(task_id)
    assert recorder.order == sorted(recorder.order, key=lambda item: -item[0])  # type: ignore[index]
    assert [item for item in recorder.order if item[0] == 0] == [[0, 0], [0, 1], [0, 2]]  # type: ignore[index]
    assert len(recorder.order) == 12


async def test_priority_counts_across_queues(rig: Rig) -> None:
    recorder = Recorder()
    queue = await busy(rig, recorder)
    ids = [
        (await queue.submit("test", params, queue=lane, priority=priority)).id
        for params, lane, priority in (("a", "x", 0), ("b", "y", 5), ("c", "x", 5), ("d", "z", 1))
    ]
    recorder.gate.open()
    for task_id in ids:
        await rig.done(task_id)
    assert recorder.order == ["b", "c", "d", "a"]


async def test_a_delayed_task_blocks_nobody(rig: Rig) -> None:
    recorder = Recorder()
    queue = await busy(rig, recorder)
    delayed = await queue.submit("test", "delayed", delay=60, priority=100)
    soon = await queue.submit("test", "now", priority=-100)
    recorder.gate.open()
    await rig.done(soon.id)
    assert recorder.order == ["now"]
    rig.clock.advance(59.9)
    await settled()
    assert (await queue.get(delayed.id)).status is S.QUEUED
    rig.clock.advance(0.2)
    assert (await rig.done(delayed.id)).started_at == pytest.approx(rig.clock.time())


async def test_what_has_become_due_goes_by_priority_too(rig: Rig) -> None:
    recorder = Recorder()
    queue = await busy(rig, recorder)
    ids = [
        (await queue.submit("test", name, priority=priority, delay=when)).id
        for name, priority, when in (
            ("later", 5, 10),
            ("sooner", 1, 5),
            ("ready", 3, None),
        )
    ]
    rig.clock.advance(20)
    recorder.gate.open()
    for task_id in ids:
        await rig.done(task_id)
    assert recorder.order == ["later", "ready", "sooner"]


async def test_a_suspended_task_holds_no_worker(rig: Rig) -> None:
    async def sleepy(ctx: Context) -> Outcome:
        if "slept" in ctx.state:
            return Completed()
        ctx.state["slept"] = True
        return ResumeAfter(100)

    queue = await rig.start(task(sleepy, "sleepy"), task(done), workers=1)
    sleeping = [(await queue.submit("sleepy")).id for _ in range(20)]
    for task_id in sleeping:
        await rig.reached(task_id, S.SUSPENDING)
    assert (queue.counters.busy_workers, queue.counters.suspending) == (0, 20)
    await rig.done((await queue.submit("test")).id)
    rig.clock.advance(100)
    for task_id in sleeping:
        await rig.done(task_id)
    assert queue.counters.suspending == 0


async def test_concurrency_of_a_named_queue(rig: Rig) -> None:
    gate = Gate()
    most: dict[str, int] = {}
    now: dict[str, int] = {"narrow": 0, "wide": 0}

    async def run(ctx: Context) -> Outcome:
        lane = ctx.record.queue
        now[lane] += 1
        most[lane] = max(most.get(lane, 0), now[lane])
        await gate.passing(ctx)
        now[lane] -= 1
        return Completed()

    queue = await rig.start(task(run), workers=5, queues={"narrow": QueueSettings(concurrency=2)})
    tasks = await queue.submit_many([("test", None, {"queue": "narrow", "priority": 9})] * 5)
    tasks += await queue.submit_many([("test", None, {"queue": "wide"})] * 5)
    for _ in range(5):
        await gate.entered()
    assert (now, queue.is_full("narrow"), queue.is_full("wide")) == ({"narrow": 2, "wide": 3}, True, False)
    assert await gate.nobody()
    gate.open()
    for record in tasks:
        await rig.done(record.id)
    assert most["narrow"] == 2


async def test_a_queue_with_concurrency_0_runs_nothing(rig: Rig) -> None:
    queue = await rig.start(task(done), queues={"shut": QueueSettings(concurrency=0)})
    shut = await queue.submit("test", queue="shut")
    await rig.done((await queue.submit("test")).id)
    assert (await queue.get(shut.id)).status is S.QUEUED


# -- the window -------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_window(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(pool, "WINDOW", 4)
    return 4


async def shuffled(rig: Rig, recorder: Recorder, **settings: Any) -> tuple[list[int], list[object]]:
    """30 tasks with mixed priorities, a third of them delayed; their ids and the order they ought to run in."""

    async def run(ctx: Context) -> Outcome:
        return await recorder.run(ctx)

    queue = await rig.start(task(run), workers=1, **settings)
    wanted = []
    ids = []
    for number in range(30):
        priority = number * 7 % 5
        record = await queue.submit(
            "test",
            [priority, number],
            priority=priority,
            delay=number % 7 + 1 if number % 3 == 0 else None,
        )
        wanted.append((-priority, number, [priority, number]))
        ids.append(record.id)
    return ids, [params for _, _, params in sorted(wanted, key=lambda item: item[:2])]


@pytest.mark.usefixtures("small_window")
async def test_more_tasks_than_the_window_keep_their_order(rig: Rig) -> None:
    """Everything is in the store before the queue starts, so that it is read window by window."""
    recorder = Recorder()
    ids, wanted = await shuffled(rig, recorder, queues={"default": QueueSettings(concurrency=0)})
    await rig.crash()
    rig.clock.advance(10)

    async def run(ctx: Context) -> Outcome:
        return await recorder.run(ctx)

    await rig.start(task(run), workers=1)
    for task_id in ids:
        await rig.done(task_id)
    assert recorder.order == wanted


@pytest.mark.usefixtures("small_window")
async def test_what_becomes_due_beyond_the_window_keeps_its_order(rig: Rig) -> None:
    """All become due while the worker is busy, many more than a window holds; the best of them was delayed longest."""
    recorder = Recorder()

    async def run(ctx: Context) -> Outcome:
        return await recorder.run(ctx)

    queue = await rig.start(task(run), workers=1, queues={"default": QueueSettings(concurrency=0)})
    for number in range(20):
        await queue.submit("test", number, priority=number, delay=10 + number)
    await rig.crash()
    queue = await rig.start(task(run), workers=1)
    first = await queue.submit("test", "first", priority=1000)
    await recorder.gate.entered()
    rig.clock.advance(100)
    recorder.gate.open()
    for task_id in range(first.id - 20, first.id):
        await rig.done(task_id)
    assert recorder.order == list(range(19, -1, -1))


@pytest.mark.usefixtures("small_window")
async def test_a_small_window_loses_nothing_that_comes_meanwhile(rig: Rig) -> None:
    async def twice(ctx: Context) -> Outcome:
        if "again" in ctx.state:
            return Completed()
        ctx.state["again"] = True
        return ResumeAfter(float(ctx.task_id % 3))

    queue = await rig.start(task(twice), workers=2)

    async def submitter(lane: int) -> list[int]:
        return [(await queue.submit("test", priority=n % 4, queue=f"q{lane}", delay=n % 2)).id for n in range(20)]

    ids = [i for part in await asyncio.gather(*(submitter(lane) for lane in range(3))) for i in part]
    await drain(queue, rig.clock)
    for task_id in ids:
        await rig.done(task_id)


@pytest.mark.usefixtures("small_window")
async def test_a_window_full_of_unknown_types_hides_nobody(rig: Rig) -> None:
    queue = await rig.start(task(done), task(done, "gone"), workers=1, queues={"default": QueueSettings(concurrency=0)})
    unknown = [(await queue.submit("gone", priority=9, delay=delay)).id for delay in (0, 5) for _ in range(10)]
    known = [(await queue.submit("test", delay=delay)).id for delay in (0, 5)]
    await rig.crash()
    queue = await rig.start(task(done), workers=1)
    rig.clock.advance(10)
    for task_id in known:
        await rig.done(task_id)
    page = await queue.list(status=Status.QUEUED)
    assert sorted(record.id for record in page.items) == unknown
    queue.register(task(done, "gone"))
    for task_id in unknown:
        await rig.done(task_id)


async def test_a_clock_that_is_turned_back_loses_nobody(rig: Rig) -> None:
    """A task found due is not taken because the clock was turned back; it has its turn when the time has come again."""
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        return Completed()

    queue = await rig.start(task(run), workers=1)
    first = await queue.submit("test")
    await gate.entered()
    delayed = await queue.submit("test", delay=60)
    rig.clock.advance(61)
    await settled()  # it is due, but there is no worker
    rig.clock.set_back(3600)
    gate.open()
    await rig.done(first.id)
    await settled()
    assert (await queue.get(delayed.id)).status is S.QUEUED
    rig.clock.advance(3600)
    await rig.done(delayed.id)


# -- other settings while it works ------------------------------------------------------------------------------------


async def test_more_workers_and_fewer_while_it_works(rig: Rig) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        return Completed()

    queue = await rig.start(task(run), workers=1)
    # In two queues: the limit of one is that of the workers, and would hide it.
    ids = [(await queue.submit("test", queue=name)).id for name in "abababab"]
    await gate.entered()
    assert await gate.nobody()
    await queue.configure(3, {})
    assert {await gate.entered(), await gate.entered()} <= set(ids)
    assert await gate.nobody()
    await queue.configure(2, {})
    assert queue.counters.busy_workers == 3, "what runs is let through"
    gate.open()
    for task_id in ids:
        await rig.done(task_id)
    for _ in ids[3:]:
        await gate.entered()
    gate.close()
    more = [(await queue.submit("test", queue=name)).id for name in "abab"]
    assert {await gate.entered(), await gate.entered()} <= set(more)
    assert await gate.nobody(), "two at once now"
    assert queue.workers == 2
    gate.open()
    for task_id in more:
        await rig.done(task_id)


async def test_another_concurrency_while_it_works(rig: Rig) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        return Completed()

    queue = await rig.start(task(run), workers=8, queues={"default": QueueSettings(concurrency=1)})
    ids = [(await queue.submit("test")).id for _ in range(3)]
    await gate.entered()
    assert await gate.nobody()
    await queue.configure(8, {"default": QueueSettings(concurrency=3)})
    await gate.entered()
    await gate.entered()
    gate.open()
    for task_id in ids:
        await rig.done(task_id)


@pytest.mark.parametrize("restart", [False, True])
async def test_another_ageing_orders_anew_what_waits(rig: Rig, restart: bool) -> None:
    recorder = Recorder()
    queue = await busy(rig, recorder)
    for number in range(5):
        await queue.submit("test", f"old {number}")
    rig.clock.advance(3600)
    await queue.submit("test", "urgent", priority=5)
    ageing = {"default": QueueSettings(ageing=1.0)}

    async def run(ctx: Context) -> Outcome:
        return await recorder.run(ctx)

    if restart:
        await rig.crash()
        recorder.gate.open()
        queue = await rig.start(task(run), workers=1, queues=ageing)
    else:
        await queue.configure(1, ageing)
        recorder.gate.open()
    late = await queue.submit("test", "late", priority=1)
    await rig.done(late.id)
    assert recorder.order == [*(f"old {number}" for number in range(5)), "urgent", "late"]


async def test_settings_that_cannot_be_stored_are_not_taken(rig: Rig) -> None:
    queue = await rig.start(task(done), workers=2)

    async def fails(queue: str, ageing: float) -> bool:
        raise StorageError("the disk is full")

    queue._store.rerank = fails  # type: ignore[method-assign]
    with pytest.raises(StorageError):
        await queue.configure(7, {"default": QueueSettings(max_retry=9, ageing=1.0)})
    assert queue.workers == 2
    assert (await queue.submit("test")).max_retry == 0
