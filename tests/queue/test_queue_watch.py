"""Waiting, counting and listening."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dlqueue.queue import Completed, Context, Outcome, Queue, ResumeAfter, Task, TaskNotFound, WaitTimeout
from dlqueue.queue.notices import ProgressReport
from dlqueue.queue.record import Change
from dlqueue.queue.sql import SqlStore
from dlqueue.queue.testing import PATIENCE
from dlqueue.runtime.bus import Missed
from dlqueue.runtime.clock import SystemClock
from tests.queue.rig import Gate, Rig, S, done, settled, task

pytestmark = pytest.mark.anyio


async def test_wait(rig: Rig) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        return Completed(5)

    queue = await rig.start(task(run))
    record = await queue.submit("test")
    waiting = [asyncio.ensure_future(queue.wait(record.id)) for _ in range(3)]
    await gate.entered()
    gate.open()
    assert {answer.result for answer in await asyncio.gather(*waiting)} == {5}
    assert (await queue.wait(record.id)).result == 5, "and what is final is answered at once"
    assert queue._notices._waiters == {}


async def test_wait_times_out_and_the_task_goes_on(rig: Rig) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        return Completed()

    queue = await rig.start(task(run))
    record = await queue.submit("test")
    await gate.entered()
    waiting = asyncio.ensure_future(queue.wait(record.id, timeout=50))
    await rig.timer(50)
    rig.clock.advance(49)
    await settled()
    assert not waiting.done()
    rig.clock.advance(1)
    with pytest.raises(WaitTimeout, match=f"task {record.id} is not final after 50 s"):
        await waiting
    with pytest.raises(TimeoutError):
        await queue.wait(record.id, timeout=0)
    gate.open()
    await rig.done(record.id)
    assert queue._notices._waiters == {}


async def test_wait_until_delivered(rig: Rig) -> None:
    async def run(ctx: Context) -> Outcome:
        if ctx.state:
            return Completed()
        ctx.state["x"] = 1
        await ctx.deliver("early")
        return ResumeAfter(100)

    queue = await rig.start(task(run))
    record = await queue.submit("test")
    assert (await queue.wait(record.id, until="delivered")).result == "early"
    waiting = asyncio.ensure_future(queue.wait(record.id))
    await rig.reached(record.id, S.SUSPENDING)
    rig.clock.advance(100)
    assert (await waiting).status is S.COMPLETED
    canceled = await queue.submit("test", delay=100)
    waiting = asyncio.ensure_future(queue.wait(canceled.id, until="delivered"))
    await settled()
    await queue.cancel(canceled.id)
    assert (await waiting).status is S.CANCELED, "it will never be delivered"


async def test_wait_for_what_is_removed(rig: Rig) -> None:
    queue = await rig.start(task(done))
    record = await queue.submit("test", delay=100)
    waiting = asyncio.ensure_future(queue.wait(record.id))
    await settled()
    await queue.remove(record.id)
    assert (await waiting).status is S.CANCELED
    with pytest.raises(TaskNotFound):
        await queue.wait(record.id)
    assert queue._notices._waiters == {}


async def test_counters(rig: Rig) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        match ctx.params:
            case "fail":
                raise ValueError
            case "suspend":
                return ResumeAfter(100)
            case "busy":
                await gate.passing(ctx)
        return Completed()

    queue = await rig.start(task(run))
    records = {name: await queue.submit("test", name) for name in ("ok", "fail", "suspend", "busy", "cancel me")}
    await rig.done(records["ok"].id)
    await rig.failed(records["fail"].id)
    await rig.reached(records["suspend"].id, S.SUSPENDING)
    await gate.entered()
    await rig.done(records["cancel me"].id)
    canceled = await queue.submit("test", delay=50)
    await queue.cancel(canceled.id)
    counters = queue.counters
    assert (counters.busy_workers, counters.suspending) == (1, 1)
    assert (counters.submitted, counters.completed, counters.failed, counters.canceled) == (6, 2, 1, 1)
    gate.open()
    await queue.wait(records["busy"].id)
    assert queue.counters.busy_workers == 0, "whoever hears of the end sees the worker free"
    await queue.cancel(records["suspend"].id)
    assert queue.counters.suspending == 0


async def test_who_waits_does_not_hear_of_an_end_before_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can be read as soon as it is committed: its worker is not free then, and it is not counted."""
    store = SqlStore(f"sqlite:///{tmp_path}/queue.db")
    rig = Rig(lambda: store)
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        return Completed()

    queue = await rig.start(task(run))
    record = await queue.submit("test")
    await gate.entered()
    writer, held = store._writer, list[Callable[[], object]]()
    assert writer is not None
    with monkeypatch.context() as patch:
        patch.setattr(writer, "_tell", held.append)
        gate.open()
        async with asyncio.timeout(PATIENCE):
            while not (await queue.get(record.id)).final:
                await settled(1)
        waiting = asyncio.ensure_future(queue.wait(record.id))
        await settled()
        assert not waiting.done()
    for callback in held:
        writer._tell(callback)
    assert (await waiting).status is S.COMPLETED
    assert (queue.counters.busy_workers, queue.counters.completed) == (0, 1)
    await rig.stop()


async def test_subscribers_hear_every_change_in_order(rig: Rig) -> None:
    queue = await rig.start(task(done))
    changes = queue.bus.subscribe(lambda notice: isinstance(notice, Change))
    records = await queue.submit_many([("test", i) for i in range(20)])
    for record in records:
        await rig.done(record.id)
    heard = [await anext(changes) for _ in range(60)]
    sequences = [notice.sequence for notice in heard if isinstance(notice, Change)]
    assert sequences == [event.sequence for event in await queue.events(0)]
    for record in records:
        mine = [n.record.status for n in heard if isinstance(n, Change) and n.record.id == record.id]
        assert mine == [S.QUEUED, S.PROCESSING, S.COMPLETED]


async def test_a_slow_subscriber_is_told_what_it_missed(rig: Rig) -> None:
    queue = await rig.start(task(done))
    slow = queue.bus.subscribe(size=5)
    for record in await queue.submit_many([("test", i) for i in range(10)]):
        await rig.done(record.id)
    heard = [await anext(slow) for _ in range(6)]
    assert isinstance(heard[-1], Missed)
    assert heard[-1].count == 25
    last = heard[4]
    assert isinstance(last, Change)
    missed = await queue.events(last.sequence)
    assert len(missed) == 25, "and can read it up"


async def test_progress_reports_are_not_more_than_anybody_can_read(memory_rig: Rig) -> None:
    async def run(ctx: Context) -> Outcome:
        for number in range(100):
            ctx.progress(percent=number)
            memory_rig.clock.advance(0.01)
        return Completed()

    queue = await memory_rig.start(task(run))
    reports = queue.bus.subscribe(lambda notice: isinstance(notice, ProgressReport))
    await memory_rig.done((await queue.submit("test")).id)
    reports.close()
    assert 3 <= len([report async for report in reports]) <= 6


async def test_progress_of_a_blocking_step(memory_rig: Rig) -> None:
    def run(ctx: Context) -> Outcome:
        ctx.progress(percent=50)
        return Completed()

    queue = await memory_rig.start(task(run))
    reports = queue.bus.subscribe(lambda notice: isinstance(notice, ProgressReport))
    record = await queue.submit("test")
    async with asyncio.timeout(PATIENCE):
        report = await anext(reports)
    assert isinstance(report, ProgressReport)
    assert (report.task_id, report.progress.percent) == (record.id, 50.0)


async def test_a_long_timeout_is_not_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's clock wakes early rather than late; who waits must look at the time again."""
    monkeypatch.setattr(SystemClock, "MAX_WAIT", 0.01)
    async with Queue([Never]) as queue:
        record = await queue.submit("never", paused=True)
        began = time.time()  # as the system's clock does: others may run a little faster or slower
        with pytest.raises(WaitTimeout):
            await queue.wait(record.id, timeout=0.2)
        assert time.time() - began > 0.19


class Never(Task):
    type = "never"
