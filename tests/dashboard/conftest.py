"""A real daemon with a gateway, and a real browser that looks at its dashboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.daemon.instance import Instance, fake_section
from tests.dashboard.looking import Dashboard

CHROMIUM = Path("/usr/bin/chromium")
GATEWAY = '[http]\nlisten = "127.0.0.1:0"\n[queues.downloads]\nmax_retry = 0\n'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"no {CHROMIUM}: the dashboard is NOT TESTED in a browser (apt-get install chromium)")
    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=120_000)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One daemon for the tests of a module, with the fake as its downloader."""
    folder = tmp_path_factory.mktemp("daemon")
    with Instance(folder, GATEWAY + fake_section(folder)) as instance:
        yield instance.start()
        assert "defect" not in instance.log.read_text()


@pytest.fixture
def dashboard(instance: Instance, browser: Browser) -> Iterator[Dashboard]:
    """Nothing is queued; what the page did wrong fails the test at its end."""
    instance.call("tasks.remove", all=True)
    dashboard = Dashboard(instance, browser)
    yield dashboard
    dashboard.close()
