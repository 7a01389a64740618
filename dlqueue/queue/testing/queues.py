"""What a store promises of queues: figures, those that are set at run time, and order by standing."""

from __future__ import annotations

from typing import Any

from dlqueue.queue.rank import rank
from dlqueue.queue.record import Options, QueueRow
from dlqueue.queue.status import Status
from dlqueue.queue.testing.bench import NOW, Bench, Suite

TYPES = ("test",)


class Queues(Suite):
    async def test_tasks_are_counted_by_queue_and_status(self, bench: Bench) -> None:
        assert await bench.store.tallies() == {}
        for number in range(3):
            record = await bench.submit(queue="a")
            if number == 0:
                await bench.end(record.id)
        await bench.claim((await bench.submit(queue="b")).id)
        assert await bench.store.tallies() == {
            "a": {Status.COMPLETED: 1, Status.QUEUED: 2},
            "b": {Status.PROCESSING: 1},
        }

    async def test_queue_rows_are_kept(self, bench: Bench) -> None:
        assert await bench.store.queue_rows() == []
        settings: dict[str, Any] = {"concurrency": 3, "rate": "10/s", "ageing": 0.5}
        first = QueueRow("a", settings, {"concurrency": None, "rate": "1/s", "ageing": 0.0}, False, NOW)
        await bench.store.save_queues([first, QueueRow("b", paused=True)])
        changed = QueueRow("a", {"max_retry": 2}, {"max_retry": None}, True, NOW)
        await bench.store.save_queues([changed])
        rows = {row.name: row for row in await bench.store.queue_rows()}
        assert rows == {"a": changed, "b": QueueRow("b", paused=True)}
        if self.durable:
            await bench.reopen()
            assert {row.name: row for row in await bench.store.queue_rows()} == rows

    async def test_a_row_is_no_queue_with_tasks(self, bench: Bench) -> None:
        await bench.store.save_queues([QueueRow("a")])
        assert await bench.store.queues() == []

    async def test_ready_tells_starts_from_steps_between(self, bench: Bench) -> None:
        new = await bench.submit()
        between = await bench.submit()
        await bench.hold(between.id, "x")
        assert await bench.store.wake("x", None, NOW) == 1
        retries = await bench.submit()
        await bench.end(retries.id, Status.SUSPENDING, run_at=NOW + 5, attempt=1)
        later = await bench.submit()
        await bench.end(later.id, Status.SUSPENDING, run_at=NOW + 5)
        now = NOW + 10
        starts = await bench.store.ready("default", TYPES, now, 10, fresh=True)
        steps = await bench.store.ready("default", TYPES, now, 10, fresh=False)
        assert [(due.id, due.fresh) for due in starts] == [(new.id, True), (retries.id, True)]
        assert [(due.id, due.fresh) for due in steps] == [(between.id, False), (later.id, False)]
        everything = await bench.store.ready("default", TYPES, now, 10)
        assert [due.id for due in everything] == [new.id, between.id, retries.id, later.id]
        timed = await bench.store.timed(TYPES, NOW, 10)
        assert [(due.id, bool(due.fresh)) for due in timed] == [(retries.id, True), (later.id, False)]

    async def test_standing_outlives_another_ageing(self, bench: Bench) -> None:
        plain = await bench.submit(rank=rank(0, NOW, 1), now=NOW)
        raised = await bench.submit(rank=rank(0, NOW, 1, 20.0), options=Options(standing=20.0), now=NOW)
        lowered = await bench.submit(rank=rank(0, NOW, 1, -20.0), options=Options(standing=-20.0), now=NOW)
        assert await bench.store.rerank("default", 1) is False
        assert await bench.store.rerank("default", 0) is True
        ranks = [(await bench.store.get(record.id)).rank for record in (plain, raised, lowered)]
        assert ranks == [0.0, 20.0, -20.0]
        assert await bench.store.rerank("default", 0) is False
        order = [due.id for due in await bench.store.ready("default", TYPES, NOW, 10)]
        assert order == [raised.id, plain.id, lowered.id]

    async def test_a_sample_with_standing_does_not_look_like_another_ageing(self, bench: Bench) -> None:
        await bench.submit(rank=rank(0, NOW, 0, -20.0), options=Options(standing=-20.0), now=NOW)
        assert await bench.store.rerank("default", 0) is False
