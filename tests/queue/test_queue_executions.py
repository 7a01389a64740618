"""Every step has a record: when it began and ended, where, and how; also if a stop or a crash ended it."""

from __future__ import annotations

from functools import partial

import pytest

from dlqueue.queue import Completed, Context, Outcome, Status, transitions, wants
from dlqueue.queue.record import Event
from tests.queue.rig import Gate, Rig, task

pytestmark = pytest.mark.anyio
S = Status


def steps(events: list[Event]) -> list[Event]:
    return [event for event in events if event.started_at is not None]


async def test_a_crash_and_a_stop_are_told(rig: Rig) -> None:
    gate = Gate()

    async def step(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        return Completed()

    await rig.start(task(step))
    assert rig.queue is not None
    record = await rig.queue.submit("test")
    await gate.entered()
    first, begun = rig.queue.node, rig.clock.time()
    rig.clock.advance(7)
    await rig.crash()
    rig.clock.advance(3)
    queue = await rig.start(task(step))
    await gate.entered()
    (crashed,) = steps(list(await queue.history(record.id)))
    assert (crashed.kind, crashed.node, crashed.started_at, crashed.at) == ("rescued", first, begun, begun + 10)
    second, began = queue.node, rig.clock.time()
    await rig.stop()
    gate.open()
    queue = await rig.start(task(step))
    await rig.done(record.id)
    crashed, stopped, last = steps(list(await queue.history(record.id)))
    assert (stopped.kind, stopped.node, stopped.started_at) == ("released", second, began)
    assert (last.kind, last.node) == ("completed", queue.node)


async def test_a_step_that_was_cut_off_is_told(memory_rig: Rig) -> None:
    rig, gate = memory_rig, Gate()

    async def step(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        return Completed()

    queue = await rig.start(task(step))
    record = await queue.submit("test")
    await gate.entered()
    running = await queue.get(record.id)
    wanted = wants.cancel(running, rig.clock.time(), needs_cleanup=False)
    assert wanted is not None
    cut = wants.fence(wanted.record, wanted.record.lease_token, rig.clock.time() + 5)
    assert cut is not None
    assert (cut.started_at, cut.node) == (running.since, queue.node)
    settle = partial(transitions.settle, running, running.lease_token, now=0.0)
    end = settle(transitions.Settlement(target=S.ERROR, kind="error", started_at=5.0))
    assert end is not None
    assert end.started_at == 5.0
    gate.open()
    await rig.done(record.id)
