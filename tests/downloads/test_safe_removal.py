"""Whole downloads that are removed with their data, beside others that need the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dlqueue.downloads.recovery import sweep_uses
from dlqueue.queue import Status
from dlqueue.sdk import Handle, TransferFile, TransferState, TransferStatus
from tests.downloads.house import Builder, House
from tests.service.asking import Asking

pytestmark = pytest.mark.anyio

FILES = {"a": b"aaaa", "sub/b": b"bb"}


async def folder(build: Builder, seed: bool = False) -> tuple[House, int]:
    """A folder ``T`` that has been delivered."""
    house = await build.puppets()
    task_id = await house.add()
    key = await house.runs(task_id)
    state = TransferState.SEEDING if seed else TransferState.COMPLETED
    house.puppet().finish_folder(key, "T", FILES, state=state, downloaded=6, total=6)
    if seed:
        await house.when(task_id, lambda record: record.delivered_at is not None, "delivered")
        await house.holds(task_id, "transfer:")
    else:
        await house.reaches(task_id, Status.COMPLETED)
    return house, task_id


def message(answer: dict[str, Any]) -> str:
    said = answer["progress"]["message"]
    assert said is None or isinstance(said, str)
    return said or ""


@pytest.mark.parametrize("verb", ["tasks.remove", "tasks.cancel"])
async def test_the_answer_says_what_was_kept(build: Builder, verb: str) -> None:
    house, task_id = await folder(build, seed=verb == "tasks.cancel")
    (house.destination / "T" / "sub" / "mine").write_bytes(b"mine")
    (house.destination / "T" / "a").write_bytes(b"changed")
    answer = await Asking(house)(verb, id=task_id, delete_data=True)
    assert house.files() == {"T/": b"", "T/a": b"changed", "T/sub/": b"", "T/sub/mine": b"mine"}
    where = house.destination / "T"
    assert message(answer) == f"kept: in {where} what was added or changed since: a, sub/mine"


@pytest.mark.parametrize("verb", ["tasks.remove", "tasks.cancel"])
async def test_it_says_nothing_if_nothing_was_kept(build: Builder, verb: str) -> None:
    house, task_id = await folder(build, seed=verb == "tasks.cancel")
    answer = await Asking(house)(verb, id=task_id, delete_data=True)
    assert house.files() == {}
    assert "kept" not in message(answer)


async def test_a_file_that_another_task_was_content_with_stays(build: Builder) -> None:
    house = await build.puppets()
    first = await house.add(name="file.bin")
    house.puppet().finish(await house.runs(first))
    await house.reaches(first, Status.COMPLETED)
    second = await house.add("http://host.invalid/other", name="file.bin", on_exists="skip")
    await house.reaches(second, Status.COMPLETED)
    answer = await Asking(house)("tasks.remove", id=first, delete_data=True)
    target = house.destination / "file.bin"
    assert message(answer) == f"kept: {target}: task {second} uses it"
    assert target.exists()
    answer = await Asking(house)("tasks.remove", id=second, delete_data=True)
    assert message(answer) == f"kept: {target}: it was there before"
    assert target.exists()


async def test_when_the_other_task_is_gone_nothing_holds_it(build: Builder) -> None:
    house = await build.puppets()
    first = await house.add(name="file.bin")
    house.puppet().finish(await house.runs(first))
    await house.reaches(first, Status.COMPLETED)
    second = await house.add("http://host.invalid/other", name="file.bin", on_exists="skip")
    await house.reaches(second, Status.COMPLETED)
    await house.queue.remove(second)
    assert house.endpoints.uses.tasks() == set()
    await Asking(house)("tasks.remove", id=first, delete_data=True)
    assert house.files() == {}


async def test_at_start_those_who_are_gone_are_forgotten(build: Builder) -> None:
    house, task_id = await folder(build)
    for user in (task_id, 98, 99):
        house.endpoints.uses.note(house.destination / "T", user)
    await sweep_uses(house.queue, house.endpoints.uses)
    assert house.endpoints.uses.tasks() == {task_id}


async def linked(house: House, theirs: Path, url: str = "http://host.invalid/first") -> int:
    """A download that has linked what a transfer of somebody else has brought."""
    puppet = house.puppet()
    puppet.theirs = Handle("theirs", "ab" * 20, attached=True)
    puppet.listed["theirs"] = [TransferFile(1, "T/a", 4, 100.0), TransferFile(2, "T/sub/b", 2, 100.0)]
    puppet.transfers["theirs"] = TransferStatus(
        TransferState.SEEDING, "T", 6, 6, content=(str(theirs / "T"),), hash="ab" * 20
    )
    task_id = await house.add(url)
    await house.reaches(task_id, Status.COMPLETED)
    return task_id


def foreign(house: House) -> Path:
    theirs = house.folder / "theirs"
    for name, content in FILES.items():
        (theirs / "T" / name).parent.mkdir(parents=True, exist_ok=True)
        (theirs / "T" / name).write_bytes(content)
    return theirs


async def test_two_tasks_with_links_of_one_torrent_lose_only_their_own(build: Builder) -> None:
    house = await build.puppets()
    theirs = foreign(house)
    first = await linked(house, theirs)
    second = await linked(house, theirs, "http://host.invalid/second")
    one, two = house.destination / "T" / "a", house.destination / "T.1" / "a"
    assert one.samefile(two)
    await Asking(house)("tasks.remove", id=first, delete_data=True)
    assert not one.exists()
    assert (two.read_bytes(), (theirs / "T" / "sub" / "b").read_bytes()) == (b"aaaa", b"bb")
    await Asking(house)("tasks.remove", id=second, delete_data=True)
    assert house.files() == {}
    assert (theirs / "T" / "a").read_bytes() == b"aaaa", "theirs is theirs"


async def test_the_very_same_link_at_the_very_same_place_belongs_to_the_later(build: Builder) -> None:
    """Same inode, size, time and name: only what was written down tells that it is another task's."""
    house = await build.puppets()
    theirs = foreign(house)
    first = await linked(house, theirs)
    for name in FILES:  # somebody deletes it, and fetches it again
        (house.destination / "T" / name).unlink()
    (house.destination / "T" / "sub").rmdir()
    (house.destination / "T").rmdir()
    second = await linked(house, theirs, "http://host.invalid/second")
    answer = await Asking(house)("tasks.remove", id=first, delete_data=True)
    assert (house.destination / "T" / "a").read_bytes() == b"aaaa"
    assert f"task {second} uses it" in message(answer)
    await Asking(house)("tasks.remove", id=second, delete_data=True)
    assert house.files() == {}
