"""The verbs about named queues, and submits that wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dlqueue.protocol.caller import Caller
from dlqueue.queue import Completed, QueueSettings
from dlqueue.queue.testing import PATIENCE
from tests.downloads.house import Builder, House
from tests.queue.rig import task
from tests.service.asking import ROOT, Asking

pytestmark = pytest.mark.anyio

ADMIN = Caller(uid=4003, gid=4003, name="ada")


async def built(build: Builder, **more: Any) -> House:
    return await build.puppets(tasks=(task(lambda ctx: Completed(), type="probe"),), **more)


async def test_create_get_list_and_stats(build: Builder) -> None:
    house = await built(build)
    root, me = Asking(house, ROOT), Asking(house)
    made = await root("queues.create", name="slow", concurrency=2, capacity=9, rate="10/s", max_retry=1)
    assert made == {
        "name": "slow", "concurrency": 2, "capacity": 9, "rate": "10/s", "ageing": 0.0, "max_retry": 1,
        "retry_delay": 0.0, "backoff_factor": 2.0, "backoff_max": 60.0, "paused": False,
        "changed": ["capacity", "concurrency", "max_retry", "rate"],
        "pending": 0, "running": 0, "completed": 0, "failed": 0, "size": 0,
    }  # fmt: skip
    assert await me("queues.get", name="slow") == made
    await me("tasks.submit", type="probe", params={}, queue="slow", paused=True)
    assert await me("queues.stats", name="slow") == {
        "pending": 1, "running": 0, "completed": 0, "failed": 0, "size": 1, "capacity": 9, "concurrency": 2,
    }  # fmt: skip
    page = await me("queues.list")
    assert [one["name"] for one in page["items"]] == ["default", "downloads", "slow"]
    assert (page["next_cursor"], page["total"]) == (None, 3)
    first = await me("queues.list", limit=2)
    assert [one["name"] for one in first["items"]] == ["default", "downloads"]
    rest = await me("queues.list", limit=2, cursor=first["next_cursor"])
    assert [one["name"] for one in rest["items"]] == ["slow"] and rest["next_cursor"] is None


async def test_update_and_reset(build: Builder) -> None:
    house = await built(build)
    root = Asking(house, ROOT)
    changed = await root("queues.update", name="downloads", concurrency=3, ageing=2.5)
    assert (changed["concurrency"], changed["ageing"], changed["changed"]) == (3, 2.5, ["ageing", "concurrency"])
    changed = await root("queues.update", name="downloads", reset=["concurrency"], ageing=0)
    assert (changed["concurrency"], changed["ageing"], changed["changed"]) == (16, 0.0, ["ageing"])


async def test_what_is_refused(build: Builder) -> None:
    house = await built(build)
    root = Asking(house, ROOT)
    for verb in ("get", "stats", "pause", "resume", "update"):
        more = {"capacity": 1} if verb == "update" else {}
        error = await root.refused(f"queues.{verb}", name="none", **more)
        assert (error.code, error.kind, error.field) == (-32003, "queue", "name")
    error = await root.refused("queues.create", name="downloads")
    assert error.code == -32004 and "there is a queue 'downloads' already" in error.message
    for params, field in (
        ({"name": "a/b"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x", "rate": "10"}, "rate"),
        ({"name": "x", "concurrency": 0}, "concurrency"),
        ({"name": "x", "capacity": 2.5}, "capacity"),
        ({"name": "x", "speed": 1}, "speed"),
        ({}, "name"),
    ):
        error = await root.refused("queues.create", **params)
        assert (error.code, error.field) == (-32602, field), error.message
        assert error.message.startswith(f"{field}: ")
    assert (await root.refused("queues.update", name="downloads")).code == -32602
    assert (await root.refused("queues.update", name="downloads", reset=["speed"])).code == -32602
    assert (await root.refused("queues.list", limit=0)).field == "limit"


async def test_only_admins_change_queues(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    house = await built(build, admins=("wheel",))
    monkeypatch.setattr("dlqueue.service.access._groups", lambda caller: {"wheel"} if caller == ADMIN else set())
    me = Asking(house)
    for verb, params in (
        ("create", {"name": "mine"}),
        ("update", {"name": "downloads", "capacity": 1}),
        ("pause", {"name": "downloads"}),
        ("resume", {"name": "downloads"}),
    ):
        error = await me.refused(f"queues.{verb}", **params)
        assert error.code == -32002 and f"queues.{verb} is for the daemon's own user" in error.message
        await Asking(house, ADMIN)(f"queues.{verb}", **params)
    assert (await me("queues.get", name="mine"))["name"] == "mine"


async def test_why_in_a_paused_queue_and_in_one_with_a_rate(build: Builder) -> None:
    house = await built(build)
    root = Asking(house, ROOT)
    await root("queues.create", name="slow", rate="1/m")
    await root("queues.pause", name="slow")
    ids = [(await root("tasks.submit", type="probe", params={}, queue="slow"))["id"] for _ in range(2)]
    why = await root("tasks.why", id=ids[0])
    assert (why["reason"], why["blocking"], why["next_check_at"]) == ("queue_paused", "slow", None)
    assert "dlqueue queue resume slow" in why["message"]
    await root("queues.resume", name="slow")
    assert (await root("tasks.wait", id=ids[0], timeout=PATIENCE))["status"] == "completed"
    started = (await root("tasks.get", id=ids[0]))["started_at"]
    why = await root("tasks.why", id=ids[1])
    assert (why["reason"], why["blocking"]) == ("rate", "slow")
    assert "starts at most 1/m" in why["message"]
    assert why["next_check_at"] > started
    house.clock.advance(60)
    assert (await root("tasks.wait", id=ids[1], timeout=PATIENCE))["status"] == "completed"


async def test_a_submit_waits_for_room_and_leaves_nothing_when_its_caller_leaves(build: Builder) -> None:
    house = await built(build)
    root = Asking(house, ROOT)
    await root("queues.create", name="small", capacity=1)
    submit: dict[str, Any] = {"type": "probe", "params": {}, "queue": "small", "paused": True}
    first = await root("tasks.submit", **submit, on_full="wait")
    error = await root.refused("tasks.submit", **submit)
    assert (error.code, error.kind) == (-32005, "capacity")
    leaves = asyncio.ensure_future(root("tasks.submit", **submit, on_full="wait"))
    waits = asyncio.ensure_future(root("tasks.submit_many", tasks=[{**submit, "on_full": "wait"}]))
    await house.settled()
    assert not leaves.done() and not waits.done()
    leaves.cancel()
    await root("tasks.cancel", id=first["id"])
    (second,) = await asyncio.wait_for(waits, PATIENCE)
    assert second["status"] == "paused"
    assert (await root("tasks.count", queue="small")) == 2


async def test_events_of_queues(build: Builder) -> None:
    house = await built(build, settings=QueueSettings(capacity=1))
    stream = await house.service.events_subscribe(ROOT, _subscribe())
    root = Asking(house, ROOT)
    await root("queues.create", name="new", rate="1/s")
    await root("queues.update", name="new", capacity=1)
    await root("queues.pause", name="new")
    await root("queues.resume", name="new")
    await root("tasks.submit", type="probe", params={}, queue="new", paused=True)
    await root.refused("tasks.submit", type="probe", params={}, queue="new", paused=True)
    stream.close()
    events = [event async for event in stream]
    assert {event["topic"] for event in events} == {"queue"}
    assert [event["data"] for event in events] == [
        {"kind": "created", "queue": "new", "settings": {"rate": "1/s"}},
        {"kind": "changed", "queue": "new", "settings": {"capacity": 1}},
        {"kind": "paused", "queue": "new"},
        {"kind": "resumed", "queue": "new"},
        {"kind": "full", "queue": "new"},
    ]
    assert all(event["sequence"] is None and "task_id" not in event for event in events)


def _subscribe() -> Any:
    from dlqueue.protocol.events import Subscribe

    return Subscribe(topics=["queue"])
