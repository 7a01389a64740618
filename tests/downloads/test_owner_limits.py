"""What one person may have running: so many transfers at once, so many bytes; and where it may go."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlqueue.downloads.policy import Policy, PolicyRefused
from dlqueue.queue import MemoryStore, Quota, Status
from dlqueue.sdk import TransferState
from tests.downloads.house import Builder, House, puppet_config
from tests.service.asking import ROOT, Asking

pytestmark = pytest.mark.anyio

URL = "http://host.invalid/{}.bin"


async def running(house: House, *owners: str, **more: int) -> list[int]:
    return [await house.add(URL.format(f"{owner}{n}"), owner=owner, **more) for n, owner in enumerate(owners)]


async def why(house: House, task_id: int) -> tuple[str, str]:
    told = await Asking(house, ROOT)("tasks.why", id=task_id)
    return told["reason"], told["message"]


async def test_more_transfers_than_that_wait_and_nobody_else_does(build: Builder) -> None:
    house = await build.puppets(max_active=5, shares={"ann": 2})
    first, second, third, fourth, bob = await running(house, "ann", "ann", "ann", "ann", "bob")
    keys = [await house.runs(task_id) for task_id in (first, second, bob)]
    for task_id in (third, fourth):
        await house.holds(task_id, "quota:ann")
    reason, message = await why(house, third)
    assert reason == "quota" and "ann has 2 transfers running and may have 2 at once" in message
    house.puppet().finish(keys[0])
    await house.reaches(first, Status.COMPLETED)
    await house.runs(third)
    assert (await house.queue.get(fourth)).hold == "quota:ann"
    await house.queue.cancel(second)
    await house.runs(fourth)
    assert house.endpoints.shares.active("ann") == 2


async def test_who_has_the_higher_priority_is_next(build: Builder) -> None:
    house = await build.puppets(max_active=5, shares={"ann": 1})
    first, low = await running(house, "ann", "ann")
    key = await house.runs(first)
    high = await house.add(URL.format("high"), owner="ann", priority=5)
    for task_id in (low, high):
        await house.holds(task_id, "quota:ann")
    house.puppet().finish(key)
    await house.runs(high)
    assert (await house.queue.get(low)).hold == "quota:ann"


async def test_a_slot_that_its_owner_may_not_use_is_the_next_ones(build: Builder) -> None:
    """Ann waits for a slot, too; when one is free she has as much as she may, and Bob gets it."""
    house = await build.puppets(max_active=2, shares={"ann": 1})
    first, bob = await running(house, "ann", "bob")
    keys = [await house.runs(task_id) for task_id in (first, bob)]
    waiting = [await house.add(URL.format(f"w{n}"), owner=who) for n, who in enumerate(("ann", "bob"))]
    await house.holds(waiting[0], "quota:ann")
    await house.holds(waiting[1], "slot:box")
    house.puppet().finish(keys[1])
    await house.runs(waiting[1])
    house.puppet().finish(keys[0])
    await house.runs(waiting[0])


async def test_a_turn_that_waits_for_another_downloader_is_passed_on(build: Builder) -> None:
    house = await build.house({"a": puppet_config("a", 1), "b": puppet_config("b", 5)}, shares={"ann": 1})
    bob = await house.add(URL.format("bob"), owner="bob", downloader="a")
    await house.runs(bob)
    first = await house.add(URL.format("first"), owner="ann", downloader="b")
    key = await house.runs(first)
    blocked = await house.add(URL.format("blocked"), owner="ann", downloader="a", priority=9)
    other = await house.add(URL.format("other"), owner="ann", downloader="b")
    for task_id in (blocked, other):
        await house.holds(task_id, "quota:ann")
    house.puppet("b").finish(key)
    await house.holds(blocked, "slot:a")
    await house.runs(other)


async def test_a_restart_changes_nothing(build: Builder) -> None:
    store = MemoryStore()
    # With a downloader that outlives the daemon: one that has lost the transfer lets both begin anew, in any order.
    house = await build.fake(store=store, shares={"ann": 1})
    first, second = [await house.add(URL.format(n) + "?manual=1", owner="ann") for n in range(2)]
    await house.runs(first)
    await house.holds(second, "quota:ann")
    await build.close(house)
    house = await build.fake(store=store, shares={"ann": 1})
    await house.settled()
    assert house.endpoints.shares.active("ann") == 1
    assert [(await house.queue.get(i)).hold or "" for i in (first, second)][1] == "quota:ann"
    await build.close(house)
    house = await build.fake(store=store)  # and without a limit both run
    for task_id in (first, second):
        await house.runs(task_id)


async def test_one_that_turns_out_to_be_too_large_waits(build: Builder) -> None:
    house = await build.puppets(quotas={"ann": Quota(bytes=100)})
    first, second = await running(house, "ann", "ann")
    keys = [await house.runs(task_id) for task_id in (first, second)]
    house.puppet().show(keys[0], total=70, downloaded=1)
    await house.eventually(lambda: house.queue.quotas.used("ann") == (2, 70), "its size counts")
    house.puppet().show(keys[1], total=31, downloaded=1)
    await house.holds(second, "quota:ann:bytes")
    reason, message = await why(house, second)
    assert reason == "quota" and "have 70 B and may have 100 B" in message and "this one has 31 B" in message
    assert house.endpoints.slots.active("box") == 1
    house.puppet().finish(keys[0], b"x" * 70)
    await house.reaches(first, Status.COMPLETED)
    assert await house.runs(second) == keys[1]
    await house.eventually(
        lambda: house.puppet().transfers[keys[1]].state is TransferState.DOWNLOADING, "it goes on where it was"
    )
    house.puppet().finish(keys[1], b"x" * 31)
    await house.reaches(second, Status.COMPLETED)
    assert house.queue.quotas.used("ann") == (0, 0)


async def test_one_that_can_never_fit_says_so_and_waits_for_another_limit(build: Builder) -> None:
    limits = {"ann": Quota(bytes=100)}
    house = await build.puppets(quotas=limits)
    (task_id,) = await running(house, "ann")
    key = await house.runs(task_id)
    house.puppet().show(key, total=101, downloaded=1)
    await house.holds(task_id, "quota:ann:never")
    assert "never fits" in (await why(house, task_id))[1]
    limits["ann"] = Quota(bytes=101)
    await house.queue.quotas.limit(limits.get)
    await house.queue.quotas.look_again()
    await house.runs(task_id)


def test_an_owners_folders_stand_in_place_of_the_others(tmp_path: Path) -> None:
    folders = {"ann": (tmp_path / "ann",)}
    policy = Policy(frozenset({"http"}), True, (tmp_path,), lambda owner: folders.get(owner, ()))
    for name in ("ann", "bob"):
        (tmp_path / name).mkdir()
    (tmp_path / "ann" / "link").symlink_to(tmp_path / "bob")
    assert policy.check_destination(tmp_path / "bob", owner="bob") == tmp_path
    assert policy.check_destination(tmp_path / "ann" / "new", owner="ann") == tmp_path / "ann"
    for folder in ("bob", ".", "ann/link", "ann/../bob"):
        with pytest.raises(PolicyRefused, match="for ann"):
            policy.check_destination(tmp_path / folder, extra=tmp_path / "bob", owner="ann")
    assert policy.default(tmp_path / "all", "bob") == tmp_path / "all"
    assert policy.default(tmp_path / "all", "ann") == tmp_path / "ann"
    assert policy.default(tmp_path / "ann" / "in", "ann") == tmp_path / "ann" / "in"


async def test_every_way_in_goes_by_the_owners_folders(build: Builder) -> None:
    house = await build.puppets()
    mine = house.destination / "mine"
    house.policy.of_owner = lambda owner: (mine,) if owner == "me" else ()
    ask = Asking(house)
    elsewhere = {"url": URL.format("x"), "directory": str(house.destination / "other")}
    refusals = [
        await ask.refused("downloads.add", **elsewhere),
        await ask.refused("downloads.add", **elsewhere, dry_run=True),
        await ask.refused("tasks.submit", type="remote_download", params=elsewhere),
        await ask.refused("tasks.submit_many", tasks=[{"type": "remote_download", "params": elsewhere}]),
        await ask.refused("schedules.create", name="s", type="remote_download", params=elsewhere, every=60),
    ]
    await ask("schedules.create", name="s", type="remote_download", params={"url": URL.format("x")}, every=60)
    refusals.append(await ask.refused("schedules.update", name="s", params=elsewhere))
    assert [(error.code, error.kind) for error in refusals] == [(-32006, "destination")] * 6
    made = await ask("downloads.add", url=URL.format("y"))
    assert made["download"]["destination"] == str(mine)
    await Asking(house, ROOT)("downloads.add", **elsewhere)
