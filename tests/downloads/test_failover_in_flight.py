"""A downloader that is away, fails or stands still: who goes on, what is written down, and what is left behind."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from dlqueue.downloads.endpoints import EndpointConfig
from dlqueue.downloads.routing import Rule
from dlqueue.downloads.why import Reason, reason_for
from dlqueue.queue import Status, TaskRecord
from dlqueue.sdk import Rejected, TransferState, Unavailable
from tests.downloads.house import Builder, House, puppet_config
from tests.downloads.puppet import CONTENT

pytestmark = pytest.mark.anyio

AWAY = Unavailable("connection refused")
CANNOT = Rejected("cannot do that", "downloader", kind="unsupported")
PASSING = Rejected("the server is busy", kind="busy")


def pair(**more: Any) -> dict[str, EndpointConfig]:
    return {name: puppet_config(name, **more) for name in ("one", "two")}


async def is_down(house: House, name: str = "one") -> None:
    coordinator = house.endpoints[name]
    # The answer to the question of the start, if it came later, would say that it is up.
    await house.eventually(lambda: coordinator.version is not None or coordinator.down, "its first answer")
    house.puppet(name).goes("all", AWAY)
    with contextlib.suppress(Unavailable):
        await coordinator.ask()  # one that has nothing to do is not polled
    assert coordinator.down


async def is_back(house: House, name: str = "one") -> None:
    house.puppet(name).before.clear()
    house.clock.advance(60)

    def up() -> bool:
        # A probe that was under way when it came back may fail after that, and the next one waits for its time.
        house.clock.advance(0.1)
        return not house.endpoints[name].down

    await house.eventually(up, f"{name} is back")


async def lines(house: House, task_id: int) -> list[tuple[str, str | None, str | None]]:
    return [(one.downloader, one.error_class, one.next) for one in (await house.state(task_id)).attempts]


async def runs_in(house: House, task_id: int, name: str) -> str:
    """The key of its transfer there."""

    def there(record: TaskRecord) -> bool:
        key = (record.hold or "").removeprefix("transfer:")
        return key in house.puppet(name).requests

    key = ((await house.when(task_id, there, f"a transfer in {name}")).hold or "").removeprefix("transfer:")
    await house.eventually(lambda: house.endpoints[name].latest(key) is not None, "it is seen")
    return key


async def pass_still(house: House, name: str, seconds: float) -> None:
    """Let time pass, with a look at the transfers every minute, until there are none."""
    watches = house.endpoints[name]._watches

    def looked() -> bool:
        """And all have been noted; a look that is noted late would count for the next minute."""
        return all(watch.gone or watch.seen_at == house.clock.time() for watch in watches.values())

    while seconds > 0 and watches:
        house.clock.advance(min(seconds, 60))
        house.puppet(name).news()
        await house.eventually(looked, "another look")
        await house.settled()
        seconds -= 60


async def why(house: House, task_id: int) -> Reason:
    reason = reason_for(await house.queue.get(task_id), house.endpoints)
    assert reason is not None
    return reason


# -- away before anything began ---------------------------------------------------------------------------------------


async def test_one_that_is_down_is_skipped_and_the_ledger_says_so(build: Builder) -> None:
    house = await build.puppets("one", "two")
    await is_down(house)
    task_id = await house.add()
    house.puppet("two").finish(await runs_in(house, task_id, "two"))
    await house.reaches(task_id, Status.COMPLETED)
    assert await lines(house, task_id) == [("one", "unavailable", "next downloader"), ("two", None, None)]
    skipped = (await house.state(task_id)).attempts[0]
    assert (skipped.key, skipped.kind, skipped.message) == ("", "puppet", "one does not answer: connection refused")
    assert house.puppet("one").log == []


async def test_one_that_goes_in_the_middle_of_the_creation_is_left_at_once(build: Builder) -> None:
    """It may have heard: what it has made is removed when it is back."""
    house = await build.puppets("one", "two")
    house.puppet("one").goes("create", AWAY)
    task_id = await house.add()
    key = await runs_in(house, task_id, "two")
    assert await lines(house, task_id) == [("one", "unavailable", "next downloader"), ("two", None, None)]
    first = (await house.state(task_id)).attempts[0].key
    house.puppet("two").finish(key)
    record = await house.reaches(task_id, Status.COMPLETED)
    assert record.retries == 0
    assert house.files() == {"file.bin": CONTENT}, "nobody has to wait for one, nor an empty folder"
    await is_back(house)
    await house.eventually(lambda: f"remove {first}" in house.puppet("one").log, "removed there")


async def test_all_are_down_and_the_first_that_is_back_takes_it(build: Builder) -> None:
    house = await build.puppets("one", "two")
    await is_down(house, "one")
    await is_down(house, "two")
    task_id = await house.add()
    await house.holds(task_id, "downloader:one,two")
    reason = await why(house, task_id)
    assert (reason.reason, reason.blocking) == ("downloader_unavailable", ["one", "two"])
    await is_back(house, "two")
    await runs_in(house, task_id, "two")


async def test_the_only_one_is_waited_for(build: Builder) -> None:
    house = await build.puppets("one")
    await is_down(house)
    task_id = await house.add()
    await house.holds(task_id, "downloader:one")
    house.clock.advance(3600)
    await house.settled()
    assert (await house.queue.get(task_id)).hold == "downloader:one"
    await is_back(house)
    await runs_in(house, task_id, "one")
    assert (await lines(house, task_id)) == [("one", None, None)]


# -- away in the middle -----------------------------------------------------------------------------------------------


async def test_a_transfer_goes_on_elsewhere_after_a_while(build: Builder) -> None:
    house = await build.house(pair(failover_after=100.0))
    task_id = await house.add()
    first = await runs_in(house, task_id, "one")
    house.puppet("one").show(first, downloaded=5, total=11)
    await house.eventually(lambda: (s := house.endpoints["one"].latest(first)) and s.downloaded == 5, "seen")
    await is_down(house)
    house.clock.advance(99)
    await house.settled()
    assert (await house.state(task_id)).downloader == "one"
    house.clock.advance(1)
    second = await runs_in(house, task_id, "two")
    assert await lines(house, task_id) == [("one", "unavailable", "next downloader"), ("two", None, None)]
    assert "one does not answer for 1m40s: connection refused" in (
        (await house.state(task_id)).attempts[0].message or ""
    )
    # It comes back, with what it had: whole by now. That must not become a second file.
    house.puppet("one").before.clear()
    path = house.puppet("one").requests[first].directory / "file.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"late")
    await is_back(house)
    await house.eventually(lambda: f"remove {first}" in house.puppet("one").log, "removed there")
    assert (await house.state(task_id)).downloader == "two"
    house.puppet("two").finish(second)
    record = await house.reaches(task_id, Status.COMPLETED)
    assert record.retries == 0
    await house.eventually(lambda: house.files() == {"file.bin": CONTENT}, "one file, and nothing in staging")
    assert house.puppet("one").transfers == {}


async def test_it_is_delivered_and_over_before_the_first_is_back(build: Builder, tmp_path: Path) -> None:
    """What is owed is remembered over a restart of the daemon."""
    house = await build.house(pair(failover_after=10.0))
    task_id = await house.add()
    first = await runs_in(house, task_id, "one")
    await is_down(house)
    house.clock.advance(10)
    house.puppet("two").finish(await runs_in(house, task_id, "two"))
    await house.reaches(task_id, Status.COMPLETED)
    await build.close(house)
    house = await build.house(pair())
    await house.eventually(lambda: f"remove {first}" in house.puppet("one").log, "removed there")
    await house.eventually(lambda: house.files() == {"file.bin": CONTENT}, "nothing in staging")
    await house.eventually(lambda: not list((tmp_path / "downloaders").glob("*.owed")), "nothing is owed")


async def test_it_stays_while_nobody_else_can_take_it(build: Builder) -> None:
    house = await build.house(pair(failover_after=100.0))
    task_id = await house.add()
    first = await runs_in(house, task_id, "one")
    await is_down(house, "two")
    await is_down(house, "one")
    house.clock.advance(200)
    await house.holds(task_id, "downloader:one")
    await is_back(house, "two")
    house.clock.advance(60)
    assert await runs_in(house, task_id, "two") != first


async def test_back_in_time_it_goes_on(build: Builder) -> None:
    house = await build.house(pair(failover_after=100.0))
    task_id = await house.add()
    first = await runs_in(house, task_id, "one")
    await is_down(house)
    await is_back(house)
    house.clock.advance(200)
    await house.settled()
    assert (await house.state(task_id)).key == first
    assert house.puppet("two").log == []


async def test_with_false_it_is_waited_for_for_ever(build: Builder) -> None:
    house = await build.house(pair(failover_after=None))
    task_id = await house.add()
    await runs_in(house, task_id, "one")
    await is_down(house)
    house.clock.advance(86_400)
    await house.settled()
    assert (await house.state(task_id)).downloader == "one"


async def test_a_downloader_that_is_wanted_by_name_is_never_left(build: Builder) -> None:
    house = await build.house(pair(failover_after=10.0, stall=100.0))
    task_id = await house.add(downloader="one")
    await runs_in(house, task_id, "one")
    await is_down(house)
    house.clock.advance(400)
    await house.holds(task_id, "downloader:one")
    assert house.puppet("two").log == []


# -- it stands still --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [TransferState.DOWNLOADING, TransferState.METADATA])
async def test_no_byte_for_long_goes_to_the_next(build: Builder, state: TransferState) -> None:
    house = await build.house(pair(stall=300.0))
    task_id = await house.add()
    first = await runs_in(house, task_id, "one")
    house.puppet("one").show(first, state=state)
    await pass_still(house, "one", 240)
    reason = await why(house, task_id)
    assert reason.reason == ("metadata" if state is TransferState.METADATA else "stalled")
    assert "after 5m it goes on in two" in reason.message
    await pass_still(house, "one", 120)
    second = await runs_in(house, task_id, "two")
    assert await lines(house, task_id) == [("one", "stalled", "next downloader"), ("two", None, None)]
    house.puppet("two").finish(second)
    record = await house.reaches(task_id, Status.COMPLETED)
    assert record.retries == 0
    assert house.puppet("one").transfers == {}


async def test_a_byte_now_and_then_is_enough(build: Builder) -> None:
    house = await build.house(pair(stall=300.0))
    task_id = await house.add()
    first = await runs_in(house, task_id, "one")
    for done in range(1, 5):
        await pass_still(house, "one", 240)
        house.puppet("one").show(first, downloaded=done)
        await house.eventually(lambda n=done: (s := house.endpoints["one"].latest(first)) and s.downloaded == n, "seen")  # type: ignore[misc]
    assert (await house.state(task_id)).key == first


@pytest.mark.parametrize("state", [TransferState.QUEUED, TransferState.CHECKING])
async def test_what_waits_or_is_checked_there_does_not_stall(build: Builder, state: TransferState) -> None:
    house = await build.house(pair(stall=300.0))
    task_id = await house.add()
    first = await runs_in(house, task_id, "one")
    house.puppet("one").show(first, state=state)
    await pass_still(house, "one", 900)
    assert (await house.state(task_id)).key == first


async def test_time_in_which_nobody_looked_does_not_count(build: Builder) -> None:
    """The machine slept, or its clock was turned."""
    house = await build.house(pair(stall=300.0))
    task_id = await house.add()
    first = await runs_in(house, task_id, "one")
    await pass_still(house, "one", 60)
    house.clock.advance(86_400)
    house.puppet("one").news()
    await pass_still(house, "one", 60)
    assert (await house.state(task_id)).key == first


async def test_time_with_the_downloader_down_or_the_task_paused_does_not_count(build: Builder) -> None:
    house = await build.house(pair(stall=300.0, failover_after=None))
    task_id = await house.add()
    first = await runs_in(house, task_id, "one")
    await pass_still(house, "one", 240)
    await is_down(house)
    for _ in range(10):
        house.clock.advance(60)
        await house.settled()
    await is_back(house)
    house.puppet("one").news()
    watch = house.endpoints["one"]._watches[first]
    await house.eventually(lambda: watch.seen_at is not None, "it is looked at")
    assert house.endpoints["one"].still(first) == pytest.approx(240, abs=5)
    await house.queue.pause(task_id)
    await house.reaches(task_id, Status.PAUSED)
    house.clock.advance(3600)
    await house.queue.resume(task_id)
    await runs_in(house, task_id, "one")
    await pass_still(house, "one", 120)
    assert (await house.state(task_id)).key == first


async def test_the_only_one_that_stalls_is_tried_once_more_and_then_fails(build: Builder) -> None:
    house = await build.house({"one": puppet_config("one", stall=300.0)})
    task_id = await house.add()
    first = await runs_in(house, task_id, "one")
    await pass_still(house, "one", 300)
    record = await house.waits_for_retry(task_id)
    assert record.error is not None
    assert (record.error.kind, record.retries) == ("stalled", 1)
    house.pass_time_until(record)
    assert await runs_in(house, task_id, "one") == first, "with the bytes that are there"
    await pass_still(house, "one", 240)
    assert "after 5m it fails" in (await why(house, task_id)).message
    await pass_still(house, "one", 60)
    record = await house.reaches(task_id, Status.ERROR)
    assert record.error is not None
    assert record.error.kind == "stalled"
    assert "no byte came for 5m" in record.error.message
    assert await lines(house, task_id) == [("one", "stalled", "from the top"), ("one", "stalled", "error")]


async def test_with_false_nothing_stalls(build: Builder) -> None:
    house = await build.house(pair(stall=None))
    task_id = await house.add()
    first = await runs_in(house, task_id, "one")
    await pass_still(house, "one", 1200)
    assert (await house.state(task_id)).key == first


async def test_it_stands_still_where_it_is_while_the_next_is_down(build: Builder) -> None:
    house = await build.house(pair(stall=300.0))
    task_id = await house.add()
    await runs_in(house, task_id, "one")
    await is_down(house, "two")
    await pass_still(house, "one", 420)
    assert (await house.state(task_id)).downloader == "one"
    await is_back(house, "two")
    house.clock.advance(60)
    await runs_in(house, task_id, "two")


# -- rules ------------------------------------------------------------------------------------------------------------


async def test_a_rule_gives_the_order(build: Builder) -> None:
    house = await build.house(pair(), rules=(Rule(("two", "one"), tag=("b",)), Rule(("two",), owner=("nobody",))))
    first = await house.add(name="a")
    await runs_in(house, first, "one")
    second = await house.add(name="b", labels={"tag": ["b"]})
    key = await runs_in(house, second, "two")
    house.puppet("two").fail(key, CANNOT)
    await runs_in(house, second, "one")


async def test_a_full_one_is_passed_over_and_any_slot_of_the_route_will_do(build: Builder) -> None:
    house = await build.house(pair(max_active=1), rules=(Rule(("two", "one")),))
    ids = [await house.add(name=name) for name in "ab"]
    keys = [await runs_in(house, ids[0], "two"), await runs_in(house, ids[1], "one")]
    late = [await house.add(name=name, priority=number) for number, name in enumerate("cd")]
    for task_id in late:
        await house.holds(task_id, "slot:one,two")
    reason = await why(house, late[0])
    assert (reason.reason, reason.blocking) == ("slot", ["two", "one"])
    assert "one of the 1 slots of two or one of the 1 slots of one" in reason.message
    assert "route 1: two, one" in reason.message
    house.puppet("one").finish(keys[1])
    await runs_in(house, late[1], "one")
    assert (await house.queue.get(late[0])).hold == "slot:one,two"
    house.puppet("two").finish(keys[0])
    await runs_in(house, late[0], "two")


async def test_without_a_rule_the_first_is_waited_for(build: Builder) -> None:
    house = await build.house(pair(max_active=1))
    await runs_in(house, await house.add(name="a"), "one")
    second = await house.add(name="b")
    await house.holds(second, "slot:one")
    assert house.puppet("two").log == []


async def test_a_rule_that_leaves_nobody_says_so(build: Builder) -> None:
    house = await build.house(pair(), rules=(Rule(("three", "four"), host=("host.invalid",)),))
    task_id = await house.add()
    await house.holds(task_id, "route")
    reason = await why(house, task_id)
    assert reason.reason == "no_route"
    assert "route 1 leaves it nobody: three is not configured any more; four is" in reason.message
    await house.endpoints.reconfigure(pair(), (), (Rule(("two",)),))
    await runs_in(house, task_id, "two")


async def test_other_rules_are_taken_over_by_those_who_wait(build: Builder) -> None:
    house = await build.house(pair(max_active=1), rules=(Rule(("one",)),))
    await runs_in(house, await house.add(name="a"), "one")
    second = await house.add(name="b")
    await house.holds(second, "slot:one")
    await house.endpoints.reconfigure(pair(max_active=1), (), (Rule(("one", "two")),))
    await runs_in(house, second, "two")


async def test_who_waits_over_a_restart_with_other_rules_is_woken(build: Builder, tmp_path: Path) -> None:
    from dlqueue.queue.sql import SqlStore

    url = f"sqlite:///{tmp_path}/q.db"
    fakes = {name: build.fake_config(name, 1) for name in ("one", "two")}
    house = await build.house(fakes, store=SqlStore(url, "process"), rules=(Rule(("one", "two")),))
    for number in range(2):
        await house.holds(await house.add(f"http://host.invalid/{number}?manual=1"), "transfer:")
    waiting = await house.add("http://host.invalid/late")
    await house.holds(waiting, "slot:one,two")
    await build.close(house)
    fakes["three"] = build.fake_config("three", 1)
    house = await build.house(fakes, store=SqlStore(url, "process"), rules=(Rule(("three", "two")),))
    await house.reaches(waiting, Status.COMPLETED)


async def test_another_stall_takes_effect_at_once(build: Builder) -> None:
    house = await build.house(pair(stall=None, failover_after=None))
    task_id = await house.add()
    await runs_in(house, task_id, "one")
    await pass_still(house, "one", 240)
    await house.endpoints.reconfigure(pair(stall=120.0, failover_after=50.0), ())
    house.puppet("one").news()
    second = await runs_in(house, task_id, "two")
    await is_down(house, "two")
    house.clock.advance(50)
    record = await house.waits_for_retry(task_id)
    assert [line[2] for line in await lines(house, task_id)] == ["next downloader", "from the top"]
    house.pass_time_until(record)
    assert await runs_in(house, task_id, "one") != second


# -- once more from the top -------------------------------------------------------------------------------------------


async def test_once_more_from_the_top_and_no_more(build: Builder) -> None:
    house = await build.puppets("one", "two", max_active=5)
    house.puppet("two").goes("create", CANNOT)
    task_id = await house.add(max_retry=9)
    for turn in (1, 2):
        key = await runs_in(house, task_id, "one")
        house.puppet("one").fail(key, PASSING)
        house.pass_time_until(await house.waits_for_retry(task_id))
        await house.holds(task_id, "transfer:")
        house.puppet("one").fail(key, CANNOT)
        if turn == 1:
            record = await house.when(task_id, lambda r: r.retries == 2)
            house.pass_time_until(record)
    record = await house.reaches(task_id, Status.ERROR)
    assert [line[2] for line in await lines(house, task_id)] == [
        "retry", "next downloader", "from the top", "retry", "next downloader", "error",
    ]  # fmt: skip
