"""`tasks.stats`, `tasks.purge`, dead letters and the record of every step, as they are asked for from outside."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from dlqueue.queue import Canceled, Completed, CriticalError, Outcome, ResumeAfter, Status, Task
from dlqueue.queue.task import Context
from tests.downloads.house import Builder, House
from tests.service.asking import ROOT, YOU, Asking

pytestmark = pytest.mark.anyio


class Plan(Task):
    """Ends as the params say."""

    type: ClassVar[str] = "plan"

    async def run(self, ctx: Context) -> Outcome:
        if ctx.params["end"] == "error":
            raise CriticalError("no", "mine")
        return Canceled("no") if ctx.params["end"] == "canceled" else Completed()


class Sleeper(Task):
    type: ClassVar[str] = "sleeper"

    async def run(self, ctx: Context) -> Outcome:
        return ResumeAfter(1000.0)


async def ended(house: House, ask: Asking, end: str = "completed", **more: Any) -> int:
    task = await ask("tasks.submit", type="plan", params={"end": end}, **more)
    await house.reaches(task["id"], Status(end))
    number: int = task["id"]
    return number


async def built(build: Builder) -> tuple[House, Asking, Asking]:
    house = await build.puppets()
    for task in (Plan(), Sleeper()):
        house.queue.register(task)
    return house, Asking(house), Asking(house, YOU)


async def test_stats(build: Builder) -> None:
    house, ask, you = await built(build)
    empty = await ask("tasks.stats")
    assert set(empty) == {"since", "until", "total", "completed", "failed", "canceled", "success_rate", "seconds"}
    assert (empty["total"], empty["success_rate"], empty["since"]) == (0, None, None)
    assert empty["seconds"] == {"avg": None, "p50": None, "p95": None, "p99": None}
    for end in ("completed", "completed", "completed", "error", "canceled"):
        await ended(house, ask, end, queue="q", labels={"tag": "x"})
    await ended(house, you)
    found = await ask("tasks.stats", groups=True, queue="q")
    assert (found["total"], found["completed"], found["failed"], found["canceled"]) == (5, 3, 1, 1)
    assert found["success_rate"] == 0.75
    assert found["seconds"]["p99"] >= 0
    (group,) = found["groups"]
    assert (group["queue"], group["type"], group["total"]) == ("q", "plan", 5)
    assert (await ask("tasks.stats", label="tag=x", status="error"))["total"] == 1
    assert (await ask("tasks.stats", dead=True))["total"] == 1
    assert (await ask("tasks.stats", since="2000-01-01T00:00:00Z", until="2000-02-01T00:00:00Z"))["total"] == 0
    refused = await ask.refused("tasks.stats", status="queued")
    assert (refused.code, "status" in refused.message) == (-32602, True)
    assert (await ask.refused("tasks.stats", ownr="me")).code == -32602


async def test_everybody_sees_their_own_figures(build: Builder) -> None:
    house, ask, you = await built(build)
    await ended(house, ask)
    await ended(house, you, "error")
    assert (await you("tasks.stats"))["total"] == 1
    assert (await you("tasks.stats"))["failed"] == 1
    root = Asking(house, ROOT)
    assert (await root("tasks.stats"))["total"] == 2
    assert (await root("tasks.stats", owner="you"))["total"] == 1
    house.clock.advance(10)
    assert await root("tasks.purge", older_than=5) == {"count": 2}
    assert (await you.refused("tasks.stats", owner="me")).code == -32002


async def test_purge(build: Builder) -> None:
    house, ask, you = await built(build)
    mine, failed, yours = await ended(house, ask), await ended(house, ask, "error"), await ended(house, you)
    house.clock.advance(100)
    assert await ask("tasks.purge", older_than=1000) == {"count": 0}
    assert await you("tasks.purge", older_than=0) == {"count": 1}
    assert (await ask.refused("tasks.get", id=yours)).code == -32003
    assert await ask("tasks.purge", older_than=10, status="error") == {"count": 1}
    assert (await ask.refused("tasks.get", id=failed)).code == -32003
    assert await ask("tasks.purge", older_than=10, status=["completed", "canceled"]) == {"count": 1}
    assert (await ask.refused("tasks.get", id=mine)).code == -32003
    for params, field in (
        ({}, "older_than"),
        ({"older_than": -1}, "older_than"),
        ({"older_than": 1e300}, "older_than"),
        ({"older_than": 1, "status": "queued"}, "status"),
        ({"older_than": 1, "status": ["error", "paused"]}, "status"),
    ):
        refused = await ask.refused("tasks.purge", **params)
        assert refused.code == -32602
        assert field in refused.message, refused.message


async def test_dead_letters_are_a_list_that_can_be_retried_and_forgotten(build: Builder) -> None:
    house, ask, _ = await built(build)
    done, dead, canceled = [await ended(house, ask, end) for end in ("completed", "error", "canceled")]

    async def listed(**filters: Any) -> list[int]:
        return sorted(task["id"] for task in (await ask("tasks.list", **filters))["items"])

    assert await listed(dead=True) == [dead]
    assert await listed(dead=False) == [done, canceled]
    assert await listed(retryable=True) == [dead, canceled]
    assert await listed(retryable=False) == [done]
    assert await listed(dead=True, status="completed") == []
    assert await ask("tasks.count", dead=True) == 1
    assert (await ask("tasks.get", id=dead))["error"]["kind"] == "mine"
    before = (await ask("tasks.get", id=dead))["revision"]
    assert await ask("tasks.retry", dead=True) == {"count": 1}
    while (await ask("tasks.get", id=dead))["revision"] < before + 3:
        await house.reaches(dead, Status.ERROR)
    assert await ask("tasks.remove", dead=True) == {"count": 1}
    assert await listed() == [done, canceled]


async def test_the_record_of_a_step_that_was_cut_short(build: Builder) -> None:
    """Stopped or killed in the middle: it is told of all the same."""
    house, ask, _ = await built(build)
    task_id = (await ask("tasks.submit", type="sleeper", params={}))["id"]
    await house.reaches(task_id, Status.SUSPENDING)
    history = await ask("tasks.history", id=task_id)
    assert [execution["outcome"] for execution in history["executions"]] == ["suspended"]
    await ask("tasks.cancel", id=task_id)
    history = await ask("tasks.history", id=task_id)
    assert [execution["outcome"] for execution in history["executions"]] == ["suspended"]
