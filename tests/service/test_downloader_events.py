"""Events of downloaders: one line for each turn, and none for what stays as it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dlqueue.downloads.endpoints import EndpointConfig
from dlqueue.protocol.events import Subscribe
from dlqueue.sdk import AuthFailed, Unavailable
from dlqueue.sdk.testing import FakeConfig
from tests.downloads.house import ME, Builder, House, puppet_config
from tests.downloads.puppet import Puppet, PuppetConfig
from tests.service.asking import ROOT, Asking

pytestmark = pytest.mark.anyio


class Away(Puppet):
    def test(self) -> str:
        raise Unavailable("nobody is at home")


async def listen(house: House) -> AsyncIterator[dict[str, Any]]:
    await house.eventually(lambda: house.endpoints["box"].version, "the version")
    stream = await house.service.events_subscribe(ME, Subscribe(topics=["downloader"]))
    return stream.__aiter__()


async def told(events: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
    async with asyncio.timeout(10):
        event = await anext(events)
    assert (event["topic"], event["sequence"], "task_id" in event) == ("downloader", None, False)
    data: dict[str, Any] = event["data"]
    return data


async def test_down_and_back(build: Builder) -> None:
    house = await build.puppets("box")
    events = await listen(house)
    box = house.endpoints["box"]
    house.puppet().goes("test", Unavailable("nobody is at home"))
    for _ in range(3):  # only the first is news
        with pytest.raises(Unavailable):
            await box.ask()
    del house.puppet().before["test"]
    await box.ask()
    await box.ask()
    assert await told(events) == {
        "kind": "down",
        "name": "box",
        "health": "down",
        "breaker": "open",
        "paused": False,
        "last_error": "nobody is at home",
    }
    back = await told(events)
    assert (back["kind"], back["health"], back["breaker"], back["last_error"]) == ("back", "up", "closed", None)
    await Asking(house, ROOT)("downloaders.pause", name="box")
    await Asking(house, ROOT)("downloaders.pause", name="box")
    await Asking(house, ROOT)("downloaders.resume", name="box")
    await Asking(house, ROOT)("downloaders.resume", name="box")
    await house.endpoints.reconfigure({}, ())
    assert [((data := await told(events))["kind"], data["paused"]) for _ in range(3)] == [
        ("paused", True),
        ("resumed", False),
        ("removed", False),
    ]


async def test_a_refused_login_and_another_one(build: Builder) -> None:
    house = await build.puppets("box")
    events = await listen(house)
    house.puppet().goes("test", AuthFailed("wrong password"))
    with pytest.raises(Unavailable):
        await house.endpoints["box"].ask()
    refused = await told(events)
    assert (refused["kind"], refused["breaker"], refused["last_error"]) == ("refused", "open", "wrong password")
    await house.endpoints.reconfigure({name: puppet_config(name) for name in ("box", "other")}, ())
    kinds = {((data := await told(events))["name"], data["kind"]) for _ in range(4)}
    assert kinds == {("box", "changed"), ("other", "added"), ("box", "back"), ("other", "back")}


async def test_one_that_is_down_before_and_after_a_reload_is_told_again(build: Builder) -> None:
    house = await build.house({"box": EndpointConfig("box", Away, 5, 2.0, PuppetConfig())})
    await house.eventually(lambda: house.endpoints["box"].down, "it is down")
    events = (await house.service.events_subscribe(ME, Subscribe(topics=["downloader"]))).__aiter__()
    # Other options: it is opened anew.
    await house.endpoints.reconfigure({"box": EndpointConfig("box", Away, 5, 2.0, FakeConfig("elsewhere"))}, ())
    assert [((data := await told(events))["kind"], data["breaker"]) for _ in range(2)] == [
        ("changed", "closed"),
        ("down", "open"),
    ]


async def test_who_listens_only_to_downloaders_does_not_hurry_the_polls(build: Builder) -> None:
    house = await build.puppets("box")
    await listen(house)
    assert house.endpoints.bus.listened_to
    assert not house.queue.bus.listened_to


async def test_nothing_is_told_of_what_is_configured_as_before(build: Builder) -> None:
    house = await build.puppets("box")
    events = await listen(house)
    before = dict(house.endpoints.configs)
    await house.endpoints.reconfigure(before, ())
    slower = {name: EndpointConfig(name, one.kind, 7, one.poll, one.options) for name, one in before.items()}
    await house.endpoints.reconfigure(slower, ())
    await house.endpoints.reconfigure({}, ())
    assert [(await told(events))["kind"] for _ in range(2)] == ["changed", "removed"]
