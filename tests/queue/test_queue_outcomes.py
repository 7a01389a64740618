"""What a step answers, and what is saved of its state."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio.from_thread
import msgspec
import pytest

from dlqueue.queue import Canceled, Completed, Context, CriticalError, InvalidTask, Outcome, ResumeAfter
from dlqueue.queue.record import Change
from dlqueue.queue.testing import PATIENCE
from tests.queue.rig import Gate, Rig, S, settled, task

pytestmark = pytest.mark.anyio


class Polls(msgspec.Struct):
    count: int = 0
    seen: list[str] = []


class Params(msgspec.Struct):
    url: str
    depth: int = 1


def typed_state(record_state: bytes | None) -> Any:
    return None if record_state is None else msgspec.json.decode(record_state)


@pytest.mark.parametrize("blocking", [False, True])
async def test_both_kinds_of_step(rig: Rig, blocking: bool) -> None:
    def step(ctx: Context) -> Outcome:
        ctx.state["steps"] = ctx.state.get("steps", 0) + 1
        ctx.progress(counters={"steps": ctx.state["steps"]})
        return ResumeAfter(0) if ctx.state["steps"] < 3 else Completed({"steps": ctx.state["steps"]})

    async def astep(ctx: Context) -> Outcome:
        return step(ctx)

    queue = await rig.start(task(step if blocking else astep))
    record = await rig.done((await queue.submit("test")).id)
    assert record.result == {"steps": 3}
    assert typed_state(record.state) == {"steps": 3}
    assert record.progress is not None
    assert (record.progress.counters, record.progress.percent) == ({"steps": 3.0}, 100.0)
    assert await rig.kinds(record.id) == ["submitted", *["claimed", "suspended"] * 2, "claimed", "completed"]


async def test_each_step_has_its_own_params(rig: Rig) -> None:
    async def run(ctx: Context) -> Outcome:
        ctx.params["urls"].append(f"step {ctx.params['n']}")
        ctx.params["n"] = 2
        ctx.state["seen"] = [*ctx.state.get("seen", []), list(ctx.params["urls"])]
        return ResumeAfter(0) if len(ctx.state["seen"]) < 3 else Completed()

    queue = await rig.start(task(run))
    record = await rig.done((await queue.submit("test", {"urls": ["a"], "n": 1})).id)
    assert typed_state(record.state) == {"seen": [["a", "step 1"]] * 3}
    assert record.params == {"urls": ["a"], "n": 1}, "what was submitted stays as it was"


async def test_canceled_by_itself(rig: Rig) -> None:
    async def run(ctx: Context) -> Outcome:
        ctx.state["a"] = 1
        return Canceled("had enough")

    queue = await rig.start(task(run))
    record = await rig.reached((await queue.submit("test")).id, S.CANCELED)
    assert (record.error, typed_state(record.state)) == (None, {"a": 1})
    assert (await queue.history(record.id))[-1].message == "had enough"


@pytest.mark.parametrize("answer", [None, 5, {"result": 1}, Completed])
async def test_an_answer_that_is_none(memory_rig: Rig, answer: object) -> None:
    async def run(ctx: Context) -> Any:
        return answer

    queue = await memory_rig.start(task(run), max_retry=5)
    record = await memory_rig.failed((await queue.submit("test")).id)
    assert record.error is not None
    assert record.error.kind == "outcome"
    assert "must answer Completed, ResumeAfter or Canceled, not" in record.error.message


async def test_resume_after_nothing_needs_a_hold() -> None:
    with pytest.raises(ValueError, match="never run again"):
        ResumeAfter(None)


async def test_typed_state_and_params(rig: Rig) -> None:
    async def run(ctx: Context) -> Outcome:
        assert isinstance(ctx.state, Polls)
        assert isinstance(ctx.params, Params)
        ctx.state = Polls(ctx.state.count + 1, [*ctx.state.seen, ctx.params.url])
        return ResumeAfter(0) if ctx.state.count < 2 else Completed(ctx.params.depth)

    queue = await rig.start(task(run, state_type=Polls, params_type=Params))
    record = await rig.done((await queue.submit("test", {"url": "u", "depth": 7})).id)
    assert (record.result, typed_state(record.state)) == (7, {"count": 2, "seen": ["u", "u"]})
    by_instance = await rig.done((await queue.submit("test", Params("v"))).id)
    assert by_instance.params == {"url": "v", "depth": 1}
    for params, field in (({}, "url"), ({"url": 5}, r"\$\.url"), (None, "params")):
        with pytest.raises(InvalidTask, match=field):
            await queue.submit("test", params)


async def test_a_list_as_state(memory_rig: Rig) -> None:
    async def run(ctx: Context) -> Outcome:
        ctx.state.append(ctx.attempt)
        return ResumeAfter(0) if len(ctx.state) < 3 else Completed(ctx.state)

    queue = await memory_rig.start(task(run, state_type=list[int]))
    assert (await memory_rig.done((await queue.submit("test")).id)).result == [1, 1, 1]


async def test_unreadable_state_is_an_error_and_the_task_is_kept(rig: Rig) -> None:
    async def first(ctx: Context) -> Outcome:
        ctx.state = {"count": "many"}
        return ResumeAfter(5)

    async def second(ctx: Context) -> Outcome:
        return Completed(ctx.state.count)

    queue = await rig.start(task(first))
    record = await queue.submit("test", max_retry=9)
    await rig.reached(record.id, S.SUSPENDING)
    await rig.stop()
    queue = await rig.start(task(second, state_type=Polls))
    rig.clock.advance(5)
    broken = await rig.failed(record.id)
    assert broken.error is not None
    assert broken.error.kind == "state"
    assert "the saved state cannot be read" in broken.error.message
    assert typed_state(broken.state) == {"count": "many"}, "nothing is thrown away"


async def test_params_that_do_not_fit_any_more(rig: Rig) -> None:
    async def run(ctx: Context) -> Outcome:
        return Completed(ctx.params)

    queue = await rig.start(task(run))
    record = await queue.submit("test", {"link": "x"}, delay=5, max_retry=9)
    await rig.stop()
    queue = await rig.start(task(run, params_type=Params))
    rig.clock.advance(5)
    broken = await rig.failed(record.id)
    assert broken.error is not None
    assert broken.error.kind == "params"
    assert (await queue.get(record.id)).params == {"link": "x"}


async def test_what_is_not_json_is_a_final_error(memory_rig: Rig) -> None:
    async def run(ctx: Context) -> Outcome:
        match ctx.params:
            case "result":
                return Completed(object())
            case "state":
                ctx.state["x"] = object()
                return Completed()
            case "deep state":
                deep: list[Any] = []
                for _ in range(100_000):
                    deep = [deep]
                ctx.state["x"] = deep
                raise ValueError("and a failure on top")
        return Completed("\ud800")

    queue = await memory_rig.start(task(run))
    for params, kind in (
        ("result", "result"),
        ("state", "state"),
        ("surrogate", "result"),
        ("deep state", "ValueError"),
    ):
        record = await memory_rig.failed((await queue.submit("test", params)).id)
        assert record.error is not None
        assert record.error.kind == kind
        assert record.crashes == 0


# -- when the state is saved ------------------------------------------------------------------------------------------


async def test_state_is_saved_on_an_ordinary_exception(rig: Rig) -> None:
    async def run(ctx: Context) -> Outcome:
        ctx.state["tries"] = ctx.state.get("tries", 0) + 1
        if ctx.state["tries"] < 3:
            raise ConnectionError("weather")
        return Completed(ctx.state["tries"])

    queue = await rig.start(task(run), max_retry=5)
    waiting = record = await queue.submit("test")
    for tries in (1, 2):
        waiting = await rig.reached(record.id, S.SUSPENDING, newer_than=waiting)
        assert typed_state(waiting.state) == {"tries": tries}
        rig.clock.advance(60)
    assert (await rig.done(record.id)).result == 3


@pytest.mark.parametrize("checkpoint", [False, True])
async def test_state_is_not_saved_on_a_timeout(rig: Rig, checkpoint: bool) -> None:
    """But a checkpoint counts."""
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        if ctx.attempt > 1:
            return Completed(ctx.state)
        ctx.state["before"] = True
        if checkpoint:
            await ctx.checkpoint()
        ctx.state["after"] = True
        try:
            await gate.passing(ctx)
        finally:
            ctx.state["finally"] = True
        return Completed()

    queue = await rig.start(task(run, timeout=5), max_retry=1)
    record = await queue.submit("test")
    await gate.entered()
    waiting = await rig.after(5, record.id, S.SUSPENDING)
    assert typed_state(waiting.state) == ({"before": True} if checkpoint else None)
    rig.clock.advance(60)
    assert (await rig.done(record.id)).result == ({"before": True} if checkpoint else {})


@pytest.mark.parametrize("end", ["stop", "crash"])
async def test_state_is_not_saved_on_a_stop_or_crash(rig: Rig, end: str) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        if ctx.state:
            return Completed(ctx.state)
        ctx.state["saved"] = True
        await ctx.checkpoint()
        ctx.state["lost"] = True
        await gate.passing(ctx)
        return Completed()

    queue = await rig.start(task(run))
    record = await queue.submit("test")
    await gate.entered()
    await (rig.stop() if end == "stop" else rig.crash())
    await rig.start(task(run))
    again = await rig.done(record.id)
    assert (again.result, again.retries) == ({"saved": True}, 0)


async def test_a_checkpoint_of_a_blocking_step(rig: Rig) -> None:
    def run(ctx: Context) -> Outcome:
        ctx.state["a"] = 1
        anyio.from_thread.run(ctx.checkpoint)
        return Completed()

    queue = await rig.start(task(run))
    record = await rig.done((await queue.submit("test")).id)
    assert record.revision == 4


async def test_an_early_result(rig: Rig) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        if "delivered" not in ctx.state:
            ctx.state["delivered"] = True
            await ctx.deliver({"file": "there"})
            await gate.passing(ctx)
            return ResumeAfter(100)
        return Completed()

    queue = await rig.start(task(run))
    record = await queue.submit("test")
    await gate.entered()
    early = await queue.wait(record.id, until="delivered", timeout=1)
    assert (early.status, early.result, early.finished_at) == (S.PROCESSING, {"file": "there"}, None)
    assert early.delivered_at == rig.clock.time()
    gate.open()
    await rig.reached(record.id, S.SUSPENDING)
    await rig.after(100, record.id, S.COMPLETED)
    last = await queue.get(record.id)
    assert (last.result, last.delivered_at) == ({"file": "there"}, early.delivered_at)
    assert last.finished_at == rig.clock.time()


# -- progress ---------------------------------------------------------------------------------------------------------


async def test_progress_is_told_at_once_and_saved_now_and_then(rig: Rig) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        ctx.progress(percent=250, message="m")
        ctx.progress(step={"name": "s", "done": 1, "total": 3}, counters={"a": 1})
        ctx.progress(counters={"b": 2})
        await gate.passing(ctx)
        raise CriticalError("no")

    queue = await rig.start(task(run))
    reports = queue.bus.subscribe(lambda notice: not isinstance(notice, Change))
    record = await queue.submit("test")
    await gate.entered()
    report = await anext(reports)
    assert getattr(report, "task_id", None) == record.id
    progress = queue.progress_of(await queue.get(record.id))
    assert progress is not None
    assert (progress.percent, progress.message) == (100.0, "m")
    assert (progress.step, progress.counters) == ({"name": "s", "done": 1, "total": 3}, {"a": 1, "b": 2})
    assert (await queue.get(record.id)).progress is None
    await settled()
    rig.clock.advance(5)
    async with asyncio.timeout(PATIENCE):  # a long step is saved on the way
        while (await queue.get(record.id)).progress != progress:
            await settled(1)
    gate.open()
    assert (await rig.failed(record.id)).progress == progress


async def test_many_tasks_at_once_end_well(rig: Rig) -> None:
    async def run(ctx: Context) -> Outcome:
        await asyncio.sleep(0)
        return Completed(ctx.params) if "x" in ctx.state else _suspend(ctx)

    def _suspend(ctx: Context) -> Outcome:
        ctx.state["x"] = 1
        return ResumeAfter(0)

    queue = await rig.start(task(run), workers=8)
    records = await queue.submit_many([("test", i) for i in range(300)])
    results = [(await rig.done(record.id)).result for record in records]
    assert results == list(range(300))
