"""Events: what was missed, then live, without gap or repeat; only what one may see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dlqueue.protocol.caller import Caller
from dlqueue.protocol.events import Subscribe, Topic
from dlqueue.queue import Progress
from dlqueue.queue.sql import SqlStore
from dlqueue.service import streams
from dlqueue.service.streams import EventStream
from tests.downloads.house import ME, Builder, House
from tests.service.asking import ROOT, YOU, Asking

pytestmark = pytest.mark.anyio

URL = "http://host.invalid/file.bin"


class Reader:
    """One subscriber."""

    def __init__(self, stream: EventStream) -> None:
        self.stream = stream
        self._messages: AsyncIterator[dict[str, Any]] = stream.__aiter__()

    @classmethod
    async def of(cls, house: House, caller: Caller = ME, **params: Any) -> Reader:
        return cls(await house.service.events_subscribe(caller, Subscribe(**params)))

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            return await anext(self._messages)

    async def rest(self) -> list[dict[str, Any]]:
        """Everything that has gathered."""
        self.stream.close()
        async with asyncio.timeout(10):
            return [message async for message in self._messages]


async def add(house: House, number: int, caller: Caller = ME) -> int:
    task = await Asking(house, caller)("downloads.add", url=f"{URL}{number}", paused=True)
    task_id: int = task["id"]
    return task_id


async def test_the_shape_of_an_event(build: Builder) -> None:
    house = await build.puppets()
    reader = await Reader.of(house)
    task_id = await add(house, 1)
    event = await reader.next()
    assert set(event) == {"subscription", "sequence", "topic", "task_id", "at", "data"}
    assert (event["subscription"], event["topic"], event["task_id"]) == (reader.stream.id, "task", task_id)
    assert event["at"].endswith("Z")
    assert isinstance(event["sequence"], int)
    assert event["data"] == {
        "kind": "submitted",
        "from": None,
        "status": "paused",
        "want": "run",
        "type": "remote_download",
        "queue": "downloads",
        "revision": 1,
    }
    await house.queue.cancel(task_id)
    data = (await reader.next())["data"]
    assert (data["kind"], data["from"], data["status"]) == ("canceled", "paused", "canceled")
    await reader.rest()


async def test_progress_has_no_sequence(build: Builder) -> None:
    house = await build.puppets()
    reader = await Reader.of(house, topics=["progress"])
    task_id = await house.add()
    key = await house.runs(task_id)
    house.puppet().show(key, downloaded=5, total=10)
    while True:
        event = await reader.next()
        assert event["topic"] == "progress"
        if event["data"]["progress"]["percent"] == 50.0:
            break
    assert (event["sequence"], event["task_id"]) == (None, task_id)
    await reader.rest()


@pytest.mark.parametrize("durable", [False, True])
async def test_since_replays_and_goes_on_live_without_gap_or_repeat(
    build: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    monkeypatch.setattr(streams, "REPLAY", 7)
    store = SqlStore(f"sqlite:///{tmp_path}/q.db", "process") if durable else None
    house = await build.puppets(store=store)
    whole = await Reader.of(house, topics=["task"])
    for number in range(20):
        await add(house, number)
    before = await Reader.of(house, topics=["task"], since=0)
    middle = await Reader.of(house, topics=["task"], since=10)
    late = await Reader.of(house, topics=["task"])

    async def submit() -> None:
        for number in range(20, 40):
            await add(house, number)

    # While it replays, more is committed.
    submitting = asyncio.create_task(submit())
    seen = [await before.next() for _ in range(40)]
    await submitting
    everything = [event["sequence"] for event in await whole.rest()]
    assert len(everything) == 40
    assert [event["sequence"] for event in seen] == everything
    assert await before.rest() == []
    assert [event["sequence"] for event in [await middle.next() for _ in range(30)]] == everything[10:]
    assert [event["sequence"] for event in await late.rest()] == everything[20:]
    assert [event["task_id"] for event in seen] == sorted(event["task_id"] for event in seen)
    again = await Reader.of(house, topics=["task"], since=everything[-1])
    await add(house, 99)
    assert (await again.next())["sequence"] > everything[-1]
    await again.rest()
    await middle.rest()


async def test_who_is_too_slow_is_told_where_the_gap_is(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BUFFER", 3)
    house = await build.puppets()
    reader = await Reader.of(house, topics=["task"])
    first = [await add(house, number) for number in range(5)]
    events = [await reader.next() for _ in range(4)]
    assert [event["topic"] for event in events] == ["task"] * 3 + ["missed"]
    assert [event.get("task_id") for event in events] == [*first[:3], None]
    assert events[3]["data"] == {"count": 2}
    assert events[3]["sequence"] is None
    last = await add(house, 9)
    assert (await reader.next())["task_id"] == last
    # And what was missed can be asked for.
    again = await Reader.of(house, topics=["task"], since=events[2]["sequence"])
    assert [(await again.next())["task_id"] for _ in range(3)] == [*first[3:], last]
    for one in (reader, again):
        await one.rest()


@pytest.mark.parametrize("replayed", [False, True])
async def test_topics_ids_and_owners(build: Builder, replayed: bool) -> None:
    house = await build.puppets()

    async def subscribe() -> dict[str, Reader]:
        since: dict[str, Any] = {"since": 0} if replayed else {}
        tasks: list[Topic] = ["task"]
        return {
            "mine": await Reader.of(house, topics=tasks, **since),
            "one": await Reader.of(house, topics=tasks, task_ids=[2], **since),
            "progress": await Reader.of(house, topics=["progress"], **since),
            "yours": await Reader.of(house, YOU, topics=tasks, **since),
            "another's by id": await Reader.of(house, YOU, topics=tasks, task_ids=[1], **since),
            "root's": await Reader.of(house, ROOT, topics=tasks, **since),
        }

    readers = {} if replayed else await subscribe()
    assert [await add(house, 1), await add(house, 2), await add(house, 3, YOU)] == [1, 2, 3]
    house.queue.publish_progress(1, "me", Progress(percent=1.0))
    if replayed:
        readers = await subscribe()
        house.queue.publish_progress(1, "me", Progress(percent=1.0))
    seen = {name: [event["task_id"] for event in await reader.rest()] for name, reader in readers.items()}
    assert seen == {
        "mine": [1, 2],
        "one": [2],
        "progress": [1],
        "yours": [3],
        "another's by id": [],
        "root's": [1, 2, 3],
    }


async def test_without_topics_all_come_and_with_tasks_those_about_them(build: Builder) -> None:
    house = await build.puppets()
    everything, about_one = await Reader.of(house, ROOT), await Reader.of(house, ROOT, task_ids=[1])
    root = Asking(house, ROOT)
    await root("queues.create", name="new")
    await add(house, 1)
    await add(house, 2)
    house.queue.publish_progress(1, "me", Progress(percent=1.0))
    await root("downloaders.pause", name="box")
    assert [event["topic"] for event in await everything.rest()] == ["queue", "task", "task", "progress", "downloader"]
    assert [event["topic"] for event in await about_one.rest()] == ["task", "progress"]


async def test_another_s_progress_is_unseen(build: Builder) -> None:
    house = await build.puppets()
    reader = await Reader.of(house, YOU, topics=["progress"])
    house.queue.publish_progress(1, "me", Progress(percent=1.0))
    house.queue.publish_progress(2, "you", Progress(percent=2.0))
    assert [event["task_id"] for event in await reader.rest()] == [2]


async def test_a_closed_stream_is_forgotten(build: Builder) -> None:
    house = await build.puppets()
    reader = await Reader.of(house)
    assert house.queue.bus.listened_to
    waiting = asyncio.create_task(reader.rest())
    assert await waiting == []
    assert not house.queue.bus.listened_to
