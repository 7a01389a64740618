"""Stop, crash and start again: nothing is lost, nothing is marked failed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dlqueue.queue import Completed, Context, Outcome, Queue, QueueClosed, ResumeAfter, transitions
from dlqueue.queue.testing import PATIENCE, FakeClock, drain
from tests.queue.rig import Gate, Rig, S, done, settled, task

pytestmark = pytest.mark.anyio


async def test_a_stop_lets_running_steps_end(rig: Rig) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        return Completed(ctx.params)

    queue = await rig.start(task(run), workers=2)
    records = await queue.submit_many([("test", i) for i in range(4)])
    for _ in range(2):
        await gate.entered()
    stopping = asyncio.ensure_future(rig.stop(grace=1000))
    await settled()
    with pytest.raises(QueueClosed):
        await queue.submit("test")
    gate.open()
    await stopping
    queue = await rig.start(task(done))
    kinds = [await rig.kinds(record.id) for record in records]
    assert kinds[0] == kinds[1] == ["submitted", "claimed", "completed"]
    for record in records:
        await rig.done(record.id)


@pytest.mark.parametrize("blocking", [False, True])
async def test_a_stop_puts_back_what_does_not_end(rig: Rig, blocking: bool) -> None:
    gate = Gate()
    seen: list[str] = []

    async def run(ctx: Context) -> Outcome:
        try:
            await gate.passing(ctx)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        return Completed()

    def block(ctx: Context) -> Outcome:
        gate.block(ctx)
        seen.append(f"cancelled {ctx.cancelled}")
        return Completed("too late")

    queue = await rig.start(task(block if blocking else run), max_retry=3)
    record = await queue.submit("test")
    await gate.entered()
    await rig.stop(grace=1)
    gate.open()
    queue = await rig.start(task(done))
    events = await queue.history(record.id)
    assert [event.kind for event in events][:3] == ["submitted", "claimed", "released"]
    again = await rig.done(record.id)
    assert (again.retries, again.crashes, again.error, again.result) == (0, 0, None, None)
    async with asyncio.timeout(PATIENCE):
        while not seen:
            await asyncio.sleep(0.001)
    assert seen == ["cancelled True" if blocking else "cancelled"]


async def test_a_step_that_raises_because_it_is_stopped_has_not_failed(rig: Rig) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        try:
            await gate.passing(ctx)
        except asyncio.CancelledError:
            raise ConnectionError("the session was closed under me") from None
        return Completed()

    queue = await rig.start(task(run))
    record = await queue.submit("test")
    await gate.entered()
    await rig.stop()
    await rig.start(task(done))
    assert (await rig.done(record.id)).error is None


async def test_a_step_that_will_not_be_cancelled_does_not_hold_up_the_stop(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()

    async def stubborn(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        return Completed()

    async def run(ctx: Context) -> Outcome:
        inner = asyncio.ensure_future(stubborn(ctx))
        while not inner.done():
            try:
                await asyncio.shield(inner)
            except asyncio.CancelledError:
                continue
        return inner.result()

    queue = await rig.start(task(run))
    record = await queue.submit("test")
    await gate.entered()
    await rig.stop()
    gate.open()
    await rig.start(task(done))
    await rig.done(record.id)


async def test_shutdown_twice_and_before_start(rig: Rig) -> None:
    queue = await rig.start(task(done))
    await rig.stop()
    await queue.shutdown()
    with pytest.raises(QueueClosed):
        queue.start()
    with pytest.raises(QueueClosed):
        await queue.submit("test")
    unopened = Queue(tasks=[task(done)], store=rig.new_store())
    await unopened.shutdown()


async def test_who_waits_is_told_of_the_stop(rig: Rig) -> None:
    queue = await rig.start(task(done))
    record = await queue.submit("test", delay=100)
    waiting = asyncio.ensure_future(queue.wait(record.id))
    await settled()
    await rig.stop()
    with pytest.raises(QueueClosed):
        await waiting


async def test_a_crash_loses_nothing(rig: Rig) -> None:
    """Queued, delayed, running, suspended, held, paused and blocked: everything is taken up."""
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        if ctx.params == "running":
            await gate.passing(ctx)
        elif isinstance(ctx.params, dict) and not ctx.state:
            ctx.state["slept"] = True
            return ResumeAfter(**ctx.params)
        return Completed(ctx.params)

    queue = await rig.start(task(run), workers=1)
    suspended = await queue.submit("test", {"seconds": 50})
    held = await queue.submit("test", {"seconds": None, "hold": "h"})
    await rig.reached(suspended.id, S.SUSPENDING)
    await rig.reached(held.id, S.SUSPENDING)
    running = await queue.submit("test", "running")
    await gate.entered()
    queued = await queue.submit("test", "queued")
    delayed = await queue.submit("test", "delayed", delay=60)
    paused = await queue.submit("test", "paused", paused=True)
    blocked = await queue.submit("test", "blocked", depends_on=[running.id])
    before = len(await queue.events(0))
    await rig.crash()

    gate.open()
    queue = await rig.start(task(run), workers=1)
    again = await rig.done(running.id)
    assert (again.retries, again.crashes, again.error) == (0, 0, None)
    assert (await queue.events(0))[before].kind == "rescued"
    await rig.done(queued.id)
    await rig.done(blocked.id)
    assert (await queue.get(paused.id)).status is S.PAUSED
    assert queue.counters.suspending == 2
    rig.clock.advance(60)
    await rig.done(suspended.id)
    await rig.done(delayed.id)
    assert (await queue.get(held.id)).status is S.SUSPENDING
    assert await queue.wake("h") == 1
    await rig.done(held.id)
    assert queue.counters.suspending == 0


async def test_a_poison_task_comes_to_an_end(rig: Rig) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        return Completed()

    queue = await rig.start(task(run))
    record = await queue.submit("test", max_retry=5)
    for crashes in range(1, transitions.CRASH_LIMIT):
        await gate.entered()
        await rig.crash()
        queue = await rig.start(task(run))
        assert (await queue.get(record.id)).crashes == crashes
    await gate.entered()
    await rig.crash()
    queue = await rig.start(task(run))
    failed = await rig.failed(record.id)
    assert failed.error is not None
    assert (failed.error.kind, failed.crashes, failed.retries) == ("crash", 10, 0)
    gate.open()
    await queue.retry(record.id)
    assert (await rig.done(record.id)).crashes == 0


async def test_an_outcome_or_checkpoint_begins_the_count_of_crashes_anew(rig: Rig) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        ctx.state["n"] = ctx.state.get("n", 0) + 1
        await ctx.checkpoint()
        await gate.passing(ctx)
        return Completed(ctx.state["n"])

    await rig.start(task(run))
    assert rig.queue is not None
    record = await rig.queue.submit("test")
    for _ in range(transitions.CRASH_LIMIT + 2):
        await gate.entered()
        await rig.crash()
        await rig.start(task(run))
    gate.open()
    done = await rig.done(record.id)
    assert (done.result, done.crashes) == (transitions.CRASH_LIMIT + 3, 0)


async def test_an_unknown_type_is_kept_reported_and_run_when_it_appears(rig: Rig) -> None:
    queue = await rig.start(task(done, "old"), task(done))
    record = await queue.submit("old", "p", delay=1)
    await rig.stop()
    queue = await rig.start(task(done))
    rig.clock.advance(5)
    await rig.done((await queue.submit("test")).id)
    (found,) = (await queue.list(type="old")).items
    assert (found.id, found.status) == (record.id, S.QUEUED)
    await rig.stop()
    await rig.start(task(done), task(done, "old"))
    assert (await rig.done(record.id)).result == "p"


# -- a real process, really killed ------------------------------------------------------------------------------------

PROGRAM = """
import asyncio, sys
from dlqueue.queue import Completed, Queue, ResumeAfter, Task

class Step(Task):
    type = "step"
    async def run(self, ctx):
        ctx.state["n"] = ctx.state.get("n", 0) + 1
        if ctx.params == "suspend" and ctx.state["n"] == 1:
            return ResumeAfter(0.01)
        if ctx.params == "run":
            print("running", flush=True)
            await asyncio.Event().wait()
        return Completed(ctx.state["n"])

async def main():
    async with Queue(tasks=[Step], store=sys.argv[1], workers=1) as queue:
        suspended = await queue.submit("step", "suspend", priority=9)
        while (await queue.get(suspended.id)).status not in ("suspending", "completed"):
            await asyncio.sleep(0)
        await queue.submit("step", "run", priority=5)
        await queue.submit_many([("step", "wait")] * 10)
        print("submitted", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_kill_9(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/queue.db"
    with subprocess.Popen([sys.executable, "-c", PROGRAM, url], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        lines = {child.stdout.readline().strip() for _ in range(2)}
        child.kill()
    assert lines == {"running", "submitted"}

    async def run(ctx: Context) -> Outcome:
        return Completed(ctx.state)

    clock = FakeClock(time.time() + 60)
    async with Queue(tasks=[task(run, "step")], store=url, clock=clock) as queue:
        await drain(queue, clock)
        page = await queue.list(status=S.COMPLETED, count=True)
        assert page.total == 12
        by_params = {record.params: record for record in page.items}
        # The first may have had its second step while the others were submitted.
        assert by_params["suspend"].crashes == by_params["run"].crashes == 0
        assert by_params["run"].result == {}
        assert "rescued" in [event.kind for event in await queue.history(by_params["run"].id)]


async def test_a_stop_puts_back_what_runs_though_the_dispatcher_is_gone(rig: Rig) -> None:
    """As when the whole loop is being ended: whoever cancels everything has cancelled the dispatcher too."""
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        return Completed()

    queue = await rig.start(task(run))
    record = await queue.submit("test")
    await gate.entered()
    assert queue._pool._dispatcher is not None
    queue._pool._dispatcher.cancel()
    await rig.stop()
    again = await rig.start(task(run))
    gate.open()
    done = await rig.done(record.id)
    assert (done.status, done.crashes, await again.count()) == (S.COMPLETED, 0, 1)
