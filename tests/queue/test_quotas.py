"""What owners may have: tasks and bytes, refused when it is reached, counted through everything that may happen."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from dlqueue.queue import Conflict, Context, Outcome, Queue, Quota, QuotaExceeded, Run, Status, Task
from dlqueue.queue.schedule import REFUSED
from dlqueue.queue.testing import PATIENCE
from tests.queue.rig import Rig, S, settled

pytestmark = pytest.mark.anyio


class Heavy(Task):
    """Its params are its size; None = not known."""

    type = "heavy"

    async def run(self, ctx: Context) -> Outcome:
        raise AssertionError("nothing is begun in these tests")

    def size(self, params: Any, state: bytes | None) -> int | None:
        known: int | None = params
        return known


def limits(**quotas: Quota) -> Any:
    return quotas.get


async def shut(rig: Rig, quotas: Mapping[str, Quota], **more: Any) -> Queue:
    """A queue in which nothing is begun."""
    queue = await rig.start(Heavy(), quotas=quotas.get, **more)
    await queue.queues.pause("default")
    return queue


async def made(queue: Queue, *owners: str, params: Any = 0) -> list[int]:
    return [(await queue.submit("heavy", params, owner=owner)).id for owner in owners]


async def test_fifty_at_once_never_have_more_than_they_may(rig: Rig) -> None:
    queue = await shut(rig, {"ann": Quota(tasks=20)})
    answers = await asyncio.gather(
        *(queue.submit("heavy", 0, owner="ann") for _ in range(50)),
        *(queue.submit("heavy", 0, owner="bob") for _ in range(50)),
        return_exceptions=True,
    )
    refused = [answer for answer in answers if isinstance(answer, QuotaExceeded)]
    assert len(refused) == 30
    assert "ann has 20 unfinished tasks and may have 20" in str(refused[-1])
    assert await queue.count(owner="ann") == 20 and await queue.count(owner="bob") == 50


async def test_none_is_refused_while_there_is_room(rig: Rig) -> None:
    """What is promised and what is stored are never counted twice, whichever way they overlap."""
    queue = await shut(rig, {"ann": Quota(tasks=200)})

    async def some(pause: int) -> None:
        for _ in range(10):
            await queue.submit("heavy", 0, owner="ann")
            for _ in range(pause):
                await asyncio.sleep(0)

    await asyncio.gather(*(some(n % 5) for n in range(20)))
    assert await queue.count(owner="ann") == 200
    with pytest.raises(QuotaExceeded):
        await queue.submit("heavy", 0, owner="ann")


async def test_whatever_ends_makes_room_and_a_retry_needs_it(rig: Rig) -> None:
    queue = await shut(rig, {"ann": Quota(tasks=2)})
    first, _ = await made(queue, "ann", "ann")
    with pytest.raises(QuotaExceeded):
        await made(queue, "ann")
    await queue.cancel(first)
    await made(queue, "ann")
    with pytest.raises(QuotaExceeded):
        await queue.retry(first)
    (third,) = [r.id for r in (await queue.list(owner="ann", status="queued", limit=1)).items]
    await queue.remove(third)
    assert (await queue.retry(first)).status is S.QUEUED
    assert queue.quotas.used("ann") == (2, 0)
    with pytest.raises(Conflict):  # it is refused for what it is, and has cost nothing
        await queue.retry(first)
    await queue.cancel(first)
    await made(queue, "ann")


async def test_a_batch_is_all_or_nothing(rig: Rig) -> None:
    queue = await shut(rig, {"ann": Quota(tasks=3)})
    batch = [("heavy", 0, {"owner": "ann"})] * 4
    with pytest.raises(QuotaExceeded, match="no room for 4 more"):
        await queue.submit_many(batch)
    assert await queue.count() == 0
    await queue.submit_many(batch[:3])


async def test_what_is_there_already_is_answered_though_nothing_more_fits(rig: Rig) -> None:
    queue = await shut(rig, {"ann": Quota(tasks=1)})
    first = await queue.submit("heavy", 0, owner="ann", unique_key="k")
    again = await queue.submit("heavy", 0, owner="ann", unique_key="k")
    assert again.id == first.id
    with pytest.raises(QuotaExceeded):
        await queue.submit("heavy", 0, owner="ann", unique_key="other")
    with pytest.raises(Conflict):
        await queue.submit("heavy", 1, owner="ann", unique_key="k")


async def test_a_submit_that_is_refused_for_another_reason_costs_nothing(rig: Rig) -> None:
    queue = await shut(rig, {"ann": Quota(tasks=2)}, capacity=1)
    await made(queue, "ann")
    for _ in range(5):
        with pytest.raises(Exception, match="is full"):
            await made(queue, "ann")
    assert queue.quotas._promised == {}


async def test_who_goes_away_while_he_waits_gives_back_what_was_promised(rig: Rig) -> None:
    queue = await shut(rig, {"ann": Quota(tasks=2)}, capacity=1)
    await made(queue, "bob")
    waiting = asyncio.ensure_future(queue.submit("heavy", 0, owner="ann", on_full="wait"))
    await settled()
    assert queue.quotas._promised["ann"].tasks == 1
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await settled()
    assert queue.quotas._promised == {}


async def test_bytes_are_counted_where_they_are_known(rig: Rig) -> None:
    queue = await shut(rig, {"ann": Quota(bytes=100)})
    first, _ = await made(queue, "ann", "ann", params=40)
    with pytest.raises(QuotaExceeded, match="have 80 bytes and may have 100"):
        await made(queue, "ann", params=21)
    (unknown,) = await made(queue, "ann", params=None)
    await made(queue, "ann", params=20)
    assert queue.quotas.used("ann") == (4, 100)
    with pytest.raises(QuotaExceeded):  # whatever it has, it has more than nothing
        await made(queue, "ann", params=None)
    await made(queue, "ann", params=0)
    assert queue.quotas.fits("ann", unknown, 40) == "quota:ann:bytes"
    assert queue.quotas.fits("ann", unknown, 101) == "quota:ann:never"
    await queue.cancel(first)
    assert queue.quotas.fits("ann", unknown, 40) is None
    assert queue.quotas.used("ann") == (4, 100)
    assert queue.quotas.fits("ann", unknown, 41) == "quota:ann:bytes"  # and does not count while it waits
    assert queue.quotas.used("ann")[1] == 60


async def test_less_than_nothing_makes_no_room(rig: Rig) -> None:
    """A hostile downloader may say so."""
    queue = await shut(rig, {"ann": Quota(bytes=100)})
    [first] = await made(queue, "ann", params=-1000)
    assert queue.quotas.used("ann") == (1, 0)
    assert queue.quotas.fits("ann", first, -1000) is None
    assert queue.quotas.used("ann") == (1, 0)
    await made(queue, "ann", params=90)
    with pytest.raises(QuotaExceeded):
        await made(queue, "ann", params=20)
    await queue.cancel(first)
    assert queue.quotas.used("ann") == (1, 90)


async def test_it_is_all_counted_again_after_a_restart(rig: Rig) -> None:
    queue = await shut(rig, {"ann": Quota(tasks=2, bytes=100)})
    await made(queue, "ann", "ann", params=40)
    await rig.stop()
    queue = await shut(rig, {"ann": Quota(tasks=3, bytes=100)})
    assert queue.quotas.used("ann") == (2, 80)
    with pytest.raises(QuotaExceeded, match="max_bytes"):
        await made(queue, "ann", params=21)
    await made(queue, "ann", params=20)
    with pytest.raises(QuotaExceeded, match="max_tasks"):
        await made(queue, "ann")


async def test_limits_that_come_later_count_what_is_there(rig: Rig) -> None:
    queue = await rig.start(Heavy())
    await queue.queues.pause("default")
    first, *_ = await made(queue, "ann", "ann", "bob", params=40)
    await queue.quotas.limit({"ann": Quota(tasks=2, bytes=100)}.get)
    assert queue.quotas.used("ann") == (2, 80)
    with pytest.raises(QuotaExceeded):
        await made(queue, "ann")
    await queue.cancel(first)
    assert queue.quotas.used("ann") == (1, 40)
    await made(queue, "bob")
    await queue.quotas.limit(None)
    await made(queue, *["ann"] * 5, params=1000)


async def test_a_run_of_a_schedule_is_refused_and_says_why(rig: Rig) -> None:
    queue = await shut(rig, {"ann": Quota(tasks=2)})
    await queue.schedules.create("often", "heavy", 0, every=60, owner="ann")
    runs: Sequence[Run] = []
    for number in range(4):
        await rig.timer(60)
        rig.clock.advance(60)
        async with asyncio.timeout(PATIENCE):
            while len(runs := await queue.schedules.log("often")) <= number:
                await settled(1)
    await rig.told()
    assert [run.status for run in runs][:2] == [REFUSED, REFUSED]
    assert "ann has 2 unfinished tasks" in (runs[0].message or "")
    assert await queue.count(status=Status.QUEUED) == 2
    with pytest.raises(QuotaExceeded):
        await queue.schedules.run("often")
    assert queue.quotas._promised == {}


async def test_levels_are_asked_at_each_submit(rig: Rig) -> None:
    levels = {"ann": 1.0}
    queue = await rig.start(Heavy(), owner_level=lambda owner: levels.get(owner, 0.0))
    await queue.queues.pause("default")
    await made(queue, "bob", "ann")
    levels["bob"] = 2.0
    await made(queue, "bob")
    ranks = {record.id: record.rank for record in (await queue.list(order="id")).items}
    assert list(ranks.values()) == [0, 10, 20]


async def test_the_first_limit_counts_exactly_though_everything_moves(rig: Rig) -> None:
    """Nobody is counted before; what is submitted and ends while they are counted is counted once."""
    queue = await rig.start(Heavy())
    await queue.queues.pause("default")
    ids = await made(queue, *["ann"] * 40)
    assert queue.quotas.owners() == []

    async def move(number: int) -> None:
        for n in range(4):
            await queue.cancel(ids[4 * number + n])
            await queue.submit_many([("heavy", 0, {"owner": "ann"})] * 2)

    limiting = asyncio.ensure_future(queue.quotas.limit(limits(ann=Quota(tasks=1000))))
    await asyncio.gather(limiting, *(move(n) for n in range(10)))
    assert queue.quotas.used("ann")[0] == await queue.count(owner="ann", status="queued") == 80
