"""Mistakes that queues have made before, each with the test that would have caught it."""

from __future__ import annotations

import asyncio

import pytest

from dlqueue.queue import Completed, Context, Outcome, QueueSettings, ResumeAfter, Want, transitions
from dlqueue.queue.testing import PATIENCE
from tests.queue.rig import Faults, Gate, Rig, S, done, settled, task

pytestmark = pytest.mark.anyio


async def test_a_heap_that_was_a_stack(rig: Rig) -> None:
    """Tasks of equal priority came out last in, first out: the oldest ones starved."""
    order: list[int] = []
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        if ctx.params is None:
            await gate.passing(ctx)
        else:
            order.append(ctx.params)
        return Completed()

    queue = await rig.start(task(run), workers=1)
    await queue.submit("test")
    await gate.entered()
    records = [await queue.submit("test", number) for number in range(50)]
    gate.open()
    for record in records:
        await rig.done(record.id)
    assert order == list(range(50))


async def test_a_back_off_that_blocked_ready_tasks(rig: Rig) -> None:
    """The worker slept through the back-off of a failed task, and everything behind it waited too."""

    async def run(ctx: Context) -> Outcome:
        if ctx.params == "fails":
            raise ConnectionError
        return Completed()

    queue = await rig.start(task(run), workers=1, max_retry=5, retry_delay=3600, backoff_max=3600)
    failing = await queue.submit("test", "fails", priority=100)
    await rig.reached(failing.id, S.SUSPENDING)
    for _ in range(3):
        await rig.done((await queue.submit("test", "fine")).id)
    assert (await queue.get(failing.id)).status is S.SUSPENDING
    assert queue.counters.busy_workers == 0


async def test_graceful_shutdown_that_failed_running_tasks(rig: Rig) -> None:
    """What the stop interrupted was marked as failed, and spent a retry."""
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        return Completed()

    queue = await rig.start(task(run), workers=3, max_retry=1)
    records = await queue.submit_many([("test", number) for number in range(3)])
    for _ in records:
        await gate.entered()
    await rig.stop()
    queue = await rig.start(task(run), queues={"default": QueueSettings(concurrency=0)})
    for record in records:
        stopped = await queue.get(record.id)
        assert (stopped.status, stopped.error, stopped.retries) == (S.QUEUED, None, 0)
        assert (stopped.attempt, stopped.crashes) == (0, 0)


async def test_resume_that_was_never_wired(rig: Rig) -> None:
    """Pause worked, resume answered kindly, and the task never ran again: not now, and not after a restart."""

    async def run(ctx: Context) -> Outcome:
        if ctx.state:
            return Completed()
        ctx.state["x"] = 1
        return ResumeAfter(50)

    queue = await rig.start(task(run))
    from_queued = await queue.submit("test", paused=True)
    from_suspended = await queue.submit("test")
    await rig.reached(from_suspended.id, S.SUSPENDING)
    await queue.pause(from_suspended.id)
    await rig.stop()
    queue = await rig.start(task(run))
    await settled()
    for record in (from_queued, from_suspended):
        assert (await queue.get(record.id)).status is S.PAUSED
        await queue.resume(record.id)
    await rig.done(from_suspended.id)
    await rig.reached(from_queued.id, S.SUSPENDING)
    rig.clock.advance(50)
    assert (await rig.done(from_queued.id)).want is Want.RUN


async def test_one_failed_database_write_that_lost_a_task(rig: Rig) -> None:
    """The claim or the outcome could not be written, the entry in memory was gone, and nobody looked again."""
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        return Completed("kept")

    queue = await rig.start(task(run))
    faults = Faults(queue)
    faults.fail(1)
    record = await queue.submit("test")
    async with asyncio.timeout(PATIENCE):
        while not faults.refused:  # the claim
            await settled(1)
    await settled()
    rig.clock.advance(1)
    await gate.entered()
    faults.fail(1)
    gate.open()
    async with asyncio.timeout(PATIENCE):
        while faults.refused < 2:  # the outcome
            await settled(1)
    await settled()
    rig.clock.advance(1)
    assert (await rig.done(record.id)).result == "kept"


async def test_a_result_erased_by_a_later_full_row_save(rig: Rig) -> None:
    """Whoever wrote the whole row from an old copy wiped out what a step had written in between."""
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        ctx.state["s"] = 1
        ctx.progress(percent=50)
        await ctx.deliver({"file": "there"})
        await gate.passing(ctx)
        return ResumeAfter(None, hold="h")

    queue = await rig.start(task(run))
    record = await queue.submit("test", {"p": 1}, labels={"l": "v"})
    await gate.entered()
    await queue.pause(record.id)
    gate.open()
    await rig.reached(record.id, S.PAUSED)
    await queue.resume(record.id)
    await rig.reached(record.id, S.SUSPENDING)
    await queue.wake("h")
    await rig.reached(record.id, S.PROCESSING, S.SUSPENDING)
    await queue.cancel(record.id)
    last = await queue.get(record.id)
    assert (last.result, last.state, last.params) == ({"file": "there"}, b'{"s":1}', {"p": 1})
    assert last.labels == {"l": ["v"]}
    assert last.progress is not None
    assert last.progress.percent == 50
    assert last.delivered_at is not None


async def test_late_results_of_a_stale_worker_accepted(rig: Rig) -> None:
    """A worker that was believed dead came back, and its result completed the attempt of another."""
    first, second = Gate(), Gate()

    async def run(ctx: Context) -> Outcome:
        gate = first if ctx.record.lease_token == 1 else second
        await gate.passing(ctx)
        return Completed(ctx.record.lease_token)

    queue = await rig.start(task(run), workers=2)
    record = await queue.submit("test")
    await first.entered()
    await queue._store.transact([(record.id, lambda r: transitions.rescue(r, rig.clock.time()))])
    await second.entered()
    first.open()
    await settled()
    assert (await queue.get(record.id)).status is S.PROCESSING
    second.open()
    assert (await rig.done(record.id)).result == 3
    assert await rig.kinds(record.id) == ["submitted", "claimed", "rescued", "claimed", "completed"]


async def test_a_retried_task_that_took_the_late_result_of_its_first_life(rig: Rig) -> None:
    """Fenced, retried by a person, and then the thread of the first life came back."""
    gate = Gate()

    def run(ctx: Context) -> Outcome:
        if ctx.record.retries:
            return Completed("second life")
        gate.block(ctx)
        return Completed("first life")

    queue = await rig.start(task(run), task(done, "other"), workers=2)
    record = await queue.submit("test")
    await gate.entered()
    rig.clock.advance(0.5)
    canceling = asyncio.ensure_future(queue.cancel(record.id))
    await rig.timer(5)
    rig.clock.advance(5)
    await canceling
    await queue.retry(record.id)
    assert (await rig.done(record.id)).result == "second life"
    gate.open()
    await rig.done((await queue.submit("other")).id)
    await settled()
    assert (await queue.get(record.id)).result == "second life"
