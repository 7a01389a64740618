"""Rank beside priority and age: the level of an owner, and what is estimated to take long."""

from __future__ import annotations

from typing import Any

import pytest

from dlqueue.queue import Completed, Context, Outcome, QueueSettings
from dlqueue.queue.rank import rank, standing
from tests.queue.rig import Rig, task

pytestmark = pytest.mark.anyio

LEVELS = {"boss": 1, "guest": -2}


def test_points() -> None:
    assert (standing(0, None), standing(3, None), standing(-1, 60)) == (0, 30, -10)
    assert (standing(0, 3600), standing(0, 3601), standing(2, 7200)) == (0, -20, 0)
    assert rank(5, 600, 0, 10) == 15 and rank(5, 600, 1, 10) == 5


@pytest.mark.parametrize("levels", [LEVELS, lambda owner: LEVELS.get(owner, 0)], ids=["mapping", "callable"])
async def test_levels_of_owners(rig: Rig, levels: Any) -> None:
    order: list[Any] = []

    async def run(ctx: Context) -> Outcome:
        order.append(ctx.params)
        return Completed()

    queue = await rig.start(task(run), workers=1, owner_level=levels)
    await queue.queues.pause("default")
    for params, owner, priority in (("guest", "guest", 19), ("me", "me", 0), ("boss", "boss", 0), ("mine", "me", 11)):
        await queue.submit("test", params, owner=owner, priority=priority)
    await queue.queues.resume("default")
    while len(order) < 4:
        await rig.done(len(order) + 1 if len(order) < 4 else 4)
    assert order == ["mine", "boss", "me", "guest"]


async def test_a_standing_stays_with_the_task(rig: Rig) -> None:
    """Whatever becomes of its priority and of the queue's ageing."""
    queue = await rig.start(task(lambda ctx: Completed()), owner_level=LEVELS)
    await queue.queues.pause("default")
    record = await queue.submit("test", owner="boss", priority=1)
    assert (record.rank, record.options.standing) == (11, 10)
    assert (await queue.update(record.id, priority=4)).rank == 14
    await queue.queues.update("default", ageing=1)
    aged = (await queue.get(record.id)).rank
    assert aged == pytest.approx(14 - record.created_at / 60)
    assert (await queue.update(record.id, priority=0)).rank == pytest.approx(10 - record.created_at / 60)
    await rig.stop()
    queue = await rig.start(task(lambda ctx: Completed()), queues={"default": QueueSettings(ageing=2)})
    assert (await queue.get(record.id)).rank == pytest.approx(10 - record.created_at / 30)
