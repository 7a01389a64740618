"""Figures over a time, and what is forgotten after one."""

from __future__ import annotations

import asyncio
import math
import random

import pytest

from dlqueue.queue import Completed, Context, CriticalError, InvalidTask, Outcome, ResumeAfter, Status, TaskNotFound
from dlqueue.queue import statistics as room
from dlqueue.queue.figures import INSTANT, NEVER_BEGUN, bucket_of, middle_of
from dlqueue.queue.retention import BATCH, EVERY, FIRST_ROUND
from dlqueue.queue.testing import PATIENCE
from tests.queue.rig import Gate, Rig, done, settled, task

pytestmark = pytest.mark.anyio
S = Status
HOUR = 3600.0


async def lasts(ctx: Context) -> Outcome:
    """As many seconds as the params say; fails if they are negative."""
    seconds = ctx.params
    if "begun" in ctx.state or not seconds:
        return Completed()
    if seconds < 0:
        raise CriticalError("no")
    ctx.state["begun"] = True
    return ResumeAfter(seconds)


def test_a_bucket_stands_for_its_times_within_five_percent() -> None:
    luck = random.Random(3)
    for seconds in [10 ** luck.uniform(-5.5, 8) for _ in range(3000)] + [1e-6, 1.0, 1.1, 86400.0]:
        assert abs(middle_of(bucket_of(seconds)) / seconds - 1) <= 0.05, seconds
    assert (bucket_of(None), bucket_of(0.0), middle_of(INSTANT)) == (NEVER_BEGUN, INSTANT, 0.0)


async def test_percentiles_are_close_however_many_there_are(memory_rig: Rig) -> None:
    rig = memory_rig
    queue = await rig.start(task(lasts), workers=200)
    luck = random.Random(5)
    times = [round(math.exp(luck.gauss(3, 1)), 3) for _ in range(200)]
    for seconds in times:
        await queue.submit("test", seconds)
    while (await queue.tally()).get(S.COMPLETED, 0) < len(times):
        await settled(5)
        if (when := rig.clock.next_time) is not None:
            rig.clock.advance(when - rig.clock.time())
    found = await queue.stats()
    ordered = sorted(times)
    assert (found.total, found.completed, found.success_rate) == (200, 200, 1.0)
    assert found.seconds.avg == pytest.approx(sum(times) / 200, rel=0.01)
    for part, value in ((0.5, found.seconds.p50), (0.95, found.seconds.p95), (0.99, found.seconds.p99)):
        assert value == pytest.approx(ordered[math.ceil(part * 200) - 1], rel=0.06)


async def test_how_it_ended(rig: Rig) -> None:
    queue = await rig.start(task(lasts), task(lasts, type="other"))
    for seconds in (0, -1):
        await rig.reached((await queue.submit("test", seconds)).id, S.COMPLETED, S.ERROR)
    await rig.done((await queue.submit("other", 0, queue="q")).id)
    slow = await queue.submit("test", 30)
    await rig.reached(slow.id, S.SUSPENDING)
    await rig.after(30, slow.id, S.COMPLETED)
    await queue.cancel((await queue.submit("test", 0, paused=True)).id)
    found = await queue.stats()
    assert (found.total, found.completed, found.failed, found.canceled) == (5, 3, 1, 1)
    assert found.success_rate == 0.75
    assert (found.since, found.until) == (None, rig.clock.time())
    assert [(g.queue, g.type, g.total) for g in found.groups] == [("default", "test", 4), ("q", "other", 1)]
    assert found.seconds.avg == pytest.approx(10.0)
    only = await queue.stats(type="test", status="completed")
    assert (only.total, only.seconds.avg, only.seconds.p99) == (2, 15.0, 30.0)
    failed = await queue.stats(status=["error", "canceled"])
    assert (failed.total, failed.success_rate, failed.seconds.p50) == (2, 0.0, 0.0)
    assert (await queue.stats(queue="none")).success_rate is None
    assert (await queue.stats(queue="none")).seconds.avg is None
    with pytest.raises(InvalidTask, match="status"):
        await queue.stats(status="queued")


async def test_times_within_an_hour_are_exact_where_few_ended(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = await rig.start(task(done))

    async def ends(count: int = 1) -> float:
        for _ in range(count):
            await rig.done((await queue.submit("test")).id)
        return rig.clock.time()

    first = await ends()
    rig.clock.advance(600)
    second = await ends(2)
    rig.clock.advance(5 * HOUR)
    third = await ends()
    for since, until, wanted in (
        (first, None, 4),
        (first + 1, None, 3),
        (second + 1, None, 1),
        (first, second, 1),
        (first + 1, second + 1, 2),
        (None, second, 1),
        (second, third + 1, 3),
        (second + 1, third, 0),
        (third + 1, None, 0),
        (third, first, 0),
    ):
        found = await queue.stats(since=since, until=until)
        assert found.total == wanted, (since, until)
        assert found.since == since
    # With many in that part of the hour all of it counts, and the answer says so.
    monkeypatch.setattr(room, "EDGE", 0)
    found = await queue.stats(since=first + 1)
    assert (found.total, found.since) == (4, first // HOUR * HOUR)
    found = await queue.stats(since=second + 1)
    assert (found.total, found.since) == (1, second + 1), "nobody ended in that part of the hour"
    found = await queue.stats(since=first, until=second)
    assert (found.total, found.since, found.until) == (3, first // HOUR * HOUR, first // HOUR * HOUR + HOUR)


async def test_what_the_hours_do_not_know_is_read_from_the_rows(rig: Rig) -> None:
    queue = await rig.start(task(done))
    a = await queue.submit("test", owner="a", labels={"tag": "x"})
    b = await queue.submit("test", {"note": "needle"}, owner="b")
    for record in (a, b):
        await rig.done(record.id)
    for conditions in ({"owner": "a"}, {"labels": (("tag", "x"),)}, {"text": "needle"}, {"ids": (b.id,)}):
        assert (await queue.stats(**conditions)).total == 1, conditions
    await queue.remove(a.id)
    assert (await queue.stats(owner="a")).total == 0
    assert (await queue.stats()).total == 2, "what has ended has ended"


# -- retention --------------------------------------------------------------------------------------------------------


async def gone(rig: Rig, task_id: int) -> None:
    assert rig.queue is not None
    with pytest.raises(TaskNotFound):
        async with asyncio.timeout(PATIENCE):
            while True:
                await rig.queue.get(task_id)
                await settled(1)


async def test_old_tasks_go_on_a_schedule(rig: Rig) -> None:
    queue = await rig.start(task(done), retention=1000)
    old = await queue.submit("test")
    await rig.done(old.id)
    await rig.timer(FIRST_ROUND)
    rig.clock.advance(990)
    young, waits = await queue.submit("test"), await queue.submit("test", paused=True)
    await rig.done(young.id)
    await rig.timer(EVERY)
    assert (await queue.get(old.id)).final, "not old enough at the first look"
    rig.clock.advance(EVERY)
    await gone(rig, old.id)
    await gone(rig, young.id)
    assert (await queue.get(waits.id)).status is S.PAUSED
    assert (await queue.stats()).total == 2


async def test_a_round_takes_many_batches(rig: Rig) -> None:
    queue = await rig.start(task(done), retention=10, workers=50)
    made = await queue.submit_many([("test", None)] * (2 * BATCH + 10))
    for record in made:
        await rig.done(record.id)
    assert await queue.purge(0.0) == 0, "it ended at this very moment"
    rig.clock.advance(FIRST_ROUND)
    while (await queue.tally()).get(S.COMPLETED):
        await settled(3)
        rig.clock.advance(0.1)


async def test_kept_for_ever_or_shorter(rig: Rig) -> None:
    queue = await rig.start(task(done), retention=None)
    record = await queue.submit("test")
    await rig.done(record.id)
    rig.clock.advance(400 * 86400)
    await settled()
    assert (await queue.get(record.id)).final
    queue.keep(86400)
    await gone(rig, record.id)


async def test_purge_by_hand(rig: Rig) -> None:
    queue = await rig.start(task(lasts))
    good = [await rig.done((await queue.submit("test", 0)).id) for _ in range(3)]
    bad = await rig.failed((await queue.submit("test", -1)).id)
    rig.clock.advance(10)
    assert await queue.purge(11) == 0
    assert await queue.purge(5, status="error") == 1
    await gone(rig, bad.id)
    assert await queue.purge(5, owner="somebody") == 0
    assert await queue.purge(5) == 3
    await gone(rig, good[0].id)
    with pytest.raises(InvalidTask, match="status"):
        await queue.purge(5, status="queued")


async def test_a_purged_task_is_cleaned_up_once_more(rig: Rig) -> None:
    cleaned: list[int] = []

    async def cleanup(self: object, ctx: Context) -> None:
        cleaned.append(ctx.record.cleanup)

    class Cleaned(type(task(lasts))):  # type: ignore[misc]
        pass

    Cleaned.cleanup = cleanup
    queue = await rig.start(Cleaned())
    failed = await rig.failed((await queue.submit("test", -1)).id)
    while await queue._store.cleanups(1):
        await settled(2)
    rig.clock.advance(10)
    assert await queue.purge(5) == 1
    while (await queue.tally()).get(S.ERROR):
        await settled(2)
    assert cleaned == [1, 2]
    await gone(rig, failed.id)


async def test_what_an_unfinished_task_depends_on_stays(rig: Rig) -> None:
    gate = Gate()

    async def waits(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        return Completed()

    queue = await rig.start(task(done), task(waits, type="waits"))
    first = await rig.done((await queue.submit("test")).id)
    after = await queue.submit("waits", depends_on=[first.id])
    await gate.entered()
    rig.clock.advance(10)
    assert await queue.purge(5) == 0
    gate.open()
    await rig.done(after.id)
    rig.clock.advance(10)
    assert await queue.purge(5) == 2
