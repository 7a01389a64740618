"""One download from the first step to the last, and every way in which it can go otherwise."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from dlqueue.downloads.recovery import read_state
from dlqueue.downloads.setbacks import LOST_MAX
from dlqueue.queue import QueueSettings, Status
from dlqueue.sdk import Rejected, TransferState, Unavailable
from dlqueue.sdk.testing import fake_content
from tests.downloads.house import Builder, House
from tests.downloads.puppet import CONTENT

pytestmark = pytest.mark.anyio

PASSING = Rejected("the server is busy", kind="busy")
FINAL_HERE = Rejected("cannot do that", "downloader", kind="unsupported")
FINAL = Rejected("HTTP 404 Not Found", "request", kind="http_404")


async def ends(house: House, task_id: int, status: Status = Status.COMPLETED) -> None:
    record = await house.reaches(task_id, Status.COMPLETED, Status.ERROR, Status.CANCELED)
    assert record.status is status, record.error


async def eventually(condition: Callable[[], object]) -> None:
    """What happens behind a task's end, or between two of its steps, has no event of its own."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def classes(download: dict[str, object]) -> list[tuple[object, object]]:
    attempts = download["attempts"]
    assert isinstance(attempts, list)
    return [(attempt["error_class"], attempt["next"]) for attempt in attempts]


# -- it goes well -----------------------------------------------------------------------------------------------------


async def test_a_url_becomes_a_file(build: Builder) -> None:
    house = await build.fake()
    task_id = await house.add("http://host.invalid/file.bin?size=5000&steps=3")
    await ends(house, task_id)
    record = await house.queue.get(task_id)
    target = house.destination / "file.bin"
    assert house.files() == {"file.bin": fake_content(5000)}
    assert record.result == {"location": str(target), "name": "file.bin", "size": 5000, "downloader": "fake"}
    assert record.delivered_at is not None
    assert (record.retries, record.error, record.crashes) == (0, None, 0)
    state = await house.state(task_id)
    assert state.location == str(target)
    assert state.obligations == []
    assert [(a.downloader, a.kind, a.bytes, a.error_class, a.next) for a in state.attempts] == [
        ("fake", "fake", 5000, None, None)
    ]
    assert state.attempts[0].ended_at is not None
    assert house.endpoints.slots.active("fake") == 0
    assert not list((house.folder / "fake").glob("*.json"))
    assert len((house.folder / "fake" / "creates.log").read_text().splitlines()) == 1


async def test_a_small_file_is_whole_before_its_first_step_ends(
    build: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dlqueue.downloads import task

    monkeypatch.setattr(task, "LINGER", 60.0)
    house = await build.fake()
    task_id = await house.add()
    await ends(house, task_id)
    kinds = [event.kind for event in await house.queue.history(task_id)]
    assert kinds.count("claimed") == 1


async def test_the_request_reaches_the_downloader_as_it_was_made(build: Builder) -> None:
    house = await build.puppets()
    task_id = await house.add(
        name="n.bin", headers={"A": "b"}, options={"split": "2"}, checksum="md5=" + "0" * 32, directory=None
    )
    key = await house.runs(task_id)
    request = house.puppet().requests[key]
    assert request.urls == ("http://host.invalid/file.bin",)
    assert (request.name, request.headers, request.options) == ("n.bin", {"A": "b"}, {"split": "2"})
    assert request.checksum == "md5=" + "0" * 32
    assert request.directory == house.destination / ".dlqueue" / f"{task_id}-{key}"
    assert request.directory.stat().st_mode & 0o777 == 0o700


async def test_the_key_is_saved_before_the_downloader_is_asked(build: Builder) -> None:
    house = await build.puppets()
    gate = house.puppet().gate("create")
    task_id = await house.add()
    await house.eventually(gate.reached.is_set, "create was called")
    state = await house.state(task_id)
    assert state.key is not None
    assert (state.phase, state.handle_id) == ("", None)
    gate.open.set()
    assert await house.runs(task_id) == state.key


async def test_bytes_alone_run_no_step(build: Builder) -> None:
    """Only the size is written down, once it is known."""
    house = await build.puppets()
    task_id = await house.add()
    key = await house.runs(task_id)
    house.puppet().show(key, downloaded=0, total=10)
    before = await house.when(task_id, lambda r: read_state(r).total == 10 and r.status is Status.SUSPENDING)
    for done in range(1, 6):
        polls = len(house.puppet().polls)
        house.puppet().show(key, downloaded=done, total=10)
        await house.eventually(lambda n=polls: len(house.puppet().polls) > n, "another poll")  # type: ignore[misc]
    await house.settled()
    assert (await house.queue.get(task_id)).revision == before.revision
    house.puppet().finish(key)
    await ends(house, task_id)


async def test_files_of_a_folder_arrive_as_a_folder(build: Builder) -> None:
    house = await build.puppets()
    task_id = await house.add()
    key = await house.runs(task_id)
    # A selection, counted in whole pieces.
    house.puppet().finish_folder(key, "album", {"a.txt": b"a", "deep/b.txt": b"b"}, hash="aa", total=9, downloaded=9)
    await ends(house, task_id)
    assert house.files() == {"album/": b"", "album/a.txt": b"a", "album/deep/": b"", "album/deep/b.txt": b"b"}
    assert (await house.state(task_id)).location == str(house.destination / "album")
    progress = (await house.queue.get(task_id)).progress
    assert progress is not None and progress.counters == {"downloaded": 2, "total": 2, "download_speed": 0}


# -- errors by their class --------------------------------------------------------------------------------------------


async def test_a_passing_error_is_retried_with_the_same_key(build: Builder) -> None:
    house = await build.puppets()
    task_id = await house.add()
    key = await house.runs(task_id)
    house.puppet().fail(key, PASSING)
    record = await house.waits_for_retry(task_id)
    assert (record.retries, record.attempt) == (1, 1)
    assert record.error is not None
    assert (record.error.kind, record.error.message) == ("busy", "the server is busy")
    assert record.run_at is not None
    assert 4.0 <= record.run_at - house.clock.time() <= 6.0
    assert house.endpoints.slots.active("box") == 0
    assert classes(await house.download(task_id)) == [("passing", "retry")]
    house.pass_time_until(record)
    assert await house.runs(task_id) == key
    house.puppet().finish(key)
    await ends(house, task_id)
    record = await house.queue.get(task_id)
    assert (record.retries, record.attempt, record.error) == (1, 0, None)
    assert classes(await house.download(task_id)) == [("passing", "retry"), (None, None)]
    assert house.puppet().log == [f"create {key}", f"create {key} again", f"remove {key}"]


async def test_the_budget_of_retries_ends(build: Builder) -> None:
    house = await build.fake()
    task_id = await house.add("http://host.invalid/f?fail=passing&kind=odd", max_retry=2)
    for _ in range(2):
        house.pass_time_until(await house.waits_for_retry(task_id))
        await house.when(task_id, lambda r: r.status is Status.PROCESSING or r.final)
    await ends(house, task_id, Status.ERROR)
    record = await house.queue.get(task_id)
    assert record.error is not None
    assert (record.error.kind, record.retries) == ("odd", 2)
    download = await house.download(task_id)
    assert classes(download) == [("passing", "retry"), ("passing", "retry"), ("passing", "error")]
    assert len({attempt["key"] for attempt in download["attempts"]}) == 1
    assert all(attempt["ended_at"] is not None for attempt in download["attempts"])


async def test_new_bytes_renew_the_budget_and_old_ones_do_not(build: Builder) -> None:
    house = await build.puppets()
    task_id = await house.add(max_retry=2)
    got: list[int] = []
    for downloaded in (100, 200, 200, 150):
        key = await house.runs(task_id)
        house.puppet().fail(key, PASSING, downloaded=downloaded)
        record = await house.reaches(task_id, Status.ERROR) if downloaded == 150 else None
        if record is None:
            record = await house.waits_for_retry(task_id)
            house.pass_time_until(record)
            await house.when(task_id, lambda r: r.status is Status.PROCESSING or bool(r.hold))
        got.append(record.attempt)
    assert got[:3] == [1, 1, 2]
    assert (await house.queue.get(task_id)).retries == 3


async def test_bytes_that_were_there_before_renew_nothing(build: Builder) -> None:
    """A server that always breaks off at the same place, and a downloader that begins anew each time."""
    house = await build.puppets()
    task_id = await house.add(max_retry=2)
    for turn in (1, 2, 3):
        key = await house.runs(task_id)
        # A step in the middle, with fewer bytes than there were before.
        house.puppet().show(key, state=TransferState.CHECKING, downloaded=50)
        await house.when(task_id, lambda r: ((r.progress and r.progress.counters) or {}).get("downloaded") == 50)
        house.puppet().show(key, state=TransferState.DOWNLOADING, downloaded=60)
        await house.when(task_id, lambda r: ((r.progress and r.progress.counters) or {}).get("downloaded") == 60)
        house.puppet().fail(key, PASSING, downloaded=100)
        if turn < 3:
            record = await house.waits_for_retry(task_id)
            assert record.attempt == turn
            house.pass_time_until(record)
            await house.when(task_id, lambda r: r.status is Status.PROCESSING or bool(r.hold))
    await ends(house, task_id, Status.ERROR)


async def test_retry_after_is_respected(build: Builder) -> None:
    house = await build.fake()
    task_id = await house.add("http://host.invalid/f?fail=passing&times=1&retry_after=300")
    record = await house.waits_for_retry(task_id)
    assert record.run_at == pytest.approx(house.clock.time() + 300)
    house.pass_time_until(record)
    await ends(house, task_id)


async def test_final_for_this_downloader_goes_to_the_next_in_the_route(build: Builder) -> None:
    house = await build.puppets("one", "two")
    task_id = await house.add()
    first = await house.runs(task_id)
    house.puppet("one").fail(first, FINAL_HERE)
    record = await house.when(task_id, lambda r: r.hold is not None and r.hold not in (f"transfer:{first}", None))
    second = (record.hold or "").partition(":")[2]
    assert record.retries == 0
    state = await house.state(task_id)
    assert (state.downloader, state.key) == ("two", second)
    assert house.puppet("one").transfers == {}, "removed at once"
    assert state.obligations == []
    house.puppet("two").finish(second)
    await ends(house, task_id)
    assert classes(await house.download(task_id)) == [("downloader", "next downloader"), (None, None)]
    assert house.puppet("one").log == [f"create {first}", f"remove {first}"]
    assert (await house.queue.get(task_id)).retries == 0
    assert house.files() == {"file.bin": CONTENT}


async def test_a_create_that_is_refused_goes_to_the_next_too(build: Builder) -> None:
    house = await build.puppets("one", "two")
    house.puppet("one").goes("create", FINAL_HERE)
    task_id = await house.add()
    await house.runs(task_id)
    assert (await house.state(task_id)).downloader == "two"


async def test_the_route_exhausted_without_a_passing_error(build: Builder) -> None:
    house = await build.puppets("one", "two")
    for name in ("one", "two"):
        house.puppet(name).goes("create", FINAL_HERE)
    task_id = await house.add()
    await ends(house, task_id, Status.ERROR)
    record = await house.cleaned(task_id)
    assert record.error is not None
    assert (record.error.kind, record.error.message, record.retries) == ("unsupported", "cannot do that", 0)
    assert classes(await house.download(task_id)) == [("downloader", "next downloader"), ("downloader", "error")]
    # What was given up is removed also when nothing became of the task; the last one stays for a retry.
    assert (await house.state(task_id)).obligations == []


async def test_the_route_exhausted_after_a_passing_error_begins_once_more_at_the_top(build: Builder) -> None:
    house = await build.puppets("one", "two")
    task_id = await house.add()
    first = await house.runs(task_id)
    house.puppet("one").fail(first, PASSING)
    house.pass_time_until(await house.waits_for_retry(task_id))
    await house.holds(task_id, "transfer:")
    house.puppet("two").goes("create", FINAL_HERE)
    house.puppet("one").fail(first, FINAL_HERE)
    record = await house.when(task_id, lambda r: r.retries == 2 or r.final)
    assert record.status is Status.SUSPENDING, record.error
    house.pass_time_until(record)
    second = await house.runs(task_id)
    assert second != first
    assert (await house.state(task_id)).downloader == "one"
    # This time nothing passing is in it: that is the end.
    house.puppet("one").fail(second, FINAL_HERE)
    await ends(house, task_id, Status.ERROR)


@pytest.mark.parametrize("where", ["create", "poll"])
async def test_final_for_the_request_is_an_error_at_once(build: Builder, where: str) -> None:
    house = await build.puppets("one", "two")
    if where == "create":
        house.puppet("one").goes("create", FINAL)
        task_id = await house.add()
    else:
        task_id = await house.add()
        house.puppet("one").fail(await house.runs(task_id), FINAL)
    await ends(house, task_id, Status.ERROR)
    record = await house.queue.get(task_id)
    assert record.error is not None
    assert (record.error.kind, record.error.message) == ("http_404", "HTTP 404 Not Found")
    assert record.retries == 0
    assert classes(await house.download(task_id)) == [("request", "error")]
    assert house.puppet("two").log == []
    assert house.endpoints.slots.active("one") == 0


async def test_an_error_without_a_word_is_passing(build: Builder) -> None:
    house = await build.puppets()
    task_id = await house.add()
    house.puppet().show(await house.runs(task_id), state=TransferState.ERROR)
    record = await house.waits_for_retry(task_id)
    assert record.error is not None
    assert "without saying why" in record.error.message


async def test_a_full_disk_is_waited_for(build: Builder) -> None:
    house = await build.puppets()
    task_id = await house.add()
    key = await house.runs(task_id)
    house.puppet().fail(key, Rejected("no space left", "request", kind="disk_full"))
    record = await house.holds(task_id, "space")
    assert (record.retries, record.attempt) == (0, 0)
    assert classes(await house.download(task_id)) == [("space", "wait")]
    assert house.endpoints.slots.active("box") == 0
    house.pass_time_until(record)
    assert await house.runs(task_id) == key
    house.puppet().finish(key)
    await ends(house, task_id)
    assert (await house.queue.get(task_id)).retries == 0


async def test_what_the_downloader_has_forgotten_is_created_anew_but_not_for_ever(build: Builder) -> None:
    house = await build.puppets()
    task_id = await house.add()
    keys = set()
    for turn in range(LOST_MAX + 1):
        await house.eventually(lambda n=turn: len(house.puppet().log) > n, "created anew")  # type: ignore[misc]
        keys.add(await house.runs(task_id))
        house.puppet().forget(next(iter(keys)))
    await ends(house, task_id, Status.ERROR)
    record = await house.queue.get(task_id)
    assert record.error is not None
    assert (record.error.kind, record.retries) == ("lost", 0)
    assert classes(await house.download(task_id)) == [("lost", "create anew")] * LOST_MAX + [("lost", "error")]
    assert len(keys) == 1
    # A retry by a person begins the count anew.
    await house.queue.retry(task_id)
    await house.runs(task_id)
    house.puppet().forget(next(iter(keys)))
    await house.eventually(lambda: len(house.puppet().log) == LOST_MAX + 3, "created anew")
    house.puppet().finish(await house.runs(task_id))
    await ends(house, task_id)


async def test_content_that_is_gone_from_staging_is_fetched_under_a_new_key(build: Builder) -> None:
    house = await build.puppets()
    task_id = await house.add()
    first = await house.runs(task_id)
    gate = house.puppet().gate("poll")
    path = house.puppet().finish(first)
    await house.eventually(gate.reached.is_set, "the poll")
    path.unlink()
    gate.open.set()
    record = await house.when(task_id, lambda r: (r.hold or "").startswith("transfer:") and first not in str(r.hold))
    second = (record.hold or "").partition(":")[2]
    house.puppet().finish(second)
    await ends(house, task_id)
    assert f"remove {first}" in house.puppet().log
    assert house.files() == {"file.bin": CONTENT}


# -- the downloader is down -------------------------------------------------------------------------------------------


async def test_a_downloader_that_is_down_is_waited_for_without_spending_retries(build: Builder) -> None:
    house = await build.fake()
    (house.folder / "fake" / "down").touch()
    await house.eventually(lambda: not house.endpoints["fake"]._watches, "idle")
    task_id = await house.add()
    record = await house.holds(task_id, "downloader:fake")
    assert (record.status, record.retries, record.attempt, record.error) == (Status.SUSPENDING, 0, 0, None)
    (house.folder / "fake" / "down").unlink()
    house.clock.advance(61)
    await ends(house, task_id)
    assert (await house.queue.get(task_id)).retries == 0


async def test_what_it_waited_for_before_is_not_shown_while_it_waits_for_a_slot(build: Builder) -> None:
    house = await build.puppets(max_active=1)
    house.puppet().goes("all", Unavailable("connection refused"))
    ids = [await house.add(name=name) for name in "ab"]
    for task_id in ids:
        record = await house.holds(task_id, "downloader:box")
        assert record.progress is not None
        assert record.progress.message == "waiting for box: connection refused"
    house.puppet().before.clear()
    house.clock.advance(61)
    records = [await house.when(task_id, lambda r: r.hold not in (None, "downloader:box")) for task_id in ids]
    (waits,) = (record for record in records if record.hold == "slot:box")
    assert waits.progress is not None and waits.progress.message == ""


async def test_going_down_in_the_middle_keeps_the_transfer_and_its_slot(build: Builder) -> None:
    house = await build.puppets()
    task_id = await house.add()
    key = await house.runs(task_id)
    house.puppet().goes("all", Unavailable("connection refused"))
    house.puppet().news()
    await house.eventually(lambda: house.endpoints["box"].down, "down")
    house.clock.advance(60)  # it looks by itself once a minute
    record = await house.when(task_id, lambda r: r.hold is not None)
    await house.settled()
    assert house.endpoints.slots.active("box") == 1
    assert record.retries == 0
    house.puppet().before.clear()
    house.puppet().finish(key)
    house.clock.advance(61)
    await ends(house, task_id)
    assert house.puppet().log == [f"create {key}", f"remove {key}"]


async def test_a_downloader_that_is_known_to_be_down_is_passed_over(build: Builder) -> None:
    house = await build.puppets("one", "two")
    house.puppet("one").goes("all", Unavailable("gone"))
    first = await house.add(downloader="one")
    await house.holds(first, "downloader:one")
    second = await house.add(name="other")
    await house.runs(second)
    assert (await house.state(second)).downloader == "two"


# -- cancel -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delete", [False, True])
async def test_cancel_while_it_runs(build: Builder, delete: bool) -> None:
    house = await build.puppets()
    task_id = await house.add()
    key = await house.runs(task_id)
    part = house.puppet().requests[key].directory / "file.bin.part"
    part.write_bytes(b"half")
    record = await house.queue.cancel(task_id, {"delete_data": True} if delete else None)
    assert record.status is Status.CANCELED
    await house.cleaned(task_id)
    assert house.puppet().log == [f"create {key}", f"remove {key}"]
    assert house.endpoints.slots.active("box") == 0
    assert part.exists() is not delete
    if delete:
        assert house.files() == {}
    assert (await house.queue.cancel(task_id)).status is Status.CANCELED
    # And begun again: with the bytes that are left, or from nothing.
    await house.queue.retry(task_id)
    again = await house.runs(task_id)
    assert (again == key) is not delete
    house.puppet().finish(again)
    await ends(house, task_id)


async def test_cancel_before_the_first_step(build: Builder) -> None:
    house = await build.puppets()
    task_id = await house.add(paused=True)
    await house.queue.cancel(task_id, {"delete_data": True})
    await house.cleaned(task_id)
    assert house.puppet().log == []


async def test_cancel_while_it_waits_for_a_slot(build: Builder) -> None:
    house = await build.puppets(max_active=1)
    first = await house.add()
    await house.runs(first)
    second = await house.add(name="b")
    await house.holds(second, "slot:box")
    await house.queue.cancel(second)
    await house.cleaned(second)
    assert len(house.puppet().log) == 1


async def test_cancel_while_it_waits_for_a_retry(build: Builder) -> None:
    house = await build.puppets()
    task_id = await house.add()
    key = await house.runs(task_id)
    house.puppet().fail(key, PASSING)
    await house.waits_for_retry(task_id)
    await house.queue.cancel(task_id, {"delete_data": True})
    await house.cleaned(task_id)
    assert house.puppet().transfers == {}
    assert house.files() == {}


async def test_cancel_in_the_middle_of_create_removes_what_was_created(build: Builder) -> None:
    house = await build.puppets()
    gate = house.puppet().gate("create")
    task_id = await house.add()
    await house.eventually(gate.reached.is_set, "create was called")
    removing = house.puppet().gate("remove")
    cancelling = asyncio.create_task(house.queue.cancel(task_id, {"delete_data": True}))
    record = await cancelling
    assert record.status is Status.CANCELED
    await house.settled()
    assert not removing.reached.is_set(), "removed before it was created"
    gate.open.set()
    await house.eventually(removing.reached.is_set, "remove")
    removing.open.set()
    await house.cleaned(task_id)
    assert house.puppet().transfers == {}
    assert [line.split()[0] for line in house.puppet().log] == ["create", "remove"]
    assert house.files() == {}


async def test_cancel_while_the_downloader_is_down_is_final_and_worked_off_later(build: Builder) -> None:
    house = await build.puppets()
    task_id = await house.add()
    key = await house.runs(task_id)
    house.puppet().goes("all", Unavailable("gone"))
    record = await house.queue.cancel(task_id, {"delete_data": True})
    assert record.status is Status.CANCELED
    await house.eventually(lambda: house.endpoints["box"].down, "down")
    assert key in house.puppet().transfers
    assert (await house.queue.get(task_id)).cleanup == 1
    house.puppet().before.clear()
    await house.in_time(lambda: not house.endpoints["box"].down, "back")
    await house.cleaned(task_id)
    assert house.puppet().transfers == {}
    assert house.files() == {}


async def test_cancel_of_what_is_delivered_already_is_refused(build: Builder) -> None:
    from dlqueue.queue import Conflict

    house = await build.fake()
    task_id = await house.add()
    await ends(house, task_id)
    with pytest.raises(Conflict):
        await house.queue.cancel(task_id, {"delete_data": True})
    assert list(house.files()) == ["file.bin"]


async def test_cancel_with_data_after_delivery_while_the_removal_waits_then_retry(build: Builder) -> None:
    house = await build.puppets()
    task_id = await house.add()
    key = await house.runs(task_id)
    house.puppet().goes("remove", Unavailable("gone"))
    house.puppet().finish(key)
    record = await house.holds(task_id, "downloader:box")
    assert record.delivered_at is not None
    assert record.result["location"] == str(house.destination / "file.bin")
    await house.queue.cancel(task_id, {"delete_data": True})
    house.puppet().before.clear()
    for _ in range(5):
        house.clock.advance(60)
        await house.settled()
    await house.cleaned(task_id)
    assert house.files() == {}
    await house.queue.retry(task_id)
    again = await house.runs(task_id)
    house.puppet().finish(again)
    await ends(house, task_id)
    assert house.files() == {"file.bin": CONTENT}
    assert (await house.state(task_id)).lost == 0


# -- pause ------------------------------------------------------------------------------------------------------------


async def test_pause_and_resume_with_the_transfer(build: Builder) -> None:
    house = await build.puppets(max_active=1)
    first, second = await house.add(name="a"), await house.add(name="b")
    key = await house.runs(first)
    await house.holds(second, "slot:box")
    await house.queue.pause(first)
    record = await house.reaches(first, Status.PAUSED)
    assert (record.want, record.hold) == ("run", None)
    assert house.puppet().transfers[key].state is TransferState.PAUSED
    other = await house.runs(second)
    await house.queue.resume(first)
    await house.holds(first, "slot:box")
    assert house.puppet().transfers[key].state is TransferState.PAUSED
    house.puppet().finish(other)
    await ends(house, second)
    assert await house.runs(first) == key
    await house.eventually(lambda: house.puppet().transfers[key].state is TransferState.DOWNLOADING, "resumed")
    assert house.endpoints.slots.active("box") == 1
    house.puppet().finish(key)
    await ends(house, first)
    assert (await house.queue.get(first)).retries == 0
    assert house.puppet().log.count(f"create {key}") == 1


async def test_nobody_is_asked_about_what_is_paused_or_over(build: Builder) -> None:
    house = await build.puppets()
    paused, failed, done, canceled = [await house.add(name=name) for name in "abcd"]
    keys = [await house.runs(task_id) for task_id in (paused, failed, done, canceled)]
    await house.queue.pause(paused)
    await house.reaches(paused, Status.PAUSED)
    house.puppet().fail(keys[1], FINAL)
    await ends(house, failed, Status.ERROR)
    house.puppet().finish(keys[2])
    await ends(house, done)
    await house.queue.cancel(canceled)
    await house.cleaned(canceled)
    assert house.endpoints["box"]._watches == {}


async def test_pause_while_it_waits_for_a_slot(build: Builder) -> None:
    house = await build.puppets(max_active=1)
    first, second = await house.add(name="a"), await house.add(name="b")
    key = await house.runs(first)
    await house.holds(second, "slot:box")
    await house.queue.pause(second)
    await house.reaches(second, Status.PAUSED)
    house.puppet().finish(key)
    await ends(house, first)
    assert (await house.queue.get(second)).status is Status.PAUSED
    await house.queue.resume(second)
    await house.runs(second)


async def test_pause_while_the_downloader_is_down(build: Builder) -> None:
    house = await build.puppets()
    task_id = await house.add()
    key = await house.runs(task_id)
    house.puppet().goes("all", Unavailable("gone"))
    await house.queue.pause(task_id)
    await house.reaches(task_id, Status.PAUSED)
    assert house.endpoints.slots.active("box") == 0
    # It went on by itself: when the task comes back its transfer takes its slot, whatever the limit says.
    house.puppet().before.clear()
    await house.in_time(lambda: not house.endpoints["box"].down, "back")
    await house.queue.resume(task_id)
    assert await house.runs(task_id) == key
    assert house.endpoints.slots.active("box") == 1
    assert house.puppet().log == [f"create {key}"]


async def test_somebody_pauses_the_transfer_behind_our_back(build: Builder) -> None:
    house = await build.puppets()
    task_id = await house.add()
    key = await house.runs(task_id)
    house.puppet().show(key, state=TransferState.PAUSED)
    await house.eventually(lambda: f"resume {key}" in house.puppet().log, "resumed")


# -- retry and removal ------------------------------------------------------------------------------------------------


async def test_a_failed_download_is_one_line_of_the_log(build: Builder, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    house = await build.puppets()
    task_id = await house.add(max_retry=0)
    house.puppet().fail(await house.runs(task_id), PASSING)
    await ends(house, task_id, Status.ERROR)
    assert [record.message for record in caplog.records if record.exc_info] == []
    assert "failed: the server is busy" in caplog.text


async def test_a_retry_by_a_person_goes_on_with_the_bytes(build: Builder) -> None:
    house = await build.puppets()
    task_id = await house.add(max_retry=0)
    key = await house.runs(task_id)
    part = house.puppet().requests[key].directory / "file.bin.part"
    part.write_bytes(b"half")
    house.puppet().fail(key, PASSING, downloaded=4)
    await ends(house, task_id, Status.ERROR)
    await house.cleaned(task_id)
    assert part.exists()
    assert key in house.puppet().transfers
    await house.queue.retry(task_id)
    assert await house.runs(task_id) == key
    house.puppet().finish(key)
    await ends(house, task_id)
    assert (await house.queue.get(task_id)).retries == 1


@pytest.mark.parametrize("delete", [False, True])
@pytest.mark.parametrize("how", ["running", "failed", "canceled", "paused"])
async def test_removing_leaves_nothing_unfinished(build: Builder, how: str, delete: bool) -> None:
    from dlqueue.queue import TaskNotFound

    house = await build.puppets()
    task_id = await house.add(max_retry=0)
    key = await house.runs(task_id)
    (house.puppet().requests[key].directory / "file.bin.part").write_bytes(b"half")
    if how == "failed":
        house.puppet().fail(key, PASSING)
        await ends(house, task_id, Status.ERROR)
    elif how == "canceled":
        await house.queue.cancel(task_id)
    elif how == "paused":
        await house.queue.pause(task_id)
        await house.reaches(task_id, Status.PAUSED)
    await house.queue.remove(task_id, {"delete_data": True} if delete else None)
    with pytest.raises(TaskNotFound):
        await house.queue.get(task_id)
    await house.eventually(lambda: house.puppet().transfers == {}, "removed in the downloader")
    assert house.files() == {}
    assert house.endpoints.slots.active("box") == 0


@pytest.mark.parametrize("delete", [False, True])
async def test_removing_what_was_delivered(build: Builder, delete: bool) -> None:
    house = await build.fake()
    keep = house.destination / "keep.txt"
    keep.write_text("not ours")
    task_id = await house.add()
    await ends(house, task_id)
    await house.queue.remove(task_id, {"delete_data": True} if delete else None)
    assert sorted(house.files()) == (["keep.txt"] if delete else ["file.bin", "keep.txt"])


async def test_removing_never_touches_another_file_of_that_name(build: Builder) -> None:
    house = await build.fake()
    task_id = await house.add()
    await ends(house, task_id)
    target = house.destination / "file.bin"
    replacement = house.destination / "new"
    replacement.write_bytes(b"mine")
    replacement.replace(target)
    await house.queue.remove(task_id, {"delete_data": True})
    assert house.files() == {"file.bin": b"mine"}


async def test_removing_what_was_skipped_leaves_the_file_that_was_there(build: Builder) -> None:
    house = await build.fake()
    (house.destination / "file.bin").write_bytes(b"mine")
    task_id = await house.add(on_exists="skip")
    await ends(house, task_id)
    await house.queue.remove(task_id, {"delete_data": True})
    assert house.files() == {"file.bin": b"mine"}


# -- slots ------------------------------------------------------------------------------------------------------------


async def test_slots_are_held_over_suspensions_and_given_on_by_rank(build: Builder) -> None:
    house = await build.puppets(max_active=2, settings=QueueSettings(concurrency=16, max_retry=0))
    ids = [await house.add(name=f"n{number}", priority=number % 3) for number in range(2)]
    keys = [await house.runs(task_id) for task_id in ids]
    late = [await house.add(name=f"late{number}", priority=number) for number in range(4)]
    for task_id in late:
        await house.holds(task_id, "slot:box")
    assert len(house.puppet().transfers) == 2
    assert house.endpoints.slots.active("box") == 2
    house.puppet().finish(keys[0])
    await house.runs(late[3])
    assert house.endpoints.slots.active("box") == 2
    house.puppet().fail(keys[1], FINAL)
    await house.runs(late[2])
    await house.queue.cancel(late[3])
    key = await house.runs(late[1])
    await house.queue.pause(late[2])
    await house.runs(late[0])
    assert house.endpoints.slots.active("box") == 2
    house.puppet().finish(key)
    await ends(house, late[1])
    assert house.endpoints.slots.active("box") == 1


async def test_a_slot_whose_heir_goes_away_is_given_on(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    house = await build.puppets(max_active=1)
    first, second, third = [await house.add(name=name) for name in "abc"]
    key = await house.runs(first)
    await house.holds(second, "slot:box")
    await house.holds(third, "slot:box")
    # The second is woken for the slot, but is paused before it can take it.
    wake = house.endpoints._wake

    async def wake_and_pause(hold: str, n: int | None) -> object:
        if hold == "slot:box":
            house.endpoints._wake = wake
            await house.queue.pause(second)
        return await wake(hold, n)

    monkeypatch.setattr(house.endpoints, "_wake", wake_and_pause)
    house.puppet().finish(key)
    await house.reaches(second, Status.PAUSED)
    await house.runs(third)


async def test_a_restart_gives_running_transfers_their_slots_first(build: Builder, tmp_path: Path) -> None:
    from dlqueue.queue.sql import SqlStore

    url = f"sqlite:///{tmp_path}/q.db"
    house = await build.fake(max_active=1, store=SqlStore(url, "process"))
    first = await house.add("http://host.invalid/a?manual=1")
    key = await house.runs(first)
    second = await house.add("http://host.invalid/b", priority=5)
    await house.holds(second, "slot:fake")
    await build.close(house)
    house = await build.fake(max_active=1, store=SqlStore(url, "process"))
    await house.holds(first, "transfer:")
    await house.settled()
    assert (await house.queue.get(second)).hold == "slot:fake"
    assert house.endpoints.slots.active("fake") == 1
    (house.folder / "fake" / f"{key}.finish").touch()
    await ends(house, first)
    await ends(house, second)
    assert len((house.folder / "fake" / "creates.log").read_text().splitlines()) == 2


async def test_a_restart_does_not_give_a_slot_to_who_waits_for_one(build: Builder, tmp_path: Path) -> None:
    """A resumed task whose transfer is paused waits in phase monitor: it has no slot yet."""
    from dlqueue.queue.sql import SqlStore

    url = f"sqlite:///{tmp_path}/q.db"
    house = await build.fake(max_active=1, store=SqlStore(url, "process"))
    paused = await house.add("http://host.invalid/a?manual=1")
    first_key = await house.runs(paused)
    await house.queue.pause(paused)
    await house.reaches(paused, Status.PAUSED)
    running = await house.add("http://host.invalid/b?manual=1")
    second_key = await house.runs(running)
    await house.queue.resume(paused)
    await house.holds(paused, "slot:fake")
    await build.close(house)
    house = await build.fake(max_active=1, store=SqlStore(url, "process"))
    await house.holds(running, "transfer:")
    assert house.endpoints.slots.active("fake") == 1
    for key, task_id in ((second_key, running), (first_key, paused)):
        (house.folder / "fake" / f"{key}.finish").touch()
        await ends(house, task_id)


async def test_nobody_can_fetch_it_any_more(build: Builder, tmp_path: Path) -> None:
    from dlqueue.queue.sql import SqlStore

    url = f"sqlite:///{tmp_path}/q.db"
    house = await build.fake(store=SqlStore(url, "process"))
    running = await house.add("http://host.invalid/a?manual=1")
    key = await house.runs(running)
    waiting = await house.add("http://host.invalid/b", paused=True)
    await build.close(house)
    house = await build.house({}, store=SqlStore(url, "process"))
    await house.queue.resume(waiting)
    for task_id in (running, waiting):
        await house.holds(task_id, "route")
    await build.close(house)
    house = await build.fake(store=SqlStore(url, "process"))
    (house.folder / "fake" / f"{key}.finish").touch()
    for task_id in (running, waiting):
        await ends(house, task_id)


# -- delivered --------------------------------------------------------------------------------------------------------


async def test_delivered_is_told_before_the_transfer_is_removed(build: Builder) -> None:
    house = await build.puppets()
    task_id = await house.add()
    key = await house.runs(task_id)
    house.puppet().goes("remove", Unavailable("gone"))
    waiting = asyncio.create_task(house.queue.wait(task_id, until="delivered"))
    house.puppet().finish(key)
    async with asyncio.timeout(10):
        record = await waiting
    assert not record.final
    assert record.result["location"] == str(house.destination / "file.bin")
    assert (house.destination / "file.bin").read_bytes() == CONTENT
    held = await house.holds(task_id, "downloader:box")
    delivered_at = held.delivered_at
    house.puppet().before.clear()
    house.clock.advance(61)
    await ends(house, task_id)
    done = await house.queue.get(task_id)
    assert done.delivered_at == delivered_at
    assert done.result == record.result
    assert house.puppet().transfers == {}
    assert house.files() == {"file.bin": CONTENT}


async def test_cancel_again_with_delete_data_deletes_what_the_first_kept(build: Builder) -> None:
    house = await build.fake()
    task_id = await house.add("http://host.invalid/file.bin?manual=1&size=50")
    await house.runs(task_id)
    await eventually(lambda: any(name.endswith("file.bin") for name in house.files()))
    await house.queue.cancel(task_id)
    assert any(name.endswith("file.bin") for name in house.files())
    again = await house.queue.cancel(task_id, {"delete_data": True})
    assert again.status is Status.CANCELED
    await eventually(lambda: house.files() == {})


async def test_a_paused_download_keeps_its_progress(build: Builder) -> None:
    house = await build.puppets()
    task_id = await house.add()
    key = await house.runs(task_id)
    house.puppet().show(key, downloaded=7, total=11)
    coordinator = house.endpoints["box"]
    await eventually(lambda: (seen := coordinator.latest(key)) is not None and seen.downloaded == 7)
    await house.queue.pause(task_id)
    record = await house.reaches(task_id, Status.PAUSED)
    assert record.progress is not None
    assert record.progress.counters is not None
    assert record.progress.counters["total"] == 11
