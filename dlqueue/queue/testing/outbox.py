"""What a store promises of the outbox: a letter is there exactly if its change is, and until it is settled."""

from __future__ import annotations

from functools import partial

from dlqueue.queue import transitions, wants
from dlqueue.queue.outbox import Letter, Notice, Pending, Settled
from dlqueue.queue.record import NewTask, Options, TaskRecord
from dlqueue.queue.status import Status
from dlqueue.queue.testing.bench import NOW, Bench, Suite, settle
from dlqueue.queue.transitions import CRASH_LIMIT, Settlement

S = Status


def everything(record: TaskRecord, event: str, at: float) -> list[Notice]:
    """Somebody who wants to be told all."""
    return [Notice(f"to:{record.id}", record.queue, f"{event} {record.status} {record.result}")]


class Outbox(Suite):
    async def test_ends_are_told_and_nothing_else(self, bench: Bench) -> None:
        bench.store.address(everything)
        completed, failed, canceled, waiting = [await bench.submit() for _ in range(4)]
        await bench.end(completed.id, result={"n": 1}, now=NOW + 1)
        await bench.end(failed.id, S.ERROR, now=NOW + 2)
        await bench.cancel(canceled.id)
        await bench.hold(waiting.id, "slot:box")
        if self.durable:
            await bench.reopen()
        found = await bench.store.letters(100)
        assert sorted((letter.task_id, letter.event) for letter in found) == [
            (completed.id, "completed"),
            (completed.id, "delivered"),
            (failed.id, "error"),
            (canceled.id, "canceled"),
        ]
        assert len({letter.key for letter in found}) == len({letter.id for letter in found}) == 4
        first = (await bench.store.letters_about(completed.id))[0]
        await bench.store.settle_letters([Settled(first.id, first.due_at, "again")])
        assert [one.event for one in await bench.store.letters_about(completed.id)] == ["delivered", "completed"]
        letter = next(letter for letter in found if letter.event == "completed")
        assert (letter.target, letter.lane) == (f"to:{completed.id}", "default")
        assert letter.body == "completed completed {'n': 1}"
        assert (letter.at, letter.due_at, letter.attempts, letter.last_error) == (NOW + 1, NOW + 1, 0, None)
        posted = {change.kind for change in bench.told if change.posted}
        assert posted == {"completed", "error", "canceled"}

    async def test_what_nobody_wants_is_not_written(self, bench: Bench) -> None:
        made = await bench.submit()
        await bench.end(made.id)
        bench.store.address(lambda record, event, at: [])
        await bench.end((await bench.submit()).id)
        assert await bench.store.letters(10) == []
        assert not any(change.posted for change in bench.told)

    async def test_what_the_submitter_said_is_there_to_be_asked(self, bench: Bench) -> None:
        def own(record: TaskRecord, event: str, at: float) -> list[Notice]:
            return [Notice(one, "", "") for one in record.options.notify or ()]

        bench.store.address(own)
        made = await bench.submit(options=Options(notify=["a", "b"]))
        await bench.end((await bench.submit()).id)
        await bench.cancel(made.id)
        assert [letter.target for letter in await bench.store.letters(10)] == ["a", "b"]

    async def test_a_result_is_told_once(self, bench: Bench) -> None:
        bench.store.address(everything)
        made = await bench.submit()
        token = (await bench.claim(made.id)).lease_token
        for result in (1, 2):
            await bench.decide(made.id, partial(transitions.save, token=token, now=NOW, result=result))
        await bench.decide(made.id, settle(token, Settlement(target=S.COMPLETED, kind="completed")))
        assert [letter.event for letter in await bench.store.letters(10)] == ["delivered", "completed"]

    async def test_a_retried_task_tells_again(self, bench: Bench) -> None:
        bench.store.address(everything)
        made = await bench.submit()
        for _ in range(2):
            await bench.end(made.id, S.ERROR)
            await bench.decide(made.id, partial(wants.retry, now=NOW))
        await bench.end(made.id)
        events = [letter.event for letter in await bench.store.letters(10)]
        assert events == ["error", "error", "delivered", "completed"]

    async def test_a_step_that_keeps_dying_and_a_dependency_that_failed_are_told(self, bench: Bench) -> None:
        bench.store.address(everything)
        poison = await bench.submit()
        behind = await bench.submit(depends_on=(poison.id,))
        for _ in range(CRASH_LIMIT):
            await bench.claim(poison.id)
            await bench.decide(poison.id, partial(transitions.rescue, now=NOW))
        found = [(letter.task_id, letter.event) for letter in await bench.store.letters(10)]
        assert found == [(poison.id, "error"), (behind.id, "canceled")]

    async def test_a_task_that_is_canceled_as_it_is_submitted(self, bench: Bench) -> None:
        bench.store.address(everything)
        failed = await bench.submit()
        await bench.end(failed.id, S.ERROR)
        late = (await bench.submit_all(NewTask(type="test", params=None, depends_on=(failed.id,))))[0].record
        assert late.status is S.CANCELED
        found = [(letter.task_id, letter.event) for letter in await bench.store.letters(10)]
        assert found == [(failed.id, "error"), (late.id, "canceled")]

    async def test_many_at_once(self, bench: Bench) -> None:
        bench.store.address(everything)
        made = await bench.submit_all(*[NewTask(type="test", params=None) for _ in range(50)])
        cancel = partial(wants.cancel, now=NOW, needs_cleanup=False)
        await bench.store.transact([(submission.record.id, cancel) for submission in made])
        found = await bench.store.letters(100)
        assert [letter.task_id for letter in found] == [submission.record.id for submission in made]
        assert len({letter.key for letter in found}) == 50

    async def test_a_refused_change_tells_nothing(self, bench: Bench) -> None:
        bench.store.address(everything)
        made = await bench.submit()
        token = (await bench.claim(made.id)).lease_token
        stale = settle(token - 1, Settlement(target=S.COMPLETED, kind="completed"))
        await bench.store.transact([(made.id, stale)])
        assert await bench.store.letters(10) == []

    async def test_letters_outlive_their_task(self, bench: Bench) -> None:
        bench.store.address(everything)
        removed, purged = await bench.submit(), await bench.submit()
        for task in (removed, purged):
            await bench.end(task.id, S.ERROR)
        await bench.remove(removed.id)
        assert await bench.store.purge([purged.id], NOW + 10, (), NOW + 20) == 1
        if self.durable:
            await bench.reopen()
        assert [letter.task_id for letter in await bench.store.letters(10)] == [removed.id, purged.id]

    async def test_settled_letters_go_or_are_put_off(self, bench: Bench) -> None:
        bench.store.address(everything)
        for _ in range(3):
            await bench.cancel((await bench.submit()).id)
        first, second, third = await bench.store.letters(10)
        await bench.store.settle_letters([Settled(first.id, NOW + 9, "no answer"), Settled(second.id), Settled(999)])
        if self.durable:
            await bench.reopen()
        left = await bench.store.letters(10)
        assert [letter.id for letter in left] == [third.id, first.id]
        assert (left[1].key, left[1].attempts, left[1].due_at, left[1].last_error) == (
            first.key, 1, NOW + 9, "no answer",
        )  # fmt: skip
        assert await bench.store.letters_about(first.task_id) == [left[1]]
        assert await bench.store.letters_about(second.task_id) == []

    async def test_what_is_pending_is_counted(self, bench: Bench) -> None:
        bench.store.address(everything)
        assert await bench.store.letters_pending() == Pending(0, None)
        tasks = [await bench.submit() for _ in range(3)]
        for task, at in zip(tasks, (NOW + 5, NOW + 3, NOW + 9), strict=True):
            await bench.end(task.id, S.ERROR, now=at)
        assert await bench.store.letters_pending() == Pending(3, NOW + 3)
        (oldest,) = await bench.store.letters_about(tasks[1].id)
        await bench.store.settle_letters([Settled(oldest.id)])
        assert await bench.store.letters_pending() == Pending(2, NOW + 5)

    async def test_lanes_can_be_left_out(self, bench: Bench) -> None:
        bench.store.address(everything)
        tasks = [await bench.submit(queue=queue) for queue in ("a", "b", "c", "a")]
        for task in tasks:
            await bench.cancel(task.id)

        async def found(limit: int, without: set[str]) -> list[Letter]:
            return await bench.store.letters(limit, without)

        assert [letter.lane for letter in await found(10, {"a", "c"})] == ["b"]
        assert [letter.lane for letter in await found(2, {"b"})] == ["a", "c"]

    async def test_lanes_that_begin_alike_can_be_left_out_together(self, bench: Bench) -> None:
        lanes = ["ann", "ann|a", "ann|b", "anna|a", "an|n", "b"]
        bench.store.address(lambda record, event, at: [Notice("x", lane, "") for lane in lanes])
        await bench.cancel((await bench.submit()).id)
        assert [letter.lane for letter in await bench.store.letters(10, {"ann|"})] == ["ann", "anna|a", "an|n", "b"]
        assert [letter.lane for letter in await bench.store.letters(10, {"an|", "ann|", "b"})] == ["ann", "anna|a"]

    async def test_a_step_ends_beside_a_remark(self, bench: Bench) -> None:
        """A line in the history of a running task costs its step nothing."""
        made = await bench.submit()
        token = (await bench.claim(made.id)).lease_token
        remark = partial(transitions.remark, now=NOW, kind="notice_failed", message="why")
        await bench.decide(made.id, remark)
        await bench.decide(made.id, settle(token, Settlement(target=S.COMPLETED, kind="completed")))
        kinds = [event.kind for event in await bench.store.history(made.id)]
        assert kinds == ["submitted", "claimed", "notice_failed", "completed"]
