"""`why`: the exact reason, for every way in which a task can stand still."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dlqueue.downloads.recovery import read_state
from dlqueue.queue import Context, Outcome, QueueSettings, ResumeAfter, Status, Task
from dlqueue.queue.sql import SqlStore
from dlqueue.sdk import AuthFailed, Rejected, TransferState, Unavailable
from tests.downloads.house import Builder, House
from tests.service.asking import Asking

pytestmark = pytest.mark.anyio

URL = "http://host.invalid/file.bin"


class Waiting(Task):
    """Waits as its params say."""

    type = "waiting"

    async def run(self, ctx: Context) -> Outcome:
        return ResumeAfter(ctx.params["seconds"], hold=ctx.params["hold"])


class Working(Task):
    """Runs until it is let go."""

    type = "working"

    def __init__(self) -> None:
        self.let_go = asyncio.Event()

    async def run(self, ctx: Context) -> Outcome:
        await self.let_go.wait()
        return ResumeAfter(1000)


async def why(house: House, task_id: int) -> dict[str, Any]:
    answer: dict[str, Any] = await Asking(house)("tasks.why", id=task_id)
    assert set(answer) == {"id", "status", "reason", "message", "since", "next_check_at", "blocking"}
    assert answer["id"] == task_id
    assert answer["message"]
    assert answer["since"].endswith("Z")
    return answer


async def test_waiting_for_a_slot(build: Builder) -> None:
    house = await build.puppets(max_active=1)
    first, second = await house.add(name="a"), await house.add(name="b")
    await house.runs(first)
    await house.holds(second, "slot:")
    answer = await why(house, second)
    assert (answer["status"], answer["reason"], answer["blocking"]) == ("suspending", "slot", "box")
    assert "one of the 1 slots of box" in answer["message"]
    assert answer["next_check_at"] is None


async def test_while_the_transfer_runs(build: Builder) -> None:
    house = await build.puppets()
    task_id = await house.add()
    key = await house.runs(task_id)
    answer = await why(house, task_id)
    assert (answer["reason"], answer["blocking"]) == ("between_steps", "box")
    assert answer["next_check_at"] is not None
    house.puppet().show(key, state=TransferState.METADATA)
    await house.when(task_id, lambda r: (r.hold or "").startswith("transfer:") and read_state(r).state == "metadata")
    answer = await why(house, task_id)
    assert (answer["reason"], answer["blocking"]) == ("metadata", "box")
    house.puppet().show(
        key, state=TransferState.DOWNLOADING, downloaded=3, total=9, download_speed=2.0, message="one peer"
    )
    await house.when(task_id, lambda r: (r.progress and (r.progress.counters or {}).get("downloaded")) == 3)
    await house.holds(task_id, "transfer:")
    answer = await why(house, task_id)
    assert answer["reason"] == "between_steps"
    assert answer["message"] == "downloading in box: 3 B of 9 B (33 %), 2 B/s; one peer"


async def test_the_downloader_does_not_answer(build: Builder) -> None:
    house = await build.puppets()
    await house.eventually(lambda: house.endpoints["box"].version, "the version")  # else it would be back with it
    house.puppet().goes("all", Unavailable("connection refused"))
    task_id = await house.add()
    await house.holds(task_id, "downloader:")
    answer = await why(house, task_id)
    assert (answer["reason"], answer["blocking"]) == ("downloader_unavailable", "box")
    assert "box" in answer["message"]
    assert "connection refused" in answer["message"]
    listed = (await Asking(house)("downloaders.list"))["items"][0]
    assert (listed["health"], listed["last_error"], listed["breaker"]["state"]) == (
        "down",
        "connection refused",
        "open",
    )
    assert listed["breaker"]["until"].endswith("Z")


async def test_the_downloader_refuses_our_credentials(build: Builder) -> None:
    house = await build.puppets()
    await house.eventually(lambda: house.endpoints["box"].version, "the version")
    house.puppet().goes("all", AuthFailed("wrong password"))
    task_id = await house.add()
    record = await house.holds(task_id, "downloader:")
    assert record.retries == 0
    answer = await why(house, task_id)
    assert answer["reason"] == "downloader_unavailable"
    assert "wrong password" in answer["message"]
    assert "configuration" in answer["message"]


async def test_no_space(build: Builder) -> None:
    house = await build.puppets()
    task_id = await house.add()
    house.puppet().fail(await house.runs(task_id), Rejected("no space left", kind="disk_full"))
    await house.holds(task_id, "space")
    assert (await why(house, task_id))["reason"] == "space"


async def test_a_retry_is_on_its_way(build: Builder) -> None:
    house = await build.puppets()
    task_id = await house.add()
    house.puppet().fail(await house.runs(task_id), Rejected("the server is busy", kind="busy"))
    await house.waits_for_retry(task_id)
    answer = await why(house, task_id)
    assert (answer["reason"], answer["blocking"]) == ("retry_wait", "busy")
    assert answer["message"].startswith("the server is busy; next try in ")
    assert answer["next_check_at"] is not None


async def test_paused_delayed_blocked_and_final(build: Builder) -> None:
    house = await build.puppets()
    ask = Asking(house)
    paused = (await ask("downloads.add", url=URL, paused=True))["id"]
    answer = await why(house, paused)
    assert answer["reason"] == "paused"
    assert f"dlqueue resume {paused}" in answer["message"]
    delayed = await ask("downloads.add", url=URL + "2", delay=60)
    assert (delayed["status"], delayed["resume_at"] is not None) == ("queued", True)
    answer = await why(house, delayed["id"])
    assert (answer["reason"], answer["next_check_at"]) == ("delayed", delayed["resume_at"])
    assert answer["message"] == f"begins at {delayed['resume_at']} (in 1m), as asked"
    blocked = (await ask("downloads.add", url=URL + "3", depends_on=[paused, delayed["id"]]))["id"]
    answer = await why(house, blocked)
    assert (answer["status"], answer["reason"], answer["blocking"]) == (
        "blocked",
        "dependency",
        [paused, delayed["id"]],
    )
    await ask("tasks.cancel", id=paused)
    final = await why(house, paused)
    assert final["reason"] == "final"
    assert final["message"].startswith("canceled at ")
    assert final["message"].endswith(f"; again: dlqueue retry {paused}")
    assert (await why(house, blocked))["reason"] == "final"
    failed = (await ask("downloads.add", url=URL + "4"))["id"]
    house.puppet().fail(await house.runs(failed), Rejected("HTTP 404", "request", kind="http_404"))
    await house.reaches(failed, Status.ERROR)
    assert "HTTP 404" in (await why(house, failed))["message"]


async def test_running_and_what_keeps_others_from_it(build: Builder) -> None:
    working = Working()
    house = await build.puppets(tasks=(working, Waiting()))
    house.queue.lanes.named["one"] = QueueSettings(concurrency=1)
    running = (await house.queue.submit("working", {}, queue="one", owner="me")).id
    await house.reaches(running, Status.PROCESSING)
    answer = await why(house, running)
    assert (answer["reason"], answer["blocking"]) == ("running", house.queue.node)
    second = (await house.queue.submit("working", {}, queue="one", owner="me")).id
    answer = await why(house, second)
    assert (answer["reason"], answer["blocking"]) == ("concurrency", "one")
    for _ in range(3):
        await house.reaches((await house.queue.submit("working", {}, owner="me")).id, Status.PROCESSING)
    last = (await house.queue.submit("working", {}, owner="me")).id
    answer = await why(house, last)
    assert answer["reason"] == "concurrency"
    assert "4 workers" in answer["message"]
    working.let_go.set()
    await house.reaches(last, Status.SUSPENDING)
    assert (await why(house, last))["reason"] == "between_steps"


async def test_a_hold_of_somebody_else(build: Builder) -> None:
    house = await build.puppets(tasks=(Waiting(),))
    for hold, seconds in (("the moon", None), (None, 1000.0)):
        task_id = (await house.queue.submit("waiting", {"seconds": seconds, "hold": hold}, owner="me")).id
        await house.reaches(task_id, Status.SUSPENDING)
        answer = await why(house, task_id)
        assert (answer["reason"], answer["blocking"]) == ("between_steps", hold)


async def test_due(build: Builder) -> None:
    from tests.downloads.house import puppet_config

    house = House(build._folder, {"box": puppet_config("box")})
    build._houses.append(house)
    await house.queue.open()
    task_id = await house.add()
    answer = await why(house, task_id)
    assert (answer["status"], answer["reason"]) == ("queued", "due")
    await house.endpoints.open()
    house.queue.start()
    await house.runs(task_id)


async def test_no_route_and_unknown_types(build: Builder) -> None:
    url = f"sqlite:///{build._folder}/q.db"
    house = await build.puppets(store=SqlStore(url, "process"), tasks=(Waiting(),))
    download = await house.add(paused=True)
    other = (await house.queue.submit("waiting", {"seconds": 10, "hold": None}, owner="me", delay=5)).id
    await build.close(house)
    house = await build.house({}, store=SqlStore(url, "process"))
    await house.queue.resume(download)
    await house.holds(download, "route")
    assert (await why(house, download))["reason"] == "no_route"
    answer = await why(house, other)
    assert (answer["reason"], answer["blocking"]) == ("unknown_type", "waiting")


async def test_a_downloader_that_is_not_configured_any_more(build: Builder) -> None:
    from tests.downloads.house import puppet_config

    url = f"sqlite:///{build._folder}/q.db"
    house = await build.puppets("old", store=SqlStore(url, "process"))
    house.puppet("old").goes("all", Unavailable("gone"))
    task_id = await house.add()
    await house.holds(task_id, "downloader:old")
    await build.close(house)
    house = await build.house({"new": puppet_config("new")}, store=SqlStore(url, "process"))
    answer = await why(house, task_id)
    assert answer["reason"] == "downloader_unavailable"
    assert "not configured any more" in answer["message"]
    house.clock.advance(400)
    await house.runs(task_id)
    assert (await house.state(task_id)).downloader == "new"


class Greedy(Working):
    """Knows what it needs."""

    type = "greedy"


async def test_resources(build: Builder) -> None:
    task = Greedy()
    house = await build.puppets(tasks=(task,))
    ask = Asking(house)
    submit = {"type": "greedy", "params": {}, "estimate": {"cpu": house.queue._admission._resources._whole("cpu")}}
    first, second = await ask("tasks.submit", **submit), await ask("tasks.submit", **submit)
    await house.holds(second["id"], "resources")
    answer = await why(house, second["id"])
    assert (answer["status"], answer["reason"], answer["blocking"]) == ("queued", "resources", "cpu")
    assert "cores, 0 cores left" in answer["message"]
    assert (await ask("tasks.get", id=second["id"]))["hold"] == "resources"
    assert (await ask("tasks.get", id=first["id"]))["status"] == "processing"
    task.let_go.set()
    await house.when(second["id"], lambda record: record.started_at is not None)


@pytest.mark.parametrize(
    ("estimate", "field"),
    [
        ({"memory": 2**62}, "estimate.memory"),
        ({"cpu": 1e9}, "estimate.cpu"),
        ({"temp": 2**62}, "estimate.temp"),
        ({"memory": -1}, "estimate.memory"),
        ({"memory": 1.5}, "estimate.memory"),
        ({"seconds": 1e300}, "estimate.seconds"),
        ({"disk": 1}, "estimate.disk"),
        ("much", "estimate"),
    ],
)
async def test_estimates_that_are_refused(build: Builder, estimate: Any, field: str) -> None:
    house = await build.puppets(tasks=(Greedy(),))
    for method, params in (
        ("tasks.submit", {"type": "greedy", "params": {}}),
        ("downloads.add", {"url": URL, "directory": str(house.destination)}),
    ):
        error = await Asking(house).refused(method, **params, estimate=estimate)
        assert (error.code, error.field) == (-32602, field)
    assert await house.queue.count() == 0
