"""A queue driven at random: submits, steering, time, wakes, crashes. Whatever is done to it, the invariants hold."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dlqueue.queue import (
    EDGES,
    Canceled,
    Completed,
    Conflict,
    Context,
    CriticalError,
    Outcome,
    ResumeAfter,
    Status,
    TaskNotFound,
    TaskRecord,
    Want,
    transitions,
)
from dlqueue.queue.memory import MemoryStore
from dlqueue.queue.record import Event
from dlqueue.queue.status import FINAL
from tests.queue.rig import Rig, task

T = TypeVar("T")
WORKERS = 3
MAX_RETRY = 2

PLANS = st.lists(st.sampled_from(["resume", "hold", "hold+time", "raise", "slow", "cancel"]), max_size=4)
ENDS = st.sampled_from(["complete", "critical"])


async def follow_the_plan(ctx: Context) -> Outcome:
    """Does what its params say, one item a step, counted in its state."""
    plan: list[str] = ctx.params["plan"]
    number = ctx.state["step"] = ctx.state.get("step", 0) + 1
    if number > len(plan):
        if ctx.params["end"] == "critical":
            raise CriticalError("the end")
        return Completed(number)
    match plan[number - 1]:
        case "resume":
            return ResumeAfter(3.0)
        case "hold":
            return ResumeAfter(None, hold=f"slot:{ctx.task_id % 2}")
        case "hold+time":
            return ResumeAfter(7.0, hold="slot:0")
        case "raise":
            raise ConnectionError("weather")
        case "slow":
            await asyncio.Event().wait()
    return Canceled("by itself")


class QueueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = MemoryStore()
        self.acknowledged: dict[int, dict[str, Any]] = {}
        self.keys: dict[str, int] = {}
        self.removed: set[int] = set()
        self.finals: dict[int, tuple[Status, int]] = {}

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        async def and_let_it_happen() -> T:
            async with asyncio.timeout(20):
                answer = await work
                for _ in range(40):
                    await asyncio.sleep(0)
                return answer

        return self.runner.run(and_let_it_happen())

    @initialize()
    def begin(self) -> None:
        async def start() -> None:
            self.rig = Rig(lambda: self.store)
            await self.start()

        self.do(start())

    async def start(self) -> None:
        await self.rig.start(
            task(follow_the_plan, timeout=20), workers=WORKERS, max_retry=MAX_RETRY, retry_delay=1, max_execution=500
        )

    @property
    def queue(self) -> Any:
        assert self.rig.queue is not None
        return self.rig.queue

    # -- what is done to it -------------------------------------------------------------------------------------------

    @rule(
        plan=PLANS,
        end=ENDS,
        priority=st.integers(-2, 2),
        delay=st.sampled_from([None, 5]),
        key=st.sampled_from([None, "a", "b"]),
        paused=st.booleans(),
        depends=st.booleans(),
        data=st.data(),
    )
    def submit(
        self,
        plan: list[str],
        end: str,
        priority: int,
        delay: float | None,
        key: str | None,
        paused: bool,
        depends: bool,
        data: st.DataObject,
    ) -> None:
        params = {"plan": plan, "end": end}
        others = sorted(self.acknowledged.keys() - self.removed) if depends else []
        depends_on = [data.draw(st.sampled_from(others))] if others else []

        async def go() -> None:
            try:
                record = await self.queue.submit(
                    "test", params, priority=priority, delay=delay, unique_key=key, paused=paused, depends_on=depends_on
                )
            except Conflict as error:
                assert key is not None
                assert error.task_id == self.keys[key]
                return
            if key is not None:
                assert self.keys.setdefault(key, record.id) == record.id, "one task for each key"
            assert record.id in self.acknowledged or record.id > max(self.acknowledged, default=0)
            assert self.acknowledged.setdefault(record.id, params) == params

        self.do(go())

    def steer(self, data: st.DataObject, verb: str) -> None:
        ids = sorted(self.acknowledged)
        if not ids:
            return
        task_id = data.draw(st.sampled_from(ids))

        async def go() -> None:
            steering = asyncio.ensure_future(getattr(self.queue, verb)(task_id))
            while not (await asyncio.wait({steering}, timeout=0))[0]:
                await asyncio.sleep(0)
            try:
                record: TaskRecord = await steering
            except Conflict:
                return
            except TaskNotFound:
                assert task_id in self.removed
                return
            assert task_id not in self.removed
            if verb == "remove":
                self.removed.add(task_id)
                self.keys = {key: other for key, other in self.keys.items() if other != task_id}
            elif verb == "cancel":
                assert record.status is Status.CANCELED
            elif verb == "retry":
                self.finals.pop(task_id, None)

        self.do(go())

    @rule(data=st.data(), verb=st.sampled_from(["cancel", "pause", "resume", "retry", "remove"]))
    def person(self, data: st.DataObject, verb: str) -> None:
        self.steer(data, verb)

    @rule(seconds=st.sampled_from([0.5, 3, 10, 100]))
    def time_passes(self, seconds: float) -> None:
        async def go() -> None:
            self.rig.clock.advance(seconds)

        self.do(go())

    @rule(hold=st.sampled_from(["slot:0", "slot:1", "slot:*"]), n=st.sampled_from([None, 1]))
    def wake(self, hold: str, n: int | None) -> None:
        self.do(self.queue.wake(hold, n))

    @rule()
    def crash(self) -> None:
        async def go() -> None:
            await self.rig.crash()
            await self.start()

        self.do(go())

    @rule()
    def stop(self) -> None:
        async def go() -> None:
            await self.rig.stop()
            await self.start()

        self.do(go())

    # -- what always holds --------------------------------------------------------------------------------------------

    @invariant()
    def nothing_acknowledged_is_lost(self) -> None:
        assert set(self.store._tasks) == self.acknowledged.keys() - self.removed
        for task_id, record in self.store._tasks.items():
            assert record.params == self.acknowledged[task_id]

    @invariant()
    def every_unfinished_task_has_a_way_on(self) -> None:
        for record in self.store._tasks.values():
            match record.status:
                case Status.PROCESSING:
                    assert self.queue._pool.running(record.id) is not None, "a lease that nobody has"
                case Status.QUEUED if record.run_at is None:
                    assert self.busy() == WORKERS, f"free workers, but {record} is not run"
                case Status.SUSPENDING:
                    assert record.run_at is not None or record.hold is not None or self.busy() == WORKERS
                case Status.BLOCKED:
                    others = [self.store._tasks.get(other) for other in record.depends_on]
                    assert any(other is not None and not other.final for other in others), "blocked for ever"
            if record.status in FINAL or record.status is Status.PAUSED:
                assert (record.want, record.hold) == (Want.RUN, None)

    def busy(self) -> int:
        return sum(record.status is Status.PROCESSING for record in self.store._tasks.values())

    @invariant()
    def limits_are_kept(self) -> None:
        assert self.busy() <= WORKERS
        for record in self.store._tasks.values():
            assert record.attempt <= MAX_RETRY
            assert record.crashes <= transitions.CRASH_LIMIT

    @invariant()
    def history_is_a_walk_along_the_edges(self) -> None:
        by_task: dict[int, list[Event]] = {}
        last = 0
        for event in self.store._events:
            assert event.sequence > last
            last = event.sequence
            by_task.setdefault(event.task_id, []).append(event)
        for task_id, events in by_task.items():
            at = None
            for event in events:
                assert event.target is not None
                assert event.source == at
                if at is not None and event.target is not at:
                    assert event.target in EDGES[at]
                at = event.target
            assert self.store._tasks[task_id].status == at

    @invariant()
    def counters_are_what_counting_says(self) -> None:
        counted = Counter(record.status for record in self.store._tasks.values())
        assert self.runner.run(self.store.tally()) == dict(counted)

    @invariant()
    def final_is_final(self) -> None:
        for record in self.store._tasks.values():
            if record.status in FINAL:
                first = self.finals.setdefault(record.id, (record.status, record.retries))
                assert first == (record.status, record.retries)

    def teardown(self) -> None:
        async def end() -> None:
            if hasattr(self, "rig"):
                await self.rig.stop()

        self.runner.run(end())
        self.runner.close()


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
