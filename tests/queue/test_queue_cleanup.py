"""What a class has to clean up after a task's end: once, for certain, and again after a failure or a crash."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dlqueue.queue import Completed, Context, Outcome, TaskNotFound
from dlqueue.queue.testing import PATIENCE
from tests.queue.rig import Gate, Rig, S, settled, task

pytestmark = pytest.mark.anyio


class Cleaning:
    """A task that notes its clean-ups."""

    def __init__(self) -> None:
        self.cleaned: list[tuple[int, str, Any, Any]] = []
        self.failures = 0
        self.gate: Gate | None = None
        self.step_gate: Gate | None = None

    def type(self) -> Any:
        async def run(ctx: Context) -> Outcome:
            ctx.state["made"] = "something"
            if self.step_gate is not None:
                await ctx.checkpoint()
                await self.step_gate.passing(ctx)
            if ctx.params == "fail":
                raise ValueError("no")
            return Completed()

        async def cleanup(ctx: Context) -> None:
            intent = ctx.record.intent
            if self.gate is not None:
                await self.gate.passing(ctx)
            if self.failures:
                self.failures -= 1
                raise OSError("not now")
            self.cleaned.append((ctx.task_id, str(ctx.status), dict(ctx.state), intent))
            ctx.state["cleaned"] = True

        return task(run, cleanup=cleanup)


async def cleaned(rig: Rig, task_id: int) -> None:
    """Wait until its clean-up is no longer due."""
    assert rig.queue is not None
    async with asyncio.timeout(PATIENCE):
        while task_id in await rig.queue._store.cleanups(100):
            await asyncio.sleep(0.001)
            rig.clock.advance(0.1)


async def test_after_an_error_and_a_cancel_but_not_after_success(rig: Rig) -> None:
    cleaning = Cleaning()
    queue = await rig.start(cleaning.type())
    completed = await rig.done((await queue.submit("test")).id)
    failed = await rig.failed((await queue.submit("test", "fail")).id)
    never_begun = await queue.submit("test", delay=100)
    await queue.cancel(never_begun.id)
    cleaning.step_gate = Gate()
    running = await queue.submit("test")
    await cleaning.step_gate.entered()
    await queue.cancel(running.id, {"delete_data": True})
    for record in (completed, failed, never_begun, running):
        await cleaned(rig, record.id)
    assert cleaning.cleaned == [
        (failed.id, "error", {"made": "something"}, None),
        (running.id, "canceled", {"made": "something"}, {"delete_data": True}),
    ]
    record = await queue.get(failed.id)
    assert (record.status, record.state) == (S.ERROR, b'{"made":"something","cleaned":true}')


async def test_a_failing_clean_up_is_tried_again(rig: Rig) -> None:
    cleaning = Cleaning()
    cleaning.failures = 3
    queue = await rig.start(cleaning.type())
    record = await rig.failed((await queue.submit("test", "fail")).id)
    for seconds in (1, 2, 4):
        await rig.timer(seconds)
        assert await queue._store.cleanups(10) == [record.id]
        rig.clock.advance(seconds)
    await cleaned(rig, record.id)
    assert len(cleaning.cleaned) == 1


@pytest.mark.parametrize("end", ["stop", "crash"])
async def test_a_clean_up_is_taken_up_at_the_next_start(rig: Rig, end: str) -> None:
    cleaning = Cleaning()
    cleaning.gate = Gate()
    queue = await rig.start(cleaning.type())
    record = await rig.failed((await queue.submit("test", "fail")).id)
    await cleaning.gate.entered()
    await (rig.stop() if end == "stop" else rig.crash())
    assert cleaning.cleaned == []
    cleaning.gate = None
    queue = await rig.start(cleaning.type())
    await cleaned(rig, record.id)
    assert [task_id for task_id, *_ in cleaning.cleaned] == [record.id]
    await rig.stop()
    await rig.start(cleaning.type())
    await settled()
    assert len(cleaning.cleaned) == 1, "and then no more"


async def test_remove_waits_for_the_clean_up_and_then_the_row_goes(rig: Rig) -> None:
    cleaning = Cleaning()
    queue = await rig.start(cleaning.type())
    record = await rig.done((await queue.submit("test")).id)
    await queue.remove(record.id, {"delete_data": True})
    assert cleaning.cleaned == [(record.id, "completed", {"made": "something"}, {"delete_data": True})]
    assert await queue._store.cleanups(10) == []
    assert (await queue._store.transact([(record.id, lambda _: None)]))[0] is not None, "the row is gone"


async def test_a_removed_task_stays_hidden_until_its_clean_up_succeeds(rig: Rig) -> None:
    cleaning = Cleaning()
    cleaning.failures = 2
    queue = await rig.start(cleaning.type())
    record = await rig.done((await queue.submit("test")).id)
    rig.clock.advance(0.5)
    removing = asyncio.ensure_future(queue.remove(record.id))
    await rig.timer(1)  # its first try has failed
    for verb in (queue.get, queue.retry, queue.cancel, queue.resume, queue.pause, queue.remove):
        with pytest.raises(TaskNotFound):
            await verb(record.id)
    rig.clock.advance(5)  # it does not wait for ever
    await removing
    await rig.crash()
    queue = await rig.start(cleaning.type())
    with pytest.raises(TaskNotFound):
        await queue.get(record.id)
    rig.clock.advance(5)
    await cleaned(rig, record.id)
    assert len(cleaning.cleaned) == 1


async def test_a_removal_during_the_clean_up_has_one_of_its_own(rig: Rig) -> None:
    """The first one did not know that the data is to go, too."""
    cleaning = Cleaning()
    gate = cleaning.gate = Gate()
    queue = await rig.start(cleaning.type())
    record = await rig.failed((await queue.submit("test", "fail")).id)
    await gate.entered()
    removing = asyncio.ensure_future(queue.remove(record.id, {"delete_data": True}))
    await settled()
    gate.open()
    async with asyncio.timeout(PATIENCE):
        await removing
    assert [intent for *_, intent in cleaning.cleaned] == [None, {"delete_data": True}]


async def test_a_removal_in_the_moment_that_the_clean_up_ends(rig: Rig) -> None:
    cleaning = Cleaning()
    queue = await rig.start(cleaning.type())
    for _ in range(20):
        record = await rig.failed((await queue.submit("test", "fail")).id)
        removing = asyncio.ensure_future(queue.remove(record.id, {"delete_data": True}))
        async with asyncio.timeout(PATIENCE):
            await removing
        assert cleaning.cleaned[-1] == (record.id, "error", cleaning.cleaned[-1][2], {"delete_data": True})


async def test_a_retry_stops_the_clean_up(rig: Rig) -> None:
    cleaning = Cleaning()
    gate = cleaning.gate = Gate()
    queue = await rig.start(cleaning.type())
    record = await rig.failed((await queue.submit("test", "fail")).id)
    await gate.entered()
    step_gate = cleaning.step_gate = Gate()
    await queue.retry(record.id)
    await step_gate.entered()
    gate.open()
    await settled()
    assert cleaning.cleaned == []
    cleaning.gate = None
    step_gate.open()
    await rig.failed(record.id)
    await cleaned(rig, record.id)
    assert len(cleaning.cleaned) == 1, "what it made is cleaned up when it has failed again"


async def test_what_was_made_before_a_retry_is_not_forgotten(rig: Rig) -> None:
    """Failed, retried before its clean-up ran, canceled before it began again: there is still something to remove."""
    cleaning = Cleaning()
    gate = cleaning.gate = Gate()
    queue = await rig.start(cleaning.type(), workers=1)
    record = await rig.failed((await queue.submit("test", "fail")).id)
    await gate.entered()
    step_gate = cleaning.step_gate = Gate()
    await queue.submit("test", priority=9)
    await step_gate.entered()  # the only worker is busy
    await queue.retry(record.id)
    cleaning.gate = None
    await queue.cancel(record.id)
    await cleaned(rig, record.id)
    assert [(task_id, status) for task_id, status, *_ in cleaning.cleaned] == [(record.id, "canceled")]


async def test_an_unknown_type_keeps_its_clean_up(rig: Rig) -> None:
    cleaning = Cleaning()
    cleaning.gate = Gate()
    queue = await rig.start(cleaning.type())
    record = await rig.failed((await queue.submit("test", "fail")).id)
    await cleaning.gate.entered()
    await rig.crash()
    cleaning.gate = None
    queue = await rig.start()
    await settled()
    assert await queue._store.cleanups(10) == [record.id]
    await rig.stop()
    await rig.start(cleaning.type())
    await cleaned(rig, record.id)
    assert len(cleaning.cleaned) == 1
