"""The pictures in docs/images: a real daemon with real downloads, seen in a real browser.

python -m tests.dashboard.pictures [FOLDER] [--seconds N]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.daemon.instance import Instance, until
from tests.webserver import WebServer

CHROMIUM = "/usr/bin/chromium"
CONFIG = """
[http]
listen = "127.0.0.1:0"
[downloaders.web]
kind = "http"
max_active = 4
poll = "500ms"
[downloaders.aria2]
kind = "aria2"
max_active = 6
poll = "500ms"
[downloaders.seedbox]
kind = "qbittorrent"
url = "http://127.0.0.1:9"
username = "dl"
password = "none"
[queues.downloads]
max_retry = 0
"""
RUNNING = {
    "debian-13.1.0-amd64-netinst.iso": 520_000,
    "ubuntu-26.04-live-server-amd64.iso": 380_000,
    "Fedora-Workstation-Live-44-1.7.x86_64.iso": 250_000,
    "archlinux-2026.11.01-x86_64.iso": 1_100_000,
    "linuxmint-22.3-cinnamon-64bit.iso": 260_000,
}
MAGNET = "magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567&dn=Big-Buck-Bunny-4K"


def scene(instance: Instance, server: WebServer) -> None:
    """Something of everything."""
    body = os.urandom(1 << 20) * 260
    urls = {name: server.put(name, body, rate=rate) for name, rate in RUNNING.items()}
    small = {
        name: server.put(name, body[: 1 << 22]) for name in ("SHA256SUMS.gpg", "cover.jpg", "paper-2411.01234.pdf")
    }
    gone = [server.put(f"old-release-{n}.tar.zst", status=404) for n in (1, 2, 3)]
    done = [instance.add(url, labels={"tag": "docs"}) for url in small.values()]
    for number in done:
        instance.finished(number)
    for url in (*gone, server.put("private/report.zip", status=403)):
        instance.finished(instance.add(url))
    tags = ["linux", "iso"]
    for number, url in enumerate(urls.values()):
        instance.add(url, labels={"tag": tags[: 1 + number % 2]}, downloader="web" if number < 3 else "aria2")
    instance.add(MAGNET, downloader="seedbox", labels={"tag": "film"})
    for number in range(1, 10):
        url = server.put(f"photos/2026-{number:02}-backup.tar", body, rate=200_000)
        instance.add(url, downloader="web", labels={"tag": "backup"}, priority=number % 3)
    first = instance.add(server.put("dataset/part-1.parquet", body, rate=200_000), paused=True)
    instance.call(
        "downloads.add", url=server.put("dataset/part-2.parquet", body), depends_on=[first], labels={"tag": "data"}
    )
    for name, cron in (("nightly-mirror", "0 3 * * *"), ("podcasts", "@hourly")):
        params = {"url": server.put(f"{name}.xml", b"x" * 1000)}
        instance.call("schedules.create", name=name, type="remote_download", params=params, cron=cron)
    instance.call("schedules.run", name="podcasts")


def open_page(browser: Browser, url: str, width: int, height: int, dark: bool) -> Page:
    page = browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        device_scale_factor=1 if width > 500 else 1.5,
        is_mobile=width < 500,
        has_touch=width < 500,
    )
    page.on("console", lambda message: print("console:", message.type, message.text))
    page.on("pageerror", lambda error: print("error:", error))
    page.goto(url)
    page.wait_for_selector(".task", timeout=8000)
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("docs/images"))
    parser.add_argument("--seconds", type=float, default=120.0)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, WebServer() as server:
        with Instance(Path(scratch), CONFIG).start() as instance, sync_playwright() as tool:
            made = instance.call("tokens.create", name="pictures", role="admin")
            url = f"{made['url']}/#token={made['token']}"
            scene(instance, server)
            browser = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            pages = {
                "dashboard": open_page(browser, url, 1280, 860, dark=False),
                "dashboard-dark": open_page(browser, url, 1280, 860, dark=True),
                "dashboard-phone": open_page(browser, url, 390, 844, dark=False),
                "dashboard-phone-dark": open_page(browser, url, 390, 844, dark=True),
            }
            end = time.monotonic() + given.seconds
            until(lambda: time.monotonic() > end, "the graph has something to show", given.seconds + 5)
            for name, page in pages.items():
                page.bring_to_front()
                page.wait_for_timeout(1500)
                page.screenshot(path=given.folder / f"{name}.png")
            phone = pages["dashboard-phone"]
            phone.get_by_role("tab", name="Status").click()
            phone.wait_for_timeout(800)
            phone.screenshot(path=given.folder / "dashboard-phone-status.png")
            page = pages["dashboard"]
            page.bring_to_front()
            page.locator(".task").nth(1).click()
            page.wait_for_timeout(800)
            page.screenshot(path=given.folder / "dashboard-task.png")
            page.keyboard.press("Escape")
            page.keyboard.press("a")
            page.fill("#urls", f"{server.url('next.iso')}\n{MAGNET}\nftp//typo")
            page.wait_for_selector(".preview .route")
            page.wait_for_timeout(800)
            page.screenshot(path=given.folder / "dashboard-add.png")
            browser.close()


if __name__ == "__main__":
    main()
