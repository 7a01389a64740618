"""`daemon.overview`: the first thing that a person sees."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dlqueue.downloads.space import FileSystem
from dlqueue.queue import Status
from dlqueue.queue.testing import PATIENCE
from dlqueue.sdk import Rejected, Unavailable
from dlqueue.service import overview
from tests.downloads.house import Builder
from tests.service.asking import ROOT, YOU, Asking

pytestmark = pytest.mark.anyio


def refusing(error: Exception) -> Callable[[], object]:
    def refuse() -> object:
        raise error

    return refuse


async def test_an_idle_house_is_well(build: Builder) -> None:
    house = await build.puppets()
    seen = await Asking(house, ROOT)("daemon.overview")
    assert seen["verdict"] == "All is well: 0 running, 0 waiting"
    assert (seen["needs"], seen["errors"], seen["running"]) == ([], [], [])
    assert seen["limit"] == {"kind": "none", "name": None, "message": "nothing waits"}
    assert seen["you"] == {"name": "root", "role": "admin", "admin": True}
    assert set(seen["counts"]["status"]) == {status.value for status in Status}
    (disk,) = seen["disks"]
    assert disk["total"] > disk["free"] > 0 and disk["reserved"] == 0 and disk["floor"] > 0


async def test_failed_tasks_need_somebody_and_are_grouped_by_host(build: Builder) -> None:
    house = await build.puppets()
    ask = Asking(house)
    house.puppet().before["create"] = refusing(Rejected("HTTP 404", "request", kind="not_found"))
    failed = [
        (await ask("downloads.add", url=f"http://{host}/{n}"))["id"]
        for n, host in enumerate(("a.invalid", "b.invalid", "a.invalid"))
    ]
    for number in failed:
        await house.reaches(number, Status.ERROR)
    seen = await ask("daemon.overview")
    assert seen["verdict"] == "1 thing needs you"
    (need,) = seen["needs"]
    assert (need["kind"], need["message"]) == ("failed", "3 tasks have failed")
    assert need["task_ids"] == failed[::-1]
    again = need["actions"][0]
    assert again == {"label": "Retry all", "method": "tasks.retry", "params": {"status": "error"}}
    assert [(group["host"], group["count"]) for group in seen["errors"]] == [("a.invalid", 2), ("b.invalid", 1)]
    assert seen["errors"][0]["task_ids"] == [failed[2], failed[0]]
    assert "404" in seen["errors"][0]["message"]
    assert seen["counts"]["status"]["error"] == 3
    house.puppet().before.clear()
    assert await ask(again["method"], **again["params"]) == {"count": 3}
    assert (await ask("daemon.overview"))["needs"] == []


async def test_others_see_their_own_only(build: Builder) -> None:
    house = await build.puppets()
    ask, you = Asking(house), Asking(house, YOU)
    house.puppet().before["create"] = refusing(Rejected("no", "request"))
    number = (await ask("downloads.add", url="http://a.invalid/1"))["id"]
    await house.reaches(number, Status.ERROR)
    mine, yours, all_ = (
        await ask("daemon.overview"),
        await you("daemon.overview"),
        await Asking(house, ROOT)("daemon.overview"),
    )
    assert mine["counts"]["status"]["error"] == all_["counts"]["status"]["error"] == 1
    assert yours["counts"]["status"]["error"] == 0
    assert (yours["errors"], yours["needs"]) == ([], [])
    assert (mine["you"]["role"], mine["you"]["admin"]) == ("operate", False)


async def test_what_runs_and_what_waits_for_a_slot(build: Builder) -> None:
    house = await build.puppets(max_active=2)
    ask, you = Asking(house), Asking(house, YOU)
    numbers = [(await ask("downloads.add", url=f"http://a.invalid/{n}"))["id"] for n in range(5)]
    for number in numbers[:2]:
        await house.when(number, lambda record: (record.hold or "").startswith("transfer:"))
    for number in numbers[2:]:
        await house.when(number, lambda record: (record.hold or "").startswith("slot:"))
    seen = await ask("daemon.overview")
    assert seen["verdict"] == "All is well: 2 running, 3 waiting"
    assert seen["running"] == numbers[:2]
    assert (seen["limit"]["kind"], seen["limit"]["name"]) == ("slots", "box")
    assert (await you("daemon.overview"))["running"] == []


async def test_a_downloader_that_is_down_or_paused(build: Builder) -> None:
    house = await build.puppets()
    root, me = Asking(house, ROOT), Asking(house)
    await house.eventually(lambda: house.endpoints["box"].version, "the version")  # else it would be back with it
    await root("downloaders.pause", name="box")
    (need,) = (await root("daemon.overview"))["needs"]
    assert (need["kind"], need["name"]) == ("downloader_paused", "box")
    (action,) = need["actions"]
    (seen_by_me,) = (await me("daemon.overview"))["needs"]
    assert seen_by_me["actions"] == [], "what only an admin may do is not offered"
    await root(action["method"], **action["params"])
    assert (await root("daemon.overview"))["needs"] == []
    house.endpoints["box"].broken(Unavailable("no route to host"))
    (need,) = (await root("daemon.overview"))["needs"]
    assert need["kind"] == "downloader_down" and "no route to host" in need["message"]


async def test_a_paused_queue_binds(build: Builder) -> None:
    house = await build.puppets()
    root = Asking(house, ROOT)
    await root("queues.pause", name="downloads")
    assert (await root("daemon.overview"))["needs"] == [], "nothing waits in it"
    await root("downloads.add", url="http://a.invalid/1")
    seen = await root("daemon.overview")
    assert seen["limit"]["kind"] == "queue_paused"
    (need,) = seen["needs"]
    assert need["actions"] == [{"label": "Resume", "method": "queues.resume", "params": {"name": "downloads"}}]


async def test_speeds_are_remembered_for_the_graph(build: Builder) -> None:
    house = await build.puppets()
    ask = Asking(house)
    seen = []
    for _ in range(5):
        rates = (await ask("daemon.overview"))["rates"]
        seen.append([at for at, _, _ in rates["history"]])
        house.clock.advance(100.0)
    assert seen[0] == [0.0]
    assert seen[3] == seen[4] == [300.0, 200.0, 100.0, 0.0], "five minutes, not more"


async def test_many_look_at_once(build: Builder) -> None:
    house = await build.puppets()
    ask = Asking(house)
    for _ in range(5):
        seen = await asyncio.gather(*(ask("daemon.overview") for _ in range(20)))
        assert all(len(one["disks"]) == 1 for one in seen)
        house.clock.advance(100.0)


async def test_a_disk_that_hangs_holds_up_nobody(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()
    looks = 0

    def measured(folder: Path) -> FileSystem:
        nonlocal looks
        looks += 1
        if looks > 1:
            assert let_go.wait(PATIENCE)
        return FileSystem(1, 1000, 500, "/mnt")

    house = await build.puppets(measure=measured)
    ask = Asking(house)
    try:
        before = (await ask("daemon.overview"))["disks"]
        assert len(before) == 1
        monkeypatch.setattr(overview, "DISK_PATIENCE", 0.01)
        house.clock.advance(100.0)
        for _ in range(5):
            assert (await ask("daemon.overview"))["disks"] == before
            # The first of them may have been answered before a thread had begun to look.
            await house.eventually(lambda: looks > 1, "the disk is looked at")
        assert looks == 2, "it is not asked again before it has answered"
    finally:
        let_go.set()
