"""Tasks that say what they need begin when it is there; those that say nothing wait for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dlqueue.queue import (
    Completed,
    Context,
    Estimate,
    InvalidTask,
    Outcome,
    Queue,
    ResumeAfter,
    StorageError,
    Store,
    TaskRecord,
)
from dlqueue.queue.admission import LOOK, PATIENCE
from dlqueue.queue.memory import MemoryStore
from dlqueue.queue.resources import SETTLING, ThisMachine
from dlqueue.queue.testing import PATIENCE as DEADLINE
from tests.queue.rig import Faults, Gate, Rig, S, done, settled, task

pytestmark = pytest.mark.anyio

GIB = 2**30


class Machine:
    """8 GiB, 4 cores, 100 GiB of disk; what is free is up to the test."""

    def __init__(self) -> None:
        self.available = 8 * GIB
        self.free = 100 * GIB

    def memory(self) -> tuple[int, int]:
        return 8 * GIB, self.available

    def cores(self) -> float:
        return 4

    def disk(self, folder: Path) -> tuple[int, int]:
        return 100 * GIB, self.free


class Gates:
    """One for each task, by its params."""

    def __init__(self) -> None:
        self._gates: dict[str, asyncio.Event] = {}
        self.entered: list[str] = []

    def of(self, name: str) -> asyncio.Event:
        return self._gates.setdefault(name, asyncio.Event())

    async def run(self, ctx: Context) -> Outcome:
        self.entered.append(ctx.params)
        await self.of(ctx.params).wait()
        return Completed(ctx.params)


class Hall:
    """A queue whose tasks stand until they are let go."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.machine = Machine()
        self.gates = Gates()

    async def start(self, **settings: Any) -> Queue:
        gates = self.gates

        async def stand(ctx: Context) -> Outcome:
            return await gates.run(ctx)

        self.queue = await self.rig.start(task(stand), task(done, "quick"), machine=self.machine, **settings)
        return self.queue

    async def submit(self, name: str, **options: Any) -> TaskRecord:
        return await self.queue.submit("test", name, **options)

    async def runs(self, record: TaskRecord) -> TaskRecord:
        return await self.rig.reached(record.id, S.PROCESSING)

    async def waits(self, record: TaskRecord, resource: str) -> TaskRecord:
        async with asyncio.timeout(DEADLINE):
            while (await self.queue.get(record.id)).hold != "resources":
                await asyncio.sleep(0.001)
        await self.rig.told()  # from here on it is looked at again and again
        waiting = await self.queue.get(record.id)
        assert waiting.run_at is None
        lack = self.queue.lack(waiting)
        assert lack is not None
        assert lack.resource == resource
        return waiting

    async def ends(self, record: TaskRecord) -> None:
        self.gates.of(record.params).set()
        await self.rig.done(record.id)


@pytest.fixture
def hall(rig: Rig) -> Hall:
    return Hall(rig)


@pytest.mark.parametrize(
    ("resource", "estimate"), [("memory", {"memory": 5 * GIB}), ("cpu", {"cpu": 2.5}), ("temp", {"temp": 60 * GIB})]
)
async def test_two_that_do_not_fit_together_follow_each_other(
    hall: Hall, resource: str, estimate: dict[str, float]
) -> None:
    queue = await hall.start()
    first = await hall.submit("first", estimate=estimate)
    await hall.runs(first)
    second = await hall.submit("second", estimate=estimate)
    waiting = await hall.waits(second, resource)
    assert waiting.status is S.QUEUED
    assert (await hall.rig.kinds(second.id))[-1] == "held"
    assert (await queue.history(second.id))[-1].message == f"waits for {queue.lack(waiting)}"
    await hall.ends(first)
    running = await hall.runs(second)
    assert running.hold is None
    await hall.ends(second)


async def test_those_that_fit_run_together(hall: Hall) -> None:
    await hall.start(workers=8)
    for number in range(4):
        await hall.runs(await hall.submit(str(number), estimate={"memory": 2 * GIB, "cpu": 1}))
    await hall.waits(await hall.submit("one too many", estimate={"cpu": 0.1}), "cpu")


async def test_nobody_waits_behind_one_that_does_not_fit(hall: Hall) -> None:
    await hall.start(workers=2)
    first = await hall.submit("first", estimate={"memory": 5 * GIB})
    await hall.runs(first)
    big = [await hall.submit(f"big {number}", estimate={"memory": 5 * GIB}, priority=5) for number in range(5)]
    for record in big:
        await hall.waits(record, "memory")
    assert (await hall.rig.done((await hall.queue.submit("quick")).id)).executed_seconds == 0
    small = await hall.submit("small", estimate={"memory": GIB})
    await hall.runs(small)
    await hall.ends(small)


async def test_budgets(hall: Hall) -> None:
    queue = await hall.start(memory_budget=3 * GIB, cpu_budget=6, temp_cap=10 * GIB)
    for estimate, field in (
        ({"memory": 3 * GIB + 1}, "memory"),
        ({"cpu": 6.1}, "cpu"),
        ({"temp": 10 * GIB + 1}, "temp"),
    ):
        with pytest.raises(InvalidTask, match="can never fit") as caught:
            await queue.submit("test", "x", estimate=estimate)
        assert caught.value.field == f"estimate.{field}"
    await hall.runs(await hall.submit("first", estimate={"memory": 2 * GIB, "cpu": 5, "temp": 6 * GIB}))
    await hall.waits(await hall.submit("memory", estimate={"memory": 2 * GIB}), "memory")
    await hall.waits(await hall.submit("cpu", estimate={"cpu": 2}), "cpu")
    await hall.waits(await hall.submit("temp", estimate={"temp": 5 * GIB}), "temp")
    await hall.runs(await hall.submit("fits", estimate={"memory": GIB, "cpu": 1, "temp": 4 * GIB}))


@pytest.mark.parametrize(("name", "most"), [("memory", 8 * GIB), ("cpu", 4), ("temp", 100 * GIB)])
async def test_what_can_never_fit_is_refused(hall: Hall, name: str, most: int) -> None:
    queue = await hall.start()
    with pytest.raises(InvalidTask) as caught:
        await queue.submit("test", "x", estimate={name: most + 1})
    assert caught.value.field == f"estimate.{name}"
    assert "can never fit" in str(caught.value)
    await hall.ends(await hall.submit("all of it", estimate=Estimate(**{name: most})))


@pytest.mark.parametrize(
    ("estimate", "field"),
    [
        ({"memory": -1}, "estimate.memory"),
        ({"memory": 1.5}, "estimate.memory"),
        ({"memory": True}, "estimate.memory"),
        ({"memory": 2**63}, "estimate.memory"),
        ({"cpu": float("nan")}, "estimate.cpu"),
        ({"cpu": "1"}, "estimate.cpu"),
        ({"temp": "1G"}, "estimate.temp"),
        ({"seconds": float("inf")}, "estimate.seconds"),
        ({"disk": 1}, "estimate.disk"),
        (5, "estimate"),
    ],
)
async def test_estimates_that_cannot_be_right(hall: Hall, estimate: Any, field: str) -> None:
    queue = await hall.start()
    with pytest.raises(InvalidTask) as caught:
        await queue.submit("test", "x", estimate=estimate)
    assert caught.value.field == field
    assert await queue.count() == 0


async def test_an_estimate_of_nothing_counts_for_nothing(hall: Hall) -> None:
    hall.machine.available = 0
    await hall.start()
    record = await hall.submit("x", estimate={"memory": 0, "cpu": 0, "seconds": 5000})
    await hall.runs(record)
    assert record.options.estimate == Estimate(seconds=5000)


async def test_what_others_on_the_machine_use(hall: Hall) -> None:
    """Looked at now and then, for nobody tells when it is free again."""
    await hall.start()
    hall.machine.available = GIB
    record = await hall.submit("x", estimate={"memory": 2 * GIB})
    await hall.waits(record, "memory")
    hall.machine.available = 3 * GIB
    await settled()
    assert (await hall.queue.get(record.id)).hold == "resources"
    hall.rig.clock.advance(LOOK)
    await hall.runs(record)


async def test_one_that_has_just_begun_has_not_taken_its_memory_yet(hall: Hall) -> None:
    await hall.start()
    hall.machine.available = 4 * GIB
    first = await hall.submit("first", estimate={"memory": 3 * GIB})
    await hall.runs(first)
    second = await hall.submit("second", estimate={"memory": 3 * GIB})
    await hall.waits(second, "memory")
    hall.rig.clock.advance(SETTLING + LOOK)
    await hall.runs(second)


async def test_a_big_one_is_not_passed_for_ever(hall: Hall) -> None:
    await hall.start(workers=8)
    small = [await hall.submit(f"small {number}", estimate={"cpu": 1}) for number in range(4)]
    for record in small:
        await hall.runs(record)
    big = await hall.submit("big", estimate={"cpu": 4})
    await hall.waits(big, "cpu")
    await hall.ends(small[0])
    passing = await hall.submit("passing", estimate={"cpu": 1})
    await hall.runs(passing)
    hall.rig.clock.advance(PATIENCE)
    await settled()
    await hall.ends(small[1])
    late = await hall.submit("late", estimate={"cpu": 1})
    await hall.waits(late, "cpu")
    other = await hall.submit("needs something else", estimate={"memory": GIB})
    await hall.runs(other)
    urgent = await hall.submit("urgent", estimate={"cpu": 1}, priority=1)
    await hall.runs(urgent)
    for record in (small[2], small[3], passing, urgent):
        assert (await hall.queue.get(big.id)).hold == "resources"
        await hall.ends(record)
    await hall.runs(big)
    assert (await hall.queue.get(late.id)).hold == "resources"
    await hall.ends(big)
    await hall.runs(late)


async def test_nothing_is_set_aside_where_waiting_for_ours_is_of_no_use(hall: Hall) -> None:
    """The memory is used by others: a patient big one must not keep out the small ones."""
    await hall.start()
    hall.machine.available = 2 * GIB
    big = await hall.submit("big", estimate={"memory": 6 * GIB})
    await hall.waits(big, "memory")
    hall.rig.clock.advance(PATIENCE)
    await settled()
    await hall.ends(await hall.submit("small", estimate={"memory": GIB}))


async def test_priority_goes_first(hall: Hall) -> None:
    await hall.start()
    first = await hall.submit("first", estimate={"cpu": 4})
    await hall.runs(first)
    low, high = await hall.submit("low", estimate={"cpu": 3}), await hall.submit("high", estimate={"cpu": 3})
    await hall.waits(low, "cpu")
    await hall.waits(high, "cpu")
    await hall.queue.update(high.id, priority=3)
    await hall.ends(first)
    await hall.runs(high)
    assert (await hall.queue.get(low.id)).hold == "resources"


@pytest.mark.parametrize("verb", ["cancel", "pause"])
async def test_one_that_waits_can_be_steered(hall: Hall, verb: str) -> None:
    queue = await hall.start()
    first = await hall.submit("first", estimate={"cpu": 4})
    await hall.runs(first)
    second, third = await hall.submit("second", estimate={"cpu": 2}), await hall.submit("third", estimate={"cpu": 4})
    await hall.waits(second, "cpu")
    await hall.waits(third, "cpu")
    steered = await getattr(queue, verb)(second.id)
    assert steered.hold is None
    await hall.ends(first)
    await hall.runs(third)
    if verb == "pause":
        await queue.resume(second.id)
        await hall.waits(second, "cpu")
        await hall.ends(third)
        await hall.runs(second)


@pytest.mark.parametrize("crash", [True, False])
async def test_a_new_start(hall: Hall, crash: bool) -> None:
    """What ran is not counted any more; what waited tries again."""
    await hall.start()
    first = await hall.submit("first", estimate={"cpu": 3})
    await hall.runs(first)
    second = await hall.submit("second", estimate={"cpu": 3})
    await hall.waits(second, "cpu")
    await (hall.rig.crash() if crash else hall.rig.stop())
    await hall.start()
    await hall.runs(first)
    await hall.waits(second, "cpu")
    await hall.ends(first)
    await hall.runs(second)


async def test_every_step_is_admitted(rig: Rig) -> None:
    machine, gate = Machine(), Gate()

    async def run(ctx: Context) -> Outcome:
        if ctx.params == "stands":
            await gate.passing(ctx)
        ctx.state["steps"] = ctx.state.get("steps", 0) + 1
        return ResumeAfter(5) if ctx.state["steps"] < 2 else Completed(ctx.state["steps"])

    queue = await rig.start(task(run), machine=machine)
    record = await queue.submit("test", "steps", estimate={"cpu": 3})
    await rig.reached(record.id, S.SUSPENDING)
    standing = await queue.submit("test", "stands", estimate={"cpu": 3})
    await gate.entered()
    rig.clock.advance(5)
    async with asyncio.timeout(DEADLINE):
        while (held := await queue.get(record.id)).hold != "resources":
            await asyncio.sleep(0.001)
    assert held.status is S.SUSPENDING
    gate.open()
    rig.clock.advance(10)
    assert (await rig.done(record.id)).result == 2
    rig.clock.advance(10)
    await rig.done(standing.id)


async def test_a_blocking_step_that_overran_still_uses_what_it_uses(hall: Hall) -> None:
    gate = Gate()

    def blocks(ctx: Context) -> Outcome:
        gate.block(ctx)
        return Completed()

    async def stand(ctx: Context) -> Outcome:
        return await hall.gates.run(ctx)

    hall.queue = queue = await hall.rig.start(task(blocks, "blocks"), task(stand), machine=hall.machine)
    first = await queue.submit("blocks", estimate={"cpu": 3}, timeout=10, max_retry=0)
    await gate.entered()
    hall.rig.clock.advance(10)
    await hall.rig.failed(first.id)
    second = await hall.submit("second", estimate={"cpu": 3})
    await hall.waits(second, "cpu")
    gate.open()
    await hall.runs(second)


async def test_a_claim_that_is_not_written_takes_nothing(hall: Hall) -> None:
    queue = await hall.start()
    refused = asyncio.Event()
    transact = queue._store.transact

    async def refusing(decisions: Any) -> Any:
        """The database refuses the claim of the first task at the commit: the decision has been made then."""
        for task_id, decide in decisions:
            if task_id == 1 and getattr(decide, "func", None) == queue._pool._taken:
                decide(await queue.get(task_id))
                refused.set()
                raise StorageError("the disk is full")
        return await transact(decisions)

    queue._store.transact = refusing  # type: ignore[method-assign]
    record = await hall.submit("x", estimate={"cpu": 4})
    async with asyncio.timeout(DEADLINE):
        await refused.wait()
    await queue.cancel(record.id)
    other = await hall.submit("other", estimate={"cpu": 4})
    hall.rig.clock.advance(1)
    await hall.runs(other)


async def test_a_store_that_fails_at_the_look(hall: Hall) -> None:
    queue = await hall.start()
    first = await hall.submit("first", estimate={"cpu": 4})
    await hall.runs(first)
    second = await hall.submit("second", estimate={"cpu": 4})
    await hall.waits(second, "cpu")
    faults = Faults(queue)
    faults.fail(3)
    hall.gates.of("first").set()
    async with asyncio.timeout(DEADLINE):
        while (await queue.get(second.id)).status is not S.PROCESSING:
            hall.rig.clock.advance(0.5)
            await settled(2)
    assert faults.refused == 3


async def test_more_than_are_known(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlqueue.queue.admission.KEPT", 3)
    queue = await hall.start()
    first = await hall.submit("first", estimate={"cpu": 4})
    await hall.runs(first)
    more = [await hall.submit(str(number), estimate={"cpu": 4}) for number in range(10)]
    for record in more:
        await hall.waits(record, "cpu")
    assert len(queue._admission._known) <= 3
    await hall.ends(first)
    while await queue.count(status=["queued", "processing"]):
        async with asyncio.timeout(DEADLINE):
            while not (now := {r.id for r in (await queue.list(status="processing")).items}):
                await asyncio.sleep(0.001)
        assert len(now) == 1
        await hall.ends(await queue.get(now.pop()))
    assert await queue.count(status="completed") == 11
    assert not queue._admission._known


async def test_tasks_without_an_estimate_pay_nothing(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(self: object, *rest: object) -> None:
        raise AssertionError("somebody asked")

    for name in ("memory", "cores", "disk"):
        monkeypatch.setattr(Machine, name, asked)
    queue = await hall.start()
    await hall.rig.done((await queue.submit("quick")).id)
    assert queue._admission._looker is None


async def test_this_machine(tmp_path: Path) -> None:
    machine = ThisMachine()
    total, available = machine.memory()
    assert 0 < available <= total
    assert machine.cores() >= 1
    size, free = machine.disk(tmp_path / "not" / "there")
    assert 0 < free <= size
    async with Queue(tasks=[task(done)], store=MemoryStore()) as queue:
        record = await queue.submit("test", 5, estimate={"memory": 2**20, "cpu": 0.5, "temp": 2**10})
        assert (await queue.wait(record.id, timeout=DEADLINE)).result == 5
        with pytest.raises(InvalidTask):
            await queue.submit("test", 5, estimate={"memory": total + 1})


async def test_the_estimate_is_kept(new_store: Callable[[], Store], rig: Rig) -> None:
    queue = await rig.start(task(done))
    record = await queue.submit("test", estimate={"memory": 5, "cpu": 0.5, "temp": 7, "seconds": 1.5}, delay=100)
    assert (await queue.get(record.id)).options.estimate == Estimate(memory=5, cpu=0.5, temp=7, seconds=1.5)
