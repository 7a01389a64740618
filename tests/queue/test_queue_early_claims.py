"""What can begin at once is claimed in the transaction that stores it: nobody may overtake, and no limit be passed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from dlqueue.queue import Completed, Context, Outcome, Queue, QueueSettings
from dlqueue.queue.record import Decision
from dlqueue.queue.testing import PATIENCE
from tests.queue.rig import Gate, Rig, S, settled, task

pytestmark = pytest.mark.anyio


class Hall:
    """A queue whose steps stand at a gate; it notes which tasks were claimed in a transaction of their own."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.gate = Gate()
        self.claimed_late: list[int] = []
        self.at_once = self.most = 0

    async def start(self, **settings: Any) -> Queue:
        async def run(ctx: Context) -> Outcome:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            try:
                await self.gate.passing(ctx)
            finally:
                self.at_once -= 1
            return Completed()

        self.queue = await self.rig.start(task(run), **settings)
        pool, now = self.queue._pool, self.rig.clock.time()
        async with asyncio.timeout(PATIENCE):  # it has looked into its store, and its workers are there
            while pool._free() < self.queue.workers or not self.queue._agenda.nothing_ready(now):
                await settled(1)
        transact = self.queue._store.transact

        async def noting(decisions: Sequence[Decision]) -> Any:
            answers = await transact(decisions)
            for (task_id, _), answer in zip(decisions, answers, strict=True):
                if getattr(answer, "kind", None) == "claimed":
                    self.claimed_late.append(task_id)
            return answers

        self.queue._store.transact = noting  # type: ignore[method-assign]
        return self.queue


@pytest.fixture
async def hall(rig: Rig) -> Hall:
    return Hall(rig)


async def test_a_task_that_finds_a_free_worker_needs_no_second_transaction(hall: Hall) -> None:
    queue = await hall.start(workers=3)
    made = await queue.submit("test")
    assert (made.status, made.revision) == (S.QUEUED, 1), "the answer is what was submitted"
    two = await queue.submit_many([("test", None), ("test", None)])
    assert {await hall.gate.entered() for _ in range(3)} == {made.id, *(record.id for record in two)}
    assert hall.claimed_late == []
    late = await queue.submit("test")
    hall.gate.open()
    await hall.rig.done(late.id)
    assert hall.claimed_late == [late.id]


async def test_what_waits_already_comes_first(hall: Hall) -> None:
    queue = await hall.start(workers=2, queues={"narrow": QueueSettings(concurrency=1)})
    standing = [await queue.submit("test", queue="narrow") for _ in range(2)]
    assert await hall.gate.entered() == standing[0].id
    # A worker is free, but somebody is ready: the dispatcher decides who is next.
    other = await queue.submit("test", queue="wide")
    assert await hall.gate.entered() == other.id
    assert hall.claimed_late == [other.id]


async def test_the_limit_of_a_queue_holds_for_many_submits_at_once(hall: Hall) -> None:
    queue = await hall.start(workers=4, queues={"narrow": QueueSettings(concurrency=2)})
    made = await asyncio.gather(*(queue.submit("test", queue="narrow") for _ in range(20)))
    assert {await hall.gate.entered(), await hall.gate.entered()} <= {record.id for record in made}
    assert await hall.gate.nobody()
    hall.gate.open()
    for record in made:
        await hall.rig.done(record.id)
    assert hall.most == 2


async def test_the_workers_are_one_limit_over_all_queues(hall: Hall) -> None:
    queue = await hall.start(workers=2)
    made = await asyncio.gather(*(queue.submit("test", queue=name) for name in "abcde"))
    assert {await hall.gate.entered(), await hall.gate.entered()} <= {record.id for record in made}
    assert await hall.gate.nobody()
    hall.gate.open()
    for record in made:
        await hall.rig.done(record.id)
    assert hall.most == 2


async def test_a_paused_queue_takes_nothing(hall: Hall) -> None:
    queue = await hall.start(queues={"shut": QueueSettings()})
    await queue.queues.pause("shut")
    made = await queue.submit("test", queue="shut")
    assert await hall.gate.nobody()
    assert (await queue.get(made.id)).status is S.QUEUED


async def test_what_comes_later_or_not_at_all_is_not_taken(hall: Hall) -> None:
    queue = await hall.start()
    made = [
        await queue.submit("test", delay=10),
        await queue.submit("test", paused=True),
        await queue.submit("test", unique_key="a", delay=10),
        await queue.submit("test", unique_key="a", delay=10),
    ]
    assert await hall.gate.nobody()
    assert {(await queue.get(record.id)).lease_token for record in made} == {0}


async def test_a_submit_that_is_given_up_keeps_its_promise(hall: Hall) -> None:
    """Its transaction goes on; until it is through, the worker is not given to somebody else."""
    queue = await hall.start(workers=1)
    submit, begun, go_on = queue._store.submit, asyncio.Event(), asyncio.Event()

    async def slow(*given: Any, **named: Any) -> Any:
        writing = asyncio.ensure_future(submit(*given, **named))
        begun.set()
        await go_on.wait()
        return await writing

    queue._store.submit = slow  # type: ignore[method-assign]
    given_up = asyncio.ensure_future(queue.submit("test", "given up"))
    await begun.wait()
    await settled(1)  # it is handed over
    given_up.cancel()
    await asyncio.wait({given_up})
    queue._store.submit = submit  # type: ignore[method-assign]
    other = await queue.submit("test", "other")
    first = await hall.gate.entered()
    hall.gate.open()
    for record in (await queue.list()).items:
        await hall.rig.done(record.id)
    assert (hall.most, first != other.id) == (1, True)


async def test_a_stop_in_the_middle_of_a_submit_leaves_no_lease_behind(hall: Hall, rig: Rig) -> None:
    queue = await hall.start()
    submit, begun, go_on = queue._store.submit, asyncio.Event(), asyncio.Event()

    async def slow(*given: Any, **named: Any) -> Any:
        begun.set()
        await go_on.wait()
        return await submit(*given, **named)

    queue._store.submit = slow  # type: ignore[method-assign]
    transact = queue._store.transact

    async def behind(decisions: Sequence[Decision]) -> Any:
        if not decisions:  # what asks whether all is written comes behind it
            go_on.set()
            await asyncio.wait({submitting})
        return await transact(decisions)

    queue._store.transact = behind  # type: ignore[method-assign]
    submitting = asyncio.ensure_future(queue.submit("test"))
    async with asyncio.timeout(PATIENCE):
        await begun.wait()
    await rig.stop()
    made = await submitting
    again = await rig.start()
    left = await again.get(made.id)
    assert (left.status, left.crashes) == (S.QUEUED, 0)
