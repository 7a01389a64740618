"""`top` against a real daemon, by its keys, and what is on the screen."""

from __future__ import annotations

import asyncio
import itertools
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dlqueue.cli import exits
from dlqueue.cli.top import app, feed, rows, tasklist
from dlqueue.cli.top.app import Top
from dlqueue.client import AsyncClient
from tests.daemon.aria2_world import staging_left
from tests.daemon.instance import Instance, fake_section, until
from tests.daemon.screen_text import lines_of, until_shown

pytestmark = pytest.mark.anyio

SIZE = (80, 24)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Instance]:
    with Instance(tmp_path, fake_section(tmp_path, "max_active = 2\n")) as running:
        yield running.start()


def running(daemon: Instance, name: str, **params: Any) -> int:
    """A download that stays under way."""
    return daemon.add(f"http://host.invalid/{name}?manual=1&size=100000", **params)


def ids_shown(text: str) -> list[int]:
    """The tasks of the list, from above."""
    below = text.partition("NAME")[2].split("───")[0]
    return [int(line.replace("*", " ").split()[0]) for line in below.splitlines()[1:] if line.strip()]


async def test_it_shows_what_there_is_and_follows(daemon: Instance) -> None:
    first = running(daemon, "first.iso")
    top = Top(daemon.socket)
    async with top.run_test(size=SIZE, notifications=True) as pilot:
        moving = ("downloading", "fake up 1/2", "first.iso", "unfinished: 1 moving")
        text = await until_shown(pilot, lambda text: all(part in text for part in moving), "the first")
        assert "↓ " in text
        assert [len(line) for line in lines_of(top)] == [80] * 24, "no line is wider than the screen"
        keys = ("Pause", "Cancel", "Sort", "Filter", "Help", "Quit")
        await until_shown(pilot, lambda text: all(key in text.splitlines()[-1] for key in keys), "the keys")
        await until_shown(
            pilot, lambda text: "downloading in fake" in text and str(daemon.destination)[-12:] in text, "details"
        )
        second = running(daemon, "second.iso")
        await until_shown(pilot, lambda text: "second.iso" in text and "2 moving" in text, "what is added meanwhile")
        (key, *_) = [
            key for key in daemon.fake_transfers() if "second" in (daemon.fake_folder / f"{key}.json").read_text()
        ]
        (daemon.fake_folder / f"{key}.finish").touch()
        text = await until_shown(pilot, lambda text: "second.iso" not in text, "what is over leaves the list")
        assert ids_shown(text) == [first] and daemon.finished(second)["status"] == "completed"
        await pilot.press("v", "v")
        text = await until_shown(pilot, lambda text: "finished: 1 over" in text, "the finished ones")
        assert ids_shown(text) == [second]


async def test_its_keys_steer_tasks(daemon: Instance) -> None:
    number = running(daemon, "one.iso")
    async with Top(daemon.socket).run_test(size=SIZE, notifications=True) as pilot:
        await until_shown(pilot, lambda text: "downloading in fake" in text, "it is under way")
        await pilot.press("p")
        await until_shown(pilot, lambda text: "1 paused" in text, "pause")
        assert daemon.task(number)["status"] == "paused"
        await pilot.press("plus", "plus", "minus", "plus")
        await until_shown(pilot, lambda text: "priority 2," in text, "priority")
        await pilot.press("r")
        await until_shown(pilot, lambda text: "1 moving" in text, "resume")
        await pilot.press("c")
        await until_shown(pilot, lambda text: f"Cancel task {number}, one.iso?" in text, "it asks first")
        await pilot.press("n")
        await until_shown(pilot, lambda text: "Cancel task" not in text, "no")
        until(lambda: daemon.task(number)["status"] == "suspending", "it goes on")
        await pilot.press("c", "y")
        await until_shown(pilot, lambda text: "unfinished: nothing" in text, "cancel")
        assert daemon.task(number)["status"] == "canceled"
        await pilot.press("v", "v")
        await until_shown(pilot, lambda text: "canceled" in text, "among the finished ones")
        await pilot.press("p")
        await until_shown(pilot, lambda text: "pause" in text, "a refusal is told")
        await pilot.press("t")
        await until_shown(pilot, lambda text: "finished: nothing" in text, "retry")
        assert daemon.task(number)["status"] in ("queued", "processing", "suspending")


async def test_a_priority_that_is_pressed_faster_than_it_is_answered(
    daemon: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = running(daemon, "one.iso")
    let, asked, act = asyncio.Event(), list[int](), feed.Feed.act

    async def slow(self: feed.Feed, verb: str, ids: list[int], **params: Any) -> list[str]:
        asked.append(params["priority"])
        await let.wait()
        return await act(self, verb, ids, **params)

    monkeypatch.setattr(feed.Feed, "act", slow)
    top = Top(daemon.socket)
    async with top.run_test(size=SIZE, notifications=True) as pilot:
        await until_shown(pilot, lambda text: "downloading in fake" in text, "it is under way")
        before = dict(top.feed.rows[number])
        for key in ("plus", "plus", "minus", "plus"):
            await pilot.press(key)
            top.feed.rows[number] = dict(before)  # what was asked for earlier arrives
        let.set()
        await until_shown(pilot, lambda text: "priority 2," in text, "priority")
        assert asked == [1, 2], "one after the other, and only the last wish"
        top.feed._put(before)
        await pilot.press("plus")
        await until_shown(pilot, lambda text: "priority 3," in text, "what was read before is not believed any more")


async def test_cancel_with_the_data(daemon: Instance) -> None:
    numbers = [running(daemon, f"{name}.iso") for name in ("a", "b")]
    until(lambda: sum(name.endswith(("a.iso", "b.iso")) for name in daemon.delivered()) == 2, "two are under way")
    kept = running(daemon, "c.iso")
    async with Top(daemon.socket).run_test(size=SIZE, notifications=True) as pilot:
        await pilot.press("s")  # by id, the newest first
        await until_shown(
            pilot, lambda text: "c.iso" in text and ids_shown(text) == [kept, *numbers[::-1]], "all three"
        )
        await pilot.press("down", "space", "space")
        await until_shown(pilot, lambda text: "2 marked" in text, "two are marked")
        await pilot.press("c")
        await until_shown(pilot, lambda text: "Cancel 2 tasks?" in text, "it asks")
        await pilot.press("d")
        await until_shown(pilot, lambda text: "c.iso" in text and ids_shown(text) == [kept], "they are gone")
    assert [daemon.task(number)["status"] for number in numbers] == ["canceled"] * 2
    until(
        lambda: not [name for name in staging_left(daemon) if name.endswith(("a.iso", "b.iso"))],
        "nothing of them is left",
    )


async def test_sort_and_filter(daemon: Instance) -> None:
    numbers = [
        daemon.add(f"http://host.invalid/{name}", paused=True, priority=priority, labels={"tag": [tag]})
        for name, priority, tag in (("bbb.iso", 0, "linux"), ("aaa.zip", 5, "work"), ("ccc.iso", -5, "linux"))
    ]
    top = Top(daemon.socket)
    async with top.run_test(size=SIZE, notifications=True) as pilot:
        shown = {"activity": [1, 0, 2], "id": [2, 1, 0], "priority": [1, 0, 2], "name": [1, 0, 2]}
        await until_shown(pilot, lambda text: "3 paused" in text, "the list")
        for order in rows.ORDERS:
            if order in shown:
                await until_shown(
                    pilot,
                    lambda text, right=[numbers[index] for index in shown[order]]: ids_shown(text) == right,  # type: ignore[misc]
                    order,
                )
            await pilot.press("s")
        await pilot.press("S")
        backwards = [numbers[index] for index in (2, 0, 1)]
        await until_shown(pilot, lambda text: ids_shown(text) == backwards, "backwards")
        await pilot.press("S", "slash", *"LINUX", "space", *"iso")
        found = [numbers[0], numbers[2]]
        await until_shown(
            pilot, lambda text: "filter: linux iso (2 of 3)" in text and ids_shown(text) == found, "filter"
        )
        await pilot.press("enter", "p")
        assert "filter: linux iso" in "\n".join(lines_of(top)), "keys are keys again, and the filter stays"
        await pilot.press("escape")
        everything = [numbers[index] for index in (1, 0, 2)]
        await until_shown(pilot, lambda text: "filter" not in text and ids_shown(text) == everything, "no filter")


async def test_the_graph_is_flat_as_long_as_nothing_is_known(tmp_path: Path) -> None:
    async with Top(tmp_path / "nobody.sock").run_test(size=SIZE) as pilot:
        text = await until_shown(pilot, lambda text: "not live: " in text, "nobody answers")
        assert "█" not in text


async def test_a_restart_of_the_daemon(daemon: Instance) -> None:
    number = running(daemon, "one.iso")
    async with Top(daemon.socket).run_test(size=SIZE, notifications=True) as pilot:
        await until_shown(pilot, lambda text: "1 moving" in text, "the list")
        daemon.kill()
        text = await until_shown(pilot, lambda text: "not live: " in text, "it is gone")
        assert "one.iso" in text, "what was known stays to be seen"
        await pilot.press("p")
        await until_shown(pilot, lambda text: "there is no daemon just now" in text, "nothing can be done")
        daemon.start()
        await until_shown(pilot, lambda text: "not live" not in text and "1 moving" in text, "it is back")
        await pilot.press("p")
        await until_shown(pilot, lambda text: "1 paused" in text, "and can be steered")
    assert daemon.task(number)["status"] == "paused"


async def test_ten_thousand_tasks(daemon: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    newest = 0
    with daemon.client() as client:
        for page in range(10):
            tasks = [
                {"type": "remote_download", "params": {"url": f"http://host.invalid/{page}-{i}.bin"}, "paused": True}
                for i in range(1000)
            ]
            newest = client.tasks.submit_many(tasks=tasks)[-1]["id"]
    built: list[int] = []

    def line_of(row: rows.Row, *more: Any) -> str:
        built.append(row["id"])
        return rows.line_of(row, *more)

    monkeypatch.setattr(tasklist, "line_of", line_of)
    asked: list[str] = []
    call = AsyncClient.call

    async def counted(self: AsyncClient, method: str, params: dict[str, Any] | None = None) -> Any:
        asked.append(method)
        return await call(self, method, params)

    monkeypatch.setattr(AsyncClient, "call", counted)
    top = Top(daemon.socket)
    async with top.run_test(size=SIZE, notifications=True) as pilot:
        text = await until_shown(
            pilot, lambda text: "10000 paused" in text and " …" not in text.splitlines()[0], "all of them"
        )
        assert ids_shown(text)[0] == newest - 9999
        await pilot.press("end")
        await until_shown(pilot, lambda text: ids_shown(text)[-1:] == [newest], "the last one")
        assert len(set(built)) < 400, "only what is on the screen is built"
        assert asked.count("events.subscribe") == 1 and asked.count("tasks.list") <= 20
        before = len(top.feed.rows)
        client_number = daemon.add("http://host.invalid/new.bin", paused=True)
        await until_shown(pilot, lambda text: "10001 paused" in text, "a new one")
        assert before == 10_000 and client_number in top.feed.rows
        await pilot.press("slash", *"9-999.bin", "enter")
        await until_shown(pilot, lambda text: "(1 of 10001)" in text, "a filter finds one")


async def test_many_changes_are_few_refreshes(daemon: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    refreshed: list[float] = []
    top = Top(daemon.socket)
    draw = top._refresh

    def counted() -> None:
        refreshed.append(top._loop.time() if top._loop else 0.0)
        draw()

    monkeypatch.setattr(top.feed, "_changed", counted)
    async with top.run_test(size=SIZE, notifications=True) as pilot:
        await until_shown(pilot, lambda text: "unfinished: nothing" in text and "fake up" in text, "it is there")
        refreshed.clear()
        with daemon.client() as client:
            tasks = [
                {"type": "remote_download", "params": {"url": f"http://host.invalid/{i}.bin"}, "paused": True}
                for i in range(400)
            ]
            made = client.tasks.submit_many(tasks=tasks)
            for task in made[:100]:
                client.tasks.resume(id=task["id"])
        await until_shown(pilot, lambda text: "300 paused" in text, "the others")
        gaps = [later - earlier for earlier, later in itertools.pairwise(refreshed)]
        # The first list of many comes page by page, each drawn once.
        assert sum(gap < feed.PERIOD * 0.8 for gap in gaps) <= 2, gaps


def test_where_there_is_no_terminal(daemon: Instance) -> None:
    refused = daemon.cli("top")
    assert refused.returncode == exits.USAGE and "needs a terminal" in refused.stderr


def test_without_the_extra(daemon: Instance) -> None:
    program = "import sys; sys.modules['textual'] = None; from dlqueue.cli.main import run; sys.exit(run(['top']))"
    screen, terminal = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", program], env=daemon.environ, stdin=terminal, stdout=terminal, stderr=terminal,
        timeout=60, check=False,
    )  # fmt: skip
    os.close(terminal)
    said = os.read(screen, 65536).decode()
    os.close(screen)
    assert done.returncode == exits.FAILURE and "dlqueue[tui]" in said


def test_the_keys_that_are_told_are_there() -> None:
    text = (Path(__file__).parent.parent.parent / "docs" / "cli.md").read_text(encoding="utf-8")
    below = text.split("## The full screen", 1)[1].split("\n## ")[0]
    told = {
        key
        for line in below.splitlines()
        if line.startswith("| `")
        for key in line.split("|")[1].replace("`", "").split()
    }
    bound = {
        app._KEYS.get(key, key)
        for binding in [*Top.BINDINGS, *tasklist.TaskList.BINDINGS]
        if not isinstance(binding, tuple)
        for key in binding.key.split(",")
    }
    assert told == bound
