"""Tasks that behave badly, and a database that fails: no worker dies, no task is lost."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

from dlqueue.queue import (
    Completed,
    Context,
    LeaseLost,
    Outcome,
    QueueSettings,
    ResumeAfter,
    StorageError,
    Task,
    transitions,
)
from dlqueue.queue.testing import PATIENCE, drain
from tests.queue.rig import Faults, Gate, Rig, S, Step, done, settled, task

pytestmark = pytest.mark.anyio


# -- tasks ------------------------------------------------------------------------------------------------------------


def leaves(ctx: Context) -> Outcome:
    sys.exit(3)


async def leaves_async(ctx: Context) -> Outcome:
    sys.exit(3)


def cancels_itself(ctx: Context) -> Outcome:
    raise asyncio.CancelledError


async def cancels_itself_async(ctx: Context) -> Outcome:
    raise asyncio.CancelledError


def gives_up(ctx: Context) -> Outcome:
    raise GeneratorExit


async def gives_up_async(ctx: Context) -> Outcome:
    raise GeneratorExit


def stops(ctx: Context) -> Outcome:
    raise StopIteration


@pytest.mark.parametrize(
    "step",
    [leaves, leaves_async, cancels_itself, cancels_itself_async, gives_up, gives_up_async, stops],
    ids=lambda step: step.__name__,
)
async def test_whatever_a_step_raises_is_its_own_affair(rig: Rig, step: Step) -> None:
    queue = await rig.start(task(step, "bad"), task(done), workers=1, max_retry=1)
    record = await queue.submit("bad")
    waiting = await rig.reached(record.id, S.SUSPENDING)
    assert waiting.error is not None
    rig.clock.advance(10)
    assert (await rig.failed(record.id)).retries == 1
    assert (await rig.done((await queue.submit("test", 5)).id)).result == 5


async def test_a_failing_is_retryable(memory_rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    def is_retryable(error: BaseException) -> bool:
        raise KeyError("a defect")

    async def run(ctx: Context) -> Outcome:
        raise ValueError("why")

    queue = await memory_rig.start(task(run, "bad", is_retryable=is_retryable), task(done), workers=1, max_retry=1)
    record = await queue.submit("bad")
    await memory_rig.reached(record.id, S.SUSPENDING)
    memory_rig.clock.advance(10)
    failed = await memory_rig.failed(record.id)
    assert failed.error is not None
    assert failed.error.message == "why"
    assert "is_retryable of task type 'bad' failed" in caplog.text
    await memory_rig.done((await queue.submit("test")).id)


async def test_a_task_that_makes_its_worker_fail(memory_rig: Rig) -> None:
    """It counts as crashed: the task comes to an end, the worker does not."""

    def has_cleanup(self: Task) -> bool:
        raise RuntimeError("not even that")

    queue = await memory_rig.start(task(done, "bad", has_cleanup=has_cleanup), task(done), workers=1)
    failed = await memory_rig.failed((await queue.submit("bad")).id)
    assert failed.error is not None
    assert (failed.error.kind, failed.crashes) == ("crash", transitions.CRASH_LIMIT)
    await memory_rig.done((await queue.submit("test")).id)


async def test_a_very_long_error_message_is_cut(memory_rig: Rig) -> None:
    async def run(ctx: Context) -> Outcome:
        raise ValueError("x" * 10_000)

    queue = await memory_rig.start(task(run))
    failed = await memory_rig.failed((await queue.submit("test")).id)
    assert failed.error is not None
    assert 1000 < len(failed.error.message) < 3000


async def test_blocking_steps_do_not_block_the_loop(memory_rig: Rig) -> None:
    both = threading.Barrier(2)

    def run(ctx: Context) -> Outcome:
        both.wait(PATIENCE)  # only if both run at once
        return Completed(threading.current_thread() is threading.main_thread())

    queue = await memory_rig.start(task(run), workers=2)
    for record in await queue.submit_many([("test", 1), ("test", 2)]):
        assert (await memory_rig.done(record.id)).result is False


# -- leases -----------------------------------------------------------------------------------------------------------


async def test_a_stale_worker_is_refused(rig: Rig) -> None:
    """Its task was taken away and is run by another: its state, progress and result come too late."""
    gate, stale_gate = Gate(), Gate()
    lost: list[str] = []

    async def run(ctx: Context) -> Outcome:
        if ctx.record.lease_token > 1:
            ctx.state["by"] = "the second"
            await gate.passing(ctx)
            return Completed("the second")
        ctx.state["by"] = "the first"
        await stale_gate.passing(ctx)
        try:
            await ctx.checkpoint()
        except LeaseLost:
            lost.append("checkpoint")
        return Completed("the first")

    queue = await rig.start(task(run), workers=2)
    record = await queue.submit("test")
    await stale_gate.entered()
    await queue._store.transact([(record.id, lambda r: transitions.rescue(r, rig.clock.time()))])
    await gate.entered()
    stale_gate.open()
    async with asyncio.timeout(PATIENCE):
        while queue.meters.stale < 2:  # the checkpoint, and the end
            await settled(1)
    running = await queue.get(record.id)
    assert (lost, running.status, running.state, running.result) == (["checkpoint"], S.PROCESSING, None, None)
    gate.open()
    last = await rig.done(record.id)
    assert (last.result, last.state) == ("the second", b'{"by":"the second"}')
    assert (await rig.kinds(record.id)).count("completed") == 1
    assert (queue.meters.crashes, queue.meters.stale) == (1, 2)


# -- the database -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 5])
async def test_a_failed_write_of_an_outcome_is_repeated(rig: Rig, times: int) -> None:
    gate = Gate()
    runs: list[int] = []

    async def run(ctx: Context) -> Outcome:
        runs.append(ctx.attempt)
        await gate.passing(ctx)
        return Completed("kept")

    queue = await rig.start(task(run))
    faults = Faults(queue)
    record = await queue.submit("test")
    await gate.entered()
    faults.fail(times)
    gate.open()
    for delay in (0.5, 1, 2, 4, 5)[:times]:
        await rig.timer(delay)
        assert (await queue.get(record.id)).status is S.PROCESSING, "it stays where the database says it is"
        rig.clock.advance(delay)
    done = await rig.done(record.id)
    assert (done.result, runs, done.crashes, faults.refused) == ("kept", [1], 0, times)


async def test_a_failed_claim_is_repeated(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    queue = await rig.start(task(done))
    faults = Faults(queue)
    for outage in (1, 2):
        faults.fail(3)
        records = await queue.submit_many([("test", i) for i in range(10)])
        await drain(queue, rig.clock)
        for record in records:
            await rig.done(record.id)
        assert faults.refused == 3 * outage
        assert caplog.text.count("cannot read or write its store: the disk is full") == outage, "told once"
        assert caplog.text.count("can read and write its store again") == outage


async def test_a_failed_read_is_repeated(rig: Rig) -> None:
    queue = await rig.start(task(done), queues={"default": QueueSettings(concurrency=0)})
    record = await queue.submit("test")
    await rig.stop()
    store = rig.new_store()
    ready = store.ready
    failures = [StorageError("locked"), KeyError("a defect of ours")]

    async def faulty(*args: object) -> object:
        if failures:
            raise failures.pop()
        return await ready(*args)  # type: ignore[arg-type]

    store.ready = faulty  # type: ignore[method-assign,assignment]
    queue = await rig.start(task(done), store=store)
    await drain(queue, rig.clock)
    await rig.done(record.id)
    assert failures == []


async def test_an_outcome_that_cannot_be_written_before_the_stop_is_run_again(rig: Rig) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        return Completed(ctx.params)

    queue = await rig.start(task(run))
    faults = Faults(queue)
    record = await queue.submit("test", "p")
    await gate.entered()
    faults.fail(1000)
    gate.open()
    await settled()
    await rig.stop()
    faults.fail(0)
    store = rig.new_store()
    store.__dict__.pop("transact", None)  # the memory store is the same one: mended
    await rig.start(task(run), store=store)
    again = await rig.done(record.id)
    assert (again.result, again.retries) == ("p", 0)


# -- holds and wakes --------------------------------------------------------------------------------------------------


async def test_a_hold_ends_by_a_wake_or_by_its_time(rig: Rig) -> None:
    async def run(ctx: Context) -> Outcome:
        if ctx.state:
            return Completed(rig.clock.time())
        ctx.state["x"] = 1
        return ResumeAfter(ctx.params, hold="slot:box")

    queue = await rig.start(task(run))
    timed, woken = await queue.submit("test", 100), await queue.submit("test", None)
    held = [await rig.reached(record.id, S.SUSPENDING) for record in (timed, woken)]
    assert [(r.hold, r.run_at) for r in held] == [("slot:box", rig.clock.time() + 100), ("slot:box", None)]
    await rig.after(100, timed.id, S.COMPLETED)
    assert (await queue.get(woken.id)).status is S.SUSPENDING
    assert await queue.wake("slot:other") == 0
    assert await queue.wake("slot:box") == 1
    await rig.done(woken.id)


async def test_wake_goes_by_priority(rig: Rig) -> None:
    async def run(ctx: Context) -> Outcome:
        if ctx.state:
            return Completed()
        ctx.state["x"] = 1
        return ResumeAfter(None, hold="slot:box")

    queue = await rig.start(task(run))
    low, high, middle = [await queue.submit("test", priority=p) for p in (0, 9, 5)]
    for record in (low, high, middle):
        await rig.reached(record.id, S.SUSPENDING)
    assert await queue.wake("slot:box", 2) == 2
    await rig.done(high.id)
    await rig.done(middle.id)
    assert (await queue.get(low.id)).hold == "slot:box"


@pytest.mark.parametrize("wake", ["slot:box", "slot:*"])
async def test_a_wake_during_the_step_is_not_lost(rig: Rig, wake: str) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        if ctx.state:
            return Completed()
        ctx.state["x"] = 1
        await gate.passing(ctx)
        return ResumeAfter(None, hold="slot:box")

    queue = await rig.start(task(run))
    record = await queue.submit("test")
    await gate.entered()
    assert await queue.wake(wake) == 0
    gate.open()
    await rig.done(record.id)


async def test_a_wake_while_the_outcome_cannot_be_written_is_not_lost(rig: Rig) -> None:
    async def run(ctx: Context) -> Outcome:
        if ctx.state:
            return Completed()
        ctx.state["x"] = 1
        faults.fail(1)
        return ResumeAfter(None, hold="slot:box")

    queue = await rig.start(task(run))
    faults = Faults(queue)
    record = await queue.submit("test")
    async with asyncio.timeout(PATIENCE):
        while not faults.refused:
            await settled(1)
    await settled()
    assert await queue.wake("slot:box") == 0
    rig.clock.advance(1)
    await rig.done(record.id)


async def test_a_wake_before_the_step_does_not_count(rig: Rig) -> None:
    async def run(ctx: Context) -> Outcome:
        return ResumeAfter(None, hold="slot:box")

    queue = await rig.start(task(run))
    await queue.wake("slot:box")
    await queue.wake("slot:*")
    record = await queue.submit("test")
    held = await rig.reached(record.id, S.SUSPENDING)
    await settled()
    assert (await queue.get(record.id)) == held


async def test_very_many_wakes_are_not_remembered_for_ever(memory_rig: Rig) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        if ctx.state:
            return Completed()
        ctx.state["x"] = 1
        await gate.passing(ctx)
        return ResumeAfter(None, hold="slot:box")

    queue = await memory_rig.start(task(run))
    record = await queue.submit("test")
    await gate.entered()
    await queue.wake("slot:box")
    for number in range(3000):
        await queue.wake(f"transfer:{number}")
    assert len(queue._pool._wakes) <= 1000
    gate.open()
    await memory_rig.done(record.id)


async def test_a_wake_is_not_lost(rig: Rig) -> None:
    """Who waits to be woken would wait for ever."""

    async def run(ctx: Context) -> Outcome:
        ctx.state["steps"] = ctx.state.get("steps", 0) + 1
        return Completed() if ctx.state["steps"] == 2 else ResumeAfter(None, hold=f"slot:{ctx.params}")

    queue = await rig.start(task(run))
    made = [await queue.submit("test", name) for name in "aab"]
    for record in made:
        await rig.reached(record.id, S.SUSPENDING)
    wake, left = queue._store.wake, [5]

    async def refusing(*arguments: object) -> int:
        if left[0]:
            left[0] -= 1
            raise StorageError("the disk is full")
        return await wake(*arguments)  # type: ignore[arg-type]

    queue._store.wake = refusing  # type: ignore[method-assign, assignment]
    for hold, n in (("slot:a", 1), ("slot:b", None), ("slot:a", 1)):
        with pytest.raises(StorageError):
            await queue.wake(hold, n)
    for record in made:
        async with asyncio.timeout(PATIENCE):
            while (await queue.get(record.id)).status is not S.COMPLETED:
                rig.clock.advance(1)
                await settled(2)
    assert left == [0]
