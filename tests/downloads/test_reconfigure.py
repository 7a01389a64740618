"""Downloaders that are opened, closed and opened anew under running transfers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from dlqueue.downloads.endpoints import EndpointConfig, NotConfigured
from dlqueue.downloads.request import DownloadParams
from dlqueue.queue import Status
from dlqueue.sdk import AuthFailed, Request, TransferState, TransferStatus, Unavailable
from tests.downloads.house import Builder, House
from tests.downloads.puppet import Puppet

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Options:
    """Something to change."""

    number: int = 1


class Outside(Puppet):
    """Another program: its transfers outlive the plug-in."""

    config_type: ClassVar[type[Any]] = Options
    world: ClassVar[dict[str, TransferStatus]] = {}
    asked: ClassVar[dict[str, Request]] = {}
    history: ClassVar[list[str]] = []
    opened: ClassVar[list[Outside]] = []

    def __init__(self) -> None:
        super().__init__()
        self.transfers, self.requests, self.log = self.world, self.asked, self.history
        self.opened.append(self)

    def close(self) -> None:
        self.history.append("close")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, empty in (("world", {}), ("asked", {}), ("history", []), ("opened", [])):
        monkeypatch.setattr(Outside, name, empty)


def config(number: int = 1, name: str = "box") -> dict[str, EndpointConfig]:
    return {name: EndpointConfig(name, Outside, 100, 2.0, Options(number))}


async def test_what_is_the_same_is_left_alone(build: Builder) -> None:
    house: House = await build.house(config())
    before = house.endpoints["box"]
    await house.endpoints.reconfigure(config(), ())
    assert house.endpoints["box"] is before
    assert len(Outside.opened) == 1


async def test_transfers_of_one_that_is_opened_anew_are_watched_on_with_one_poll(build: Builder) -> None:
    house: House = await build.house(config())
    tasks = [await house.add(f"http://host.invalid/{n}.bin") for n in range(20)]
    keys = [await house.runs(task_id) for task_id in tasks]
    await house.endpoints.reconfigure(config(2), ())
    new = house.puppet()
    assert new is not Outside.opened[0]
    await house.eventually(lambda: new.polls, "it is asked")
    assert sorted(new.polls[0]) == sorted(keys)
    for n, key in enumerate(keys):
        new.finish(key, name=f"{n}.bin")
    for task_id in tasks:
        assert (await house.reaches(task_id, Status.COMPLETED, Status.ERROR)).status is Status.COMPLETED
    assert len([line for line in Outside.history if line.startswith("create")]) == 20


async def test_what_ends_while_it_is_being_opened_anew_is_seen(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    house: House = await build.house(config())
    task_id = await house.add()
    key = await house.runs(task_id)

    def ends(self: Outside, config: Any, context: Any) -> None:
        self.finish(key)

    monkeypatch.setattr(Outside, "open", ends)
    await house.endpoints.reconfigure(config(2), ())
    done = await house.reaches(task_id, Status.COMPLETED, Status.ERROR)
    assert (done.status, done.retries) == (Status.COMPLETED, 0)


async def test_a_creation_under_way_is_let_through_and_known_afterwards(build: Builder) -> None:
    house: House = await build.house(config())
    first = house.puppet()
    gate = first.gate("create")
    task_id = await house.add()
    await house.eventually(gate.reached.is_set, "it is being created")
    change = asyncio.create_task(house.endpoints.reconfigure(config(2), ()))
    await house.eventually(lambda: house.endpoints["box"].down, "it is being closed")
    gate.open.set()
    await change
    key = await house.runs(task_id)
    house.puppet().finish(key)
    assert (await house.reaches(task_id, Status.COMPLETED, Status.ERROR)).status is Status.COMPLETED
    assert Outside.history[:2] == [f"create {key}", "close"]
    assert len([line for line in Outside.history if line.startswith("create")]) == 1


async def test_one_that_refused_our_login_is_asked_once_more(build: Builder) -> None:
    house: House = await build.house(config())
    house.puppet().goes("create", AuthFailed("wrong password"))
    task_id = await house.add()
    await house.holds(task_id, "downloader:box")
    assert house.endpoints["box"].auth_failed
    tests = house.puppet().tests
    await house.settled()
    assert house.puppet().tests == tests, "nobody hammers"
    await house.endpoints.reconfigure(config(), ())
    key = await house.runs(task_id)
    house.puppet().finish(key)
    assert (await house.reaches(task_id, Status.COMPLETED)).retries == 0


async def test_one_that_is_gone_is_unavailable_and_says_why(build: Builder) -> None:
    house: House = await build.house(config())
    task_id = await house.add()
    key = await house.runs(task_id)
    await house.endpoints.reconfigure({}, {"box"})
    await house.holds(task_id, "route")
    with pytest.raises(NotConfigured, match=r"^box is disabled \(enabled = false\)$"):
        house.endpoints["box"]
    assert issubclass(NotConfigured, Unavailable), "a step in the middle of it waits"
    await house.endpoints.reconfigure({}, ())
    with pytest.raises(NotConfigured, match=r"^box is not configured any more$"):
        house.endpoints["box"]
    await house.endpoints.reconfigure(config(), ())
    assert await house.runs(task_id) == key
    house.puppet().finish(key)
    assert (await house.reaches(task_id, Status.COMPLETED)).retries == 0


async def test_the_order_of_the_configuration_is_the_order_of_the_route(build: Builder) -> None:
    http = DownloadParams(urls=("http://x/",), directory="/", root="/")
    house: House = await build.house({**config(name="a"), **config(name="b")})
    assert house.endpoints.route(http).names == ("a", "b")
    await house.endpoints.reconfigure({**config(name="c"), **config(name="b"), **config(name="a")}, ())
    assert house.endpoints.route(http).names == ("c", "b", "a")
    assert house.endpoints.names() == ["c", "b", "a"]


async def test_a_pause_outlives_other_options(build: Builder) -> None:
    house: House = await build.house(config())
    await house.endpoints.pause("box", "me")
    task_id = await house.add()
    await house.holds(task_id, "paused:box")
    await house.endpoints.reconfigure(config(2), ())
    assert house.endpoints["box"].paused is not None
    await house.endpoints.reconfigure(config(name="other"), ())
    key = await house.runs(task_id)
    assert (await house.state(task_id)).downloader == "other"
    house.puppet("other").finish(key)
    await house.reaches(task_id, Status.COMPLETED)


async def test_what_is_canceled_while_its_downloader_is_disabled_is_removed_when_it_is_back(build: Builder) -> None:
    house: House = await build.house(config())
    task_id = await house.add()
    key = await house.runs(task_id)
    await house.endpoints.reconfigure({}, {"box"})
    await house.holds(task_id, "route")
    assert (await house.queue.cancel(task_id)).status is Status.CANCELED
    await house.settled()
    assert key in Outside.world
    await house.endpoints.reconfigure(config(), ())

    def removed() -> bool:
        house.clock.advance(60)  # until the next try
        return key not in Outside.world

    await house.eventually(removed, "it is removed")
    await house.cleaned(task_id)


@pytest.mark.parametrize("disabled", [True, False])
async def test_what_seeds_in_one_that_goes_seeds_on_when_it_is_back(build: Builder, disabled: bool) -> None:
    house: House = await build.house(config())
    task_id = await house.add()
    key = await house.runs(task_id)
    path = Outside.asked[key].directory / "file.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"content")
    house.puppet().show(key, state=TransferState.SEEDING, name=path.name, content=(str(path),), total=7, downloaded=7)
    await house.when(task_id, lambda record: record.delivered_at is not None, "delivered")
    await house.endpoints.reconfigure({}, {"box"} if disabled else ())
    await house.holds(task_id, "route")
    assert house.queue.counters.completed == 0
    await house.endpoints.reconfigure(config(), ())
    await house.holds(task_id, f"transfer:{key}")
    assert (await house.state(task_id)).phase == "seeding"
    assert key in Outside.world
