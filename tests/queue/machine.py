"""A queue driven at random: submits, steering, time, crashes, lost leases, late answers. Whatever is done to it, what
is seen from outside keeps to the rules; and in the end every task comes to its end.

The rules are written down here once more, from the interface, not taken from the code that has to keep them.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dlqueue.queue import (
    Canceled,
    Completed,
    Conflict,
    Context,
    CriticalError,
    InvalidTask,
    Outcome,
    QueueSettings,
    ResumeAfter,
    TaskNotFound,
    transitions,
)
from dlqueue.queue.memory import MemoryStore
from tests.queue.outside import Row, Told, Watched, events_of, rows_of, sqlite_store
from tests.queue.rig import Rig, task

T = TypeVar("T")
WORKERS, NARROW, MAX_RETRY, CRASHES = 3, 1, 2, 10
FIXED = ("id", "type", "queue", "owner", "params", "options", "depends_on", "parent_id", "created_at", "max_retry")
"""What a task is born with."""
FINAL = {"completed", "error", "canceled"}
EDGES = {
    "blocked": {"queued", "canceled", "error", "paused"},
    "queued": {"processing", "paused", "canceled", "error"},
    "processing": {"completed", "error", "canceled", "suspending", "paused", "queued"},
    "suspending": {"processing", "paused", "canceled", "error"},
    "paused": {"queued", "blocked", "canceled"},
    "completed": set(),
    "error": {"queued"},
    "canceled": {"queued"},
}
ANY = st.integers(0, 10_000)
"""Stands for one of the tasks there are: what is drawn does not depend on what has become of them."""
PLANS = st.one_of(
    st.lists(st.sampled_from(["resume", "hold", "hold+time", "raise", "slow", "save+slow", "cancel"]), max_size=4),
    st.sampled_from([["raise"] * 4, ["slow"] * 3, ["save+slow", "raise", "slow"]]),
)
ENDS = st.sampled_from(["complete", "critical"])


class Steps:
    """What tasks do: as their params say, one item a step, counted in their state. Slow ones stand until let go, and
    know nothing of leases that they have lost meanwhile."""

    def __init__(self) -> None:
        self.standing: dict[tuple[int, int], tuple[str, asyncio.Event]] = {}

    async def run(self, ctx: Context) -> Outcome:
        plan, lease = ctx.params["plan"], ctx.record.lease_token
        number = ctx.state["step"] = ctx.state.get("step", 0) + 1
        ctx.state["by"] = lease
        if number > len(plan):
            if ctx.params["end"] == "critical":
                raise CriticalError("the end")
            return Completed({"by": lease})
        match plan[number - 1]:
            case "resume":
                return ResumeAfter(3.0)
            case "hold":
                return ResumeAfter(None, hold=f"slot:{ctx.task_id % 2}")
            case "hold+time":
                return ResumeAfter(7.0, hold="slot:0")
            case "raise":
                raise ConnectionError("weather")
            case "cancel":
                return Canceled("by itself")
        if plan[number - 1] == "save+slow":
            await ctx.checkpoint()
        key = (ctx.task_id, lease)
        self.standing[key] = (ctx.record.queue, asyncio.Event())
        try:
            await self.standing[key][1].wait()
        finally:
            del self.standing[key]
        return ResumeAfter(1.0)

    def let_go(self, which: int) -> None:
        if self.standing:
            list(self.standing.values())[which % len(self.standing)][1].set()


class QueueMachine(RuleBasedStateMachine):
    """:cvar durable: on SQLite; otherwise in memory, where a crash leaves the data in place."""

    durable = False

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory() if self.durable else None
        self.memory = MemoryStore()
        self.told: list[Told] = []
        self.looked_at = 0
        self.latest: dict[int, Told] = {}
        self.acknowledged: dict[int, Row] = {}
        self.unanswered: dict[int, Row] = {}
        """Sent when the process died, by their number."""
        self.removed: set[int] = set()
        self.keys: dict[str, int] = {}
        self.number = 0
        self.rig: Any = None

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        async def and_let_it_happen() -> T:
            async with asyncio.timeout(300):  # for what hangs: a loaded machine is slow
                answer = await work
                await self.watched.quiet()
                return answer

        return self.runner.run(and_let_it_happen())

    def new_store(self) -> Any:
        inner = self.memory if self.folder is None else sqlite_store(Path(self.folder.name))
        self.watched = Watched(inner, self.told)
        return self.watched

    @initialize()
    def begin(self) -> None:
        async def start() -> None:
            self.rig = Rig(self.new_store)
            await self.start()

        self.do(start())

    async def start(self) -> None:
        self.steps = Steps()
        steps = self.steps

        async def run(ctx: Context) -> Outcome:
            return await steps.run(ctx)

        await self.rig.start(
            task(run),
            workers=WORKERS,
            max_retry=MAX_RETRY,
            retry_delay=1,
            queues={"narrow": QueueSettings(concurrency=NARROW)},
        )

    @property
    def queue(self) -> Any:
        return self.rig.queue

    def one_of_them(self, which: int) -> int | None:
        ids = sorted(self.acknowledged)
        return ids[which % len(ids)] if ids else None

    def params(self, plan: list[str], end: str) -> Row:
        self.number += 1
        return {"plan": plan, "end": end, "number": self.number}

    # -- what is done to it -------------------------------------------------------------------------------------------

    @rule(
        plan=PLANS,
        end=ENDS,
        priority=st.integers(-2, 2),
        delay=st.sampled_from([None, 5]),
        key=st.sampled_from([None, None, "a", "b"]),
        paused=st.booleans(),
        queue=st.sampled_from([None, "narrow"]),
        depends_on=st.one_of(st.just([]), st.lists(ANY, min_size=1, max_size=3)),
        policy=st.sampled_from(["cancel", "run"]),
    )
    def submit(
        self, plan: list[str], end: str, key: str | None, depends_on: list[int], policy: str, **more: Any
    ) -> None:
        others = {i for which in depends_on if (i := self.one_of_them(which)) is not None} - self.removed
        params = self.params(plan, end)
        if key is not None:
            params["number"] = 0  # the same request again, but for its plan

        async def go() -> None:
            options = {**more, "unique_key": key, "depends_on": sorted(others), "on_dependency_failure": policy}
            try:
                record = await self.queue.submit("test", params, **options)
            except Conflict as error:
                assert error.task_id == self.keys[key or ""], "the key belongs to nobody"
                assert self.acknowledged[error.task_id] != params, "the same request was refused"
                return
            self.acknowledge(record.id, params, key)

        self.do(go())

    def acknowledge(self, task_id: int, params: Row, key: str | None) -> None:
        if key is not None:
            assert self.keys.setdefault(key, task_id) == task_id, "one task for each key"
        if task_id not in self.acknowledged:
            assert task_id > max(self.acknowledged, default=0), "an id came again"
        assert self.acknowledged.setdefault(task_id, params) == params

    @rule(plans=st.lists(PLANS, min_size=2, max_size=4), end=ENDS)
    def submit_a_chain(self, plans: list[list[str]], end: str) -> None:
        async def go() -> None:
            before: list[int] = []
            for plan in plans:
                params = self.params(plan, end)
                record = await self.queue.submit("test", params, depends_on=before)
                self.acknowledge(record.id, params, None)
                before = [record.id]

        self.do(go())

    @rule(
        plans=st.lists(PLANS, min_size=1, max_size=4),
        queue=st.sampled_from([None, "narrow"]),
        bad=st.sampled_from([False, False, True]),
    )
    def submit_many(self, plans: list[list[str]], queue: str | None, bad: bool) -> None:
        made = [self.params(plan, "complete") for plan in plans]
        tasks: list[Any] = [("test", params, {"queue": queue}) for params in made]

        async def go() -> None:
            if bad:
                tasks.append(("test", None, {"depends_on": [10**9]}))
                try:
                    await self.queue.submit_many(tasks)
                except InvalidTask:
                    return
                raise AssertionError("it depends on a task that does not exist")
            for record, params in zip(await self.queue.submit_many(tasks), made, strict=True):
                self.acknowledge(record.id, params, None)

        self.do(go())

    @rule(which=ANY, verb=st.sampled_from(["cancel", "cancel", "pause", "pause", "resume", "retry", "remove"]))
    def person(self, which: int, verb: str) -> None:
        task_id = self.one_of_them(which)
        if task_id is None:
            return
        before = self.rows().get(task_id)

        async def go() -> None:
            steering = asyncio.ensure_future(getattr(self.queue, verb)(task_id))
            while not (await asyncio.wait({steering}, timeout=0))[0]:
                await self.watched.quiet(200)
                if not steering.done():
                    self.rig.clock.advance(5)
            try:
                record = await steering
            except TaskNotFound:
                assert task_id in self.removed
                return
            except Conflict:
                assert before is not None
                allowed = {"retry": {"error", "canceled"}, "remove": set(EDGES), "cancel": set(EDGES) - FINAL}
                assert before["status"] not in allowed.get(verb, set()), f"{verb} was refused: {before['status']}"
                return
            assert task_id not in self.removed
            if verb == "remove":
                self.removed.add(task_id)
                self.keys = {key: other for key, other in self.keys.items() if other != task_id}
            elif verb == "cancel":
                assert record.status == "canceled"

        self.do(go())

    @rule(which=ANY, change=st.sampled_from(["priority", "labels", "run_at", "stale"]), number=st.integers(-2, 2))
    def update(self, which: int, change: str, number: int) -> None:
        task_id = self.one_of_them(which)
        row = self.rows().get(task_id or 0)
        if task_id is None or row is None:
            return
        changes: dict[str, dict[str, Any]] = {
            "priority": {"priority": number},
            "labels": {"labels": {"a": [str(number)]}},
            "run_at": {"run_at": self.rig.clock.time() + 10 * number},
            "stale": {"priority": number + 10, "if_revision": row["revision"] - 1},
        }

        async def go() -> None:
            try:
                await self.queue.update(task_id, **changes[change])
            except (Conflict, TaskNotFound):
                return
            assert change != "stale", "what had changed was overwritten"

        self.do(go())
        if change == "run_at":
            self.acknowledged[task_id].setdefault("moved", True)

    @rule(seconds=st.sampled_from([0.5, 3, 10, 100]))
    def time_passes(self, seconds: float) -> None:
        async def go() -> None:
            self.rig.clock.advance(seconds)

        self.do(go())

    @rule(hold=st.sampled_from(["slot:0", "slot:1", "slot:*"]), n=st.sampled_from([None, 1]))
    def wake(self, hold: str, n: int | None) -> None:
        self.do(self.queue.wake(hold, n))

    @rule(how=st.sampled_from(["killed", "killed before the commit", "stopped"]), plans=st.lists(PLANS, max_size=3))
    def a_new_start(self, how: str, plans: list[list[str]]) -> None:
        """After a kill -9 with submits on their way (which may have been committed without anybody having heard of it),
        or after a stop."""
        if how == "stopped":
            self.do(self.stop())
            return
        made = [self.params(plan, "complete") for plan in plans]
        self.unanswered |= {params["number"]: params for params in made}

        async def go() -> None:
            go_on = self.watched.hold_writes()
            sent = [asyncio.ensure_future(self.queue.submit("test", params)) for params in made]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            for one in sent:
                one.cancel()
            go_on(how != "killed")
            await asyncio.gather(*sent, return_exceptions=True)
            await self.rig.crash()
            await self.start()

        self.do(go())

    async def stop(self) -> None:
        before = {row["id"] for row in self.rows().values() if row["status"] == "error"}
        await self.rig.stop()
        after = {row["id"] for row in self.rows().values() if row["status"] == "error"}
        assert after == before, "a stop has failed a task"
        await self.start()

    @rule(which=ANY)
    def lease_expires(self, which: int) -> None:
        """Somebody else thinks the worker dead, and takes its task away."""
        running = sorted(row["id"] for row in self.rows().values() if row["status"] == "processing")
        if running:
            decide = partial(transitions.rescue, now=self.rig.clock.time())
            self.do(self.queue._store.transact([(running[which % len(running)], decide)]))

    @rule(which=ANY)
    def step_ends(self, which: int) -> None:
        """One that stood goes on, perhaps to bring what nobody wants any more."""

        async def go() -> None:
            self.steps.let_go(which)

        self.do(go())

    # -- what is seen -------------------------------------------------------------------------------------------------

    def rows(self) -> dict[int, Row]:
        return rows_of(self.watched.inner)

    @invariant()
    def nothing_acknowledged_is_lost(self) -> None:
        if self.rig is None:
            return
        rows = self.rows()
        for task_id, row in rows.items():
            if task_id not in self.acknowledged:
                number = row["params"]["number"]
                assert number in self.unanswered, "nobody has submitted this"
                assert self.unanswered[number] == row["params"]
                self.acknowledged[task_id] = self.unanswered[number]
        assert rows.keys() - self.acknowledged.keys() == set()
        assert self.acknowledged.keys() - self.removed - rows.keys() == set(), "lost"
        for task_id, row in rows.items():
            sent = {name: value for name, value in self.acknowledged[task_id].items() if name != "moved"}
            assert row["params"] == sent
        numbers = [row["params"]["number"] for row in rows.values() if row["params"]["number"]]
        assert len(numbers) == len(set(numbers)), "submitted once, stored twice"
        keys = [(row["owner"], row["unique_key"]) for row in rows.values() if row["unique_key"] is not None]
        assert len(keys) == len(set(keys)), "two tasks with one key"

    @invariant()
    def every_change_is_allowed(self) -> None:
        for told in self.told[self.looked_at :]:
            self.looked_at += 1
            before = self.latest.get(told.id)
            row = told.row
            if before is None:
                assert (told.source, row["revision"], row["lease_token"]) == (None, 1, 0)
            else:
                self.check_change(before.row, told)
            assert row["attempt"] <= row["max_retry"] == MAX_RETRY
            assert row["crashes"] <= CRASHES
            self.latest[told.id] = told
        sequences = [told.sequence for told in self.told if told.kind]
        assert sequences == sorted(set(sequences)), "events out of order"

    def check_change(self, old: Row, told: Told) -> None:
        new, status = told.row, str(told.row["status"])
        assert new["revision"] == old["revision"] + 1
        assert told.source == old["status"]
        assert {name: new[name] for name in FIXED} == {name: old[name] for name in FIXED}
        assert new["lease_token"] >= old["lease_token"]
        assert new["retries"] >= old["retries"]
        if status != old["status"]:
            assert status in EDGES[old["status"]], f"{old['status']} → {status}"
            assert told.kind, "a change of status without an event"
        if old["status"] in FINAL and status not in FINAL:
            assert (told.kind, new["retries"]) == ("retried", old["retries"] + 1), "a final task came to life"
        if old["status"] in FINAL and status in FINAL:
            kept = ("status", "result", "error", "finished_at", "retries", "state")
            assert {name: new[name] for name in kept} == {name: old[name] for name in kept}
        taken = status == "processing" and old["status"] != "processing"
        if taken or told.kind in ("rescued", "released", "retried"):
            assert new["lease_token"] > old["lease_token"], f"{told.kind} without a new lease"
        else:
            assert new["lease_token"] <= old["lease_token"] + 1
        before, after = old["state"] or {}, new["state"] or {}
        assert after.get("step", 0) >= before.get("step", 0), "the state went back"
        if after != before:
            assert old["status"] == "processing"
            assert after["by"] == old["lease_token"], "somebody without a lease has written"
        if told.kind in ("suspended", "retry", "completed", "error") and old["status"] == "processing":
            assert after.get("by") == old["lease_token"] or new["crashes"] >= CRASHES, "a step's state was not saved"
        if status == "completed":
            assert new["result"] == {"by": new["lease_token"]}
            assert (new["attempt"], new["finished_at"] is None, new["node"]) == (0, False, None)

    @invariant()
    def rows_and_events_agree(self) -> None:
        if self.rig is None:
            return
        rows, at = self.rows(), dict[int, str]()
        last = 0
        for event in events_of(self.watched.inner):
            assert event["sequence"] > last
            last = event["sequence"]
            task_id = event["task_id"]
            assert event["source"] == at.get(task_id), "a gap in the history"
            at[task_id] = event["target"]
        assert at == {task_id: row["status"] for task_id, row in rows.items()}
        for task_id, row in rows.items():
            latest = self.latest[task_id].row
            for name in ("revision", "lease_token", "retries", "attempt", "hold", "run_at", "state", "result", "want"):
                assert row[name] == latest[name], name

    @invariant()
    def counters_are_what_counting_says(self) -> None:
        if self.rig is not None:
            counted = Counter(row["status"] for row in self.rows().values())
            assert self.do(self.watched.tally()) == dict(counted)

    @invariant()
    def limits_are_kept(self) -> None:
        if self.rig is None:
            return
        running = [row for row in self.rows().values() if row["status"] == "processing"]
        assert len(running) <= WORKERS
        assert sum(row["queue"] == "narrow" for row in running) <= NARROW

    @invariant()
    def every_unfinished_task_has_a_way_on(self) -> None:
        if self.rig is None:
            return
        rows, now = self.rows(), self.rig.clock.time()
        queues = [queue for queue, _ in self.steps.standing.values()]
        for row in rows.values():
            match row["status"]:
                case "processing":
                    assert (row["id"], row["lease_token"]) in self.steps.standing, "a lease that nobody has"
                case "queued" | "suspending":
                    if row["run_at"] is None and row["hold"] is not None:
                        continue
                    due = row["run_at"] is None or row["run_at"] <= now
                    full = len(queues) >= WORKERS or (row["queue"] == "narrow" and queues.count("narrow") >= NARROW)
                    assert not due or full, f"due, and nobody takes it: {row}"
                case "blocked":
                    others = [rows.get(other) for other in row["depends_on"]]
                    assert any(other is not None and other["status"] not in FINAL for other in others), "for ever"
                case "paused" | "completed" | "error" | "canceled":
                    assert (row["want"], row["hold"]) == ("run", None)

    @invariant()
    def order_is_kept(self) -> None:
        """Nothing begins before its time, or before what it depends on has ended well (if it asked for that)."""
        if self.rig is None:
            return
        rows = self.rows()
        ended: dict[int, str] = {}
        for event in events_of(self.watched.inner):
            row = rows[event["task_id"]]
            if event["target"] in FINAL and event["source"] != event["target"]:
                ended[event["task_id"]] = event["target"]
            if event["kind"] == "retried":
                ended.pop(event["task_id"], None)
            if event["kind"] != "unblocked":
                continue
            runs_anyway = (row["options"] or {}).get("on_dependency_failure") == "run"
            for other in row["depends_on"]:
                if other in rows:
                    assert ended.get(other) in (FINAL if runs_anyway else {"completed"})

    def teardown(self) -> None:
        try:
            if self.rig is not None and self.rig.queue is not None:
                self.do(self.to_the_end())
                self.nothing_acknowledged_is_lost()
                self.every_change_is_allowed()
                self.rows_and_events_agree()
        finally:
            self.runner.run(self.rig.stop() if self.rig is not None else asyncio.sleep(0))
            self.runner.close()
            if self.folder is not None:
                self.folder.cleanup()

    async def to_the_end(self) -> None:
        """Let everything go on: then every task ends."""
        left: list[Row] = []
        for _ in range(60):
            left = [row for row in self.rows().values() if row["status"] not in FINAL]
            if not left:
                return
            for row in left:
                if row["status"] == "paused" or row["want"] == "pause":
                    await self.queue.resume(row["id"])
            await self.queue.wake("slot:*")
            while self.steps.standing:
                for _, gate in list(self.steps.standing.values()):
                    gate.set()
                await self.watched.quiet()
            self.rig.clock.advance(120)
            await self.watched.quiet()
        raise AssertionError(f"these never end: {left}")
