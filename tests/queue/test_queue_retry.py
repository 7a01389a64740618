"""Retries: when, how often, and what they cost."""

from __future__ import annotations

import random

import pytest

from dlqueue.queue import Completed, Context, CriticalError, Outcome, QueueSettings, ResumeAfter
from dlqueue.queue.record import Change
from dlqueue.queue.retry import RetryPolicy
from tests.queue.rig import Rig, S, settled, task

pytestmark = pytest.mark.anyio


# -- the policy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("retry_delay", [0, 0.5, 1, 5])
@pytest.mark.parametrize("factor", [1, 2, 3.5])
def test_delays(retry_delay: float, factor: float) -> None:
    policy = RetryPolicy(max_retry=50, retry_delay=retry_delay, backoff_factor=factor, backoff_max=60)
    chance = random.Random(1)
    for failures in range(50):
        middle = min(60, (retry_delay or 1) * factor**failures)
        delays = [policy.delay(failures, ValueError(), chance) for _ in range(200)]
        found = [delay for delay in delays if delay is not None]
        assert len(found) == 200
        assert 0.8 * middle <= min(found) < 0.85 * middle
        assert 1.15 * middle < max(found) <= 1.2 * middle


def test_enormous_exponents_do_no_harm() -> None:
    policy = RetryPolicy(max_retry=10**6, retry_delay=1, backoff_factor=10, backoff_max=60)
    delay = policy.delay(10**5, ValueError())
    assert delay is not None
    assert delay <= 72


def test_the_budget() -> None:
    policy = RetryPolicy(max_retry=2)
    assert policy.delay(1, ValueError()) is not None
    assert policy.delay(2, ValueError()) is None
    assert RetryPolicy().delay(0, ValueError()) is None
    assert policy.delay(0, CriticalError("never")) is None


@pytest.mark.parametrize(("asked", "least"), [(500, 500), (0.1, 0.8), (None, 0.8), ("120", 0.8), (object(), 0.8)])
def test_retry_after(asked: object, least: float) -> None:
    error = ValueError()
    error.retry_after = asked  # type: ignore[attr-defined]
    delay = RetryPolicy(max_retry=1).delay(0, error)
    assert delay is not None
    assert least <= delay <= max(least, 1.2)


# -- in the queue -----------------------------------------------------------------------------------------------------


async def fails(ctx: Context) -> Outcome:
    raise ConnectionError(f"try {ctx.attempt}")


async def test_a_failing_task_waits_longer_and_longer_then_fails(rig: Rig) -> None:
    queue = await rig.start(task(fails), max_retry=4, retry_delay=3, backoff_factor=2, backoff_max=10)
    waiting = record = await queue.submit("test")
    for failures, middle in enumerate((3, 6, 10, 10)):
        waiting = await rig.reached(record.id, S.SUSPENDING, newer_than=waiting)
        assert waiting.run_at is not None
        assert 0.8 * middle <= waiting.run_at - rig.clock.time() <= 1.2 * middle
        assert (waiting.attempt, waiting.retries) == (failures + 1, failures + 1)
        assert waiting.error is not None
        assert (waiting.error.kind, waiting.error.message) == ("ConnectionError", f"try {failures + 1}")
        rig.clock.advance(waiting.run_at - rig.clock.time() - 0.001)
        await settled()
        assert (await queue.get(record.id)).revision == waiting.revision, "not before its time"
        rig.clock.advance(0.001)
    record = await rig.failed(record.id)
    assert (record.retries, record.crashes) == (4, 0)
    assert record.error is not None
    assert record.error.message == "try 5"
    events = [event for event in await queue.history(record.id) if event.kind == "retry"]
    assert len(events) == 4
    assert events[0].error is not None
    assert "next try in" in str(events[0].message)


async def test_retry_delay_0_means_one_second(memory_rig: Rig) -> None:
    queue = await memory_rig.start(task(fails), max_retry=1, retry_delay=0)
    waiting = await memory_rig.reached((await queue.submit("test")).id, S.SUSPENDING)
    assert waiting.run_at is not None
    assert 0.8 <= waiting.run_at - memory_rig.clock.time() <= 1.2


async def test_resume_after_renews_the_budget(rig: Rig) -> None:
    async def every_other_step_fails(ctx: Context) -> Outcome:
        ctx.state["steps"] = ctx.state.get("steps", 0) + 1
        if ctx.state["steps"] == 10:
            return Completed()
        if ctx.state["steps"] % 2:
            raise ConnectionError("weather")
        return ResumeAfter(1)

    queue = await rig.start(task(every_other_step_fails), max_retry=1, retry_delay=1, backoff_factor=10)
    waiting = record = await queue.submit("test")
    for _ in range(9):
        waiting = await rig.reached(record.id, S.SUSPENDING, newer_than=waiting)
        assert waiting.run_at is not None
        assert waiting.run_at - rig.clock.time() <= 1.2, "the back-off begins anew, too"
        rig.clock.advance(2)
    assert (await rig.done(record.id)).retries == 5


async def test_resume_after_may_leave_the_budget_alone(memory_rig: Rig) -> None:
    async def waits_between_failures(ctx: Context) -> Outcome:
        ctx.state["steps"] = ctx.state.get("steps", 0) + 1
        if ctx.state["steps"] % 2:
            raise ConnectionError("weather")
        return ResumeAfter(1, renew=False)

    queue = await memory_rig.start(task(waits_between_failures), max_retry=2)
    waiting = record = await queue.submit("test")
    for _ in range(4):
        waiting = await memory_rig.reached(record.id, S.SUSPENDING, newer_than=waiting)
        memory_rig.clock.advance(100)
    assert (await memory_rig.failed(record.id)).retries == 2


async def test_critical_errors_are_never_retried(rig: Rig) -> None:
    async def run(ctx: Context) -> Outcome:
        raise CriticalError("hopeless", kind="mine")

    queue = await rig.start(task(run, is_retryable=lambda error: True), max_retry=9)
    record = await rig.failed((await queue.submit("test")).id)
    assert record.retries == 0
    assert record.error is not None
    assert (record.error.kind, record.error.message, record.error.at) == ("mine", "hopeless", rig.clock.time())


async def test_is_retryable(memory_rig: Rig) -> None:
    async def run(ctx: Context) -> Outcome:
        raise {"key": KeyError("k"), "value": ValueError("v")}[ctx.params]

    queue = await memory_rig.start(task(run, is_retryable=lambda error: isinstance(error, KeyError)), max_retry=9)
    await memory_rig.reached((await queue.submit("test", "key")).id, S.SUSPENDING)
    assert (await memory_rig.failed((await queue.submit("test", "value")).id)).retries == 0


async def test_an_error_may_say_when(memory_rig: Rig) -> None:
    class Busy(Exception):
        retry_after = 3600.0
        kind = "busy"

    async def run(ctx: Context) -> Outcome:
        raise Busy

    queue = await memory_rig.start(task(run), max_retry=1)
    waiting = await memory_rig.reached((await queue.submit("test")).id, S.SUSPENDING)
    assert waiting.run_at == memory_rig.clock.time() + 3600
    assert waiting.error is not None
    assert (waiting.error.kind, waiting.error.message) == ("busy", "Busy")


async def test_who_decides_how_often(memory_rig: Rig) -> None:
    """The submit, then the class, then the named queue, then the queue as a whole."""
    queue = await memory_rig.start(
        task(fails, "plain"),
        task(fails, "stubborn", max_retry=3, queue="lane"),
        max_retry=1,
        queues={"lane": QueueSettings(max_retry=2, retry_delay=50, backoff_factor=1, backoff_max=40)},
    )
    plain = await queue.submit("plain")
    lane = await queue.submit("plain", queue="lane")
    by_class = await queue.submit("stubborn")
    by_submit = await queue.submit("stubborn", max_retry=0)
    assert [r.max_retry for r in (plain, lane, by_class, by_submit)] == [1, 2, 3, 0]
    assert by_class.queue == "lane"
    waiting = await memory_rig.reached(lane.id, S.SUSPENDING)
    assert waiting.run_at is not None
    assert 32 <= waiting.run_at - memory_rig.clock.time() <= 48
    own = await memory_rig.reached((await queue.submit("plain", queue="lane", retry_delay=10)).id, S.SUSPENDING)
    assert own.run_at is not None
    assert 8 <= own.run_at - memory_rig.clock.time() <= 12


async def test_a_retry_by_a_person(rig: Rig) -> None:
    async def run(ctx: Context) -> Outcome:
        ctx.state["tries"] = ctx.state.get("tries", 0) + 1
        if ctx.state["tries"] < 4:
            raise ConnectionError("weather")
        return Completed(ctx.attempt)

    queue = await rig.start(task(run), max_retry=1)
    record = await queue.submit("test")
    await rig.reached(record.id, S.SUSPENDING)
    rig.clock.advance(60)
    failed = await rig.failed(record.id)
    assert (failed.attempt, failed.retries) == (1, 1)
    rig.clock.advance(60)
    retried = queue.bus.subscribe(lambda notice: isinstance(notice, Change) and notice.kind == "retried")
    await queue.retry(record.id)
    change = await anext(retried)
    assert isinstance(change, Change)
    again = change.record
    assert (again.status, again.attempt, again.retries, again.error) == (S.QUEUED, 0, 2, None)
    assert (again.finished_at, again.started_at, again.result) == (None, None, None)
    waiting = await rig.reached(record.id, S.SUSPENDING)
    assert (waiting.attempt, waiting.retries) == (1, 3)
    rig.clock.advance(60)
    done = await rig.done(record.id)
    assert (done.result, done.retries) == (2, 3)
    assert done.lease_token > failed.lease_token
