"""What a store promises of what it counts and of what it forgets."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial

import pytest

from dlqueue.queue import transitions, wants
from dlqueue.queue.errors import TaskNotFound
from dlqueue.queue.figures import DAY, HOUR, HOURS_KEPT, Figure, bucket_of
from dlqueue.queue.glance import Look
from dlqueue.queue.record import Filter, NewTask
from dlqueue.queue.status import UNFINISHED, Status
from dlqueue.queue.testing.bench import NOW, Bench, Suite

S = Status
HOUR_NOW = int(NOW // HOUR)


def kinds(figures: list[Figure]) -> list[tuple[str, str, Status, int, float]]:
    return sorted((f.queue, f.type, f.outcome, f.count, round(f.seconds, 6)) for f in figures)


async def counted(bench: Bench) -> dict[Status, int]:
    """What `tally` ought to say."""
    found = {status: await bench.store.count(Filter(status=(status,))) for status in Status}
    return {status: count for status, count in found.items() if count}


async def unfinished(bench: Bench, *owners: str) -> dict[str, int]:
    """What `owners` ought to say."""
    records = (await bench.store.find(Filter(status=tuple(UNFINISHED)), limit=1000)).items
    return dict(Counter(record.owner for record in records if record.owner in owners))


class Figures(Suite):
    async def test_counters_are_what_counting_would_say(self, bench: Bench) -> None:
        """Whatever is done, in whatever order: submits, steps, intents, removals."""
        luck = random.Random(11)
        ids: list[int] = []
        for _ in range(120):
            what = luck.randrange(8)
            if what < 3 or not ids:
                new = [
                    NewTask(
                        type="test",
                        params=None,
                        queue=luck.choice(["a", "b"]),
                        owner=luck.choice(["", "ann", "bob"]),
                        paused=luck.random() < 0.2,
                    )
                    for _ in range(luck.randrange(1, 4))
                ]
                ids += [submission.record.id for submission in await bench.submit_all(*new)]
                continue
            task_id = luck.choice(ids)
            record = await bench.store.get(task_id)
            if what < 5 and record.status in (S.QUEUED, S.SUSPENDING):
                await bench.end(task_id, luck.choice([S.COMPLETED, S.ERROR, S.SUSPENDING]))
            elif what == 5 and not record.final:
                await bench.store.transact([(task_id, partial(wants.pause, now=NOW, runs_step=False))])
            elif what == 6:
                await bench.store.transact([(task_id, partial(wants.retry, now=NOW))])
            elif record.final:
                await bench.remove(task_id)
                ids.remove(task_id)
            assert await bench.store.tally() == await counted(bench)
        for queue in ("a", "b"):
            found = {s: await bench.store.count(Filter(status=(s,), queue=queue)) for s in Status}
            assert await bench.store.tally(queue) == {status: count for status, count in found.items() if count}
        assert await bench.store.tally("none") == {}
        assert (await bench.store.owners())[0] == await unfinished(bench, "", "ann", "bob")
        if self.durable:
            before = await bench.store.tally()
            await bench.reopen()
            assert await bench.store.tally() == before

    async def test_what_is_refused_is_not_counted(self, bench: Bench) -> None:
        record = await bench.submit(unique_key="k", params=1)
        with pytest.raises(Exception, match="unique key"):
            await bench.submit_all(NewTask(type="test", params=1), NewTask(type="test", params=2, unique_key="k"))
        assert await bench.store.tally() == {S.QUEUED: 1}
        await bench.store.transact([(record.id, partial(wants.resume, now=NOW))])
        assert await bench.store.tally() == {S.QUEUED: 1}

    async def test_every_end_is_in_its_hour(self, bench: Bench) -> None:
        first = await bench.submit("x", queue="q")
        await bench.claim(first.id, NOW)
        done = transitions.Settlement(target=S.COMPLETED, kind="completed")
        await bench.decide(first.id, lambda record: transitions.settle(record, 1, done, NOW + 20))
        later = await bench.submit("y")
        await bench.end(later.id, S.ERROR, now=NOW + 2 * HOUR)
        never = await bench.submit("y")
        await bench.cancel(never.id)
        x, y, gone = (
            ("q", "x", S.COMPLETED, 1, 20.0),
            ("default", "y", S.ERROR, 1, 0.0),
            ("default", "y", S.CANCELED, 1, 0.0),
        )
        hours = bench.store.hours
        assert kinds(await hours(Filter(), None, None)) == sorted([x, y, gone])
        assert kinds(await hours(Filter(), HOUR_NOW, HOUR_NOW + 1)) == sorted([x, gone])
        assert kinds(await hours(Filter(), HOUR_NOW + 1, None)) == [y]
        assert kinds(await hours(Filter(), None, HOUR_NOW)) == []
        assert kinds(await hours(Filter(queue="q"), None, None)) == [x]
        assert kinds(await hours(Filter(type="y"), None, HOUR_NOW + 1)) == [gone]
        assert kinds(await hours(Filter(status=(S.ERROR,)), None, None)) == [y]
        (figure,) = await hours(Filter(type="x"), None, None)
        assert figure.bucket == bucket_of(20.0)
        await bench.remove(first.id)
        await bench.decide(later.id, partial(wants.retry, now=NOW))
        assert kinds(await hours(Filter(), None, None)) == sorted([x, y, gone]), "an end stays an end"

    async def test_any_range_of_hours_adds_up(self, bench: Bench) -> None:
        """However the store puts them together."""
        hours = [0, 1, 5, 23, 24, 25, 47, 48, 70, 100]
        begin = HOUR_NOW - HOUR_NOW % DAY
        for hour in hours:
            await bench.end((await bench.submit()).id, now=(begin + hour) * HOUR + 5.0)
        for first in (None, *range(-2, 104, 3)):
            for last in (None, *range(-1, 104, 7)):
                wanted = sum((first is None or hour >= first) and (last is None or hour < last) for hour in hours)
                found = await bench.store.hours(
                    Filter(), None if first is None else begin + first, None if last is None else begin + last
                )
                assert sum(figure.count for figure in found) == wanted, (first, last)
        together = await bench.store.hours(Filter(), None, begin + 50, groups=False)
        assert (sum(figure.count for figure in together), {figure.outcome for figure in together}) == (8, {S.COMPLETED})

    async def test_old_hours_go_the_sum_stays(self, bench: Bench) -> None:
        await bench.end((await bench.submit()).id)
        await bench.store.forget_hours(HOUR_NOW + HOURS_KEPT)
        assert kinds(await bench.store.hours(Filter(), HOUR_NOW, None)) != []
        await bench.store.forget_hours(HOUR_NOW + HOURS_KEPT + 1)
        day = HOUR_NOW - HOUR_NOW % DAY
        assert kinds(await bench.store.hours(Filter(), day, day + DAY)) != [], "the day is still known"

    async def test_ends_one_by_one(self, bench: Bench) -> None:
        a = await bench.submit("x", owner="1", labels={"tag": ["t"]})
        b = await bench.submit("x", owner="2")
        await bench.submit("x", owner="1")
        await bench.end(a.id, now=NOW)
        await bench.end(b.id, S.ERROR, now=NOW + 10)
        for filter, since, until, wanted in (
            (Filter(), None, None, 2),
            (Filter(), NOW, NOW + 10, 1),
            (Filter(), NOW + 10, None, 1),
            (Filter(), None, NOW, 0),
            (Filter(owner="1"), None, None, 1),
            (Filter(labels=(("tag", "t"),)), None, None, 1),
            (Filter(status=(S.ERROR,)), None, None, 1),
        ):
            found = await bench.store.ended(filter, since, until, None)
            assert found is not None
            assert sum(figure.count for figure in found) == wanted, (filter, since, until)
        assert await bench.store.ended(Filter(), None, None, 1) is None
        assert await bench.store.ended(Filter(), None, None, 2) is not None

    # -- forgetting ---------------------------------------------------------------------------------------------------

    async def test_expired_are_the_oldest_first(self, bench: Bench) -> None:
        made = [await bench.submit(owner=str(number % 2)) for number in range(4)]
        for number, record in enumerate(reversed(made)):
            await bench.end(record.id, S.ERROR if number == 1 else S.COMPLETED, now=NOW + number)
        every = [(NOW + number, record.id) for number, record in enumerate(reversed(made))]
        expired = bench.store.expired
        assert await expired(Filter(), NOW + 100, 10) == every
        assert await expired(Filter(), NOW + 3, 10) == every[:3], "what ended just then is not older"
        assert await expired(Filter(), NOW + 100, 2) == every[:2]
        assert await expired(Filter(), NOW + 100, 10, after=every[1]) == every[2:]
        assert await expired(Filter(status=(S.ERROR,)), NOW + 100, 10) == [every[1]]
        assert await expired(Filter(owner="0"), NOW + 100, 10) == [every[1], every[3]]

    async def test_purge_takes_everything_of_a_task(self, bench: Bench) -> None:
        record = await bench.submit(labels={"a": ["b"]}, unique_key="k", params={"n": 1})
        await bench.end(record.id)
        kept = await bench.submit()
        bench.told.clear()
        assert await bench.store.purge([record.id, kept.id, 999_999], NOW + 1, (), NOW + 5) == 1
        with pytest.raises(TaskNotFound):
            await bench.store.get(record.id)
        assert await bench.store.history(record.id) == []
        assert await bench.store.count(Filter(labels=(("a", "b"),))) == 0
        assert [(change.record.id, change.delete) for change in bench.told] == [(record.id, True)]
        assert await bench.store.tally() == {S.QUEUED: 1}
        again = await bench.submit(unique_key="k", params={"n": 1})
        assert again.id > kept.id, "the key is free, the id is not used again"

    async def test_purge_leaves_what_is_still_needed(self, bench: Bench) -> None:
        """Looked at inside the transaction: what was expired a moment ago may have been retried since."""
        young, needed, due, retried = [await bench.submit() for _ in range(4)]
        await bench.end(young.id, now=NOW + 10)
        await bench.end(needed.id)
        await bench.end(due.id, S.ERROR, cleanup=True)
        await bench.end(retried.id, S.ERROR)
        waits = await bench.submit(depends_on=(needed.id,), paused=True)
        await bench.decide(retried.id, partial(wants.retry, now=NOW + 1))
        ids = [young.id, needed.id, due.id, retried.id]
        assert await bench.store.purge(ids, NOW + 10, (), NOW + 20) == 0
        for task_id in ids:
            await bench.store.get(task_id)
        await bench.resume(waits.id)
        await bench.end(waits.id)
        assert await bench.store.purge(ids, NOW + 10, (), NOW + 20) == 1, "who depended on it is done"

    async def test_purge_of_a_type_with_a_clean_up(self, bench: Bench) -> None:
        done, failed, untouched = [await bench.submit() for _ in range(3)]
        await bench.end(done.id)
        await bench.end(failed.id, S.ERROR)
        await bench.cancel(untouched.id)
        assert await bench.store.purge([done.id, failed.id, untouched.id], NOW + 1, {"test"}, NOW + 5) == 3
        assert await bench.store.cleanups(10) == [failed.id]
        assert await bench.store.cleanups(10, after=failed.id) == []
        assert await bench.store.count(Filter()) == 0
        assert (await bench.store.tally()) == {S.ERROR: 1}, "its row is there until it has been cleaned up"
        assert await bench.store.expired(Filter(), NOW + 9, 10) == []

    # -- what has begun -----------------------------------------------------------------------------------------------

    async def test_midway(self, bench: Bench) -> None:
        fresh, holds, other, woken, stopped, timed, paused, ended = [await bench.submit() for _ in range(8)]
        await bench.hold(holds.id, "transfer:1")
        await bench.hold(other.id, "slot:x")
        await bench.hold(woken.id, "slot:y")
        await bench.store.wake("slot:y", None, NOW)
        token = (await bench.claim(stopped.id)).lease_token
        await bench.decide(stopped.id, partial(transitions.release, token=token, now=NOW))
        await bench.end(timed.id, S.SUSPENDING, run_at=NOW + 5)
        await bench.hold(paused.id, "transfer:2")
        await bench.pause(paused.id)
        await bench.end(ended.id)
        assert await bench.store.midway(["transfer:", "route"]) == [holds.id, woken.id, stopped.id]
        assert await bench.store.midway([]) == [woken.id, stopped.id]
        assert await bench.store.midway(["slot:"]) == [other.id, woken.id, stopped.id]
        await bench.claim(stopped.id)
        assert fresh.id not in await bench.store.midway([""])
        assert stopped.id not in await bench.store.midway([""])

    async def test_a_glance(self, bench: Bench) -> None:
        """Counts, errors and who waits; of one owner only if so asked, and of the newest only where there are many."""
        a, b, c, d, e, f = [await bench.submit(owner="me" if n % 2 else "you") for n in range(6)]
        for record in (a, b, d):
            await bench.end(record.id, S.ERROR)
        await bench.hold(c.id, "slot:x")
        await bench.hold(e.id, "slot:y")
        await bench.claim(f.id)
        seen = await bench.store.glance(Look(holds=("slot:", "route")))
        assert (seen.tally, seen.whole) == ({S.ERROR: 3, S.SUSPENDING: 2, S.PROCESSING: 1}, True)
        assert [record.id for record in seen.errors] == [d.id, b.id, a.id]
        assert {prefix: sorted(ids) for prefix, ids in seen.held.items()} == {"slot:": [c.id, e.id], "route": []}
        assert seen.processing == [f.id]
        mine = await bench.store.glance(Look(owner="me"))
        assert (mine.tally, mine.whole) == ({S.ERROR: 2, S.PROCESSING: 1}, True)
        assert [record.id for record in mine.errors] == [d.id, b.id]
        few = await bench.store.glance(Look(owner="me", newest=2, errors=1, held=1, holds=("slot:",)))
        assert (few.tally, few.whole) == ({S.ERROR: 1, S.PROCESSING: 1}, False)
        assert [record.id for record in few.errors] == [d.id]
        assert len(few.held["slot:"]) == 1
        assert [record.id for record in (await bench.store.glance(Look(newest=2))).errors] == [d.id, b.id]

    async def test_ids_as_a_filter(self, bench: Bench) -> None:
        a, b, _ = [await bench.submit() for _ in range(3)]
        page = await bench.store.find(Filter(ids=(b.id, a.id, 999)), order="id")
        assert [record.id for record in page.items] == [a.id, b.id]
