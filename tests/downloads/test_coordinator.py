"""One look-out per downloader: polls for everybody, wakes whom it concerns, survives what plug-ins do."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import logging
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dlqueue.downloads import coordinator as module
from dlqueue.downloads import hints
from dlqueue.downloads.coordinator import Coordinator
from dlqueue.downloads.endpoints import EndpointConfig, Endpoints, NoRoute
from dlqueue.downloads.policy import Policy
from dlqueue.downloads.request import DownloadParams
from dlqueue.downloads.slots import Slots
from dlqueue.downloads.watch import Watch
from dlqueue.queue import InvalidTask, Status
from dlqueue.queue.testing import PATIENCE, FakeClock
from dlqueue.sdk import (
    AuthFailed,
    Context,
    Handle,
    NotFound,
    Rejected,
    Request,
    TransferState,
    TransferStatus,
    Unavailable,
)
from tests.downloads.house import Builder, House, puppet_config
from tests.downloads.puppet import Puppet, PuppetConfig

pytestmark = pytest.mark.anyio


class Bench:
    """A coordinator by itself, with a puppet; ``woken`` and ``seen`` are what it told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.puppet = Puppet()
        self.woken: list[str] = []
        self.seen: list[int] = []
        self.live = False
        self.begun = self.through = 0
        """Polls; the number of the last one that is over, with all that it told."""
        self.coordinator = Coordinator(
            "box", self.puppet, 2.0, self.clock, self._wake, lambda i, o, s: self.seen.append(i), lambda: self.live
        )
        self._plain_poll = self.coordinator._poll
        self.coordinator._poll = self._poll  # type: ignore[method-assign]

    async def _poll(self, keys: list[str], asker: Watch | None = None) -> None:
        self.begun = number = self.begun + 1
        try:
            await self._plain_poll(keys, asker)
        finally:
            self.through = number

    async def _wake(self, hold: str) -> None:
        self.woken.append(hold)

    async def open(self) -> Bench:
        context = Context(
            name="box",
            folder=self.folder,
            logger=logging.getLogger("test"),
            deadline=lambda: 0.0,
            check_url=lambda url: None,
            check_address=lambda address: None,
        )
        await self.coordinator.open(PuppetConfig(), context)
        await self.until(lambda: "downloader:box" in self.woken, "its first answer")
        return self

    async def create(self, key: str, task_id: int = 1) -> Handle:
        request = Request(urls=("http://a/",), directory=self.folder / key)
        handle, _ = await self.coordinator.create(request, key, lambda: None)
        self.coordinator.watch(task_id, "me", key, handle)
        return handle

    async def until(self, look: object, what: str) -> None:
        assert callable(look)
        end = time.monotonic() + PATIENCE
        while not look():
            assert time.monotonic() < end, f"not in time: {what}"
            await asyncio.sleep(0.005)

    async def polled(self) -> None:
        """One whole poll more, that begins now; nobody has asked for another when it is over."""
        begun = self.begun
        self.coordinator._poke.set()
        await self.until(lambda: self.through > begun, "a poll")


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    await made.open()
    yield made
    made.puppet.free()
    made.puppet.before.clear()
    await made.coordinator.close()


# -- polling ----------------------------------------------------------------------------------------------------------


async def test_one_poll_asks_about_all(bench: Bench) -> None:
    handles = [await bench.create(f"k{number}", number) for number in range(5)]
    await bench.polled()
    bench.puppet.polls.clear()
    bench.seen.clear()
    for number in (1, 3):
        moved = dataclasses.replace(bench.puppet.transfers[f"k{number}"], downloaded=7)
        bench.puppet.transfers[f"k{number}"] = moved
    await bench.polled()
    assert set(bench.puppet.polls[-1]) == {handle.id for handle in handles}
    assert set(bench.seen) == {1, 3}, "who has not moved is no news"


async def test_nobody_watches_nobody_asks(bench: Bench) -> None:
    await bench.create("k")
    await bench.polled()
    bench.coordinator.unwatch("k")
    await bench.coordinator.call(lambda: None)
    bench.puppet.polls.clear()
    bench.puppet.news()
    bench.clock.advance(100)
    await asyncio.sleep(0.05)
    assert bench.puppet.polls == []


async def test_it_is_polled_at_its_interval_and_each_second_while_somebody_looks(bench: Bench) -> None:
    await bench.create("k")
    await bench.polled()
    await bench.until(lambda: bench.clock.next_time is not None, "a timer")
    assert bench.clock.next_time == bench.clock.time() + 2.0
    bench.live = True
    await bench.polled()
    assert bench.clock.next_time == bench.clock.time() + 1.0
    count = len(bench.puppet.polls)
    bench.clock.advance(1.0)
    await bench.until(lambda: len(bench.puppet.polls) == count + 1, "the next poll")


async def test_a_task_is_woken_once_for_a_state_and_never_for_bytes(bench: Bench) -> None:
    await bench.create("a", 1)
    await bench.create("b", 2)
    await bench.polled()
    bench.woken.clear()
    for state, told in (
        (TransferState.DOWNLOADING, []),
        (TransferState.METADATA, ["transfer:a"]),
        (TransferState.DOWNLOADING, ["transfer:a"]),
        (TransferState.COMPLETED, ["transfer:a"]),
    ):
        for done in range(3):
            bench.puppet.transfers["a"] = TransferStatus(state, downloaded=done)
            await bench.polled()
        assert bench.woken == told, state
        bench.woken.clear()
    del bench.puppet.transfers["b"]
    await bench.polled()
    await bench.polled()
    assert bench.woken == ["transfer:b"]


async def test_who_has_seen_a_state_is_not_woken_for_it(bench: Bench) -> None:
    handle = await bench.create("k")
    bench.puppet.transfers["k"] = TransferStatus(TransferState.COMPLETED, downloaded=7)
    status = (await bench.coordinator.look(1, "me", "k", handle)).status
    assert status is not None
    assert status.downloaded == 7
    bench.woken.clear()
    await bench.polled()
    assert bench.woken == []


async def test_what_is_gone_is_none(bench: Bench) -> None:
    assert (await bench.coordinator.look(1, "me", "k", Handle("k"))).status is None
    handle = await bench.create("k")
    assert (await bench.coordinator.look(1, "me", "k", handle)).status is not None
    bench.puppet.transfers.clear()
    await bench.polled()
    assert (await bench.coordinator.look(1, "me", "k", handle)).status is None


async def test_the_answer_about_an_earlier_life_is_ignored(bench: Bench) -> None:
    handle = await bench.create("k")
    await bench.polled()
    bench.puppet.transfers["k"] = TransferStatus(TransferState.ERROR)
    gate = bench.puppet.gate("poll")
    bench.puppet.news()
    await bench.until(gate.reached.is_set, "the poll")
    # While the answer "it failed" is on its way, the transfer is begun again.
    bench.puppet.transfers["k"] = TransferStatus(TransferState.DOWNLOADING)
    bench.coordinator.watch(1, "me", "k", handle)
    bench.woken.clear()
    bench.puppet.before.clear()
    gate.open.set()
    await bench.polled()
    assert bench.woken == []
    status = (await bench.coordinator.look(1, "me", "k", handle)).status
    assert status is not None
    assert status.state is TransferState.DOWNLOADING


# -- down and back ----------------------------------------------------------------------------------------------------


async def test_one_line_when_it_goes_and_one_when_it_is_back(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    handle = await bench.create("k")
    await bench.polled()
    bench.woken.clear()
    with caplog.at_level(logging.INFO, "dlqueue"):
        bench.puppet.goes("all", Unavailable("connection refused"))
        bench.puppet.news()
        await bench.until(lambda: bench.coordinator.down, "down")
        assert bench.coordinator.health == "down"
        with pytest.raises(Unavailable, match="connection refused"):
            await bench.coordinator.look(1, "me", "new", Handle("new"))
        for _ in range(4):
            asked = bench.puppet.tests
            bench.clock.advance(60)
            await bench.until(
                lambda n=asked: bench.puppet.tests > n and (bench.coordinator.down_until or 0) > bench.clock.time(),
                "it is asked again",
            )
        polls = len(bench.puppet.polls)
        bench.puppet.before.clear()
        bench.clock.advance(60)
        await bench.until(lambda: not bench.coordinator.down, "back")
    assert len(bench.puppet.polls) in (polls, polls + 1)
    assert [record.getMessage() for record in caplog.records] == [
        "downloader box is down: connection refused",
        "downloader box is back",
    ]
    await bench.until(lambda: "downloader:box" in bench.woken, "its tasks are woken")
    assert bench.coordinator.last_error is None
    assert (await bench.coordinator.look(1, "me", "k", handle)).status is not None


async def test_after_an_outage_every_state_is_news(bench: Bench) -> None:
    """What was done about a state may have gone with the program that it was done in."""
    handle = await bench.create("k")
    bench.puppet.show("k", state=TransferState.PAUSED)
    await bench.until(lambda: "transfer:k" in bench.woken, "its task is woken")
    assert (await bench.coordinator.look(1, "me", "k", handle)).status is not None
    bench.puppet.goes("all", Unavailable("connection refused"))
    bench.puppet.news()
    await bench.until(lambda: bench.coordinator.down, "down")
    bench.woken.clear()
    bench.puppet.before.clear()
    bench.clock.advance(60)
    await bench.until(lambda: "transfer:k" in bench.woken, "its task is woken though it is still paused")
    bench.woken.clear()
    await bench.polled()
    assert bench.woken == [], "once"


async def test_the_first_answer_is_no_news(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "dlqueue"):
        bench = await Bench(tmp_path).open()
        await bench.coordinator.close()
    assert bench.coordinator.health == "up"
    assert caplog.records == []


async def test_it_is_asked_again_with_growing_pauses(bench: Bench) -> None:
    await bench.create("k")
    bench.puppet.goes("all", Unavailable("no"))
    bench.puppet.news()
    await bench.until(lambda: bench.coordinator.down_until is not None, "down")
    pauses = []
    for _ in range(9):
        assert bench.coordinator.down_until is not None
        pauses.append(bench.coordinator.down_until - bench.clock.time())
        asked = bench.puppet.tests
        bench.clock.advance(pauses[-1] + 0.001)
        await bench.until(
            lambda n=asked: bench.puppet.tests > n and (bench.coordinator.down_until or 0) > bench.clock.time(),
            "asked again",
        )
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60], abs=0.1)


async def test_refused_credentials_are_not_shown_again(bench: Bench) -> None:
    handle = await bench.create("k")
    await bench.polled()
    bench.puppet.goes("all", AuthFailed("wrong password"))
    bench.puppet.news()
    await bench.until(lambda: bench.coordinator.auth_failed, "refused")
    asked: list[str] = []
    bench.puppet.before["all"] = lambda: asked.append("again")
    bench.clock.advance(10_000)
    bench.puppet.news()
    for call in (
        lambda: bench.create("other"),
        lambda: bench.coordinator.remove("k", handle, False, lambda: None),
        lambda: bench.coordinator.look(1, "me", "x", Handle("x")),
        lambda: bench.coordinator.call(bench.puppet.pause, handle),
    ):
        with pytest.raises(Unavailable, match="wrong password"):
            await call()
    await asyncio.sleep(0.03)
    assert asked == []
    assert bench.coordinator.down


async def test_a_stray_exception_of_a_plug_in_is_a_passing_refusal(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    for error in (ValueError("secret detail"), ConnectionRefusedError(111, "secret detail"), KeyError("secret")):
        bench.puppet.goes("create", error)
        with pytest.raises(Rejected) as caught:
            await bench.create("k")
        assert caught.value.final is None
        assert caught.value.kind == "plugin"
        assert "secret" not in caught.value.message
        assert type(error).__name__ in caught.value.message
    assert not bench.coordinator.down
    assert sum("defect of its plug-in" in record.getMessage() for record in caplog.records) == 3


@pytest.mark.parametrize("error", [ValueError("x"), OSError(5, "x"), Rejected("x"), NotFound("x"), RuntimeError("x")])
async def test_the_look_out_survives_a_poll_that_fails_and_does_not_spin(bench: Bench, error: Exception) -> None:
    await bench.create("k")
    await bench.polled()
    bench.puppet.goes("poll", error)
    count = len(bench.puppet.polls)
    bench.puppet.news()
    await bench.until(lambda: len(bench.puppet.polls) > count, "a poll")
    await asyncio.sleep(0.05)
    assert len(bench.puppet.polls) <= count + 2, "polled in a loop without a pause"
    bench.puppet.before.clear()
    bench.puppet.transfers["k"] = TransferStatus(TransferState.COMPLETED)
    bench.woken.clear()
    await bench.polled()
    await bench.until(lambda: "transfer:k" in bench.woken, "it goes on")


async def test_our_own_disk_errors_stay_what_they_are(bench: Bench) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    request = Request(urls=("http://a/",), directory=bench.folder / "x")
    with pytest.raises(OSError, match="No space"):
        await bench.coordinator.create(request, "k", full)
    assert bench.puppet.log == []
    handle = await bench.create("k")
    with pytest.raises(OSError, match="No space"):
        await bench.coordinator.remove("k", handle, False, full)
    assert not bench.coordinator.down


async def test_removing_what_is_gone_is_success(bench: Bench) -> None:
    done: list[bool] = []
    bench.puppet.goes("remove", NotFound("k"))
    await bench.coordinator.remove("k", Handle("k"), True, lambda: done.append(True))
    assert done == [True]


async def test_events_that_fail_or_end_are_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Nervous(Puppet):
        def events(self):  # type: ignore[no-untyped-def]
            asked.append(1)
            if len(asked) == 1:
                raise ValueError("no events today")
            if len(asked) == 2:
                return
            yield from super().events()

    bench = Bench(tmp_path)
    bench.puppet = bench.coordinator.downloader = Nervous()
    await bench.open()
    for count in (2, 3):
        await bench.until(lambda: bench.clock.next_time is not None, "a pause")
        bench.clock.advance(hints.PAUSE)
        await bench.until(lambda n=count: len(asked) == n, "asked again")
    await bench.create("k")
    await bench.polled()
    bench.puppet.news()
    begun = bench.begun
    await bench.until(lambda: bench.begun > begun, "a poll")
    await bench.coordinator.close()


# -- calls that hang --------------------------------------------------------------------------------------------------


async def test_a_call_that_hangs_has_its_deadline_and_hurts_no_other_downloader(
    build: Builder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    house = await build.house({"fake": build.fake_config("fake"), "box": puppet_config("box")})
    hang = tmp_path / "fake" / "hang"
    hang.touch()
    calls = house.endpoints["fake"]._calls
    run = calls.run
    # Of this one only: the other must not be called down because this machine is slow, nor this one when it is back.
    monkeypatch.setattr(calls, "run", lambda function, timeout: run(function, 0.2))
    stuck = await house.add("http://host.invalid/a", downloader="fake")
    free = await house.add("http://host.invalid/b", downloader="box")
    house.puppet().finish(await house.runs(free))
    await house.reaches(free, Status.COMPLETED)
    record = await house.holds(stuck, "downloader:fake")
    assert (record.retries, record.error) == (0, None)
    assert house.endpoints["fake"].health == "down"
    assert house.endpoints["box"].health == "up"
    monkeypatch.setattr(calls, "run", run)
    hang.unlink()
    house.clock.advance(61)
    await house.reaches(stuck, Status.COMPLETED)


async def test_a_call_that_ignores_its_deadline_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CALL_TIMEOUT", 0.1 - 1.0)  # a second is added to what the plug-in knows of
    gate = bench.puppet.gate("create")
    with pytest.raises(Unavailable, match="did not answer within"):
        await bench.create("k")
    assert bench.coordinator.down
    gate.open.set()


async def test_the_plug_in_knows_its_deadline(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CALL_TIMEOUT", 7.0)
    assert bench.puppet.context is not None
    left = await bench.coordinator.call(bench.puppet.context.deadline)
    assert 6.0 < left <= 7.0


async def test_two_threads_and_no_more(bench: Bench) -> None:
    running = most = 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1

    await asyncio.gather(*(bench.coordinator.call(work) for _ in range(10)))
    assert most <= 2


async def test_a_look_and_an_end_do_not_wait_behind_all_that_would_begin(bench: Bench) -> None:
    gate = bench.puppet.gate("create")
    creating = [asyncio.create_task(bench.create(f"k{number}")) for number in range(3)]
    await bench.until(gate.reached.is_set, "create")
    async with asyncio.timeout(PATIENCE):
        assert (await bench.coordinator.look(1, "me", "other", Handle("other"))).status is None
        await bench.coordinator.remove("z", Handle("z"), False, lambda: None)
    assert bench.puppet.log == ["remove z"]
    gate.open.set()
    await asyncio.gather(*creating)
    assert bench.puppet.log[1:] == ["create k0", "create k1", "create k2"]


async def test_what_waits_to_be_created_is_not_tried_in_a_downloader_that_went_down(bench: Bench) -> None:
    gate = bench.puppet.gate("create")
    first, second, third = (asyncio.create_task(bench.create(name)) for name in ("first", "second", "third"))
    await bench.until(gate.reached.is_set, "create")
    third.cancel()
    bench.puppet.goes("test", Unavailable("away"))
    with pytest.raises(Unavailable):
        await bench.coordinator.ask()
    gate.open.set()
    await first
    with pytest.raises(Unavailable, match="away"):
        await second
    await bench.until(lambda: not bench.coordinator._creating.locked(), "the third has failed, too")
    del third
    gc.collect()  # the loop would complain of a failure that nobody has heard of
    assert bench.puppet.log == ["create first"]


async def test_what_waits_to_be_created_is_given_up_with_its_caller(bench: Bench) -> None:
    gate = bench.puppet.gate("create")
    first, second, third = (asyncio.create_task(bench.create(name)) for name in ("first", "second", "third"))
    await bench.until(gate.reached.is_set, "create")
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    async with asyncio.timeout(PATIENCE):  # it waits for none of the others
        await bench.coordinator.remove("second", Handle("second"), False, lambda: None)
    gate.open.set()
    await asyncio.gather(first, third)
    assert bench.puppet.log == ["remove second", "create first", "create third"]


async def test_close_does_not_wait_for_a_plug_in_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLOSE_TIMEOUT", 0.1 - 1.0)
    bench = await Bench(tmp_path).open()
    gate = bench.puppet.gate("all")
    waiting = [asyncio.create_task(bench.create(f"k{n}")) for n in range(2)]
    await bench.until(gate.reached.is_set, "they hang")
    async with asyncio.timeout(PATIENCE):
        await bench.coordinator.close()
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    bench.puppet.free()
    bench.puppet._news.put(False)


async def test_close_survives_a_plug_in_that_cannot(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = await Bench(tmp_path).open()
    bench.puppet.goes("close", ValueError("stuck"))
    await bench.coordinator.close()
    assert any("did not close well" in record.getMessage() for record in caplog.records)
    bench.puppet._news.put(False)


async def test_create_goes_on_when_its_caller_is_cancelled_and_remove_waits(bench: Bench) -> None:
    gate = bench.puppet.gate("create")
    creating = asyncio.create_task(bench.create("k"))
    await bench.until(gate.reached.is_set, "create")
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    removing = asyncio.create_task(bench.coordinator.remove("k", Handle("k"), False, lambda: None))
    other = asyncio.create_task(bench.coordinator.remove("z", Handle("z"), False, lambda: None))
    await other
    assert not removing.done()
    gate.open.set()
    async with asyncio.timeout(PATIENCE):
        await removing
    assert bench.puppet.log == ["remove z", "create k", "remove k"]
    assert bench.puppet.transfers == {}


# -- slots ------------------------------------------------------------------------------------------------------------


def test_slots() -> None:
    slots = Slots()
    slots.define("a", 2)
    slots.define("b", 1)
    assert slots.acquire("a", 1)
    assert slots.acquire("a", 1)
    assert (slots.active("a"), slots.free("a")) == (1, 1)
    assert slots.acquire("a", 2)
    assert not slots.acquire("a", 3)
    assert slots.free("a") == 0
    # One at most, anywhere.
    assert slots.acquire("b", 2)
    assert (slots.active("a"), slots.active("b")) == (1, 1)
    assert slots.release(2) == "b"
    assert slots.release(2) is None
    # Whether somebody waits is known, who is not.
    asked = slots.asked("a")
    assert slots.release(3) is None
    assert not slots.acquire("a", 4) or slots.free("a") == 0
    slots.nobody("a", asked - 1)
    assert slots.asked("a") >= asked
    slots.nobody("a", slots.asked("a"))
    assert slots.asked("a") == 0
    slots.release(4)
    # What runs already has a slot, whatever the limit says.
    for task_id in (5, 6, 7):
        slots.adopt("b", task_id)
    assert (slots.active("b"), slots.free("b")) == (3, 0)
    assert not slots.acquire("b", 8)
    assert (slots.active("none"), slots.free("none")) == (0, 0)


# -- all of them ------------------------------------------------------------------------------------------------------


class Failing(Puppet):
    """Cannot even be opened."""

    error: Exception = Unavailable("no folder")

    def open(self, config: object, context: Context) -> None:
        raise self.error


@pytest.mark.parametrize("error", [Unavailable("no folder"), OSError(13, "Permission denied"), ValueError("x")])
async def test_one_that_cannot_be_opened_is_down_and_the_others_work(
    build: Builder, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(Failing, "error", error)
    house = await build.house({"bad": EndpointConfig("bad", Failing), "box": puppet_config("box")})
    assert house.endpoints["bad"].health == "down"
    assert house.endpoints["bad"].last_error
    task_id = await house.add()
    await house.runs(task_id)
    assert (await house.state(task_id)).downloader == "box"


def endpoints(folder: Path, *names: str) -> Endpoints:
    async def wake(hold: str, n: int | None) -> None: ...

    policy = Policy(frozenset({"http"}), False, ())
    configs = {name: puppet_config(name) for name in names}
    return Endpoints(configs, folder, policy, FakeClock(), wake, lambda i, o, s: None, lambda: False)


def params(url: str, downloader: str | None = None) -> DownloadParams:
    return DownloadParams(urls=(url,), directory="/", root="/", downloader=downloader)


async def test_check_names_what_is_wrong(tmp_path: Path) -> None:
    made = endpoints(tmp_path, "one", "two")
    made.check(params("http://a/"))
    made.check(params("http://a/", "two"))
    with pytest.raises(InvalidTask, match=r"no downloader 'three' \(configured: one, two\)") as wrong:
        made.check(params("http://a/", "three"))
    assert wrong.value.field == "downloader"
    assert not isinstance(wrong.value, NoRoute)
    with pytest.raises(NoRoute, match="none of the configured downloaders can fetch magnet"):
        made.check(params("magnet:?xt"))
    with pytest.raises(NoRoute, match="'one' cannot fetch magnet"):
        made.check(params("magnet:?xt", "one"))
    with pytest.raises(NoRoute, match="configured: none"):
        endpoints(tmp_path).check(params("http://a/"))


async def test_plug_ins_ask_the_policy_about_redirects_and_addresses(build: Builder) -> None:
    policy = Policy(frozenset({"http"}), False, ())
    house: House = await build.puppets(policy=policy)
    context = house.puppet().context
    assert context is not None
    context.check_url("http://example.org/")
    context.check_address("8.8.8.8")
    for check, value in (
        (context.check_url, "file:///etc/passwd"),
        (context.check_url, "http://127.1/"),
        (context.check_url, "http://a/\r\n"),
        (context.check_address, "127.0.0.1"),
        (context.check_address, "::1"),
    ):
        with pytest.raises(Rejected) as caught:
            check(value)
        assert (caught.value.final, caught.value.kind) == ("request", "policy")
    assert context.folder.stat().st_mode & 0o777 == 0o700
