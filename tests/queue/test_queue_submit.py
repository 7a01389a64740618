"""Submits: what is checked before anything is stored."""

from __future__ import annotations

import datetime
import math
from typing import Any

import pytest

from dlqueue.queue import (
    Conflict,
    InvalidTask,
    Queue,
    QueueFull,
    QueueSettings,
    Submitter,
    Task,
    UnknownType,
)
from dlqueue.queue.queue import make_filter
from tests.queue.rig import Rig, S, done, task

pytestmark = pytest.mark.anyio


def shut(**settings: Any) -> QueueSettings:
    return QueueSettings(concurrency=0, **settings)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"delay": -1}, "delay"),
        ({"delay": math.nan}, "delay"),
        ({"delay": math.inf}, "delay"),
        ({"timeout": -0.1}, "timeout"),
        ({"retry_delay": 1e12}, "retry_delay"),
        ({"max_execution": -1}, "max_execution"),
        ({"delay": 1, "run_at": 5.0}, "run_at"),
        ({"run_at": math.inf}, "run_at"),
        ({"run_at": math.nan}, "run_at"),
        ({"max_retry": -1}, "max_retry"),
        ({"max_retry": 2**63}, "max_retry"),
        ({"priority": 2**63}, "priority"),
        ({"priority": -(2**63)}, "priority"),
        ({"on_dependency_failure": "ignore"}, "on_dependency_failure"),
        ({"depends_on": [999]}, "depends_on"),
        ({"parent_id": 999}, "parent_id"),
        ({"owner": "\ud800"}, "owner"),
        ({"queue": "\ud800"}, "queue"),
        ({"unique_key": "\ud800"}, "unique_key"),
        ({"correlation_id": "\ud800"}, "correlation_id"),
        ({"labels": {"a": "\ud800"}}, "labels"),
        ({"params": "\ud800"}, "params"),
        ({"params": len}, "params"),
        ({"params": {(1, 2): 3}}, "params"),
    ],
    ids=ascii,
)
async def test_what_cannot_be_right_is_refused(rig: Rig, options: dict[str, Any], field: str) -> None:
    queue = await rig.start(task(done))
    with pytest.raises(InvalidTask) as caught:
        await queue.submit("test", **options)
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")
    assert await queue.count() == 0


async def test_an_unknown_type(memory_rig: Rig) -> None:
    queue = await memory_rig.start(task(done), task(done, "other"))
    with pytest.raises(UnknownType, match=r"no task type 'tset' \(known: other, test\)"):
        await queue.submit("tset")


def test_bad_classes() -> None:
    class Nameless(Task):
        pass

    for bad in (Nameless, task(done, "")):
        with pytest.raises(ValueError, match="needs a class attribute `type`"):
            Queue(tasks=[bad])
    with pytest.raises(ValueError, match="two task types 'test'"):
        Queue(tasks=[task(done), task(done)])
    with pytest.raises(ValueError, match="workers"):
        Queue(tasks=[], workers=0)


async def test_everything_a_submit_may_say(rig: Rig) -> None:
    queue = await rig.start(task(done), queues={"lane": shut()})
    parent = await queue.submit("test", queue="lane")
    at = datetime.datetime.fromtimestamp(rig.clock.time() + 60, datetime.UTC)
    record = await queue.submit(
        "test",
        {"a": 1},
        queue="lane",
        priority=3,
        run_at=at,
        unique_key="k",
        owner="1000",
        labels={"tag": ["x", "y"], "one": "z"},
        correlation_id="c",
        depends_on=[parent.id, parent.id],
        on_dependency_failure="run",
        parent_id=parent.id,
        max_retry=7,
        retry_delay=0.5,
        timeout=9,
        max_execution=99,
    )
    assert (record.queue, record.priority, record.run_at, record.unique_key) == ("lane", 3, at.timestamp(), "k")
    assert (record.owner, record.labels) == ("1000", {"tag": ["x", "y"], "one": ["z"]})
    assert (record.correlation_id, record.depends_on, record.parent_id) == ("c", (parent.id,), parent.id)
    assert record.max_retry == 7
    options = record.options
    assert (options.retry_delay, options.timeout, options.max_execution) == (0.5, 9, 99)
    assert options.on_dependency_failure == "run"
    (found,) = (await queue.list(labels=(("tag", "y"),), owner="1000", correlation_id="c")).items
    assert found == record
    past = await queue.submit("test", run_at=rig.clock.time() - 60)
    assert past.run_at is None
    paused = await queue.submit("test", paused=True)
    assert paused.status is S.PAUSED


async def test_validate_may_improve_or_refuse(rig: Rig) -> None:
    seen: list[Submitter] = []

    def validate(params: Any, submitter: Submitter) -> Any:
        seen.append(submitter)
        if params == "bad":
            raise InvalidTask("is bad", "params.x")
        return {"better": params}

    queue = await rig.start(task(done, validate=validate))
    record = await queue.submit("test", "p", owner="o", cwd="/here")
    assert (await rig.done(record.id)).result == {"better": "p"}
    assert seen == [Submitter("o", "/here")]
    with pytest.raises(InvalidTask, match=r"params\.x: is bad"):
        await queue.submit_many([("test", "good"), ("test", "bad")])
    assert await queue.count() == 1


async def test_submit_many(rig: Rig) -> None:
    queue = await rig.start(task(done))
    records = await queue.submit_many([("test", 1), ("test", 2, {"priority": 5, "unique_key": "k"})])
    assert [(r.params, r.priority) for r in records] == [(1, 0), (2, 5)]
    assert await queue.submit_many([]) == []
    with pytest.raises(Conflict):
        await queue.submit_many([("test", 3), ("test", 4, {"unique_key": "k"})])
    assert await queue.count() == 2
    submissions = await queue.submit_all([queue.prepare("test", 2, unique_key="k"), queue.prepare("test", 5)])
    assert [submission.created for submission in submissions] == [False, True]


async def test_capacity(rig: Rig) -> None:
    queue = await rig.start(
        task(done), capacity=2, queues={"default": shut(), "wide": shut(capacity=4), "none": shut(capacity=0)}
    )
    first = await queue.submit("test", unique_key="k")
    await queue.submit("test")
    with pytest.raises(QueueFull, match="queue 'default' is full: 2 unfinished tasks, its capacity is 2"):
        await queue.submit("test")
    again = await queue.submit("test", unique_key="k")
    assert (again.id, again.created) == (first.id, False), "asking again is answered, however full it is"
    await queue.submit_many([("test", i, {"queue": "wide"}) for i in range(4)])
    with pytest.raises(QueueFull, match="'none'"):
        await queue.submit("test", queue="none")
    with pytest.raises(QueueFull, match="'wide'"):
        await queue.submit_many([("test", 1, {"queue": "new"}), ("test", 1, {"queue": "wide"})])
    assert await queue.count(queue="new") == 0
    await queue.cancel(first.id)
    await queue.submit("test")


async def test_dependencies(rig: Rig) -> None:
    async def run(ctx: Any) -> Any:
        if ctx.params == "fail":
            raise ValueError
        return await done(ctx)

    queue = await rig.start(task(run), workers=1)
    first = await queue.submit("test", delay=10)
    failing = await queue.submit("test", "fail", delay=10)
    after = await queue.submit("test", depends_on=[first.id])
    chain = await queue.submit("test", depends_on=[after.id])
    lost = await queue.submit("test", depends_on=[first.id, failing.id])
    anyway = await queue.submit("test", depends_on=[failing.id], on_dependency_failure="run")
    assert {(await queue.get(r.id)).status for r in (after, chain, lost, anyway)} == {S.BLOCKED}
    rig.clock.advance(10)
    for record in (first, after, chain, anyway):
        await rig.done(record.id)
    await rig.reached(lost.id, S.CANCELED)
    late = await queue.submit("test", depends_on=[first.id])
    await rig.done(late.id)
    with pytest.raises(Conflict):
        await queue.retry(first.id)


async def test_lists(rig: Rig) -> None:
    queue = await rig.start(task(done), queues={"default": shut()})
    records = await queue.submit_many([("test", i) for i in range(5)])
    page = await queue.list(status=["queued", S.ERROR], order="id", limit=2, count=True)
    assert ([r.id for r in page.items], page.total) == ([r.id for r in records[:2]], 5)
    page = await queue.list(status="queued", order="id", limit=2, cursor=page.next_cursor)
    assert [r.params for r in page.items] == [2, 3]
    assert await queue.ids(make_filter()) == [r.id for r in records]
    for bad, field in (({"status": "done"}, "status"), ({"limit": 0}, "limit"), ({"colour": "red"}, "filter")):
        with pytest.raises(InvalidTask) as caught:
            await queue.list(**bad)
        assert caught.value.field == field


async def test_a_record_has_what_the_wire_has(rig: Rig) -> None:
    queue = await rig.start(task(done))
    first = await queue.submit("test", unique_key="k", delay=50, timeout=3, max_execution=7)
    assert first.created
    again = await queue.submit("test", unique_key="k")
    (many,) = await queue.submit_many([("test", None, {"unique_key": "k"})])
    assert (again.id, again.created, many.id, many.created) == (first.id, False, first.id, False)
    assert (again.resume_at, again.timeout, again.max_execution) == (first.run_at, 3, 7)
    assert first.run_at is not None
    assert (await queue.get(first.id)).created, "it is about the answer, not about the task"
