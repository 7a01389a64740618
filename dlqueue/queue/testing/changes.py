"""What a store promises of changes: decisions, wakes and what follows for dependent tasks."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from dlqueue.queue import transitions, wants
from dlqueue.queue.errors import Conflict, TaskNotFound
from dlqueue.queue.rank import rank
from dlqueue.queue.record import Answer, Change, Filter, Options, Progress, TaskError, TaskRecord
from dlqueue.queue.status import EDGES, Status
from dlqueue.queue.testing.bench import NODE, NOW, Bench, Suite, settle
from dlqueue.queue.transitions import Settlement

S = Status


def refuse(record: TaskRecord) -> Change | None:
    raise Conflict("no", record.id)


def keep(record: TaskRecord) -> Change | None:
    return None


def status_of(answer: Answer) -> Status:
    assert isinstance(answer, Change), answer
    return answer.record.status


class Changes(Suite):
    async def test_a_whole_life_is_kept(self, bench: Bench) -> None:
        """Every column that a step may set comes back as it was written, and claims leave the data alone."""
        made = await bench.submit(params={"p": 1}, labels={"l": ["v"]}, options=Options(max_execution=100), max_retry=2)
        claimed = await bench.claim(made.id, NOW + 1)
        assert (claimed.status, claimed.node, claimed.lease_token) == (S.PROCESSING, NODE, 1)
        error = TaskError("kind", "message ü", NOW + 2)
        end = Settlement(
            target=S.SUSPENDING,
            kind="retry",
            state=b'{"polls":1}',
            progress=Progress(percent=12.5, message="m", step={"name": "s"}, counters={"c": 1.0}),
            error=error,
            run_at=NOW + 30,
            hold="slot:x",
            attempt=1,
            retried=True,
            executed=0.75,
            started_at=NOW + 1,
        )
        waits = (await bench.decide(made.id, settle(1, end, NOW + 2))).record
        assert waits == await bench.store.get(made.id)
        assert (waits.state, waits.progress, waits.error) == (end.state, end.progress, error)
        assert (waits.hold, waits.run_at, waits.since, waits.node) == ("slot:x", NOW + 30, NOW + 2, None)
        assert (waits.attempt, waits.retries, waits.executed_seconds) == (1, 1, 0.75)
        assert (waits.started_at, waits.expires_at) == (NOW + 1, NOW + 101)
        if self.durable:
            await bench.reopen()
        again = await bench.claim(made.id, NOW + 30)
        assert (again.params, again.labels, again.state, again.error) == ({"p": 1}, {"l": ["v"]}, waits.state, error)
        assert await bench.store.get(made.id) == again
        ended = Settlement(target=S.COMPLETED, kind="completed", result={"r": [1]}, state=b"{}")
        done = (await bench.decide(made.id, settle(2, ended, NOW + 40))).record
        assert done == await bench.store.get(made.id)
        assert (done.status, done.result, done.error, done.finished_at) == (S.COMPLETED, {"r": [1]}, None, NOW + 40)
        assert done.delivered_at == NOW + 40

    async def test_every_change_is_counted_told_and_an_edge(self, bench: Bench) -> None:
        record = await bench.submit(max_retry=1)
        other = await bench.submit()
        await bench.end(record.id, S.SUSPENDING, run_at=NOW)
        await bench.pause(record.id)
        await bench.pause(other.id)
        await bench.resume(record.id)
        await bench.end(record.id, S.ERROR, error=TaskError("k", "why", NOW))
        await bench.decide(record.id, partial(wants.retry, now=NOW))
        await bench.end(record.id)
        changes = [change for change in bench.told if change.record.id == record.id]
        assert [change.record.revision for change in changes] == list(range(1, len(changes) + 1))
        assert changes[-1].record == await bench.store.get(record.id)
        sequences = [change.sequence for change in bench.told]
        assert sequences == sorted(set(sequences))
        events = await bench.store.history(record.id)
        assert [e.sequence for e in events] == [change.sequence for change in changes if change.kind]
        for event in events:
            assert event.target is not None
            assert event.source is None or event.source is event.target or event.target in EDGES[event.source]
        assert [e.target for e in events] == [
            S.QUEUED, S.PROCESSING, S.SUSPENDING, S.PAUSED, S.QUEUED, S.PROCESSING, S.ERROR, S.QUEUED, S.PROCESSING,
            S.COMPLETED,
        ]  # fmt: skip
        assert [e.error.message for e in events if e.error is not None] == ["why"]
        assert [e.task_id for e in await bench.all_events()] == [c.record.id for c in bench.told if c.kind]
        assert len(await bench.store.history(record.id, limit=3)) == 3
        assert (await bench.store.history(record.id, limit=3))[-1] == events[-1]
        later = [e for e in await bench.all_events() if e.sequence > events[2].sequence]
        assert await bench.store.events(events[2].sequence, 2) == later[:2]

    async def test_several_decisions_on_one_task_in_one_call(self, bench: Bench) -> None:
        record = await bench.submit()
        end = Settlement(target=S.COMPLETED, kind="completed", result=5)
        answers = await bench.store.transact(
            [
                (record.id, partial(transitions.claim, node=NODE, now=NOW)),
                (record.id, refuse),
                (record.id, settle(1, end)),
                (record.id, partial(wants.cancel, now=NOW, needs_cleanup=False)),
            ]
        )
        assert [status_of(answers[0]), status_of(answers[2])] == [S.PROCESSING, S.COMPLETED]
        assert isinstance(answers[1], Conflict)
        assert isinstance(answers[3], Conflict), "the last one has seen the ones before"
        stored = await bench.store.get(record.id)
        assert (stored.status, stored.result, stored.revision) == (S.COMPLETED, 5, 3)
        assert [change.record.revision for change in bench.told] == [1, 2, 3]

    async def test_a_refusal_stops_nobody_else(self, bench: Bench) -> None:
        first, second, third = [await bench.submit() for _ in range(3)]
        claim = partial(transitions.claim, node=NODE, now=NOW)
        answers = await bench.store.transact(
            [(first.id, claim), (second.id, refuse), (999_999, claim), (third.id, claim), (first.id, keep)]
        )
        assert [status_of(answers[0]), status_of(answers[3])] == [S.PROCESSING] * 2
        assert isinstance(answers[1], Conflict)
        assert isinstance(answers[2], TaskNotFound)
        assert answers[4] is None
        assert await bench.store.get(second.id) == second
        assert await bench.store.processing() == [first.id, third.id]

    async def test_what_is_refused_or_kept_changes_nothing(self, bench: Bench) -> None:
        record = await bench.submit()
        events = await bench.all_events()
        bench.told.clear()
        await bench.store.transact([(record.id, refuse), (record.id, keep)])
        assert await bench.store.transact([]) == []
        assert await bench.store.get(record.id) == record
        assert (await bench.all_events(), bench.told) == (events, [])

    async def test_concurrent_decisions_lose_nothing_to_each_other(self, bench: Bench) -> None:
        record = await bench.submit()

        def count(task: TaskRecord) -> Change:
            return transitions.amend(task, NOW, priority=task.priority + 1)

        await asyncio.gather(*(bench.decide(record.id, count) for _ in range(50)))
        stored = await bench.store.get(record.id)
        assert (stored.priority, stored.revision) == (50, 51)

    async def test_the_listener_is_told_before_the_verb_returns(self, bench: Bench) -> None:
        record = await bench.submit()
        order: list[str] = []

        async def change(number: int) -> None:
            await bench.decide(record.id, lambda task: transitions.amend(task, NOW, "note", str(number)))
            assert str(number) in [c.message for c in bench.told]
            order.append(str(number))

        await asyncio.gather(*(change(number) for number in range(10)))
        assert [c.message for c in bench.told if c.message] == sorted(order)

    async def test_of_two_claims_one_wins(self, bench: Bench) -> None:
        record = await bench.submit()
        claim = partial(transitions.claim, node=NODE, now=NOW)
        answers = await asyncio.gather(*(bench.store.transact([(record.id, claim)]) for _ in range(5)))
        assert sum(answer[0] is not None for answer in answers) == 1
        assert (await bench.store.get(record.id)).lease_token == 1

    async def test_a_removed_row_is_gone(self, bench: Bench) -> None:
        record = await bench.submit(labels={"a": ["b"]}, correlation_id="c")
        await bench.end(record.id)
        change = await bench.remove(record.id)
        assert (change.delete, bench.told[-1].delete) == (True, True)
        with pytest.raises(TaskNotFound, match=f"task {record.id} not found"):
            await bench.store.get(record.id)
        with pytest.raises(TaskNotFound):
            await bench.remove(record.id)
        for filter in (Filter(), Filter(labels=(("a", "b"),)), Filter(correlation_id="c")):
            assert await bench.store.count(filter) == 0
        assert (await bench.store.history(record.id), await bench.all_events()) == ([], [])

    async def test_a_row_that_waits_for_its_removal_is_hidden(self, bench: Bench) -> None:
        record, shown = await bench.submit(params="x"), await bench.submit(params="x")
        for task in (record, shown):
            await bench.end(task.id, S.ERROR, cleanup=True)
        await bench.remove(record.id, needs_cleanup=True)
        with pytest.raises(TaskNotFound):
            await bench.store.get(record.id)
        for filter in (Filter(), Filter(status=(S.ERROR,)), Filter(text="x")):
            assert await bench.store.ids(filter, 10) == [shown.id]
            assert await bench.store.count(filter) == 1
            assert [r.id for r in (await bench.store.find(filter)).items] == [shown.id]
        assert await bench.store.cleanups(10) == [record.id, shown.id]
        assert await bench.store.cleanups(1) == [record.id]
        begun = (await bench.decide(record.id, partial(transitions.begin_cleanup, node=NODE, now=NOW))).record
        await bench.decide(
            record.id, lambda r: transitions.end_cleanup(r, begun=begun, state=r.state, now=NOW, done=True)
        )
        assert await bench.store.cleanups(10) == [shown.id]

    async def test_processing_and_tally(self, bench: Bench) -> None:
        a, b, c, _ = [await bench.submit() for _ in range(4)]
        await bench.claim(c.id)
        await bench.claim(a.id)
        await bench.end(b.id)
        assert await bench.store.processing() == [a.id, c.id]
        assert await bench.store.tally() == {S.QUEUED: 1, S.PROCESSING: 2, S.COMPLETED: 1}
        if self.durable:
            await bench.reopen()
            assert await bench.store.processing() == [a.id, c.id]

    # -- wake ---------------------------------------------------------------------------------------------------------

    async def test_wake_goes_by_rank_and_limit(self, bench: Bench) -> None:
        tasks = [await bench.submit(rank=rank) for rank in (1.0, 3.0, 2.0, 3.0)]
        for task in tasks:
            await bench.hold(task.id, "slot:a", NOW + 100)
        other = await bench.submit()
        await bench.hold(other.id, "slot:b")
        bench.told.clear()
        assert await bench.store.wake("slot:a", 3, NOW) == 3
        assert [change.record.id for change in bench.told] == [tasks[1].id, tasks[3].id, tasks[2].id]
        for change in bench.told:
            assert (change.record.hold, change.record.run_at, change.record.status) == (None, None, S.SUSPENDING)
            assert await bench.store.get(change.record.id) == change.record
        assert await bench.store.wake("slot:a", None, NOW) == 1
        assert await bench.store.wake("slot:a", None, NOW) == 0
        assert (await bench.store.get(other.id)).hold == "slot:b"

    async def test_wake_with_a_star(self, bench: Bench) -> None:
        holds = ("slot:a", "slot:b", "slot:%", "slo", "slot", "transfer:a", "Slot:a")
        tasks = {hold: await bench.submit() for hold in holds}
        for hold, task in tasks.items():
            await bench.hold(task.id, hold)
        assert await bench.store.wake("slot:*", 2, NOW) == 2
        assert await bench.store.wake("slot:*", None, NOW) == 1
        left = {hold for hold, task in tasks.items() if (await bench.store.get(task.id)).hold}
        assert left == {"slo", "slot", "transfer:a", "Slot:a"}
        assert await bench.store.wake("*", None, NOW) == 4

    # -- ranks --------------------------------------------------------------------------------------------------------

    async def test_ranks_are_made_anew(self, bench: Bench) -> None:
        old = await bench.submit(rank=0.0, now=NOW - 6000)
        urgent = await bench.submit(rank=5.0, priority=5)
        ended = await bench.submit(rank=0.0)
        await bench.end(ended.id)
        elsewhere = await bench.submit(rank=0.0, queue="elsewhere")
        running = await bench.claim((await bench.submit(rank=1.0, priority=1)).id)
        assert not await bench.store.rerank("default", 0.0), "they have these ranks"
        assert not await bench.store.rerank("no such queue", 1.0)
        bench.told.clear()
        assert await bench.store.rerank("default", 1.0)
        assert bench.told == []
        for before in (old, urgent, running):
            after = await bench.store.get(before.id)
            assert after.rank == pytest.approx(rank(before.priority, before.created_at, 1.0))
            assert after.revision == before.revision + 1
        assert [due.id for due in await bench.store.ready("default", ["test"], NOW, 10)] == [old.id, urgent.id]
        assert (await bench.store.get(elsewhere.id)).rank == (await bench.store.get(ended.id)).rank == 0.0
        settled = await bench.decide(running.id, settle(running.lease_token, Settlement(target=S.COMPLETED), NOW))
        assert settled.record.status is S.COMPLETED
        assert not await bench.store.rerank("default", 1.0)
        assert await bench.store.rerank("default", 0.0), "and back"
        assert [due.id for due in await bench.store.ready("default", ["test"], NOW, 10)] == [urgent.id, old.id]

    # -- dependencies -------------------------------------------------------------------------------------------------

    async def test_dependencies_met(self, bench: Bench) -> None:
        a, b = await bench.submit(), await bench.submit()
        task = await bench.submit(depends_on=(a.id, b.id), run_at=NOW + 60)
        assert (task.status, task.depends_on) == (S.BLOCKED, (a.id, b.id))
        await bench.end(a.id)
        assert (await bench.store.get(task.id)).status is S.BLOCKED
        if self.durable:
            await bench.reopen()
        await bench.end(b.id)
        free = await bench.store.get(task.id)
        assert (free.status, free.run_at) == (S.QUEUED, NOW + 60)
        assert [(c.record.id, c.kind) for c in bench.told][-2:] == [(b.id, "completed"), (task.id, "unblocked")]

    async def test_an_early_result_meets_a_dependency(self, bench: Bench) -> None:
        a = await bench.submit()
        task = await bench.submit(depends_on=(a.id,))
        token = (await bench.claim(a.id)).lease_token
        await bench.decide(a.id, partial(transitions.save, token=token, now=NOW, result={"early": True}))
        assert (await bench.store.get(task.id)).status is S.QUEUED

    @pytest.mark.parametrize("ended", [S.ERROR, S.CANCELED])
    async def test_a_failed_dependency(self, bench: Bench, ended: Status) -> None:
        a = await bench.submit()
        cancel = await bench.submit(depends_on=(a.id,))
        after_cancel = await bench.submit(depends_on=(cancel.id,))
        run = await bench.submit(depends_on=(a.id,), options=Options(on_dependency_failure="run"))
        await bench.end(a.id, ended)
        canceled = await bench.store.get(cancel.id)
        assert (canceled.status, canceled.finished_at) == (S.CANCELED, NOW)
        assert (await bench.store.get(after_cancel.id)).status is S.CANCELED, "and so on down the chain"
        assert (await bench.store.get(run.id)).status is S.QUEUED
        (event,) = [e for e in await bench.store.history(cancel.id) if e.kind == "canceled"]
        assert event.message == f"task {a.id}, which it depends on, ended as {ended}"

    async def test_a_chain_is_met_link_by_link(self, bench: Bench) -> None:
        a = await bench.submit()
        b = await bench.submit(depends_on=(a.id,))
        c = await bench.submit(depends_on=(b.id,))
        await bench.end(a.id)
        assert [(await bench.store.get(i)).status for i in (b.id, c.id)] == [S.QUEUED, S.BLOCKED]
        await bench.end(b.id)
        assert (await bench.store.get(c.id)).status is S.QUEUED

    async def test_submit_after_the_dependency_has_ended(self, bench: Bench) -> None:
        done, failed = await bench.submit(), await bench.submit()
        await bench.end(done.id)
        await bench.end(failed.id, S.ERROR)
        bench.told.clear()
        met = await bench.submit(depends_on=(done.id,))
        lost = await bench.submit(depends_on=(done.id, failed.id))
        anyway = await bench.submit(depends_on=(failed.id,), options=Options(on_dependency_failure="run"))
        assert [r.status for r in (met, lost, anyway)] == [S.QUEUED, S.CANCELED, S.QUEUED]
        for record in (met, lost, anyway):
            assert await bench.store.get(record.id) == record
            targets = [e.target for e in await bench.store.history(record.id)]
            assert targets == [S.BLOCKED, record.status]
        assert [c.sequence for c in bench.told] == [e.sequence for e in (await bench.all_events())[-6:]]

    async def test_blocked_paused_and_blocked_again(self, bench: Bench) -> None:
        a = await bench.submit()
        task = await bench.submit(depends_on=(a.id,))
        assert (await bench.pause(task.id)).status is S.PAUSED
        assert (await bench.resume(task.id)).status is S.BLOCKED
        await bench.pause(task.id)
        await bench.end(a.id)
        assert (await bench.store.get(task.id)).status is S.PAUSED, "met, but paused all the same"
        assert (await bench.resume(task.id)).status is S.QUEUED

    async def test_blocked_again_and_met_in_one_transaction(self, bench: Bench) -> None:
        a = await bench.submit()
        task = await bench.submit(depends_on=(a.id,))
        await bench.pause(task.id)
        token = (await bench.claim(a.id)).lease_token
        await bench.store.transact(
            [
                (task.id, partial(wants.resume, now=NOW)),
                (a.id, settle(token, Settlement(target=S.COMPLETED, kind="completed"))),
            ]
        )
        assert (await bench.store.get(task.id)).status is S.QUEUED

    async def test_a_removed_dependency_was_met(self, bench: Bench) -> None:
        a, b = await bench.submit(), await bench.submit()
        task = await bench.submit(depends_on=(a.id, b.id))
        await bench.end(a.id)
        await bench.remove(a.id)
        assert (await bench.store.get(task.id)).status is S.BLOCKED
        await bench.end(b.id)
        assert (await bench.store.get(task.id)).status is S.QUEUED

    async def test_reopening_keeps_everything(self, bench: Bench) -> None:
        records = [await bench.submit(params=i, rank=float(i), queue=f"q{i % 2}", run_at=None) for i in range(6)]
        await bench.hold(records[0].id, "h", NOW + 5)
        await bench.end(records[1].id)
        await bench.end(records[2].id, S.ERROR, error=TaskError("k", "m", NOW), cleanup=True)
        await bench.pause(records[3].id)
        await bench.claim(records[4].id)
        before = (await bench.store.find(Filter())).items, await bench.all_events()
        if self.durable:
            await bench.reopen()
        assert ((await bench.store.find(Filter())).items, await bench.all_events()) == before
        assert await bench.store.queues() == ["q0", "q1"]
        assert await bench.store.wake("h", None, NOW) == 1
        last = (await bench.submit()).id
        assert last > records[-1].id
        sequences = [change.sequence for change in bench.told if change.kind]
        assert sequences == sorted(set(sequences))
