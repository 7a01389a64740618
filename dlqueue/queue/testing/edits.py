"""What a store promises of edits: other labels, another priority, also beside a running step."""

from __future__ import annotations

from functools import partial

import pytest

from dlqueue.queue import transitions, wants
from dlqueue.queue.errors import Conflict
from dlqueue.queue.record import Filter
from dlqueue.queue.status import Status
from dlqueue.queue.testing.bench import NODE, NOW, Bench, Suite, settle
from dlqueue.queue.transitions import Settlement

S = Status


class Edits(Suite):
    async def test_new_labels_are_found_and_old_ones_are_not(self, bench: Bench) -> None:
        made = await bench.submit(labels={"tag": ["a", "b"], "kept": ["no"]})
        other = await bench.submit(labels={"tag": ["a"]})
        update = partial(wants.update, now=NOW + 1, labels={"tag": ["b", "c"]})
        changed = (await bench.decide(made.id, update)).record
        if self.durable:
            await bench.reopen()
        assert (changed.labels, changed.revision) == ({"tag": ["b", "c"]}, 2)
        assert await bench.store.get(made.id) == changed

        async def tagged(value: str | None, key: str = "tag") -> list[int]:
            return await bench.store.ids(Filter(labels=((key, value),)), 10)

        assert await tagged("a") == [other.id]
        assert await tagged("b") == await tagged("c") == [made.id]
        assert await tagged(None, "kept") == []
        await bench.decide(made.id, partial(wants.update, now=NOW + 1, labels={}))
        assert await tagged(None) == [other.id]

    async def test_another_priority_is_another_place_in_the_order(self, bench: Bench) -> None:
        first, second = await bench.submit(), await bench.submit()
        ahead = partial(wants.update, now=NOW, priority=5, rank=5.0)
        await bench.decide(second.id, ahead)
        assert [due.id for due in await bench.store.ready("default", ["test"], NOW, 10)] == [second.id, first.id]
        events = await bench.store.history(second.id)
        assert [(event.kind, event.source, event.target) for event in events[1:]] == [("updated", S.QUEUED, S.QUEUED)]

    async def test_another_time_to_begin(self, bench: Bench) -> None:
        later = await bench.submit(run_at=NOW + 100)
        await bench.decide(later.id, partial(wants.update, now=NOW, run_at=NOW + 50))
        assert [(d.id, d.run_at) for d in await bench.store.timed(["test"], NOW, 10)] == [(later.id, NOW + 50)]
        await bench.decide(later.id, partial(wants.update, now=NOW, run_at=NOW - 50))
        assert [due.id for due in await bench.store.ready("default", ["test"], NOW, 10)] == [later.id]

    async def test_edit_beside_a_running_step(self, bench: Bench) -> None:
        """The step's write loses nothing to it, and it loses nothing to the step's write."""
        made = await bench.submit(labels={"tag": ["old"]})
        claimed = await bench.claim(made.id)
        edit = partial(wants.update, now=NOW, priority=7, rank=7.0, labels={"tag": ["new"]})
        await bench.decide(made.id, edit)
        end = Settlement(target=S.SUSPENDING, kind="suspended", state=b'{"polls":1}', run_at=NOW + 10)
        await bench.decide(made.id, settle(claimed.lease_token, end))
        stored = await bench.store.get(made.id)
        assert (stored.status, stored.state, stored.run_at) == (S.SUSPENDING, b'{"polls":1}', NOW + 10)
        assert (stored.priority, stored.rank, stored.labels) == (7, 7.0, {"tag": ["new"]})
        assert stored.revision == 4
        assert await bench.store.ids(Filter(labels=(("tag", "old"),)), 10) == []

    async def test_edit_of_an_older_revision_is_refused(self, bench: Bench) -> None:
        made = await bench.submit()
        await bench.pause(made.id)
        with pytest.raises(Conflict, match="revision 2, not 1"):
            await bench.decide(made.id, partial(wants.update, now=NOW, priority=1, rank=1.0, if_revision=1))
        assert (await bench.store.get(made.id)).priority == 0
        claim = partial(transitions.claim, node=NODE, now=NOW)
        edit = partial(wants.update, now=NOW, priority=1, rank=1.0, if_revision=2)
        answers = await bench.store.transact([(made.id, edit), (made.id, edit), (made.id, claim)])
        assert isinstance(answers[1], Conflict), "the first one made another revision of it"
