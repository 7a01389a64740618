"""Queues that are created, changed, paused and resumed at run time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dlqueue.queue import (
    Completed,
    Conflict,
    Context,
    InvalidSetting,
    NamedQueue,
    Outcome,
    Queue,
    QueueNotFound,
    QueueSettings,
    ResumeAfter,
    StorageError,
)
from dlqueue.queue.notices import QueueNotice
from tests.queue.rig import Gate, Rig, S, done, settled, task

pytestmark = pytest.mark.anyio

NAMED = {"filed": QueueSettings(concurrency=2, max_retry=4)}


def names(queues: list[NamedQueue]) -> list[str]:
    return [queue.name for queue in queues]


async def test_create(rig: Rig) -> None:
    queue = await rig.start(task(done), queues=NAMED, backoff_max=90)
    made = await queue.queues.create("slow", concurrency=1, capacity=5, rate="10/m", ageing=0.5, max_retry=2)
    assert made.settings == QueueSettings(
        concurrency=1,
        capacity=5,
        rate="10/m",
        max_retry=2,
        retry_delay=0,
        backoff_factor=2,
        backoff_max=90,
        ageing=0.5,
    )
    assert (made.paused, made.size, made.changed) == (
        False,
        0,
        ("ageing", "capacity", "concurrency", "max_retry", "rate"),
    )
    assert await queue.queues.get("slow") == made
    assert names(await queue.queues.list()) == ["default", "filed", "slow"]
    assert (await queue.submit("test", queue="slow")).max_retry == 2, "what is submitted goes by it"


async def test_all_kinds_of_queues_are_listed(rig: Rig) -> None:
    queue = await rig.start(task(done), queues=NAMED)
    await rig.done((await queue.submit("test", queue="by-a-task")).id)
    assert names(await queue.queues.list()) == ["by-a-task", "default", "filed"]
    for name in ("by-a-task", "default", "filed"):
        with pytest.raises(Conflict, match=f"there is a queue '{name}' already"):
            await queue.queues.create(name)
    with pytest.raises(QueueNotFound, match="no queue 'other'"):
        await queue.queues.get("other")
    for verb in (queue.queues.pause, queue.queues.resume):
        with pytest.raises(QueueNotFound):
            await verb("other")
    with pytest.raises(QueueNotFound):
        await queue.queues.update("other", capacity=1)


async def test_figures(rig: Rig) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        if ctx.params == "fails":
            raise ValueError
        if ctx.params == "sleeps":
            return ResumeAfter(100)
        if ctx.params == "stays":
            await gate.passing(ctx)
        return Completed()

    queue = await rig.start(task(run))
    await rig.done((await queue.submit("test")).id)
    await rig.failed((await queue.submit("test", "fails")).id)
    await rig.reached((await queue.submit("test", "sleeps")).id, S.SUSPENDING)
    await queue.submit("test", paused=True)
    await queue.submit("test", "stays")
    await gate.entered()
    await queue.submit("test", queue="other", delay=5)
    seen = await queue.queues.get("default")
    assert (seen.pending, seen.running, seen.size, seen.completed, seen.failed) == (2, 1, 3, 1, 1)
    (other,) = [one for one in await queue.queues.list() if one.name == "other"]
    assert (other.pending, other.running, other.size) == (1, 0, 1)
    gate.open()


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": True}, "concurrency"),
        ({"concurrency": 1.5}, "concurrency"),
        ({"capacity": 0}, "capacity"),
        ({"rate": "fast"}, "rate"),
        ({"rate": "0/s"}, "rate"),
        ({"rate": 5}, "rate"),
        ({"ageing": -1}, "ageing"),
        ({"ageing": float("nan")}, "ageing"),
        ({"max_retry": 1.0}, "max_retry"),
        ({"retry_delay": 1e12}, "retry_delay"),
        ({"backoff_factor": 0.5}, "backoff_factor"),
        ({"backoff_max": "1m"}, "backoff_max"),
        ({"paused": True}, "paused"),
    ],
)
async def test_what_cannot_be_right_is_refused(memory_rig: Rig, settings: dict[str, Any], field: str) -> None:
    queue = await memory_rig.start(task(done))
    with pytest.raises(InvalidSetting) as refused:
        await queue.queues.create("new", **settings)
    assert refused.value.field == field and str(refused.value).startswith(f"{field}: ")
    with pytest.raises(InvalidSetting):
        await queue.queues.update("default", **settings)
    assert names(await queue.queues.list()) == ["default"]
    assert (await queue.queues.get("default")).changed == ()


@pytest.mark.parametrize("name", ["", ".hidden", "a b", "a/b", "x" * 65, "ä", "a\n"])
async def test_a_name_is_as_in_the_configuration(memory_rig: Rig, name: str) -> None:
    queue = await memory_rig.start(task(done))
    with pytest.raises(InvalidSetting, match="name: must be 1 to 64 letters"):
        await queue.queues.create(name)


async def test_what_was_set_outlives_a_restart_key_by_key(rig: Rig) -> None:
    queue = await rig.start(task(done), queues=NAMED)
    await queue.queues.create("slow", concurrency=1)
    await queue.queues.update("filed", concurrency=7, capacity=9, retry_delay=3)
    await queue.queues.update("filed", backoff_max=30)
    await rig.stop()
    queue = await rig.start(task(done), queues=NAMED)
    assert (await queue.queues.get("slow")).settings.concurrency == 1
    seen = await queue.queues.get("filed")
    assert (seen.settings.concurrency, seen.settings.capacity, seen.settings.max_retry) == (7, 9, 4)
    assert seen.changed == ("backoff_max", "capacity", "concurrency", "retry_delay")
    await rig.stop()
    # The program says something new of one key: that key is its own again, the others are not.
    queue = await rig.start(task(done), queues={"filed": QueueSettings(concurrency=3, max_retry=5)})
    seen = await queue.queues.get("filed")
    assert (seen.settings.concurrency, seen.settings.capacity, seen.settings.max_retry) == (3, 9, 5)
    assert seen.changed == ("backoff_max", "capacity", "retry_delay")
    await rig.stop()
    queue = await rig.start(task(done), queues=NAMED)
    assert (await queue.queues.get("filed")).settings.concurrency == 2, "what was dropped does not come back"


async def test_all_that_a_created_queue_was_given_outlives_a_restart(rig: Rig) -> None:
    queue = await rig.start(task(done))
    made = await queue.queues.create(
        "slow",
        concurrency=1,
        capacity=5,
        rate="10/m",
        ageing=0.5,
        max_retry=2,
        retry_delay=3,
        backoff_factor=4,
        backoff_max=9,
    )
    await rig.stop()
    queue = await rig.start(task(done))
    assert await queue.queues.get("slow") == made
    await queue.configure(4, {})
    assert await queue.queues.get("slow") == made


async def test_reset(rig: Rig) -> None:
    queue = await rig.start(task(done), queues=NAMED)
    await queue.queues.update("filed", concurrency=7, capacity=9)
    seen = await queue.queues.update("filed", reset=["concurrency"], capacity=10)
    assert (seen.settings.concurrency, seen.settings.capacity, seen.changed) == (2, 10, ("capacity",))
    with pytest.raises(InvalidSetting, match="reset: 'speed' is not one of concurrency, "):
        await queue.queues.update("filed", reset=["speed"])
    with pytest.raises(InvalidSetting, match="reset: 'capacity' is set and reset at once"):
        await queue.queues.update("filed", reset=["capacity"], capacity=1)


async def test_configure_drops_what_it_says_anew_and_nothing_else(rig: Rig) -> None:
    queue = await rig.start(task(done), queues=NAMED)
    await queue.queues.update("filed", concurrency=7, max_retry=0)
    await queue.queues.create("slow", concurrency=1)
    await queue.configure(4, {"filed": QueueSettings(concurrency=2, max_retry=9), "new": QueueSettings(capacity=1)})
    seen = await queue.queues.get("filed")
    assert (seen.settings.concurrency, seen.settings.max_retry, seen.changed) == (7, 9, ("concurrency",))
    assert (await queue.queues.get("new")).settings.capacity == 1
    await queue.configure(4, {})
    assert (await queue.queues.get("filed")).settings.concurrency == 4, "named no more: nothing is said of it"
    assert (await queue.queues.get("slow")).settings.concurrency == 1
    await rig.stop()
    queue = await rig.start(task(done), queues=NAMED)
    assert (await queue.queues.get("filed")).changed == ()


async def test_concurrency_at_run_time(rig: Rig) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        return Completed()

    queue = await rig.start(task(run), queues={"default": QueueSettings(concurrency=1)})
    records = [await queue.submit("test") for _ in range(4)]
    await gate.entered()
    assert await gate.nobody()
    await queue.queues.update("default", concurrency=3)
    await gate.entered()
    await gate.entered()
    assert await gate.nobody()
    gate.open()
    for record in records:
        await rig.done(record.id)


async def test_a_paused_queue_begins_nothing_and_goes_on_at_once(rig: Rig) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        ctx.state["steps"] = ctx.state.get("steps", 0) + 1
        return ResumeAfter(0) if ctx.state["steps"] < 2 else Completed()

    queue = await rig.start(task(run))
    running = await queue.submit("test")
    await gate.entered()
    assert (await queue.queues.pause("default")).paused is True
    assert (await queue.queues.pause("default")).paused is True, "again is no error"
    waits = await queue.submit("test")
    elsewhere = await queue.submit("test", queue="other")
    assert await gate.entered() == elsewhere.id, "another queue is not"
    gate.open()
    await rig.reached(running.id, S.SUSPENDING)
    await rig.done(elsewhere.id)
    rig.clock.advance(100)
    await settled()
    assert (await queue.get(running.id)).status is S.SUSPENDING, "the running step went on, the next does not begin"
    assert (await queue.get(waits.id)).status is S.QUEUED
    assert (await queue.queues.resume("default")).paused is False
    await rig.done(running.id)
    await rig.done(waits.id)


async def test_a_pause_outlives_a_restart(rig: Rig) -> None:
    queue = await rig.start(task(done))
    await queue.queues.pause("default")
    record = await queue.submit("test")
    await rig.stop()
    queue = await rig.start(task(done))
    await settled()
    assert (await queue.get(record.id)).status is S.QUEUED
    assert (await queue.queues.get("default")).paused is True
    await queue.queues.resume("default")
    await rig.done(record.id)
    await rig.stop()
    queue = await rig.start(task(done))
    await rig.done((await queue.submit("test")).id)


async def test_another_ageing_at_run_time_orders_anew(rig: Rig) -> None:
    order: list[Any] = []

    async def run(ctx: Context) -> Outcome:
        order.append(ctx.params)
        return Completed()

    queue = await rig.start(task(run), workers=1)
    await queue.queues.pause("default")
    await queue.submit("test", "old")
    rig.clock.advance(600)
    last = await queue.submit("test", "urgent", priority=5)
    await queue.queues.update("default", ageing=1)
    await queue.queues.resume("default")
    await rig.done(last.id)
    assert order == ["old", "urgent"]


async def test_subscribers_hear_of_queues(rig: Rig) -> None:
    queue = await rig.start(task(done))
    subscription = queue.bus.subscribe(lambda notice: isinstance(notice, QueueNotice))
    await queue.queues.create("slow", concurrency=1)
    await queue.queues.update("slow", reset=["concurrency"], capacity=3)
    await queue.queues.pause("slow")
    await queue.queues.pause("slow")
    await queue.queues.resume("slow")
    with pytest.raises(Conflict):
        await queue.queues.create("slow")
    subscription.close()
    heard = [notice async for notice in subscription if isinstance(notice, QueueNotice)]
    assert [(notice.queue, notice.kind, notice.settings) for notice in heard] == [
        ("slow", "created", {"concurrency": 1}),
        ("slow", "changed", {"concurrency": None, "capacity": 3}),
        ("slow", "paused", {}),
        ("slow", "resumed", {}),
    ]


async def test_what_cannot_be_kept_changes_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = await rig.start(task(done), queues=NAMED)

    async def refuse(rows: object) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(queue._store, "save_queues", refuse)
        for change in (
            queue.queues.create("slow"),
            queue.queues.pause("filed"),
            queue.queues.update("filed", concurrency=9, rate="1/h"),
        ):
            with pytest.raises(StorageError):
                await change
    assert names(await queue.queues.list()) == ["default", "filed"]
    seen = await queue.queues.get("filed")
    assert (seen.paused, seen.settings.concurrency, seen.settings.rate) == (False, 2, None)
    for _ in range(3):
        await rig.done((await queue.submit("test", queue="filed")).id)


async def test_changes_at_one_moment_are_all_made(rig: Rig) -> None:
    queue = await rig.start(task(done))
    await asyncio.gather(
        queue.queues.update("default", concurrency=3),
        queue.queues.update("default", capacity=3),
        queue.queues.pause("default"),
        queue.queues.update("default", max_retry=3),
    )
    seen = await queue.queues.get("default")
    assert seen.changed == ("capacity", "concurrency", "max_retry") and seen.paused


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_retry", -1),
        ("max_retry", 1.5),
        ("retry_delay", -1),
        ("retry_delay", float("nan")),
        ("backoff_factor", 0),
        ("backoff_max", -1),
        ("capacity", 0),
        ("max_execution", 0),
        ("max_execution", float("nan")),
        ("name", ""),
        ("name", "../x"),
    ],
)
def test_what_a_queue_is_made_with_is_looked_at(field: str, value: Any) -> None:
    with pytest.raises(InvalidSetting) as caught:
        Queue([], **{field: value})
    assert caught.value.field == field and str(caught.value).startswith(f"{field}: must be ")
