"""Time limits of a step and of a task."""

from __future__ import annotations

import asyncio

import pytest

from dlqueue.queue import Completed, Context, Outcome, ResumeAfter
from dlqueue.queue.retention import FIRST_ROUND
from dlqueue.queue.testing import PATIENCE
from tests.queue.rig import Gate, Rig, S, settled, task

pytestmark = pytest.mark.anyio


async def test_an_async_step_that_overruns_is_cancelled(rig: Rig) -> None:
    gate = Gate()
    ended: list[str] = []

    async def run(ctx: Context) -> Outcome:
        try:
            await gate.passing(ctx)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return Completed()

    queue = await rig.start(task(run, timeout=30), workers=1)
    record = await queue.submit("test")
    await gate.entered()
    rig.clock.advance(29.9)
    assert await gate.nobody()
    assert (await queue.get(record.id)).status is S.PROCESSING
    failed = await rig.after(0.1, record.id, S.ERROR)
    assert ended == ["cancelled"]
    assert failed.error is not None
    assert (failed.error.kind, failed.error.message) == ("timeout", "the step took longer than its timeout of 30 s")
    assert failed.executed_seconds == pytest.approx(30)


async def test_a_timeout_is_retried_by_policy_and_a_submit_may_set_it(rig: Rig) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        return Completed(ctx.attempt)

    queue = await rig.start(task(run, timeout=1), max_retry=1)
    record = await queue.submit("test", timeout=50)
    await gate.entered()
    rig.clock.advance(49)
    await settled()
    assert (await queue.get(record.id)).status is S.PROCESSING
    waiting = await rig.after(1, record.id, S.SUSPENDING)
    assert waiting.retries == 1
    gate.open()
    rig.clock.advance(2)
    assert (await rig.done(record.id)).result == 2


async def test_the_timeout_is_for_each_step(memory_rig: Rig) -> None:
    async def run(ctx: Context) -> Outcome:
        memory_rig.clock.advance(8)
        ctx.state["n"] = ctx.state.get("n", 0) + 1
        return ResumeAfter(0) if ctx.state["n"] < 5 else Completed()

    queue = await memory_rig.start(task(run, timeout=10))
    assert (await memory_rig.done((await queue.submit("test")).id)).executed_seconds == pytest.approx(40)


async def test_what_a_step_raises_when_it_is_cancelled_does_not_hide_the_timeout(rig: Rig) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        try:
            await gate.passing(ctx)
        except asyncio.CancelledError:
            ctx.state["half"] = "done"
            raise ValueError("clean-up went wrong") from None
        return Completed()

    queue = await rig.start(task(run, timeout=5))
    record = await queue.submit("test")
    await gate.entered()
    failed = await rig.after(5, record.id, S.ERROR)
    assert failed.error is not None
    assert (failed.error.kind, failed.state) == ("timeout", None)


async def test_a_blocking_step_that_overruns_keeps_its_worker(rig: Rig) -> None:
    """It is told, its late answer is refused, and until it returns its worker is not free."""
    gate = Gate()
    told: list[bool] = []

    def run(ctx: Context) -> Outcome:
        if ctx.params == "quick":
            return Completed()
        if ctx.attempt > 1:
            return Completed("second")
        gate.block(ctx)
        told.append(ctx.cancelled)
        return Completed("too late")

    queue = await rig.start(task(run), workers=1, max_retry=1)
    record = await queue.submit("test", timeout=5)
    await gate.entered()
    waiting = await rig.after(5, record.id, S.SUSPENDING)
    assert waiting.error is not None
    assert waiting.error.kind == "timeout"
    other = await queue.submit("test", "quick")
    await settled()
    assert (await queue.get(other.id)).status is S.QUEUED, "there is one worker, and it is not free"
    assert queue.counters.busy_workers == 1
    gate.open()
    await rig.done(other.id)
    assert told == [True]
    rig.clock.advance(60)
    assert (await rig.done(record.id)).result == "second"
    assert "completed" not in (await rig.kinds(record.id))[:-1]
    assert queue.counters.busy_workers == 0


async def test_a_late_failure_of_a_blocking_step_is_swallowed(
    memory_rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()

    def run(ctx: Context) -> Outcome:
        gate.block(ctx)
        raise ValueError("too late to matter")

    queue = await memory_rig.start(task(run, timeout=5), workers=1)
    record = await queue.submit("test")
    await gate.entered()
    await memory_rig.after(5, record.id, S.ERROR)
    gate.open()
    quick = await queue.submit("test", timeout=60)
    await memory_rig.failed(quick.id)
    assert "never retrieved" not in caplog.text


# -- max_execution ----------------------------------------------------------------------------------------------------


async def test_max_execution_ends_a_running_step(rig: Rig) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        return Completed()

    queue = await rig.start(task(run, is_retryable=lambda error: True), max_retry=9)
    record = await queue.submit("test", max_execution=100, delay=50)
    rig.clock.advance(50)
    await gate.entered()
    rig.clock.advance(99)
    await settled()
    assert (await queue.get(record.id)).status is S.PROCESSING, "it counts from the start"
    failed = await rig.after(1, record.id, S.ERROR)
    assert failed.error is not None
    assert (failed.error.kind, failed.error.message) == ("max_execution", "not done within max_execution (100 s)")
    assert failed.retries == 0


async def polls(ctx: Context) -> Outcome:
    ctx.state["n"] = ctx.state.get("n", 0) + 1
    return ResumeAfter(**ctx.params) if ctx.state["n"] < 4 else Completed(ctx.state["n"])


async def test_max_execution_ends_a_suspended_task_in_time(rig: Rig) -> None:
    queue = await rig.start(task(polls), max_execution=100)
    record = await queue.submit("test", {"seconds": 60})
    waiting = await rig.reached(record.id, S.SUSPENDING)
    rig.clock.advance(60)
    waiting = await rig.reached(record.id, S.SUSPENDING, newer_than=waiting)
    assert waiting.run_at == waiting.expires_at, "not only when the next step would be due"
    failed = await rig.after(40, record.id, S.ERROR)
    assert failed.error is not None
    assert (failed.error.kind, failed.finished_at) == ("max_execution", rig.clock.time())
    assert (await rig.kinds(record.id))[-1] == "error"


async def test_max_execution_ends_a_task_that_waits_for_its_retry(rig: Rig) -> None:
    async def run(ctx: Context) -> Outcome:
        raise ConnectionError

    queue = await rig.start(task(run), max_execution=100, max_retry=9, retry_delay=1000, backoff_max=1000)
    record = await queue.submit("test")
    await rig.reached(record.id, S.SUSPENDING)
    failed = await rig.after(100, record.id, S.ERROR)
    assert failed.error is not None
    assert failed.error.kind == "max_execution"


async def test_time_paused_or_held_does_not_count(rig: Rig) -> None:
    queue = await rig.start(task(polls), max_execution=100)

    # Held for 1000 s, first with a time, then woken, then held and paused.
    record = await queue.submit("test", {"seconds": 1000, "hold": "h"})
    waiting = await rig.reached(record.id, S.SUSPENDING)
    rig.clock.advance(1000)
    waiting = await rig.reached(record.id, S.SUSPENDING, newer_than=waiting)
    rig.clock.advance(500)
    assert await queue.wake("h") == 1
    # The wake is a revision of its own, and no event.
    steps = [*await rig.kinds(record.id)].count("suspended")
    async with asyncio.timeout(PATIENCE):
        while steps < 3:
            await settled(1)
            steps = (await rig.kinds(record.id)).count("suspended")
    rig.clock.advance(500)
    assert (await queue.pause(record.id)).status is S.PAUSED
    rig.clock.advance(5000)
    await queue.resume(record.id)
    assert (await rig.done(record.id)).result == 4


async def test_time_between_steps_counts(rig: Rig) -> None:
    queue = await rig.start(task(polls), max_execution=100)
    record = await queue.submit("test", {"seconds": 45})
    waiting = record
    for _ in range(2):
        waiting = await rig.reached(record.id, S.SUSPENDING, newer_than=waiting)
        rig.clock.advance(45)
    await rig.reached(record.id, S.SUSPENDING, newer_than=waiting)
    await rig.after(45, record.id, S.ERROR)


async def test_no_limit_for_a_class_without_one(memory_rig: Rig) -> None:
    queue = await memory_rig.start(task(polls, limited=False), task(polls, "limited"), max_execution=100)
    unlimited = await queue.submit("test", {"seconds": 1})
    limited = await queue.submit("limited", {"seconds": 1})
    given = await queue.submit("test", {"seconds": 1}, max_execution=7)
    assert [r.options.max_execution for r in (unlimited, limited, given)] == [None, 100, 7]


async def test_a_retry_by_a_person_begins_a_new_time(rig: Rig) -> None:
    queue = await rig.start(task(polls), max_execution=10)
    record = await queue.submit("test", {"seconds": 20})
    await rig.reached(record.id, S.SUSPENDING)
    await rig.after(10, record.id, S.ERROR)
    await queue.retry(record.id)
    again = await rig.reached(record.id, S.SUSPENDING)
    assert again.expires_at == rig.clock.time() + 10


async def test_a_long_step_leaves_no_timer_behind(memory_rig: Rig) -> None:
    """A limit far away is looked at again and again; that ends with the step."""
    queue = await memory_rig.start(task(polls), max_execution=10**6)
    record = await queue.submit("test", {"seconds": 10})
    await memory_rig.reached(record.id, S.SUSPENDING)
    await settled()
    times = {timer.when for timer in memory_rig.clock._timers if not timer.cancelled}
    assert max(times) <= memory_rig.clock.time() + FIRST_ROUND
