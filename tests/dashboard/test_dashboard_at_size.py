"""The dashboard over ten thousand tasks, and over a daemon that goes away and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, CDPSession, Page, expect

from tests.daemon.instance import Instance, fake_section
from tests.dashboard.conftest import GATEWAY
from tests.dashboard.looking import FAKE, Dashboard, row
from tests.plugins.aria2.live import free_port

MANY = 10_000
NODES = 6000
"""Elements and texts of the document, with all that the browser keeps of former ones: two or three screens of rows. All
the rows that were scrolled through would be 60,000."""


def fill(instance: Instance) -> None:
    for start in range(0, MANY, 1000):
        params = [{"url": f"{FAKE}/file-{number:05}.bin"} for number in range(start, start + 1000)]
        tasks = [{"type": "remote_download", "params": one, "delay": 9e6} for one in params]
        instance.call("tasks.submit_many", tasks=tasks)


def metrics(tools: CDPSession) -> dict[str, float]:
    """What the page holds on to after a clean-up."""
    for _ in range(2):
        tools.send("HeapProfiler.collectGarbage")
    return {one["name"]: one["value"] for one in tools.send("Performance.getMetrics")["metrics"]}


def loaded(page: Page) -> int:
    """Rows that the page has in memory."""
    return int(page.evaluate("import('/feed.js').then(({list}) => [...list.rows()].length)"))


def scroll(page: Page, rounds: int) -> None:
    """Down, as far as there are rows, again and again."""
    for _ in range(rounds):
        before = page.evaluate("import('/feed.js').then(({list}) => list.length)")
        page.evaluate("document.getElementById('list').scrollTop = 1e9")
        page.wait_for_function("async before => (await import('/feed.js')).list.length > before", arg=before)


def test_ten_thousand_tasks(dashboard: Dashboard) -> None:
    fill(dashboard.instance)
    page = dashboard.open()
    tools = page.context.new_cdp_session(page)
    tools.send("Performance.enable")
    expect(page.locator(".chips .active .num")).to_have_text("10,000")
    expect(page.locator(".task").first).to_contain_text("file-09999.bin")
    assert page.locator(".task").count() < 60
    assert loaded(page) <= 150
    scroll(page, 15)
    assert page.locator(".task").count() < 60
    assert loaded(page) <= 350, "what is far away is let go"
    page.evaluate("document.getElementById('list').scrollTop = 0")
    expect(page.locator(".task").first).to_contain_text("file-09999.bin")
    newest = dashboard.instance.call("tasks.list", limit=1)["items"][0]["id"]
    before = metrics(tools)
    assert before["Nodes"] < NODES
    for turn in range(4):
        for number in range(25):
            dashboard.instance.call("tasks.update", id=newest - number, priority=turn + 1)
        expect(page.locator(".task").first).to_contain_text(f"priority {turn + 1}")
    after = metrics(tools)
    assert after["Nodes"] < NODES
    assert after["JSHeapUsedSize"] - before["JSHeapUsedSize"] < 3_000_000, (before, after)
    assert after["JSEventListeners"] <= before["JSEventListeners"] + 20
    assert sum(url.split("?")[0].endswith("/events") for url in dashboard.requests) == 1


@pytest.fixture
def restarted(tmp_path: Path) -> Iterator[Instance]:
    """A daemon that comes back under its address."""
    port = free_port()
    config = GATEWAY.replace(":0", f":{port}") + fake_section(tmp_path)
    with Instance(tmp_path, config) as instance:
        yield instance.start()


def test_it_finds_a_daemon_again(restarted: Instance, browser: Browser) -> None:
    dashboard = Dashboard(restarted, browser)
    restarted.add(f"{FAKE}/before.iso?manual=1")
    page = dashboard.open()
    expect(row(page, "before.iso")).to_be_visible()
    restarted.kill()
    expect(page.locator(".verdict")).to_contain_text("cannot be reached")
    expect(page.locator(".live")).to_have_text("offline")
    expect(row(page, "before.iso")).to_be_visible()
    restarted.start()
    restarted.add(f"{FAKE}/after.iso?manual=1")
    expect(page.locator(".live")).to_have_text("live", timeout=60_000)
    expect(row(page, "after.iso")).to_be_visible()
    expect(page.locator(".verdict")).to_contain_text("All is well")
    assert all("ERR_" in line for line in dashboard.wrong), "the browser itself tells of it"
    dashboard.wrong.clear()
    dashboard.close()
