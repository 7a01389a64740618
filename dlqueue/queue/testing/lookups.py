"""What a store promises of reading: lists, pages, and what the agenda is filled from."""

from __future__ import annotations

import pytest

from dlqueue.queue.errors import InvalidTask
from dlqueue.queue.record import Filter, Progress, TaskRecord
from dlqueue.queue.status import Status
from dlqueue.queue.testing.bench import NOW, Bench, Suite

S = Status
ORDERS = [f"{sign}{name}" for name in ("id", "priority", "created_at", "finished_at") for sign in ("", "-")]
TYPES = {"test"}


class Lookups(Suite):
    # -- filters ------------------------------------------------------------------------------------------------------

    async def found(self, bench: Bench, filter: Filter) -> list[int]:
        """By all three ways of asking, which have to agree."""
        ids = await bench.store.ids(filter, 100)
        assert await bench.store.count(filter) == len(ids)
        page = await bench.store.find(filter, order="id", count=True)
        assert ([record.id for record in page.items], page.total, page.next_cursor) == (ids, len(ids), None)
        return ids

    async def test_filters(self, bench: Bench) -> None:
        a = await bench.submit("x", queue="q", owner="1", correlation_id="c", now=NOW)
        b = await bench.submit("y", owner="2", parent_id=a.id, now=NOW + 10)
        c = await bench.submit("x", owner="2", now=NOW + 20)
        await bench.end(c.id)
        for filter, wanted in (
            (Filter(), [a, b, c]),
            (Filter(type="x"), [a, c]),
            (Filter(queue="q"), [a]),
            (Filter(owner="2"), [b, c]),
            (Filter(owner="2", type="x"), [c]),
            (Filter(owner=""), []),
            (Filter(status=(S.QUEUED,)), [a, b]),
            (Filter(status=(S.COMPLETED, S.QUEUED)), [a, b, c]),
            (Filter(status=(S.ERROR,)), []),
            (Filter(correlation_id="c"), [a]),
            (Filter(parent_id=a.id), [b]),
            (Filter(since=NOW + 10), [b, c]),
            (Filter(until=NOW + 10), [a]),
            (Filter(since=NOW + 10, until=NOW + 20), [b]),
        ):
            assert await self.found(bench, filter) == [record.id for record in wanted], filter

    async def test_labels(self, bench: Bench) -> None:
        a = await bench.submit(labels={"tag": ["x", "y"], "k": ["1"]})
        b = await bench.submit(labels={"tag": ["y"]})
        await bench.submit()
        for labels, wanted in (
            ((("tag", "x"),), [a]),
            ((("tag", "y"),), [a, b]),
            ((("tag", None),), [a, b]),
            ((("tag", "y"), ("k", "1")), [a]),
            ((("tag", "%"),), []),
            ((("x", None),), []),
        ):
            assert await self.found(bench, Filter(labels=labels)) == [record.id for record in wanted], labels

    async def test_text(self, bench: Bench) -> None:
        a = await bench.submit("Fetch", {"url": "https://example.org/a_b.iso"})
        b = await bench.submit(params={"url": "https://example.org/axb 100%.iso"})
        await bench.end(b.id, progress=Progress(message="Halfway"), result={"name": "RESULT"})
        for text, wanted in (
            ("example.ORG", [a, b]),
            ("a_b", [a]),
            ("100%", [b]),
            ("%", [b]),
            ("_", [a]),
            ("fetch", [a]),
            ("halfway", [b]),
            ("result", [b]),
            ("\\", []),
            ("nowhere", []),
        ):
            assert await self.found(bench, Filter(text=text)) == [record.id for record in wanted], text

    async def test_ids_come_in_parts(self, bench: Bench) -> None:
        ids = [(await bench.submit()).id for _ in range(7)]
        assert await bench.store.ids(Filter(), 3) == ids[:3]
        assert await bench.store.ids(Filter(), 3, after=ids[2]) == ids[3:6]
        assert await bench.store.ids(Filter(), 3, after=ids[5]) == ids[6:]

    # -- pages --------------------------------------------------------------------------------------------------------

    async def tasks(self, bench: Bench, count: int) -> list[TaskRecord]:
        """With ties in every order, finished and not."""
        records = []
        for i in range(count):
            record = await bench.submit(priority=i % 3, rank=float(i % 3), now=NOW + i // 4)
            if i % 2:
                await bench.end(record.id, now=NOW + 100 - i // 4)
            records.append(await bench.store.get(record.id))
        return records

    @pytest.mark.parametrize("order", ORDERS)
    async def test_pages_have_no_gap_and_no_repetition(self, bench: Bench, order: str) -> None:
        records = await self.tasks(bench, 14)
        name = order.removeprefix("-")
        wanted = sorted(records, key=lambda r: (getattr(r, name) or 0.0, r.id), reverse=order.startswith("-"))
        seen: list[int] = []
        cursor = None
        while True:
            page = await bench.store.find(Filter(), order, limit=3, cursor=cursor)
            assert (len(page.items) <= 3, page.total) == (True, None)
            seen += [record.id for record in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
            await bench.submit(priority=1, rank=1.0, now=NOW + 50)  # a row that comes in between disturbs nobody
        known = {record.id for record in records}
        assert [task_id for task_id in seen if task_id in known] == [record.id for record in wanted]
        assert len(seen) == len(set(seen))

    async def test_the_last_page_is_exactly_full(self, bench: Bench) -> None:
        for _ in range(4):
            await bench.submit()
        page = await bench.store.find(Filter(), limit=2)
        assert page.next_cursor is not None
        assert (await bench.store.find(Filter(), limit=2, cursor=page.next_cursor)).next_cursor is None

    async def test_a_page_counts_everything_that_matches(self, bench: Bench) -> None:
        await self.tasks(bench, 6)
        page = await bench.store.find(Filter(status=(S.COMPLETED,)), limit=1, count=True)
        assert (len(page.items), page.total) == (1, 3)

    async def test_bad_order_and_bad_cursor(self, bench: Bench) -> None:
        await self.tasks(bench, 4)
        cursor = (await bench.store.find(Filter(), "id", limit=2)).next_cursor
        for order, bad, field in (
            ("rank", None, "order"),
            ("--id", None, "order"),
            ("", None, "order"),
            ("id", "nonsense", "cursor"),
            ("id", "", "cursor"),
            ("id", "ü", "cursor"),
            ("id", "W10=", "cursor"),
            ("-id", cursor, "cursor"),
        ):
            with pytest.raises(InvalidTask) as caught:
                await bench.store.find(Filter(), order, cursor=bad)
            assert caught.value.field == field, (order, bad)

    # -- for the agenda -----------------------------------------------------------------------------------------------

    async def test_ready(self, bench: Bench) -> None:
        ranked = [await bench.submit(priority=p, rank=float(p), queue="q") for p in (0, 5, 0, 5)]
        woken, slept, late, held, timed_hold = [await bench.submit(queue="q", rank=1.0) for _ in range(5)]
        await bench.end(woken.id, S.SUSPENDING, hold="h")
        await bench.store.wake("h", None, NOW)
        await bench.end(slept.id, S.SUSPENDING, run_at=NOW + 10)
        await bench.end(late.id, S.SUSPENDING, run_at=NOW + 10.5)
        await bench.hold(held.id, "h")
        await bench.hold(timed_hold.id, "h", NOW + 10)
        await bench.submit(queue="other")
        await bench.submit("unknown", queue="q", rank=99.0)
        await bench.submit(queue="q", paused=True)
        await bench.claim((await bench.submit(queue="q")).id)
        best = [ranked[1], ranked[3]]
        rest = [ranked[0], ranked[2]]

        async def ready(now: float, limit: int = 100) -> list[int]:
            found = await bench.store.ready("q", TYPES, now, limit)
            assert {due.queue for due in found} <= {"q"}
            return [due.id for due in found]

        assert await ready(NOW) == [r.id for r in (*best, woken, *rest)]
        assert await ready(NOW + 10) == [r.id for r in (*best, woken, slept, timed_hold, *rest)]
        assert await ready(NOW + 10, 4) == [r.id for r in (*best, woken, slept)]
        assert [d.id for d in await bench.store.ready("q", {"test", "unknown"}, NOW, 1)] != [ranked[1].id]
        assert await bench.store.ready("q", set(), NOW, 10) == []
        first = (await bench.store.ready("q", TYPES, NOW, 1))[0]
        assert (first.type, first.priority, first.rank, first.run_at) == ("test", 5, 5.0, None)

    async def test_timed(self, bench: Bench) -> None:
        times = (30.0, 10.0, 20.0, 10.0)
        tasks = [await bench.submit(run_at=NOW + seconds) for seconds in times]
        held = await bench.submit()
        await bench.hold(held.id, "h", NOW + 15)
        await bench.hold((await bench.submit()).id, "h")
        await bench.submit()
        await bench.submit("unknown", run_at=NOW + 1)
        await bench.submit(run_at=NOW + 1, paused=True)
        by_time = [tasks[1].id, tasks[3].id, held.id, tasks[2].id, tasks[0].id]
        assert [due.id for due in await bench.store.timed(TYPES, 0.0, 100)] == by_time
        assert [due.id for due in await bench.store.timed(TYPES, 0.0, 2)] == by_time[:2]
        assert [due.id for due in await bench.store.timed(TYPES, NOW + 10, 2)] == by_time[2:4]
        assert (await bench.store.timed(TYPES, 0.0, 1))[0].run_at == NOW + 10

    async def test_queues(self, bench: Bench) -> None:
        assert await bench.store.queues() == []
        task = await bench.submit(queue="b")
        await bench.submit(queue="a")
        await bench.submit(queue="b")
        assert sorted(await bench.store.queues()) == ["a", "b"]
        await bench.end(task.id)
        await bench.remove(task.id)
        assert sorted(await bench.store.queues()) == ["a", "b"]
