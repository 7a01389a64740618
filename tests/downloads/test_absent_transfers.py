"""A transfer that is not in its downloader any more: whole, removed by somebody, lost, or never ours."""

from __future__ import annotations

from typing import Any

import pytest

from dlqueue.downloads.setbacks import LOST_MAX
from dlqueue.queue import Status
from dlqueue.sdk import Handle, NotFound, TransferState, TransferStatus
from tests.downloads.house import Builder, House
from tests.downloads.puppet import CONTENT

pytestmark = pytest.mark.anyio


async def running(build: Builder, program: str | None = "first") -> tuple[House, int, str]:
    """A download whose transfer has been seen."""
    house = await build.puppets()
    house.puppet().program = program
    task_id = await house.add()
    key = await house.runs(task_id)
    house.puppet().show(key, downloaded=3, total=11)
    coordinator = house.endpoints["box"]
    await house.eventually(lambda: (seen := coordinator.latest(key)) is not None and seen.downloaded == 3, "seen")
    return house, task_id, key


async def test_removed_by_somebody_is_an_error_and_can_be_retried(build: Builder) -> None:
    house, task_id, key = await running(build)
    house.puppet().forget(key)
    record = await house.reaches(task_id, Status.ERROR)
    assert record.error is not None
    assert record.error.kind == "removed_elsewhere"
    assert "removed it in box" in record.error.message
    assert f"dlqueue retry {task_id}" in record.error.message
    assert record.retries == 0
    assert house.endpoints.slots.active("box") == 0
    state = await house.state(task_id)
    assert [(a.error_class, a.next) for a in state.attempts] == [("removed", "error")]
    assert house.puppet().looked_for == [(key, 11, False)]
    await house.queue.retry(task_id)
    again = await house.runs(task_id)
    house.puppet().finish(again)
    await house.reaches(task_id, Status.COMPLETED)
    assert house.files() == {"file.bin": CONTENT}


async def test_absent_after_a_restart_is_lost_and_created_anew(build: Builder) -> None:
    house, task_id, key = await running(build)
    house.puppet().restart("second", key)
    await house.eventually(lambda: house.puppet().log.count(f"create {key}") == 2, "created anew")
    assert house.puppet().looked_for == [(key, 11, True)]
    await house.runs(task_id)
    house.puppet().finish(key)
    record = await house.reaches(task_id, Status.COMPLETED)
    assert record.retries == 0
    assert [attempt.error_class for attempt in (await house.state(task_id)).attempts] == ["lost", None]


async def test_lost_more_than_three_times_is_an_error(build: Builder) -> None:
    house, task_id, key = await running(build)
    for number in range(LOST_MAX + 1):
        house.puppet().restart(f"run {number}", key)
        if number < LOST_MAX:
            await house.eventually(lambda n=number: house.puppet().log.count(f"create {key}") == n + 2, "anew")  # type: ignore[misc]
            await house.runs(task_id)
    record = await house.reaches(task_id, Status.ERROR)
    assert record.error is not None
    assert record.error.kind == "lost"


async def test_new_bytes_let_the_losses_begin_anew(build: Builder) -> None:
    """A downloader that restarts once a week, and has got further each time, is no reason to give up."""
    house, task_id, key = await running(build)
    coordinator = house.endpoints["box"]
    for number in range(2 * LOST_MAX):
        house.puppet().show(key, downloaded=number + 1, total=11)

        def seen(bytes_there: int = number + 1) -> bool:
            return (found := coordinator.latest(key)) is not None and found.downloaded == bytes_there

        await house.eventually(seen, "it got further")
        await house.queue.wake(f"transfer:{key}")
        await house.eventually(lambda n=number: has_lost(house, task_id, 0), "the task knows")  # type: ignore[misc]
        house.puppet().restart(f"run {number}", key)
        await house.eventually(lambda n=number: house.puppet().log.count(f"create {key}") == n + 2, "anew")  # type: ignore[misc]
        await house.runs(task_id)
    house.puppet().finish(key)
    await house.reaches(task_id, Status.COMPLETED)


async def has_lost(house: House, task_id: int, times: int) -> bool:
    return (await house.state(task_id)).lost == times


async def test_the_same_bytes_once_more_are_not_new(build: Builder) -> None:
    house, task_id, key = await running(build)
    for number in range(LOST_MAX + 1):
        house.puppet().show(key, downloaded=3, total=11 + number)  # which wakes it
        await house.eventually(lambda n=number: knows_total(house, task_id, 11 + n), "the task knows")  # type: ignore[misc]
        house.puppet().restart(f"run {number}", key)
        if number < LOST_MAX:
            await house.eventually(lambda n=number: house.puppet().log.count(f"create {key}") == n + 2, "anew")  # type: ignore[misc]
            await house.runs(task_id)
    record = await house.reaches(task_id, Status.ERROR)
    assert record.error is not None
    assert (record.error.kind, record.retries) == ("lost", 0)
    assert "4 times without a new byte" in record.error.message


async def knows_total(house: House, task_id: int, total: int) -> bool:
    return (await house.state(task_id)).total == total


async def test_a_downloader_that_cannot_tell_has_lost_it(build: Builder) -> None:
    house, _, key = await running(build, program=None)
    house.puppet().forget(key)
    await house.eventually(lambda: house.puppet().log.count(f"create {key}") == 2, "created anew")
    assert house.puppet().looked_for == [(key, 11, True)]


async def test_it_survives_a_restart_that_kept_it_and_is_removed_then(build: Builder) -> None:
    house, task_id, key = await running(build)
    house.puppet().restart("second")
    house.puppet().show(key, downloaded=5)
    coordinator = house.endpoints["box"]
    await house.eventually(lambda: (seen := coordinator.latest(key)) is not None and seen.downloaded == 5, "seen")
    house.puppet().forget(key)
    record = await house.reaches(task_id, Status.ERROR)
    assert record.error is not None
    assert record.error.kind == "removed_elsewhere"


async def test_the_daemon_remembers_over_its_own_restart_who_knew_it(build: Builder) -> None:
    house, task_id, _ = await running(build)
    assert (await house.state(task_id)).instance == "first"


async def test_content_that_is_whole_is_delivered_though_its_entry_is_gone(build: Builder) -> None:
    house, task_id, key = await running(build)
    path = house.puppet().requests[key].directory / "file.bin"
    path.write_bytes(CONTENT)
    house.puppet().left[key] = (str(path),)
    house.puppet().forget(key)
    record = await house.reaches(task_id, Status.COMPLETED)
    assert (record.retries, house.files()) == (0, {"file.bin": CONTENT})
    assert house.puppet().log == [f"create {key}", f"remove {key}"]


async def test_a_paused_transfer_that_was_removed_is_told_when_it_is_resumed(build: Builder) -> None:
    house, task_id, key = await running(build)
    await house.queue.pause(task_id)
    await house.reaches(task_id, Status.PAUSED)
    house.puppet().forget(key)
    await house.queue.resume(task_id)
    record = await house.reaches(task_id, Status.ERROR)
    assert record.error is not None
    assert record.error.kind == "removed_elsewhere"


async def test_gone_between_the_look_and_the_resume(build: Builder) -> None:
    house, task_id, key = await running(build)
    await house.queue.pause(task_id)
    await house.reaches(task_id, Status.PAUSED)
    puppet = house.puppet()

    def gone() -> None:
        puppet.transfers.pop(key, None)
        raise NotFound(key)

    puppet.before["resume"] = gone
    await house.queue.resume(task_id)
    record = await house.reaches(task_id, Status.ERROR)
    assert record.error is not None
    assert record.error.kind == "removed_elsewhere"


# -- what was there before us -----------------------------------------------------------------------------------------


async def attached(build: Builder, **params: Any) -> tuple[House, int, str]:
    """A download that watches somebody else's transfer, ``theirs``."""
    house = await build.puppets()
    puppet = house.puppet()
    puppet.program = "first"
    puppet.theirs = Handle("theirs", "ab" * 20, attached=True)
    puppet.transfers["theirs"] = TransferStatus(TransferState.DOWNLOADING, total=11)
    task_id = await house.add(**params)
    return house, task_id, await house.runs(task_id)


def bring(house: House) -> None:
    """Their transfer is whole, in a folder of theirs."""
    theirs = house.folder / "theirs"
    (theirs / "Name").mkdir(parents=True)
    (theirs / "Name" / "a").write_bytes(b"a")
    (theirs / "Name" / "b").write_bytes(b"b")
    house.puppet().seed("theirs", content=(str(theirs / "Name"),), downloaded=2, total=2)


async def test_attached_is_delivered_beside_and_left_alone(build: Builder) -> None:
    house, task_id, _ = await attached(build)
    bring(house)
    record = await house.reaches(task_id, Status.COMPLETED)
    assert house.files() == {"Name/": b"", "Name/a": b"a", "Name/b": b"b"}
    assert (house.folder / "theirs" / "Name" / "a").read_bytes() == b"a"
    assert "theirs" in house.puppet().transfers
    assert not [line for line in house.puppet().log if "theirs" in line]
    assert record.result["location"] == str(house.destination / "Name")


async def test_attached_is_never_paused_nor_removed(build: Builder) -> None:
    house, task_id, _ = await attached(build)
    await house.queue.pause(task_id)
    await house.reaches(task_id, Status.PAUSED)
    assert house.puppet().transfers["theirs"].state is TransferState.DOWNLOADING
    await house.queue.resume(task_id)
    await house.holds(task_id, "transfer:")
    house.puppet().show("theirs", state=TransferState.PAUSED)
    await house.eventually(lambda: house.endpoints["box"].speeds() is not None, "polled")
    await house.queue.cancel(task_id, {"delete_data": True})
    await house.cleaned(task_id)
    assert house.puppet().transfers["theirs"].state is TransferState.PAUSED
    assert not [line for line in house.puppet().log if "theirs" in line]
    assert house.files() == {}


async def test_attached_that_goes_is_fetched_by_ourselves(build: Builder) -> None:
    house, task_id, key = await attached(build)
    house.puppet().theirs = None
    house.puppet().forget("theirs")
    await house.eventually(lambda: key in house.puppet().transfers, "a transfer of our own")
    await house.runs(task_id)
    house.puppet().finish(key)
    await house.reaches(task_id, Status.COMPLETED)
    assert house.files() == {"file.bin": CONTENT}


async def test_two_tasks_can_watch_one_transfer(build: Builder) -> None:
    house, first, _ = await attached(build)
    second = await house.add(directory=str(house.destination / "other"))
    await house.runs(second)
    bring(house)
    for task_id in (first, second):
        await house.reaches(task_id, Status.COMPLETED)
    assert (house.destination / "Name" / "a").read_bytes() == (house.destination / "other/Name/a").read_bytes() == b"a"
