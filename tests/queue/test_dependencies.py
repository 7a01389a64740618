"""Tasks that wait for others: chains, fans, what a failure means, and why there can be no cycle."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dlqueue.queue import Completed, Context, CriticalError, InvalidTask, Outcome, Queue, TaskRecord
from dlqueue.queue.testing import PATIENCE
from tests.queue.rig import Rig, S, task

pytestmark = pytest.mark.anyio


async def run(ctx: Context) -> Outcome:
    """Fails if its params say so."""
    if ctx.params == "fails":
        raise CriticalError("as asked")
    return Completed(ctx.params)


async def ended(queue: Queue, *records: TaskRecord) -> list[str]:
    return [str((await queue.wait(record.id, timeout=PATIENCE * 3)).status) for record in records]


async def chain(queue: Queue, *params: Any, **options: Any) -> list[TaskRecord]:
    """Each depends on the one before; the first is paused."""
    made: list[TaskRecord] = []
    for one in params:
        depends_on = [made[-1].id] if made else []
        made.append(await queue.submit("test", one, depends_on=depends_on, paused=not made, **options))
    return made


# -- cycles -----------------------------------------------------------------------------------------------------------


async def test_nothing_depends_on_itself(rig: Rig) -> None:
    """The next id can be guessed; it is refused all the same, for there is no such task yet."""
    queue = await rig.start(task(run))
    last = (await queue.submit("test")).id
    for field in ("depends_on", "parent_id"):
        given: Any = [last + 1] if field == "depends_on" else last + 1
        with pytest.raises(InvalidTask, match=f"task {last + 1} not found") as caught:
            await queue.submit("test", **{field: given})
        assert caught.value.field == field
    assert await queue.count() == 1


async def test_no_cycle_within_one_batch(rig: Rig) -> None:
    """Only what stands before it can be named; of a batch that tries otherwise nothing is stored."""
    queue = await rig.start(task(run))
    first = (await queue.submit("test")).id + 1
    for batch in (
        [("test", 1, {"depends_on": [first + 1]}), ("test", 2, {"depends_on": [first]})],
        [("test", 1, {"depends_on": [first]})],
        [("test", 1), ("test", 2, {"depends_on": [first + 2]}), ("test", 3, {"depends_on": [first + 1]})],
    ):
        with pytest.raises(InvalidTask, match=r"depends_on: task \d+ not found"):
            await queue.submit_many(batch)  # type: ignore[arg-type]
    assert await queue.count() == 1
    following = (await queue.submit("test")).id + 1
    made = await queue.submit_many([("test", 1), ("test", 2, {"depends_on": [following]})])
    assert (made[0].id, made[1].depends_on) == (following, (following,))
    assert await ended(queue, *made) == ["completed"] * 2


async def test_a_joined_task_gets_no_new_dependency(rig: Rig) -> None:
    """The one way to name a younger task for an older one would be its unique key: what that waits for stays."""
    queue = await rig.start(task(run))
    older = await queue.submit("test", 1, unique_key="k", paused=True)
    younger = await queue.submit("test", 2, depends_on=[older.id])
    again = await queue.submit("test", 1, unique_key="k", depends_on=[younger.id])
    assert (again.id, again.depends_on) == (older.id, ())
    await queue.resume(older.id)
    assert await ended(queue, older, younger) == ["completed"] * 2


# -- failures ---------------------------------------------------------------------------------------------------------


async def test_the_failure_of_a_dependencys_dependency(rig: Rig) -> None:
    queue = await rig.start(task(run))
    made = await chain(queue, "fails", "b", "c")
    anyway = await queue.submit("test", "d", depends_on=[made[-1].id], on_dependency_failure="run")
    after = await queue.submit("test", "e", depends_on=[anyway.id])
    await queue.resume(made[0].id)
    assert await ended(queue, *made, anyway, after) == ["error", "canceled", "canceled", "completed", "completed"]
    told = [event.message for event in await queue.history(made[2].id) if event.kind == "canceled"]
    assert told == [f"task {made[1].id}, which it depends on, ended as canceled"]


async def test_a_retry_is_for_each_to_say(rig: Rig) -> None:
    """Who was canceled because of a failure is not begun again by the success of a retry."""
    failing = {"fails": True}

    async def at_first(ctx: Context) -> Outcome:
        if failing.pop(ctx.params, False):
            raise CriticalError("as asked")
        return Completed()

    queue = await rig.start(task(at_first))
    first, second = await chain(queue, "fails", "b")
    await queue.resume(first.id)
    assert await ended(queue, first, second) == ["error", "canceled"]
    await queue.retry(first.id)
    await rig.done(first.id)
    assert (await queue.get(second.id)).status is S.CANCELED
    await queue.retry(second.id)
    await rig.done(second.id)


async def test_one_failure_among_many(rig: Rig) -> None:
    queue = await rig.start(task(run))
    many = await queue.submit_many([("test", number, {"paused": True}) for number in range(20)])
    bad = await queue.submit("test", "fails", paused=True)
    ids = [record.id for record in many]
    strict = await queue.submit("test", depends_on=[*ids, bad.id])
    lax = await queue.submit("test", depends_on=[bad.id, *ids], on_dependency_failure="run")
    await queue.resume(bad.id)
    assert await ended(queue, strict) == ["canceled"]
    for record in many:
        assert (await queue.get(lax.id)).status is S.BLOCKED
        await queue.resume(record.id)
        await rig.done(record.id)
    assert await ended(queue, lax) == ["completed"]


async def test_children(rig: Rig) -> None:
    """A parent is a mark, not a condition: a child waits for nothing, and its parent not for it."""
    queue = await rig.start(task(run))
    parent = await queue.submit("test", "fails")
    child = await queue.submit("test", "child", parent_id=parent.id)
    assert await ended(queue, parent, child) == ["error", "completed"]
    assert [record.id for record in (await queue.list(parent_id=parent.id)).items] == [child.id]


# -- a thousand -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "length"), [("fails", 1000), ("succeeds", 300)])
async def test_a_long_chain(rig: Rig, first: str, length: int) -> None:
    queue = await rig.start(task(run))
    made = await queue.submit_many([("test", first, {"paused": True})])
    made += await queue.submit_many(
        [("test", number, {"depends_on": [made[0].id + number - 1]}) for number in range(1, length)]
    )
    await queue.resume(made[0].id)
    last = await queue.wait(made[-1].id, timeout=PATIENCE * 3)
    assert last.status is (S.CANCELED if first == "fails" else S.COMPLETED)
    assert await queue.count(status=last.status) == (length - (first == "fails"))


@pytest.mark.parametrize("backwards", [False, True])
async def test_one_waits_for_a_thousand(rig: Rig, backwards: bool) -> None:
    queue = await rig.start(task(run))
    made = await queue.submit_many([("test", n, {"delay": 1, "priority": n * backwards}) for n in range(1000)])
    last = await queue.submit("test", "last", depends_on=[record.id for record in made])
    loaded: list[int] = []
    _count_loads(queue, loaded)
    rig.clock.advance(1)
    done = await queue.wait(last.id, timeout=PATIENCE * 3)
    assert done.status is S.COMPLETED
    assert await queue.count(status="completed") == 1001
    kinds = [event.kind for event in await queue.history(last.id)]
    assert kinds == ["submitted", "unblocked", "claimed", "completed"]
    assert sum(loaded) < 50_000, "each end must not look at all the others"


def _count_loads(queue: Queue, loaded: list[int]) -> None:
    from dlqueue.queue.memory import MemoryStore

    store = queue._store
    if isinstance(store, MemoryStore):
        load = store.load

        def counted(ids: Any) -> Any:
            loaded.append(len(ids))
            return load(ids)

        store.load = counted  # type: ignore[method-assign]


async def test_a_thousand_wait_for_one(rig: Rig) -> None:
    queue = await rig.start(task(run))
    root = await queue.submit("test", "fails", paused=True)
    made = await queue.submit_many([("test", n, {"depends_on": [root.id]}) for n in range(1000)])
    await queue.resume(root.id)
    async with asyncio.timeout(PATIENCE * 3):
        assert set(await ended(queue, *made)) == {"canceled"}
