"""Submits that meet a full queue: refused, or waiting in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from dlqueue.queue import (
    Completed,
    Context,
    InvalidTask,
    Outcome,
    Queue,
    QueueClosed,
    QueueFull,
    QueueSettings,
    TaskRecord,
)
from dlqueue.queue.notices import QueueNotice
from dlqueue.queue.testing import PATIENCE
from tests.queue.rig import Gate, Rig, S, settled, task

pytestmark = pytest.mark.anyio


async def forever(ctx: Context) -> Outcome:
    raise AssertionError("nothing is begun in these tests")


async def shut(rig: Rig, capacity: int = 2, **more: Any) -> Queue:
    """A queue in which nothing is begun."""
    queue = await rig.start(task(forever), capacity=capacity, **more)
    await queue.queues.pause("default")
    return queue


def later(submit: Awaitable[Any]) -> asyncio.Future[Any]:
    return asyncio.ensure_future(submit)


async def soon(waiting: asyncio.Future[Any]) -> Any:
    async with asyncio.timeout(PATIENCE):
        return await waiting


async def test_a_submit_waits_for_room(rig: Rig) -> None:
    queue = await shut(rig)
    first = await queue.submit("test", on_full="wait")
    await queue.submit("test", on_full="wait")
    waiting = later(queue.submit("test", "third", on_full="wait"))
    await settled()
    assert not waiting.done() and await queue.count() == 2
    await queue.cancel(first.id)
    record: TaskRecord = await soon(waiting)
    assert (record.params, record.status) == ("third", S.QUEUED)


async def test_the_end_of_a_task_makes_room(rig: Rig) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        return Completed()

    queue = await rig.start(task(run), capacity=1)
    await queue.submit("test")
    waiting = [later(queue.submit("test", n, on_full="wait")) for n in range(3)]
    await gate.entered()
    assert not any(one.done() for one in waiting)
    gate.open()
    records = [await soon(one) for one in waiting]
    assert [record.id for record in records] == sorted(record.id for record in records), "in turn"
    for record in records:
        await rig.done(record.id)


async def test_a_removed_task_makes_room(rig: Rig) -> None:
    queue = await shut(rig, 1)
    first = await queue.submit("test")
    waiting = later(queue.submit("test", on_full="wait"))
    await settled()
    await queue.remove(first.id)
    await soon(waiting)


async def test_who_is_cancelled_has_submitted_nothing(rig: Rig) -> None:
    queue = await shut(rig, 1)
    first = await queue.submit("test")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await queue.submit("test", "gone", on_full="wait")
    behind = later(queue.submit("test", "behind", on_full="wait"))
    await settled()
    await queue.cancel(first.id)
    assert (await soon(behind)).params == "behind"
    assert await queue.count() == 2


async def test_who_is_cancelled_in_the_middle_of_the_write_has_submitted_nothing(rig: Rig) -> None:
    queue = await shut(rig, 5)
    submit, entered, held = queue._store.submit, asyncio.Event(), asyncio.Event()

    async def slowly(*args: Any) -> Any:
        entered.set()
        await held.wait()
        return await submit(*args)

    queue._store.submit = slowly  # type: ignore[method-assign,assignment]
    submitting = later(queue.submit("test", on_full="wait"))
    await entered.wait()
    submitting.cancel()
    await asyncio.wait({submitting})
    assert submitting.cancelled()
    held.set()
    subscription = queue.bus.subscribe()
    async for notice in subscription:
        if getattr(notice, "delete", False):
            break
    assert await queue.count() == 0


async def test_a_batch_waits_as_a_whole_and_is_not_overtaken(rig: Rig) -> None:
    queue = await shut(rig, 3)
    there = [await queue.submit("test") for _ in range(3)]
    batch = later(queue.submit_many([("test", "a"), ("test", "b")], on_full="wait"))
    await settled()
    single = later(queue.submit("test", "late", on_full="wait"))
    await settled()
    await queue.cancel(there[0].id)
    await settled()
    assert not batch.done() and not single.done() and await queue.count(status="queued") == 2
    with pytest.raises(QueueFull, match=r"queue 'default' is full: submits \(2\) wait for room in it"):
        await queue.submit("test", "rude")
    await queue.cancel(there[1].id)
    assert [record.params for record in await soon(batch)] == ["a", "b"]
    await settled()
    assert not single.done()
    await queue.cancel(there[2].id)
    assert (await soon(single)).params == "late"


async def test_what_joins_needs_no_room(rig: Rig) -> None:
    queue = await shut(rig, 1)
    first = await queue.submit("test", unique_key="k")
    assert (await queue.submit("test", unique_key="k", on_full="wait")).id == first.id
    waiting = later(queue.submit("test", on_full="wait"))
    await settled()
    assert (await queue.submit("test", unique_key="k")).id == first.id, "though others wait"
    waiting.cancel()


async def test_a_batch_that_never_fits_is_refused_at_once(rig: Rig) -> None:
    queue = await shut(rig, 2)
    batch: list[Any] = [("test", n) for n in range(3)]
    told = "queue 'default' never has room for 3 new tasks at once: its capacity is 2"
    for on_full in ("wait", "refuse"):
        with pytest.raises(QueueFull, match=told):
            await queue.submit_many(batch, on_full=on_full)
    await queue.submit_many(batch[:2])
    waiting = later(queue.submit_many(batch[:2], on_full="wait"))
    await settled()
    with pytest.raises(QueueFull, match=told):
        await queue.submit_many(batch, on_full="wait")
    await queue.queues.update("default", capacity=1)
    with pytest.raises(QueueFull, match="never has room for 2"):
        await soon(waiting)


async def test_batches_over_several_queues_do_not_wait_for_each_other(rig: Rig) -> None:
    queue = await shut(rig, 1)
    await queue.queues.create("other", capacity=1)
    await queue.queues.pause("other")
    there = [await queue.submit("test", queue=name) for name in ("default", "other")]
    pair: list[Any] = [("test", None, {"queue": name}) for name in ("default", "other")]
    waiting = [later(queue.submit_many(tasks, on_full="wait")) for tasks in (pair, pair[::-1])]
    await settled()
    for record in there:
        await queue.cancel(record.id)
    made = await soon(waiting[0])
    await settled()
    assert not waiting[1].done()
    for record in made:
        await queue.cancel(record.id)
    await soon(waiting[1])


async def test_another_capacity_lets_those_in_who_wait(rig: Rig) -> None:
    queue = await shut(rig, 1)
    await queue.submit("test")
    waiting = [later(queue.submit("test", on_full="wait")) for _ in range(2)]
    await settled()
    await queue.queues.update("default", capacity=2)
    await soon(waiting[0])
    await settled()
    assert not waiting[1].done()
    await queue.configure(4, {"default": QueueSettings(capacity=9)})
    await soon(waiting[1])
    assert (await queue.queues.get("default")).settings.capacity == 9


async def test_a_stop_ends_the_wait(rig: Rig) -> None:
    queue = await shut(rig, 1)
    await queue.submit("test")
    waiting = [later(queue.submit("test", on_full="wait")) for _ in range(3)]
    await settled()
    await rig.stop()
    for one in waiting:
        with pytest.raises(QueueClosed):
            await soon(one)
    queue = await rig.start(task(forever), capacity=1)
    assert await queue.count() == 1


async def test_who_waited_is_ranked_as_if_he_had_come_now(rig: Rig) -> None:
    queue = await shut(rig, 1, queues={"default": QueueSettings(ageing=1)})
    first = await queue.submit("test")
    waiting = later(queue.submit("test", priority=1, on_full="wait"))
    await settled()
    rig.clock.advance(600)
    await queue.cancel(first.id)
    record = await soon(waiting)
    now = rig.clock.time()
    assert (record.created_at, record.rank) == (now, pytest.approx(1 - now / 60))


async def test_full_is_told_once_until_there_was_room(rig: Rig) -> None:
    queue = await shut(rig, 1)
    subscription = queue.bus.subscribe(lambda notice: isinstance(notice, QueueNotice))
    first = await queue.submit("test")
    for _ in range(3):
        with pytest.raises(QueueFull):
            await queue.submit("test")
    await queue.cancel(first.id)
    await queue.submit("test")
    with pytest.raises(QueueFull):
        await queue.submit("test")
    subscription.close()
    heard = [notice async for notice in subscription if isinstance(notice, QueueNotice)]
    assert [(notice.queue, notice.kind) for notice in heard] == [("default", "full")] * 2


async def test_another_word_is_refused(memory_rig: Rig) -> None:
    queue = await shut(memory_rig)
    with pytest.raises(InvalidTask, match="on_full: must be refuse or wait"):
        await queue.submit("test", on_full="drop")  # type: ignore[arg-type]
