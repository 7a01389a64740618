"""Editing a task that is there: priority, labels, time to begin."""

from __future__ import annotations

import pytest

from dlqueue.queue import Completed, Conflict, Context, InvalidTask, Outcome, QueueSettings, ResumeAfter, TaskNotFound
from tests.queue.rig import Gate, Rig, S, done, task

pytestmark = pytest.mark.anyio


async def test_a_higher_priority_goes_first(rig: Rig) -> None:
    order: list[int] = []
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        order.append(ctx.task_id)
        await gate.passing(ctx)
        return Completed()

    queue = await rig.start(task(run), workers=1)
    blocker, low, high = [await queue.submit("test") for _ in range(3)]
    assert await gate.entered() == blocker.id
    updated = await queue.update(high.id, priority=5)
    assert (updated.priority, updated.rank, updated.revision, updated.status) == (5, 5.0, 2, S.QUEUED)
    gate.open()
    await rig.reached(low.id, S.COMPLETED)
    assert order == [blocker.id, high.id, low.id]


async def test_a_running_task_may_be_edited(rig: Rig) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        ctx.state["done"] = 1
        return ResumeAfter(100)

    queue = await rig.start(task(run))
    record = await queue.submit("test", labels={"tag": "old"})
    await gate.entered()
    await queue.update(record.id, priority=9, labels={"tag": ["new"]})
    gate.open()
    after = await rig.reached(record.id, S.SUSPENDING)
    assert (after.priority, after.labels, after.state) == (9, {"tag": ["new"]}, b'{"done":1}')


async def test_ageing_counts_from_the_creation(rig: Rig) -> None:
    queue = await rig.start(task(done), queues={"default": QueueSettings(ageing=1.0)})
    old = await queue.submit("test", delay=100_000)
    rig.clock.advance(3600)
    young = await queue.submit("test", delay=100_000, priority=30)
    assert old.rank > young.rank, "an hour is worth 60 points"
    assert (await queue.update(old.id, priority=-50)).rank < young.rank
    again = await queue.update(old.id, priority=0)
    assert again.rank == pytest.approx(old.rank)


async def test_another_time_to_begin(rig: Rig) -> None:
    queue = await rig.start(task(done))
    record = await queue.submit("test", delay=1000)
    later = await queue.update(record.id, run_at=rig.clock.time() + 50)
    assert later.run_at == rig.clock.time() + 50
    rig.clock.advance(51)
    await rig.reached(record.id, S.COMPLETED)
    second = await queue.submit("test", delay=1000)
    await queue.update(second.id, run_at=rig.clock.time() - 1)
    await rig.reached(second.id, S.COMPLETED)
    with pytest.raises(InvalidTask) as caught:
        await queue.update((await queue.submit("test", delay=1000)).id, run_at=1e15)
    assert caught.value.field == "run_at"


async def test_what_is_refused(rig: Rig) -> None:
    async def holds(ctx: Context) -> Outcome:
        return ResumeAfter(None, hold="slot:x")

    queue = await rig.start(task(done), task(holds, "holds"))
    finished = await queue.submit("test")
    finished = await rig.reached(finished.id, S.COMPLETED)
    for change in ({"priority": 1}, {"run_at": rig.clock.time() + 5}, {"priority": 0}):
        with pytest.raises(Conflict, match="only its labels"):
            await queue.update(finished.id, **change)
    assert (await queue.update(finished.id, labels={"tag": ["kept"]})).labels == {"tag": ["kept"]}
    held = await queue.submit("holds")
    await rig.reached(held.id, S.SUSPENDING)
    with pytest.raises(Conflict, match="waits for slot:x"):
        await queue.update(held.id, run_at=rig.clock.time() + 5)
    with pytest.raises(Conflict, match="revision 3, not 1"):
        await queue.update(held.id, priority=1, if_revision=1)
    with pytest.raises(TaskNotFound):
        await queue.update(999, priority=1)


async def test_what_is_so_already_changes_nothing(rig: Rig) -> None:
    queue = await rig.start(task(done))
    record = await queue.submit("test", delay=100, labels={"tag": "x"})
    same = await queue.update(record.id, priority=0, labels={"tag": ["x"]}, if_revision=1)
    assert same == record
    assert len(await queue.history(record.id)) == 1
