"""Delivered while it seeds, and what ends the seeding."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from dlqueue.downloads.request import SeedWish
from dlqueue.downloads.seeding import LOOK_AGAIN, LOST_MAX, STEADY, SeedRule
from dlqueue.downloads.state import DownloadState
from dlqueue.queue import Status, TaskRecord
from dlqueue.sdk import Rejected, TransferState, Unavailable
from tests.downloads.house import Builder, House
from tests.service.asking import Asking

pytestmark = pytest.mark.anyio

FILES = {"a": b"aaaa", "sub/b": b"bb"}
DELIVERED = {"T/": b"", "T/a": b"aaaa", "T/sub/": b"", "T/sub/b": b"bb"}


async def seeding(build: Builder, **params: Any) -> tuple[House, int, str]:
    """A torrent that has been delivered and seeds."""
    house = await build.puppets()
    house.puppet().program = "first"
    task_id = await house.add(**params)
    key = await house.runs(task_id)
    house.puppet().finish_folder(key, "T", FILES, state=TransferState.SEEDING, downloaded=6, total=6)
    return house, task_id, key


async def in_phase(house: House, task_id: int) -> TaskRecord:
    async def phase() -> bool:
        record = await house.queue.get(task_id)
        return record.status is Status.SUSPENDING and (await house.state(task_id)).phase == "seeding"

    await house.eventually(phase, "the phase seeding")
    return await house.holds(task_id, "transfer:")


async def pass_time(house: House, seconds: float) -> None:
    await house.settled()  # a step that is not over yet would count its wait from the time that it comes to
    while seconds > 0:
        house.clock.advance(min(seconds, LOOK_AGAIN))
        seconds -= LOOK_AGAIN
        await house.settled()


async def test_it_is_delivered_while_it_seeds(build: Builder) -> None:
    house, task_id, key = await seeding(build)
    record = await in_phase(house, task_id)
    assert record.delivered_at is not None
    assert record.result == {
        "location": str(house.destination / "T"), "name": "T", "size": 6, "downloader": "box"
    }  # fmt: skip
    done = await house.queue.wait(task_id, until="delivered", timeout=5)
    assert done.status is Status.SUSPENDING
    staged = house.puppet().requests[key].directory / "T"
    assert (staged / "a").samefile(house.destination / "T" / "a"), "linked, not copied"
    assert {name: data for name, data in house.files().items() if not name.startswith(".dlqueue")} == DELIVERED
    assert house.endpoints.slots.active("box") == 0, "seeding takes no slot"
    ask = Asking(house)
    view = (await ask("tasks.get", id=task_id))["download"]
    assert (view["phase"], view["state"], view["location"]) == ("seeding", "seeding", str(house.destination / "T"))
    why = await ask("tasks.why", id=task_id)
    assert why["reason"] == "seeding"
    assert "seeds in box" in why["message"]


async def test_the_time_rule_ends_it_and_everything_is_cleared_up(build: Builder) -> None:
    house, task_id, key = await seeding(build, seed={"time": 300, "ratio": None})
    await in_phase(house, task_id)
    await pass_time(house, 240)
    assert (await house.queue.get(task_id)).status is Status.SUSPENDING
    await pass_time(house, 60)
    await house.reaches(task_id, Status.COMPLETED)
    assert house.files() == DELIVERED
    assert house.puppet().log[-1] == f"remove {key}"


async def test_the_ratio_rule_ends_it(build: Builder) -> None:
    house, task_id, key = await seeding(build, seed={"ratio": 2.0})
    await in_phase(house, task_id)
    house.puppet().show(key, uploaded=11)
    await pass_time(house, LOOK_AGAIN)
    assert (await house.queue.get(task_id)).status is Status.SUSPENDING
    house.puppet().show(key, uploaded=12)
    await house.eventually(lambda: (s := house.endpoints["box"].latest(key)) is not None and s.uploaded == 12, "seen")
    await pass_time(house, LOOK_AGAIN)
    await house.reaches(task_id, Status.COMPLETED)


async def test_the_idle_rule_ends_it(build: Builder) -> None:
    house, task_id, key = await seeding(build, seed={"ratio": None, "time": None, "idle": 120})
    await in_phase(house, task_id)
    await pass_time(house, 60)
    house.puppet().show(key, uploaded=1)
    await house.eventually(lambda: (s := house.endpoints["box"].latest(key)) is not None and s.uploaded == 1, "seen")
    await pass_time(house, 120)
    assert (await house.queue.get(task_id)).status is Status.SUSPENDING
    await pass_time(house, 60)
    await house.reaches(task_id, Status.COMPLETED)


@pytest.mark.parametrize("seed", [0, {"ratio": 0}, {"time": 0}])
async def test_zero_is_not_seeded_at_all(build: Builder, seed: Any) -> None:
    house, task_id, key = await seeding(build, seed=seed)
    await house.reaches(task_id, Status.COMPLETED)
    assert house.puppet().requests[key].seed is False
    assert house.files() == DELIVERED


async def test_a_downloader_that_ends_it_by_itself(build: Builder) -> None:
    house, task_id, key = await seeding(build)
    await in_phase(house, task_id)
    house.puppet().show(key, state=TransferState.COMPLETED)
    await house.reaches(task_id, Status.COMPLETED)
    assert house.files() == DELIVERED


async def test_an_error_while_it_seeds_is_no_error_of_the_download(build: Builder) -> None:
    house, task_id, key = await seeding(build)
    await in_phase(house, task_id)
    house.puppet().fail(key, Rejected("disk broke"))
    record = await house.reaches(task_id, Status.COMPLETED)
    assert record.error is None
    assert house.files() == DELIVERED


async def test_removed_by_somebody_while_it_seeds_is_the_end(build: Builder) -> None:
    house, task_id, key = await seeding(build)
    await in_phase(house, task_id)
    house.puppet().forget(key)
    await house.reaches(task_id, Status.COMPLETED)
    assert house.files() == DELIVERED


async def test_a_restart_that_forgot_it_is_seeded_on_and_counts_go_on(build: Builder) -> None:
    house, task_id, key = await seeding(build, seed={"ratio": 2.0})
    await in_phase(house, task_id)
    house.puppet().show(key, uploaded=7)
    await house.eventually(lambda: (s := house.endpoints["box"].latest(key)) is not None and s.uploaded == 7, "seen")
    await pass_time(house, LOOK_AGAIN)
    house.puppet().restart("second", key)
    await begun_anew(house, task_id, key, 1)
    content = (str(house.puppet().requests[key].directory / "T"),)
    house.puppet().seed(key, downloaded=6, total=6, uploaded=4, content=content)
    await house.eventually(lambda: (s := house.endpoints["box"].latest(key)) is not None and s.uploaded == 4, "seen")
    await pass_time(house, LOOK_AGAIN)
    assert (await house.queue.get(task_id)).status is Status.SUSPENDING
    house.puppet().show(key, uploaded=5)
    await house.eventually(lambda: (s := house.endpoints["box"].latest(key)) is not None and s.uploaded == 5, "seen")
    await pass_time(house, LOOK_AGAIN)
    await house.reaches(task_id, Status.COMPLETED)
    assert (await house.state(task_id)).uploaded_before == 7
    assert house.files() == DELIVERED


@pytest.mark.parametrize("between", ["nothing", "bytes", "time"])
async def test_losses_in_a_row_end_the_seeding_and_others_do_not(build: Builder, between: str) -> None:
    house, task_id, key = await seeding(build, seed={"ratio": None, "time": None})
    await in_phase(house, task_id)
    for number in range(2 * LOST_MAX):
        house.puppet().restart(f"run {number}", key)
        if between == "nothing" and number == LOST_MAX:
            break
        await begun_anew(house, task_id, key, number + 1)
        content = (str(house.puppet().requests[key].directory / "T"),)
        sent = int(between == "bytes")
        house.puppet().seed(key, downloaded=6, total=6, uploaded=sent, content=content)

        def seen(sent: int = sent) -> bool:
            latest = house.endpoints["box"].latest(key)
            return latest is not None and (latest.state, latest.uploaded) == (TransferState.SEEDING, sent)

        await house.eventually(seen, "seen")
        await pass_time(house, STEADY if between == "time" else LOOK_AGAIN)
        lost = number + 1 if between == "nothing" else 0
        await house.eventually(lambda n=lost: has_lost(house, task_id, n), f"lost {lost} times in a row")  # type: ignore[misc]
    if between == "nothing":
        await house.reaches(task_id, Status.COMPLETED)
        assert house.files() == DELIVERED
    else:
        assert (await house.queue.get(task_id)).status is Status.SUSPENDING


async def begun_anew(house: House, task_id: int, key: str, times: int) -> None:
    """Created once more, and seen with the counter that a new transfer has: 0."""
    await house.eventually(lambda: house.puppet().log.count(f"create {key}") == times + 1, "begun anew")
    await house.runs(task_id)


async def has_lost(house: House, task_id: int, times: int) -> bool:
    return (await house.state(task_id)).lost == times


@pytest.mark.parametrize("counter", [7, 6])
async def test_a_counter_that_goes_on_is_not_counted_twice(build: Builder, counter: int) -> None:
    """It was there all the same, with what it had counted (a crash has lost a little of that)."""
    house, task_id, key = await seeding(build, seed={"ratio": 2.0})
    await in_phase(house, task_id)
    house.puppet().show(key, uploaded=7)
    await house.eventually(lambda: (s := house.endpoints["box"].latest(key)) is not None and s.uploaded == 7, "seen")
    await pass_time(house, LOOK_AGAIN)
    there = house.puppet().transfers[key]

    def back() -> None:
        house.puppet().transfers[key] = dataclasses.replace(there, uploaded=counter)

    house.puppet().before["create"] = back
    house.puppet().restart("second", key)
    await house.eventually(lambda: house.puppet().log.count(f"create {key} again") == 1, "adopted")
    await house.settled()
    await pass_time(house, LOOK_AGAIN)
    state = await house.state(task_id)
    assert (state.uploaded, state.uploaded_before, state.recount) == (7, 0, False)
    assert (await house.queue.get(task_id)).status is Status.SUSPENDING, "7 of 12 bytes"
    house.puppet().show(key, uploaded=12)
    await house.eventually(lambda: (s := house.endpoints["box"].latest(key)) is not None and s.uploaded == 12, "seen")
    await pass_time(house, LOOK_AGAIN)
    await house.reaches(task_id, Status.COMPLETED)


async def test_a_downloader_that_is_down_is_waited_for(build: Builder) -> None:
    house, task_id, key = await seeding(build, seed={"time": 60})
    await in_phase(house, task_id)
    house.puppet().goes("all", Unavailable("gone"))
    house.puppet().news()
    await house.eventually(lambda: house.endpoints["box"].down, "down")
    await pass_time(house, 120)
    record = await house.queue.get(task_id)
    assert record.status is Status.SUSPENDING
    house.puppet().before.clear()
    await pass_time(house, 180)
    await house.reaches(task_id, Status.COMPLETED)
    assert key not in house.puppet().transfers


async def test_cancel_while_it_seeds_keeps_what_was_delivered(build: Builder) -> None:
    house, task_id, key = await seeding(build)
    await in_phase(house, task_id)
    await house.queue.cancel(task_id)
    await house.cleaned(task_id)
    assert key not in house.puppet().transfers
    assert house.files() == DELIVERED


async def test_cancel_with_data_while_it_seeds_removes_all_of_it(build: Builder) -> None:
    house, task_id, _ = await seeding(build)
    await in_phase(house, task_id)
    await house.queue.cancel(task_id, {"delete_data": True})
    await house.cleaned(task_id)
    assert house.files() == {}


async def test_pause_and_resume_while_it_seeds(build: Builder) -> None:
    house, task_id, key = await seeding(build)
    await in_phase(house, task_id)
    await house.queue.pause(task_id)
    await house.reaches(task_id, Status.PAUSED)
    assert house.puppet().transfers[key].state is TransferState.PAUSED
    await house.queue.resume(task_id)
    await in_phase(house, task_id)
    await house.eventually(lambda: f"resume {key}" in house.puppet().log, "resumed")


async def test_a_name_that_is_taken_is_not_overwritten(build: Builder) -> None:
    house = await build.puppets()
    (house.destination / "T").mkdir()
    (house.destination / "T" / "mine").write_bytes(b"mine")
    task_id = await house.add()
    key = await house.runs(task_id)
    house.puppet().finish_folder(key, "T", FILES, state=TransferState.SEEDING, downloaded=6, total=6)
    await in_phase(house, task_id)
    assert (house.destination / "T" / "mine").read_bytes() == b"mine"
    assert (house.destination / "T.1" / "a").read_bytes() == b"aaaa"


# -- the rule itself --------------------------------------------------------------------------------------------------


def test_what_is_left_out_of_a_wish_is_as_configured() -> None:
    rule = SeedRule(ratio=1.0, time=100.0, idle=None)
    assert rule.adapted(None) == rule
    assert rule.adapted(SeedWish(ratio=None)) == SeedRule(None, 100.0, None)
    assert rule.adapted(SeedWish(time=5, idle=7)) == SeedRule(1.0, 5, 7)


@pytest.mark.parametrize(
    ("rule", "now", "uploaded", "speed", "left"),
    [
        (SeedRule(1.0, None), 10.0, 99, 0.0, LOOK_AGAIN),
        (SeedRule(1.0, None), 10.0, 100, 0.0, 0.0),
        (SeedRule(1.0, None), 10.0, 0, 10.0, 10.0),
        (SeedRule(1.0, None), 10.0, 99, 1000.0, 1.0),
        (SeedRule(None, 15.0), 10.0, 1000, 0.0, 5.0),
        (SeedRule(None, 5.0), 10.0, 0, 0.0, 0.0),
        (SeedRule(None, None, 8.0), 10.0, 0, 0.0, 0.0),
        (SeedRule(None, None), 1e9, 10**9, 1.0, LOOK_AGAIN),
    ],
)
def test_when_the_next_look_is_worth_while(
    rule: SeedRule, now: float, uploaded: int, speed: float, left: float
) -> None:
    state = DownloadState(seeding_since=1.0 if rule.idle else 0.0, total=100, uploaded=uploaded)
    assert rule.left(state, now, speed) == left
