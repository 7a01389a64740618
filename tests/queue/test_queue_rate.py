"""Starts per period: by the clock, never by a sleep."""

from __future__ import annotations

import asyncio

import pytest

from dlqueue.queue import Completed, Context, Outcome, QueueSettings, ResumeAfter, Status
from dlqueue.queue.pool import STORE_RETRY
from dlqueue.queue.rate import Rates
from dlqueue.queue.testing import PATIENCE, FakeClock
from tests.queue.rig import Faults, Rig, S, done, settled, task

pytestmark = pytest.mark.anyio


def rated(rate: str) -> dict[str, QueueSettings]:
    return {"default": QueueSettings(rate=rate)}


async def ended(rig: Rig, count: int) -> None:
    """Exactly so many have completed, and no more do now."""
    assert rig.queue is not None
    async with asyncio.timeout(PATIENCE):
        while await rig.queue.count(status="completed") < count:
            await settled(1)
    await settled()
    assert await rig.queue.count(status="completed") == count


async def test_no_period_sees_more_starts_than_it_may(rig: Rig) -> None:
    queue = await rig.start(task(done), queues=rated("3/s"))
    await queue.submit_many([("test", n) for n in range(8)])
    other = await queue.submit("test", queue="other")
    await ended(rig, 4)
    await rig.done(other.id)
    rig.clock.advance(0.9)
    await ended(rig, 4)
    rig.clock.advance(0.1)
    await ended(rig, 7)
    rig.clock.advance(0.99)
    await ended(rig, 7)
    rig.clock.advance(0.01)
    await ended(rig, 9)


async def test_a_task_that_comes_into_an_open_queue_starts_at_once(rig: Rig) -> None:
    queue = await rig.start(task(done), queues=rated("1/m"))
    await rig.done((await queue.submit("test")).id)
    second = await queue.submit("test")
    await settled()
    opens = queue.opens_at(await queue.get(second.id))
    assert opens == pytest.approx(rig.clock.time() + 60)
    rig.clock.advance(60)
    await rig.done(second.id)
    rig.clock.advance(60)
    await rig.done((await queue.submit("test")).id)


async def test_steps_between_are_no_starts_and_are_not_held_up(rig: Rig) -> None:
    """Even where what may not start is ahead of them."""

    async def run(ctx: Context) -> Outcome:
        ctx.state["steps"] = ctx.state.get("steps", 0) + 1
        return ResumeAfter(1) if ctx.state["steps"] < 5 else Completed()

    queue = await rig.start(task(run), queues=rated("1/h"), workers=1)
    first = await queue.submit("test")
    await rig.reached(first.id, S.SUSPENDING)
    urgent = await queue.submit("test", priority=100)
    for _ in range(3):
        before = await queue.get(first.id)
        rig.clock.advance(1)
        await rig.reached(first.id, S.SUSPENDING, newer_than=before)
    rig.clock.advance(1)
    await rig.done(first.id)
    assert (await queue.get(urgent.id)).status is S.QUEUED
    await rig.stop()
    # A restart forgets what was started, and nothing else.
    queue = await rig.start(task(run), queues=rated("1/h"), workers=1)
    await rig.reached(urgent.id, S.SUSPENDING)


async def test_a_step_between_is_not_held_up_after_a_restart(rig: Rig) -> None:
    async def run(ctx: Context) -> Outcome:
        ctx.state["steps"] = ctx.state.get("steps", 0) + 1
        return ResumeAfter(hold="x", seconds=None) if ctx.state["steps"] < 2 else Completed()

    queue = await rig.start(task(run), queues=rated("1/h"))
    first = await queue.submit("test")
    await rig.reached(first.id, S.SUSPENDING)
    await rig.stop()
    queue = await rig.start(task(run), queues=rated("1/h"))
    urgent = [await queue.submit("test", priority=100) for _ in range(3)]
    await rig.reached(urgent[0].id, S.SUSPENDING)
    assert await queue.wake("x", 1) == 1
    await settled()
    assert await queue.wake("x") == 1
    await rig.done(first.id)
    await rig.done(urgent[0].id)
    assert (await queue.get(urgent[1].id)).status is S.QUEUED


async def test_retries_are_starts(rig: Rig) -> None:
    async def run(ctx: Context) -> Outcome:
        if ctx.attempt == 1:
            raise ValueError("once")
        return Completed()

    queue = await rig.start(task(run), queues=rated("1/m"), max_retry=1)
    record = await queue.submit("test")
    await rig.reached(record.id, S.SUSPENDING)
    await settled()
    rig.clock.advance(10)
    await settled()
    waiting = await queue.get(record.id)
    assert (waiting.status, waiting.retries) == (S.SUSPENDING, 1)
    assert queue.opens_at(waiting) is not None
    rig.clock.advance(50)
    await rig.done(record.id)


async def test_a_rate_is_set_changed_and_taken_away_at_run_time(rig: Rig) -> None:
    queue = await rig.start(task(done))
    await queue.queues.update("default", rate="2/h")
    await queue.submit_many([("test", n) for n in range(10)])
    await ended(rig, 2)
    await queue.queues.update("default", rate="5/h")
    await ended(rig, 5)
    await queue.queues.update("default", rate="1/h")
    await ended(rig, 5)
    await queue.queues.update("default", reset=["rate"])
    await ended(rig, 10)


async def test_what_was_not_started_does_not_count(rig: Rig) -> None:
    queue = await rig.start(task(done), queues=rated("1/h"))
    faults = Faults(queue)
    faults.fail(1)
    record = await queue.submit("test")
    while not faults.refused:
        await settled(1)
    await settled()
    rig.clock.advance(STORE_RETRY)
    await rig.done(record.id)


async def test_a_clock_that_is_turned_back_shuts_no_queue_for_long(rig: Rig) -> None:
    queue = await rig.start(task(done), queues=rated("1/s"))
    await rig.done((await queue.submit("test")).id)
    rig.clock.set_back(3600)
    second = await queue.submit("test")
    await settled()
    rig.clock.advance(1)
    await rig.done(second.id)


def test_the_window() -> None:
    clock, rates = FakeClock(), Rates()
    start = clock.time()
    assert not rates and rates.next_time(start) is None
    rates.set({"a": "2/s", "b": "0.5/s"})
    for queue, times in (("a", 2), ("b", 1)):
        for _ in range(times):
            assert rates.opens_at(queue, start) == start
            rates.started(queue, start)
    assert (rates.opens_at("a", start), rates.opens_at("b", start)) == (start + 1, start + 2)
    assert rates.next_time(start) == start + 1 and rates.next_time(start + 1.5) == start + 2
    assert rates.opens_at("c", start) == start, "it has no rate"
    rates.take_back("a")
    assert rates.opens_at("a", start) == start
    rates.set({})
    assert not rates and rates.opens_at("b", start) == start


async def test_a_rate_costs_one_timer_and_no_polling(memory_rig: Rig) -> None:
    queue = await memory_rig.start(task(done), queues=rated("1/h"))
    await memory_rig.done((await queue.submit("test")).id)
    await queue.submit("test")
    await settled()
    looks = 0
    choose = queue._pool._choose

    def counted() -> object:
        nonlocal looks
        looks += 1
        return choose()

    queue._pool._choose = counted  # type: ignore[method-assign,assignment]
    memory_rig.clock.advance(3590)
    await settled()
    assert looks <= 1
    assert await queue.count(status=Status.COMPLETED) == 1
    memory_rig.clock.advance(10)
    await ended(memory_rig, 2)
