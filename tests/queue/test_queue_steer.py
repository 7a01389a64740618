"""Cancel, pause, resume, retry and remove: what a person does to a task, whatever it is doing."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from dlqueue.queue import (
    Completed,
    Conflict,
    Context,
    CriticalError,
    Outcome,
    ResumeAfter,
    TaskNotFound,
    TaskRecord,
    Want,
)
from dlqueue.queue.record import Change
from dlqueue.queue.runner import Interrupt
from dlqueue.queue.testing import PATIENCE
from tests.queue.rig import Gate, Rig, S, done, settled, task

pytestmark = pytest.mark.anyio


async def suspends(ctx: Context) -> Outcome:
    if "slept" in ctx.state:
        return Completed(ctx.state)
    ctx.state["slept"] = 1
    return ResumeAfter(100)


# -- cancel -----------------------------------------------------------------------------------------------------------


async def test_cancel_where_no_step_runs(rig: Rig) -> None:
    queue = await rig.start(task(suspends))
    suspended = await queue.submit("test")
    await rig.reached(suspended.id, S.SUSPENDING)
    tasks = [
        suspended,
        await queue.submit("test", delay=100),
        await queue.submit("test", paused=True),
        await queue.submit("test", depends_on=[suspended.id], on_dependency_failure="run"),
    ]
    for record in reversed(tasks):
        canceled = await queue.cancel(record.id)
        assert (canceled.status, canceled.want, canceled.finished_at) == (S.CANCELED, Want.RUN, rig.clock.time())
        assert await queue.cancel(record.id) == canceled, "and again is no error"
    rig.clock.advance(1000)
    await settled()
    assert queue.counters.canceled == 4
    assert queue.counters.completed == 0


async def test_cancel_a_running_async_step(rig: Rig) -> None:
    gate = Gate()
    ended: list[str] = []

    async def run(ctx: Context) -> Outcome:
        try:
            await gate.passing(ctx)
        except asyncio.CancelledError:
            ended.append(f"cancelled {ctx.cancelled}")
            raise
        return Completed()

    queue = await rig.start(task(run), max_retry=5)
    record = await queue.submit("test")
    await gate.entered()
    canceled = await queue.cancel(record.id)
    assert (canceled.status, canceled.error, ended) == (S.CANCELED, None, ["cancelled True"])
    assert await rig.kinds(record.id) == ["submitted", "claimed", "want", "canceled"]
    assert queue.counters.busy_workers == 0


async def test_cancel_a_blocking_step_that_listens(rig: Rig) -> None:
    gate = Gate()

    def run(ctx: Context) -> Outcome:
        gate.block(ctx, until=lambda: ctx.cancelled)
        raise InterruptedError("as you like")

    queue = await rig.start(task(run), max_retry=5)
    record = await queue.submit("test")
    await gate.entered()
    async with asyncio.timeout(PATIENCE):  # and not by being fenced
        assert (await queue.cancel(record.id)).status is S.CANCELED


async def test_cancel_a_blocking_step_that_does_not_listen(rig: Rig) -> None:
    """After five seconds it is fenced: canceled for the user, and what it brings later is refused."""
    gate = Gate()

    def run(ctx: Context) -> Outcome:
        gate.block(ctx)
        return Completed("too late")

    queue = await rig.start(task(run), workers=1)
    record = await queue.submit("test")
    await gate.entered()
    rig.clock.advance(0.5)
    canceling = asyncio.ensure_future(queue.cancel(record.id))
    await rig.timer(5)
    rig.clock.advance(4.9)
    await settled()
    assert not canceling.done()
    rig.clock.advance(0.1)
    canceled = await canceling
    assert (canceled.status, canceled.result) == (S.CANCELED, None)
    assert (await queue.history(record.id))[-1].message == "its step did not stop in time and was cut off"
    assert queue.counters.busy_workers == 1, "it keeps its worker until it returns"
    gate.open()
    await rig.done((await queue.submit("test")).id)
    last = await queue.get(record.id)
    assert (last.status, last.result) == (S.CANCELED, None)


async def test_cancel_a_step_that_has_not_begun_yet(rig: Rig) -> None:
    """Claimed, but its worker has not had its turn: a blocking step sees at once that it is to stop."""
    seen: list[bool] = []

    def run(ctx: Context) -> Outcome:
        seen.append(ctx.cancelled)
        raise InterruptedError

    queue = await rig.start(task(run))
    claimed = asyncio.Event()

    def listen(notice: object) -> bool:
        if isinstance(notice, Change) and notice.kind == "claimed":
            claimed.set()
        return False

    queue.bus.subscribe(listen)
    pool = queue._pool
    started = pool._run

    async def slow(record: TaskRecord, interrupt: Interrupt) -> None:
        while interrupt.reason is None:
            await settled(1)
        await started(record, interrupt)

    pool._run = slow  # type: ignore[method-assign]
    record = await queue.submit("test")
    await claimed.wait()
    assert (await queue.cancel(record.id)).status is S.CANCELED
    assert seen == [True]


async def test_two_cancels_at_once(rig: Rig) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        return Completed()

    queue = await rig.start(task(run))
    record = await queue.submit("test")
    await gate.entered()
    answers = await asyncio.gather(*(queue.cancel(record.id) for _ in range(5)))
    assert {answer.status for answer in answers} == {S.CANCELED}
    assert (await rig.kinds(record.id)).count("canceled") == 1


async def test_cancel_what_has_ended(rig: Rig) -> None:
    async def fails(ctx: Context) -> Outcome:
        raise ValueError

    queue = await rig.start(task(done), task(fails, "fails"))
    completed = await rig.done((await queue.submit("test")).id)
    failed = await rig.failed((await queue.submit("fails")).id)
    for record in (completed, failed):
        with pytest.raises(Conflict, match=f"task {record.id} (is completed|has failed): there is nothing to cancel"):
            await queue.cancel(record.id)
        assert await queue.get(record.id) == record
    with pytest.raises(TaskNotFound):
        await queue.cancel(999)


async def test_cancel_against_completion(rig: Rig) -> None:
    """Whoever wins, there is one end: what cancel answered is what stays."""

    async def run(ctx: Context) -> Outcome:
        for _ in range(ctx.task_id % 7):
            await asyncio.sleep(0)
        return Completed("done")

    queue = await rig.start(task(run), workers=8)
    ended: Counter[str] = Counter()

    async def race(number: int) -> None:
        record = await queue.submit("test")
        for _ in range(number % 11):
            await asyncio.sleep(0)
        try:
            answer = await queue.cancel(record.id)
            assert answer.status is S.CANCELED
        except Conflict:
            answer = await queue.get(record.id)
            assert answer.status is S.COMPLETED
        ended[answer.status] += 1
        await settled(2)
        last = await queue.get(record.id)
        assert (last.status, last.result) == (answer.status, "done" if answer.status is S.COMPLETED else None)
        ends = [event.target for event in await queue.history(record.id) if event.target in (S.COMPLETED, S.CANCELED)]
        assert ends == [answer.status]

    for start in range(0, 200, 40):
        await asyncio.gather(*(race(start + number) for number in range(40)))
    assert set(ended) == {"completed", "canceled"}, f"both ought to win sometimes: {ended}"


# -- pause and resume -------------------------------------------------------------------------------------------------


async def test_pause_lets_the_step_end(rig: Rig) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        if "half" in ctx.state:
            return Completed(ctx.want)
        await gate.passing(ctx)
        ctx.state["half"] = True
        return ResumeAfter(5)

    queue = await rig.start(task(run))
    record = await queue.submit("test")
    await gate.entered()
    asked = await queue.pause(record.id)
    assert (asked.status, asked.want) == (S.PROCESSING, Want.PAUSE)
    assert await queue.pause(record.id) == asked, "and again is no error"
    gate.open()
    paused = await rig.reached(record.id, S.PAUSED)
    assert (paused.want, paused.run_at) == (Want.RUN, None)
    rig.clock.advance(1000)
    await settled()
    assert await queue.pause(record.id) == paused
    resumed = await queue.resume(record.id)
    assert resumed.status in (S.QUEUED, S.PROCESSING, S.COMPLETED)
    assert (await rig.done(record.id)).result == "run"


async def test_a_pause_taken_back_in_time(rig: Rig) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        return ResumeAfter(5)

    queue = await rig.start(task(run))
    record = await queue.submit("test")
    await gate.entered()
    await queue.pause(record.id)
    assert (await queue.resume(record.id)).want is Want.RUN
    gate.open()
    await rig.reached(record.id, S.SUSPENDING)


@pytest.mark.parametrize("outcome", ["completes", "fails"])
async def test_a_step_that_ends_for_good_is_not_paused(rig: Rig, outcome: str) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        if outcome == "fails":
            raise ValueError
        return Completed()

    queue = await rig.start(task(run))
    record = await queue.submit("test")
    await gate.entered()
    await queue.pause(record.id)
    gate.open()
    ended = await rig.reached(record.id, S.COMPLETED, S.ERROR)
    assert (ended.status, ended.want) == (S.COMPLETED if outcome == "completes" else S.ERROR, Want.RUN)


async def test_pause_and_resume_where_no_step_runs(rig: Rig) -> None:
    queue = await rig.start(task(suspends))
    suspended = await queue.submit("test")
    await rig.reached(suspended.id, S.SUSPENDING)
    delayed = await queue.submit("test", delay=50)
    born = await queue.submit("test", delay=50, paused=True)
    for record in (suspended, delayed, born):
        assert (await queue.pause(record.id)).status is S.PAUSED
    rig.clock.advance(10)
    for record in (suspended, delayed, born):
        await queue.resume(record.id)
    await rig.done(suspended.id)  # at once: a wait between two steps is over
    for record in (delayed, born):
        waiting = await queue.get(record.id)
        assert (waiting.status, waiting.run_at) == (S.QUEUED, delayed.run_at), "not before the time asked for"
    rig.clock.advance(40)
    for record in (delayed, born):
        await rig.reached(record.id, S.SUSPENDING)


async def test_a_class_may_prepare_its_pause(rig: Rig) -> None:
    wants: list[Want] = []

    async def run(ctx: Context) -> Outcome:
        wants.append(ctx.want)
        return ResumeAfter(100, hold="h")

    queue = await rig.start(task(run, pause_runs_step=True))
    record = await queue.submit("test")
    await rig.reached(record.id, S.SUSPENDING)
    await queue.pause(record.id)
    paused = await rig.reached(record.id, S.PAUSED)
    assert (wants, paused.want, paused.hold) == ([Want.RUN, Want.PAUSE], Want.RUN, None)
    await queue.resume(record.id)
    await rig.reached(record.id, S.SUSPENDING)
    assert wants[-1] is Want.RUN
    never_begun = await queue.submit("test", delay=50)
    assert (await queue.pause(never_begun.id)).status is S.PAUSED, "there is nothing to prepare"


async def test_a_pause_wished_for_in_the_middle_of_a_step_is_prepared_all_the_same(rig: Rig) -> None:
    gate = Gate()
    wants: list[str] = []

    async def run(ctx: Context) -> Outcome:
        wants.append(ctx.want)
        if len(wants) == 1:
            await gate.passing(ctx)
        return ResumeAfter(60.0, hold="slot")

    queue = await rig.start(task(run, pause_runs_step=True))
    record = await queue.submit("test")
    await gate.entered()
    assert (await queue.pause(record.id)).want == "pause"
    gate.open()
    paused = await rig.reached(record.id, S.PAUSED)
    assert wants == ["run", "pause"]
    assert (paused.want, paused.hold, paused.run_at) == ("run", None, None)


@pytest.mark.parametrize("end", ["stop", "crash"])
async def test_a_pause_outlives_a_restart(rig: Rig, end: str) -> None:
    gate = Gate()
    starts: list[int] = []

    async def run(ctx: Context) -> Outcome:
        starts.append(ctx.task_id)
        await gate.passing(ctx)
        return Completed()

    queue = await rig.start(task(run))
    record = await queue.submit("test")
    await gate.entered()
    await queue.pause(record.id)
    await (rig.stop() if end == "stop" else rig.crash())
    queue = await rig.start(task(run))
    paused = await rig.reached(record.id, S.PAUSED)
    assert (paused.want, starts) == (Want.RUN, [record.id]), "it is not begun again"
    gate.open()
    await queue.resume(record.id)
    await rig.done(record.id)


# -- retry and remove -------------------------------------------------------------------------------------------------


async def test_retry_a_canceled_task(rig: Rig) -> None:
    queue = await rig.start(task(done))
    record = await queue.submit("test", "p", delay=1000)
    await queue.cancel(record.id)
    await queue.retry(record.id)
    again = await rig.done(record.id)
    assert (again.result, again.retries) == ("p", 1)
    with pytest.raises(Conflict, match="only a failed or canceled task can be retried"):
        await queue.retry(record.id)


async def test_a_step_that_fails_of_what_is_put_right_meanwhile_runs_again(rig: Rig) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        if ctx.params["word"] == "wrong":
            raise CriticalError("the word is wrong", "word")
        return Completed(ctx.params["word"])

    queue = await rig.start(task(run))
    put_right, left = await queue.submit_many([("test", {"word": "wrong"})] * 2)
    assert {await gate.entered(), await gate.entered()} == {put_right.id, left.id}
    await queue.reword(put_right.id, lambda params: {"word": "right"}, "put right")
    gate.open()
    record = await rig.reached(put_right.id, S.COMPLETED, S.ERROR)
    assert (record.status, record.result, record.retries) == (S.COMPLETED, "right", 0)
    record = await rig.reached(left.id, S.COMPLETED, S.ERROR)
    assert record.error is not None and record.error.kind == "word"


@pytest.mark.parametrize("wait", [ResumeAfter(1000), ResumeAfter(None, hold="h"), ResumeAfter(1000, hold="h")])
async def test_a_step_whose_params_are_changed_meanwhile_does_not_sleep_over_it(rig: Rig, wait: ResumeAfter) -> None:
    """The trap: another URL, given while a step looked, was taken notice of minutes later."""
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        return Completed(ctx.params["word"]) if ctx.params["word"] == "new" else wait

    queue = await rig.start(task(run))
    changed, left = await queue.submit_many([("test", {"word": "old"})] * 2)
    assert {await gate.entered(), await gate.entered()} == {changed.id, left.id}
    await queue.reword(changed.id, lambda params: {"word": "new"}, "changed")
    gate.open()
    record = await rig.done(changed.id)
    assert (record.status, record.result, record.attempt) == (S.COMPLETED, "new", 0)
    record = await rig.reached(left.id, S.SUSPENDING)
    assert (record.hold, record.run_at is None) == (wait.hold, wait.seconds is None)


@pytest.mark.parametrize("wait", [ResumeAfter(1000), ResumeAfter(None, hold="h"), ResumeAfter(1000, hold="h")])
async def test_other_params_end_a_wait_between_two_steps(rig: Rig, wait: ResumeAfter) -> None:
    async def run(ctx: Context) -> Outcome:
        return Completed(ctx.params) if ctx.params == "new" else wait

    queue = await rig.start(task(run))
    waits = await queue.submit("test", "old")
    await rig.reached(waits.id, S.SUSPENDING)
    paused, later = await queue.submit("test", "old", paused=True), await queue.submit("test", "old", delay=1000)
    for record in (waits, paused, later):
        await queue.reword(record.id, lambda params: "new", "changed")
    assert (await rig.done(waits.id)).result == "new"
    assert (await queue.get(paused.id)).status is S.PAUSED
    assert (await queue.get(later.id)).run_at == later.run_at, "it was not to begin before"


async def test_remove(rig: Rig) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        return Completed()

    queue = await rig.start(task(run), task(done, "quick"))
    running = await queue.submit("test", unique_key="k")
    await gate.entered()
    finished = await rig.done((await queue.submit("quick")).id)
    delayed = await queue.submit("quick", delay=100)
    for record, last in ((running, S.CANCELED), (finished, S.COMPLETED), (delayed, S.CANCELED)):
        removed = await queue.remove(record.id)
        assert (removed.id, removed.status) == (record.id, last)
        for verb in (queue.get, queue.cancel, queue.pause, queue.resume, queue.retry, queue.remove, queue.history):
            with pytest.raises(TaskNotFound):
                await verb(record.id)
    assert (await queue.list()).items == []
    again = await queue.submit("quick", unique_key="k")
    assert again.id > delayed.id
    await rig.done(again.id)


async def test_verbs_on_what_is_not_there(rig: Rig) -> None:
    queue = await rig.start(task(done))
    for verb in (queue.get, queue.cancel, queue.pause, queue.resume, queue.retry, queue.remove, queue.history):
        with pytest.raises(TaskNotFound, match="task 7 not found"):
            await verb(7)
    with pytest.raises(TaskNotFound):
        await queue.wait(7, timeout=1)
