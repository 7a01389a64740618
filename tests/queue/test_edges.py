"""The edge table is the contract's, and no verb leaves it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from itertools import product
from typing import Any

import pytest

from dlqueue.queue import (
    EDGES,
    Completed,
    Conflict,
    Context,
    IllegalTransition,
    Outcome,
    Queue,
    Status,
    Task,
    TaskRecord,
    Want,
    transitions,
    wants,
)
from dlqueue.queue.memory import MemoryStore
from dlqueue.queue.record import Change, Options
from dlqueue.queue.status import FINAL, UNFINISHED, check_edge
from dlqueue.queue.testing import FakeClock
from dlqueue.queue.transitions import Settlement

pytestmark = pytest.mark.anyio
S = Status
NOW = 1000.0

CONTRACT = {
    S.BLOCKED: {S.QUEUED, S.CANCELED, S.ERROR, S.PAUSED},
    S.QUEUED: {S.PROCESSING, S.PAUSED, S.CANCELED, S.ERROR},
    S.PROCESSING: {S.COMPLETED, S.ERROR, S.CANCELED, S.SUSPENDING, S.PAUSED, S.QUEUED},
    S.SUSPENDING: {S.PROCESSING, S.PAUSED, S.CANCELED, S.ERROR},
    S.PAUSED: {S.QUEUED, S.BLOCKED, S.CANCELED},
    S.COMPLETED: set(),
    S.ERROR: {S.QUEUED},
    S.CANCELED: {S.QUEUED},
}


def record(status: Status, want: Want = Want.RUN, **fields: Any) -> TaskRecord:
    fields = {"lease_token": 3, "started_at": 900.0, "node": "n", **fields}
    return TaskRecord(id=1, **{"type": "t", "queue": "q", "status": status, "want": want, **fields})


@pytest.mark.parametrize(("source", "target"), list(product(Status, Status)))
def test_every_pair(source: Status, target: Status) -> None:
    if target in CONTRACT[source]:
        check_edge(7, source, target)
        assert EDGES[source][target], "an edge names its cause"
        change = transitions.move(record(source), target, NOW, "kind")
        assert (change.record.status, change.record.since, change.record.revision) == (target, NOW, 2)
    else:
        with pytest.raises(IllegalTransition, match=f"task 7 is {source} and cannot become {target}") as caught:
            check_edge(7, source, target)
        assert caught.value.task_id == 7
        with pytest.raises(IllegalTransition):
            transitions.move(record(source), target, NOW, "kind")


def test_final_is_final_but_for_a_retry() -> None:
    assert {S.COMPLETED, S.ERROR, S.CANCELED} == FINAL == set(Status) - UNFINISHED


VERBS: dict[str, Callable[[TaskRecord], Change | None]] = {
    "claim": partial(transitions.claim, node="n", now=NOW),
    "claim for a pause": partial(transitions.claim, node="n", now=NOW, runs_step=True),
    **{
        f"settle as {target}": lambda r, target=target: transitions.settle(  # type: ignore[misc]
            r, r.lease_token, Settlement(target=target, kind="k"), NOW
        )
        for target in sorted(CONTRACT[S.PROCESSING])
    },
    "save": lambda r: transitions.save(r, r.lease_token, NOW, state=b"{}"),
    "release": lambda r: transitions.release(r, r.lease_token, NOW),
    "rescue": partial(transitions.rescue, now=NOW),
    "wake": partial(transitions.wake, now=NOW),
    "cancel": partial(wants.cancel, now=NOW, needs_cleanup=True),
    "fence": lambda r: wants.fence(r, r.lease_token, NOW),
    "pause": partial(wants.pause, now=NOW, runs_step=False),
    "pause with a step": partial(wants.pause, now=NOW, runs_step=True),
    "resume": partial(wants.resume, now=NOW),
    "retry": partial(wants.retry, now=NOW),
    "update": partial(wants.update, now=NOW, priority=3, rank=3.0, labels={"a": ["b"]}),
    "update the time": partial(wants.update, now=NOW, run_at=NOW + 5),
    "remove": partial(wants.remove, now=NOW, needs_cleanup=False),
    "remove with clean-up": partial(wants.remove, now=NOW, needs_cleanup=True),
    "begin clean-up": partial(transitions.begin_cleanup, node="n", now=NOW),
    "end clean-up": lambda r: transitions.end_cleanup(r, r, None, NOW, True),
    "resolve": partial(transitions.resolve, dependencies=[], now=NOW),
    "resolve as failed": lambda r: transitions.resolve(r, [record(S.ERROR)], NOW),
}
SHAPES: list[dict[str, Any]] = [
    {},
    {"hold": "h"},
    {"hold": "h", "run_at": NOW - 1},
    {"run_at": NOW + 1},
    {"expires_at": NOW - 1, "options": Options(max_execution=5)},
    {"cleanup": 1},
    {"cleanup": 2},
    {"depends_on": (9,)},
    {"crashes": 9},
]


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_leaves_the_table(verb: str) -> None:
    """In every status, with every intent: an edge, a change beside the status, nothing, or a refusal."""
    changed = 0
    for status, want, shape in product(Status, Want, SHAPES):
        before = record(status, want, **shape)
        try:
            change = VERBS[verb](before)
        except Conflict as error:
            assert not isinstance(error, IllegalTransition), f"{verb} tried {error}"
            assert error.task_id == 1
            continue
        if change is None:
            continue
        changed += 1
        after = change.record
        assert after.revision == before.revision + 1
        assert change.source == status
        assert after.status is status or after.status in CONTRACT[status]
        if after.status is not status:
            assert after.since == NOW
            assert change.kind, "every change of status has an event"
        if after.status in FINAL:
            assert (after.want, after.hold, after.run_at, after.node) in ((Want.RUN, None, None, None),) or (
                status in FINAL
            )
        assert after.lease_token >= before.lease_token
        if status is S.PROCESSING and after.status in (S.QUEUED, S.SUSPENDING, S.PAUSED, *FINAL):
            late = transitions.settle(after, before.lease_token, Settlement(target=S.COMPLETED, kind="k"), NOW)
            assert late is None, "whoever had the lease has lost it"
    assert changed, f"{verb} does nothing at all"


class Idle(Task):
    type = "idle"

    async def run(self, ctx: Context) -> Outcome:
        return Completed()


# What the public verbs do to a task that no worker has: the new status, "" for no change, None for a refusal.
PUBLIC: dict[str, dict[Status, str | None]] = {
    "cancel": {
        S.BLOCKED: "canceled", S.QUEUED: "canceled", S.SUSPENDING: "canceled", S.PAUSED: "canceled", S.CANCELED: "",
        S.COMPLETED: None, S.ERROR: None,
    },
    "pause": {
        S.BLOCKED: "paused", S.QUEUED: "paused", S.SUSPENDING: "paused", S.PAUSED: "", S.CANCELED: None,
        S.COMPLETED: None, S.ERROR: None,
    },
    "resume": {
        S.BLOCKED: "", S.QUEUED: "", S.SUSPENDING: "", S.PAUSED: "queued", S.CANCELED: None, S.COMPLETED: None,
        S.ERROR: None,
    },
    "retry": {
        S.BLOCKED: None, S.QUEUED: None, S.SUSPENDING: None, S.PAUSED: None, S.CANCELED: "queued", S.COMPLETED: None,
        S.ERROR: "queued",
    },
}  # fmt: skip


@pytest.mark.parametrize(("verb", "status"), [(verb, status) for verb, row in PUBLIC.items() for status in row])
async def test_public_verbs_in_every_status(verb: str, status: Status) -> None:
    store = MemoryStore()
    queue = Queue(tasks=[Idle], store=store, clock=FakeClock())
    await queue.open()
    task = await queue.submit("idle", paused=True)
    # Put there by hand: how it gets there is the subject of other tests.
    there = record(status, depends_on=(), finished_at=NOW if status in FINAL else None, type="idle")
    store._tasks[task.id] = there
    before = len(await queue.events(0))
    act: Callable[[int], Awaitable[TaskRecord]] = getattr(queue, verb)
    wanted = PUBLIC[verb][status]
    if wanted is None:
        with pytest.raises(Conflict) as caught:
            await act(task.id)
        assert caught.value.task_id == task.id
        assert {S.ERROR: "failed"}.get(status, str(status)) in str(caught.value)
    else:
        answer = await act(task.id)
        assert answer.status == (wanted or status)
        assert answer == await queue.get(task.id)
    if not wanted:
        assert await queue.get(task.id) == there
        assert len(await queue.events(0)) == before
    await queue.shutdown()
