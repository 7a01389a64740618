"""Downloads on file systems that a test fills, empties and takes away."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dlqueue.downloads.room import AT_ONCE, LOOK_AGAIN
from dlqueue.downloads.space import FileSystem
from dlqueue.downloads.why import Reason, reason_for
from dlqueue.queue import Status
from dlqueue.queue.sql import SqlStore
from dlqueue.sdk import TransferState
from tests.downloads import house as house_module
from tests.downloads.house import Builder, House

pytestmark = pytest.mark.anyio

MIB = 1 << 20
DISK, SCRATCH, ROOT = 70, 71, 1


class Disks:
    """A disk of 1 GiB, of which 20 MiB stay free by default; and another one for a staging folder elsewhere."""

    def __init__(self, free: int) -> None:
        self.free = {DISK: free, SCRATCH: 1000 * MIB, ROOT: 1000 * MIB}
        self.mounted = True

    def __call__(self, folder: Path) -> FileSystem:
        device, mount = (SCRATCH, "/scratch") if "scratch" in folder.parts else (DISK, str(folder.parents[-2]))
        if device == DISK and not self.mounted:
            device, mount = ROOT, "/"
        return FileSystem(device, 1000 * MIB, self.free[device], mount)


def look(house: House) -> None:
    """Let the look-out look, also if it is in the middle of a look."""
    house.endpoints.room._poke.set()
    house.clock.advance(LOOK_AGAIN + 1)


async def known(house: House, task_id: int, total: int, downloaded: int = 0) -> str:
    """The size of its transfer becomes known."""
    key = await house.runs(task_id)
    house.puppet().show(key, total=total, downloaded=downloaded)
    return key


async def why(house: House, task_id: int) -> Reason:
    reason = reason_for(await house.queue.get(task_id), house.endpoints)
    assert reason is not None
    return reason


async def waits(house: House, task_id: int, device: int = DISK) -> None:
    await house.holds(task_id, f"space:{device}")
    assert (await why(house, task_id)).reason == "space"


def states(house: House) -> list[TransferState]:
    return [status.state for status in house.puppet().transfers.values()]


async def test_what_is_too_large_is_paused_as_soon_as_that_is_known(build: Builder) -> None:
    disks = Disks(100 * MIB)
    house = await build.puppets(measure=disks)
    task_id = await house.add()
    key = await known(house, task_id, 90 * MIB, 5 * MIB)
    await waits(house, task_id)
    assert house.puppet().transfers[key].state is TransferState.PAUSED
    assert house.endpoints.slots.active("box") == 0
    record = await house.queue.get(task_id)
    assert record.retries == 0
    assert [(a.error_class, a.next) for a in (await house.state(task_id)).attempts] == [("space", "wait")]
    assert "this needs 85.0 MiB" in (await why(house, task_id)).message
    disks.free[DISK] = 104 * MIB
    look(house)
    await house.settled()
    assert states(house) == [TransferState.PAUSED], "1 MiB more is needed"
    disks.free[DISK] = 105 * MIB
    look(house)
    await house.eventually(lambda: states(house) == [TransferState.DOWNLOADING], "it goes on")
    assert await house.runs(task_id) == key
    house.puppet().finish(key)
    done = await house.reaches(task_id, Status.COMPLETED)
    assert done.retries == 0
    assert house.endpoints.room.ledger.promised(DISK) == 0


async def test_only_as_many_begin_as_fit(build: Builder) -> None:
    house = await build.puppets(max_active=100, measure=Disks(120 * MIB))
    ids = [await house.add(f"http://host.invalid/{n}") for n in range(20)]
    records = await house.queue.list()
    assert len(records.items) == 20
    for task_id in ids:
        record = await house.when(task_id, lambda r: r.hold is not None, "a hold")
        if (record.hold or "").startswith("transfer:"):
            await known(house, task_id, 30 * MIB)
    await house.settled()
    ledger = house.endpoints.room.ledger
    assert 60 * MIB <= ledger.promised(DISK) <= 100 * MIB
    assert sum(state is TransferState.DOWNLOADING for state in states(house)) == len(ledger.on(DISK)) <= 5


def sizes(house: House, monkeypatch: pytest.MonkeyPatch, size: int, small: int = 0) -> None:
    """Known at the submit, as that of a .torrent file is; of what is called ``small`` another one."""
    examined = house.downloads.examined

    def sized(params: Any, submitter: Any) -> Any:
        made, file = examined(params, submitter)
        return msgspec.structs.replace(made, size=small if made.urls[0].endswith("small") else size), file

    monkeypatch.setattr(house.downloads, "examined", sized)


async def test_with_known_sizes_nothing_else_begins(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for .torrent files: no transfer is even created."""
    house = await build.puppets(max_active=100, measure=Disks(120 * MIB))
    sizes(house, monkeypatch, 30 * MIB)
    ids = [await house.add(f"http://host.invalid/{n}") for n in range(20)]
    for task_id in ids:
        await house.when(task_id, lambda r: r.hold is not None, "a hold")
    await house.settled()
    assert len(house.puppet().transfers) == 3
    done = next(iter(house.puppet().transfers))
    house.puppet().finish(done)
    await house.eventually(lambda: len(house.puppet().log) > 4, "the next one begins")
    await house.settled()
    assert len(house.puppet().requests) == 4


async def test_the_first_in_rank_goes_on_first(build: Builder) -> None:
    disks = Disks(0)
    house = await build.puppets(max_active=1, measure=disks)
    low, high = await house.add("http://host.invalid/low"), await house.add("http://host.invalid/high", priority=5)
    await waits(house, low)
    await waits(house, high)
    disks.free[DISK] = 500 * MIB
    look(house)
    await house.runs(high)
    await house.holds(low, "slot:")


async def test_low_pauses_and_back_goes_on(build: Builder, caplog: pytest.LogCaptureFixture) -> None:
    disks = Disks(500 * MIB)
    house = await build.puppets(measure=disks)
    ids = [await house.add(f"http://host.invalid/{n}") for n in range(3)]
    for task_id in ids:
        await known(house, task_id, 10 * MIB)
    await house.settled()
    with caplog.at_level(logging.INFO, "dlqueue.downloads.room"):
        disks.free[DISK] = 19 * MIB
        look(house)
        for task_id in ids:
            await waits(house, task_id)
        assert states(house) == [TransferState.PAUSED] * 3
        late = await house.add("http://host.invalid/late")
        await waits(house, late)
        disks.free[DISK] = 39 * MIB
        look(house)
        await house.settled()
        assert states(house) == [TransferState.PAUSED] * 3, "not before there is twice as much"
        disks.free[DISK] = 200 * MIB
        look(house)
        for task_id in (*ids, late):
            await house.runs(task_id)
        await house.eventually(lambda: states(house) == [TransferState.DOWNLOADING] * 4, "all go on")
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert [(await house.queue.get(task_id)).retries for task_id in ids] == [0, 0, 0]


async def test_what_is_freed_by_one_is_for_the_next(build: Builder) -> None:
    house = await build.puppets(measure=Disks(100 * MIB))
    first = await house.add("http://host.invalid/1")
    await known(house, first, 60 * MIB)
    second = await house.add("http://host.invalid/2")
    key = await known(house, second, 60 * MIB)
    await waits(house, second)
    await house.queue.cancel(first)
    await house.eventually(
        lambda: house.puppet().transfers[key].state is TransferState.DOWNLOADING, "the second goes on"
    )


async def test_a_pause_gives_back_what_was_not_used(build: Builder) -> None:
    house = await build.puppets(measure=Disks(100 * MIB))
    task_id = await house.add()
    await known(house, task_id, 60 * MIB)
    await house.eventually(lambda: house.endpoints.room.ledger.promised(DISK) == 60 * MIB, "it is promised")
    await house.queue.pause(task_id)
    await house.reaches(task_id, Status.PAUSED)
    assert house.endpoints.room.ledger.promised(DISK) == 0
    await house.queue.resume(task_id)
    await house.eventually(lambda: house.endpoints.room.ledger.promised(DISK) == 60 * MIB, "it is promised again")


async def test_a_restart_remembers_what_is_promised(
    build: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'queue.db'}"
    house = await build.puppets(measure=Disks(100 * MIB), store=SqlStore(url))
    task_id = await house.add()
    await known(house, task_id, 60 * MIB, 10 * MIB)
    await house.when(task_id, lambda r: b'"total":62914560' in (r.state or b""), "the size is written down")
    await build.close(house)

    async def not_yet(*_: object) -> None:
        """What is known before any task has looked."""

    monkeypatch.setattr(house_module, "look_again", not_yet)
    again = await build.puppets(measure=Disks(90 * MIB), store=SqlStore(url))
    assert again.endpoints.room.ledger.promised(DISK) == 50 * MIB


async def test_a_copy_to_another_disk_needs_room_there(build: Builder, tmp_path: Path) -> None:
    disks = Disks(50 * MIB)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    house = await build.puppets(measure=disks, staging=scratch)
    task_id = await house.add()
    await known(house, task_id, 40 * MIB)
    await waits(house, task_id)
    disks.free[DISK] = 60 * MIB
    look(house)
    key = await house.runs(task_id)
    await house.settled()
    ledger = house.endpoints.room.ledger
    assert (ledger.promised(SCRATCH), ledger.promised(DISK)) == (40 * MIB, 40 * MIB)
    house.puppet().finish(key)
    await house.reaches(task_id, Status.COMPLETED)
    assert (ledger.promised(SCRATCH), ledger.promised(DISK)) == (0, 0)


async def test_a_missing_mount_is_waited_for(build: Builder) -> None:
    disks = Disks(500 * MIB)
    house = await build.puppets(measure=disks)
    task_id = await house.add()
    key = await known(house, task_id, 60 * MIB)
    await house.when(task_id, lambda r: b'"mounts"' in (r.state or b""), "it remembers the mount")
    await house.eventually(lambda: house.endpoints.room.ledger.promised(DISK) == 60 * MIB, "it is promised")
    disks.mounted = False
    look(house)
    await house.holds(task_id, "space:/")
    assert house.puppet().transfers[key].state is TransferState.PAUSED
    reason = await why(house, task_id)
    assert reason.reason == "space"
    assert f"nothing is mounted on {house.folder.parents[-2]} now" in reason.message
    disks.mounted = True
    look(house)
    await house.eventually(lambda: states(house) == [TransferState.DOWNLOADING], "it goes on")


async def test_nothing_is_delivered_below_a_missing_mount(build: Builder) -> None:
    disks = Disks(500 * MIB)
    house = await build.puppets(measure=disks)
    task_id = await house.add()
    key = await house.runs(task_id)
    disks.mounted = False
    house.puppet().finish(key)
    await house.holds(task_id, "space:/")
    assert "file.bin" not in house.files()
    disks.mounted = True
    look(house)
    await house.reaches(task_id, Status.COMPLETED)
    assert "file.bin" in house.files()


async def test_one_who_fits_is_found_behind_many_who_do_not(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    disks = Disks(0)
    house = await build.puppets(max_active=200, measure=disks)
    sizes(house, monkeypatch, 600 * MIB, small=MIB)
    many = [await house.add(f"http://host.invalid/{n}", priority=5) for n in range(AT_ONCE + 1)]
    small = await house.add("http://host.invalid/small")
    for task_id in (*many, small):
        await waits(house, task_id)
    disks.free[DISK] = 500 * MIB
    for _ in range(3):
        look(house)
        await house.settled()
    await house.runs(small)
    assert len(house.puppet().transfers) == 1
    revision = (await house.queue.get(many[0])).revision
    for _ in range(3):
        look(house)
        await house.settled()
    assert (await house.queue.get(many[0])).revision == revision, "who does not fit is left in peace"
