"""What a store promises of submits."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import msgspec
import pytest

from dlqueue.queue import transitions
from dlqueue.queue.errors import Conflict, InvalidTask, QueueFull, TaskNotFound
from dlqueue.queue.estimate import Estimate
from dlqueue.queue.record import Change, Filter, NewTask, Options, TaskRecord
from dlqueue.queue.status import Status, Want
from dlqueue.queue.testing.bench import NODE, NOW, Bench, Suite, settle
from dlqueue.queue.transitions import Settlement

EVERYTHING = Filter()


def new(key: str | None = None, params: Any = None, type: str = "test", **fields: Any) -> NewTask:
    return NewTask(type=type, params=params, unique_key=key, **fields)


class Submits(Suite):
    async def test_what_was_submitted_is_there(self, bench: Bench) -> None:
        parent = await bench.submit()
        task = NewTask(
            type="probe",
            params={"url": "https://example.org/ä", "n": [1, 2.5, None, True], "big": 2**62},
            queue="lane",
            priority=-7,
            rank=-7.25,
            owner="1000",
            labels={"tag": ["a", "b"], "x": []},
            correlation_id="c-1",
            unique_key="key",
            join_key="join",
            parent_id=parent.id,
            run_at=NOW + 60,
            max_retry=3,
            options=Options(
                retry_delay=1.5,
                timeout=2,
                max_execution=3600,
                on_dependency_failure="run",
                estimate=Estimate(memory=2**33, cpu=0.5, temp=7, seconds=90.5),
            ),
        )
        (submission,) = await bench.submit_all(task)
        record = submission.record
        assert submission.created
        assert await bench.store.get(record.id) == record
        for name in set(NewTask.__struct_fields__) - {"paused", "depends_on"}:
            assert getattr(record, name) == getattr(task, name), name
        assert (record.status, record.want, record.revision) == (Status.QUEUED, Want.RUN, 1)
        assert (record.since, record.created_at, record.started_at, record.finished_at) == (NOW, NOW, None, None)
        assert (record.state, record.progress, record.result, record.error) == (None, None, None, None)

    async def test_ids_ascend_in_the_order_given(self, bench: Bench) -> None:
        made = await bench.submit_all(*(new(params=i) for i in range(20)))
        more = [await bench.submit(params=i) for i in range(20, 25)]
        records = [s.record for s in made] + more
        assert [r.params for r in records] == list(range(25))
        assert [r.id for r in records] == sorted({r.id for r in records})

    async def test_concurrent_submits_are_all_stored(self, bench: Bench) -> None:
        records = await asyncio.gather(*(bench.submit(params=i) for i in range(100)))
        assert len({r.id for r in records}) == 100
        for record in records:
            assert (await bench.store.get(record.id)).params == record.params
        assert [c.record.id for c in bench.told] == sorted(r.id for r in records)

    async def test_all_or_nothing(self, bench: Bench) -> None:
        with pytest.raises(InvalidTask, match="depends_on: task 999999 not found"):
            await bench.submit_all(new("a"), new("b", owner="x"), new(depends_on=(999_999,)))
        with pytest.raises(InvalidTask, match="parent_id: task 999999 not found"):
            await bench.submit_all(new("a"), new(parent_id=999_999))
        assert await bench.store.count(EVERYTHING) == 0
        assert (await bench.all_events(), bench.told) == ([], [])
        # Nor do the keys of what was not stored count.
        (first, second) = await bench.submit_all(new("a", {"other": 1}), new("b", {"other": 1}, owner="x"))
        assert (first.created, second.created) == (True, True)

    async def test_a_refused_submit_leaves_others_of_the_moment_alone(self, bench: Bench) -> None:
        good, bad, also_good = await asyncio.gather(
            bench.submit(params=1), bench.submit(depends_on=(999_999,)), bench.submit(params=2), return_exceptions=True
        )
        assert isinstance(bad, InvalidTask)
        assert not isinstance(good, BaseException)
        assert not isinstance(also_good, BaseException)
        assert await bench.store.ids(EVERYTHING, 10) == [good.id, also_good.id]

    async def test_the_caller_may_change_his_params_afterwards(self, bench: Bench) -> None:
        params: dict[str, Any] = {"list": [1]}
        record = await bench.submit(params=params)
        params["list"].append(2)
        assert (await bench.store.get(record.id)).params == {"list": [1]}

    async def test_ids_are_never_used_again(self, bench: Bench) -> None:
        old = [await bench.submit() for _ in range(3)]
        for record in old:
            await bench.end(record.id)
            await bench.remove(record.id)
        following = await bench.submit()
        assert following.id > old[-1].id
        await bench.cancel(following.id)
        await bench.remove(following.id)
        if self.durable:
            await bench.reopen()
            assert (await bench.submit()).id > following.id

    async def test_event_numbers_are_never_used_again(self, bench: Bench) -> None:
        record = await bench.submit()
        await bench.cancel(record.id)
        removal = await bench.remove(record.id)
        if self.durable:
            await bench.reopen()
        await bench.submit()
        assert bench.told[-1].sequence > removal.sequence

    async def test_what_can_begin_at_once_is_claimed_with_its_submit(self, bench: Bench) -> None:
        """``take`` is asked of what is new and queued, and of nothing else."""
        first = await bench.submit("test", {"first": True}, unique_key="key")
        told = len(bench.told)
        asked: list[int] = []

        def take(record: TaskRecord) -> Change | None:
            asked.append(record.id)
            return None if record.params == "not this" else transitions.claim(record, NODE, NOW + 1)

        given = [
            new("key", {"first": True}),
            new(params="this"),
            new(params="not this"),
            new(paused=True),
            new(depends_on=(first.id,)),
        ]
        known, taken, left, paused, blocked = (s.record for s in await bench.store.submit(given, NOW, take=take))
        assert asked == [taken.id, left.id]
        assert known.id == first.id
        records = (taken, left, paused, blocked)
        assert {(r.revision, r.lease_token) for r in records} == {(1, 0)}, "the answer is what was submitted"
        now = [await bench.store.get(r.id) for r in records]
        assert [r.status for r in now] == [Status.PROCESSING, Status.QUEUED, Status.PAUSED, Status.BLOCKED]
        assert (now[0].revision, now[0].lease_token, now[0].node, now[0].started_at) == (2, 1, NODE, NOW + 1)
        heard = [(change.kind, change.record.id) for change in bench.told[told:]]
        assert heard == [*(("submitted", r.id) for r in records), ("claimed", taken.id)]
        assert await bench.store.processing() == [taken.id]
        ended = await bench.decide(taken.id, settle(1, Settlement(target=Status.COMPLETED, kind="completed")))
        assert ended.record.revision == 3

    async def test_a_refused_submit_claims_nothing(self, bench: Bench) -> None:
        take = partial(transitions.claim, node=NODE, now=NOW)
        with pytest.raises(InvalidTask):
            await bench.store.submit([new(), new(depends_on=(999_999,))], NOW, take=take)
        (made,) = await bench.store.submit([new()], NOW, take=take)
        assert await bench.store.processing() == [made.record.id]
        assert [change.kind for change in bench.told] == ["submitted", "claimed"]

    @pytest.mark.parametrize("field", ["depends_on", "parent_id"])
    async def test_there_can_be_no_cycle(self, bench: Bench, field: str) -> None:
        """A task can name only what was there before it, in its own batch too."""
        last = (await bench.submit()).id

        def naming(task_id: int) -> NewTask:
            return new(depends_on=(task_id,)) if field == "depends_on" else new(parent_id=task_id)

        for batch in ([naming(last + 1)], [naming(last + 2), naming(last + 1)]):
            with pytest.raises(InvalidTask) as caught:
                await bench.submit_all(*batch)
            assert caught.value.field == field
        assert await bench.store.count(EVERYTHING) == 1

    async def test_paused_delayed_and_dependent_ones(self, bench: Bench) -> None:
        first = await bench.submit()
        paused = await bench.submit(paused=True, run_at=NOW + 5)
        delayed = await bench.submit(run_at=NOW + 5)
        dependent = await bench.submit(depends_on=(first.id,), run_at=NOW + 5)
        assert [r.status for r in (paused, delayed, dependent)] == [Status.PAUSED, Status.QUEUED, Status.BLOCKED]
        assert {r.run_at for r in (paused, delayed, dependent)} == {NOW + 5}

    # -- unique keys --------------------------------------------------------------------------------------------------

    async def test_a_unique_key_answers_the_first_task(self, bench: Bench) -> None:
        (first,) = await bench.submit_all(new("k", {"a": 1, "b": 2}))
        (again,) = await bench.submit_all(new("k", {"b": 2, "a": 1}), now=NOW + 9)
        assert (first.created, again.created) == (True, False)
        assert again.record == first.record
        assert len(await bench.all_events()) == 1

    async def test_a_unique_key_with_other_contents_is_a_conflict(self, bench: Bench) -> None:
        first = await bench.submit(unique_key="k", params={"a": 1})
        for other in (new("k", {"a": 2}), new("k", {"a": 1}, type="other")):
            with pytest.raises(Conflict, match=f"'k' belongs to task {first.id}") as caught:
                await bench.submit_all(new(), other)
            assert caught.value.task_id == first.id
        assert await bench.store.ids(EVERYTHING, 10) == [first.id]

    async def test_a_unique_key_belongs_to_its_owner(self, bench: Bench) -> None:
        made = await bench.submit_all(new("k", 1, owner="a"), new("k", 2, owner="b"), new("k", 3))
        assert [s.created for s in made] == [True] * 3

    async def test_a_unique_key_counts_within_one_submit(self, bench: Bench) -> None:
        first, second, third = await bench.submit_all(new("k"), new("k"), new())
        assert first.record == second.record
        assert [s.created for s in (first, second, third)] == [True, False, True]
        with pytest.raises(Conflict):
            await bench.submit_all(new("new", 1), new("new", 2))

    async def test_a_unique_key_counts_in_every_status(self, bench: Bench) -> None:
        first = await bench.submit(unique_key="k")
        await bench.end(first.id)
        (again,) = await bench.submit_all(new("k"))
        assert (again.record.id, again.record.status, again.created) == (first.id, Status.COMPLETED, False)
        if self.durable:
            await bench.reopen()
            (again,) = await bench.submit_all(new("k"))
            assert again.record.id == first.id

    async def test_a_unique_key_is_free_when_its_task_is_removed(self, bench: Bench) -> None:
        for needs_cleanup in (False, True):
            first = await bench.submit(unique_key="k", params=needs_cleanup)
            await bench.end(first.id, Status.ERROR)
            await bench.remove(first.id, needs_cleanup)
            with pytest.raises(TaskNotFound):
                await bench.store.get(first.id)
        (again,) = await bench.submit_all(new("k", "another"))
        assert again.created

    # -- join keys ----------------------------------------------------------------------------------------------------

    async def test_a_join_key_answers_an_unfinished_task(self, bench: Bench) -> None:
        first, second = await bench.submit_all(new(params=1, join_key="j"), new(params=2, join_key="j"))
        assert (second.record.id, second.record.params, second.created) == (first.record.id, 1, False)
        await bench.hold(first.record.id, "h")
        (third,) = await bench.submit_all(new(params=3, join_key="j"))
        assert (third.record.id, third.created) == (first.record.id, False)
        await bench.cancel(first.record.id)
        (fourth,) = await bench.submit_all(new(params=4, join_key="j"))
        assert fourth.created

    # -- capacity -----------------------------------------------------------------------------------------------------

    async def test_capacity_of_each_queue(self, bench: Bench) -> None:
        room = {"a": 2, "c": 0}
        await bench.store.submit([new(queue="a"), new(queue="b"), new(queue="b"), new(queue="b")], NOW, room)
        with pytest.raises(QueueFull, match="queue 'a' is full: 1 unfinished tasks, its capacity is 2"):
            await bench.store.submit([new(queue="b"), new(queue="a"), new(queue="a")], NOW, room)
        assert await bench.store.count(EVERYTHING) == 4
        (last,) = await bench.store.submit([new(queue="a")], NOW, room)
        for queue in ("a", "c"):
            with pytest.raises(QueueFull, match=f"'{queue}' is full"):
                await bench.store.submit([new(queue=queue)], NOW, room)
        await bench.end(last.record.id)
        assert await bench.store.submit([new(queue="a")], NOW, room), "a finished task takes no room"

    async def test_an_answered_task_needs_no_room(self, bench: Bench) -> None:
        room = {"default": 1}
        (first,) = await bench.store.submit([new("k", join_key="j")], NOW, room)
        for again in (new("k", join_key="j"), new(join_key="j")):
            for capacity in (room, {"default": 0}):
                (submission,) = await bench.store.submit([again], NOW, capacity)
                assert submission.record == first.record

    async def test_the_listener_hears_of_a_submit_before_it_returns(self, bench: Bench) -> None:
        record = await bench.submit()
        (change,) = bench.told
        assert (change.record, change.source, change.kind) == (record, None, "submitted")
        (event,) = await bench.all_events()
        assert (event.sequence, event.task_id) == (change.sequence, record.id)
        assert msgspec.json.decode(msgspec.json.encode(event))["target"] == "queued"
