"""URLs of .torrent files for real downloaders that take the file only: dlqueue fetches it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.daemon import aria2_world, qbittorrent_world, transmission_world
from tests.daemon.aria2_world import delivered_files
from tests.daemon.instance import Instance, until
from tests.plugins.aria2.live import Aria2
from tests.plugins.aria2.swarm import Torrent
from tests.plugins.qbittorrent.live import Qbittorrent
from tests.plugins.transmission.live import Transmission, web_seeded
from tests.webserver import WebServer, pattern

FILES = {"a.bin": pattern(100_000), "sub/b.bin": pattern(70_000)[::-1]}
DELIVERED = {f"album/{name}": body for name, body in FILES.items()}
ROUTE = """
[downloaders.web]
kind = "http"
[[routes]]
match = { scheme = ["magnet"], url = "*.torrent" }
use = ["box", "aria2"]
[downloaders.aria2]
kind = "aria2"
enabled = false
"""
PLAIN = '\n[downloaders.web]\nkind = "http"\n'


@dataclass(frozen=True, slots=True)
class Site:
    daemon: Instance
    server: WebServer
    torrent: Torrent
    url: str


@contextlib.contextmanager
def site(folder: Path, kind: str, config: str) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(WebServer())
        if kind == "qbittorrent":
            box = qbittorrent_world.box(stack.enter_context(Qbittorrent(folder / "box", None)))
        elif kind == "transmission":
            box = transmission_world.box(stack.enter_context(Transmission(folder / "box")))
        else:
            made = Aria2(aria2_world.command("system"), folder / "box")
            box = aria2_world.box(stack.enter_context(made))
        torrent = web_seeded(server, "album", FILES)
        url = server.put("a/album.torrent", torrent.content)
        daemon = stack.enter_context(Instance(folder, box + config))
        yield Site(daemon, server, torrent, url)


@pytest.mark.parametrize("kind", ["aria2", "qbittorrent", "transmission"])
def test_a_route_of_torrent_urls(tmp_path: Path, kind: str) -> None:
    with site(tmp_path, kind, ROUTE) as at:
        at.daemon.start()
        number = at.daemon.add(f"{at.url}?token=1", seed=0, select=[2])
        done = at.daemon.finished(number)
        assert done["status"] == "completed", done["error"]
        download = done["download"]
        assert (download["downloader"], download["url"]) == ("box", f"{at.url}?token=***"), "what the user has said"
        assert delivered_files(at.daemon) == {"album/sub/b.bin": FILES["sub/b.bin"]}


def test_by_default_it_is_a_file(tmp_path: Path) -> None:
    with site(tmp_path, "qbittorrent", PLAIN) as at:
        at.daemon.start()
        assert at.daemon.finished(at.daemon.add(at.url))["download"]["downloader"] == "web"
        assert delivered_files(at.daemon) == {"album.torrent": at.torrent.content}
        done = at.daemon.finished(at.daemon.add(at.url, downloader="box", seed=0))
        assert done["download"]["downloader"] == "box", "unless somebody says so"
        assert delivered_files(at.daemon) == DELIVERED | {"album.torrent": at.torrent.content}


def test_nobody_else_is_there(tmp_path: Path) -> None:
    with site(tmp_path, "transmission", "") as at:
        at.daemon.start()
        assert at.daemon.finished(at.daemon.add(at.url, seed=0))["status"] == "completed"
        assert delivered_files(at.daemon) == DELIVERED


def test_what_cannot_be_fetched(tmp_path: Path) -> None:
    with site(tmp_path, "transmission", "\n[queues.downloads]\nretry_delay = '100ms'\n") as at:
        at.daemon.start()
        gone = at.daemon.finished(at.daemon.add(at.server.put("gone.torrent", b"", status=404)))
        assert (gone["status"], gone["error"]["kind"], gone["retries"]) == ("error", "http_404", 0)
        assert "404" in gone["error"]["message"]
        html = at.daemon.finished(at.daemon.add(at.server.put("page.torrent", b"<html>")))
        assert (html["status"], html["error"]["kind"], html["retries"]) == ("error", "bad_torrent", 0)
        assert "not a .torrent file" in html["error"]["message"]
        busy = at.server.put("busy.torrent", at.torrent.content, status=503, failures=2)
        done = at.daemon.finished(at.daemon.add(busy, seed=0))
        assert (done["status"], done["retries"]) == ("completed", 2)


def test_after_a_kill_it_is_not_fetched_again(tmp_path: Path) -> None:
    with site(tmp_path, "qbittorrent", "") as at:
        at.daemon.start(failpoint="created")
        number = at.daemon.add(at.url, seed=0)
        at.daemon.wait_killed()
        at.server.pages["a/album.torrent"].status = 404
        at.daemon.start()
        done = at.daemon.finished(number)
        assert (done["status"], done["retries"]) == ("completed", 0), done["error"]
        assert delivered_files(at.daemon) == DELIVERED


def test_another_url_leads_to_another_torrent(tmp_path: Path) -> None:
    with site(tmp_path, "transmission", "") as at:
        at.daemon.start()
        page = at.server.pages[f"{at.torrent.hash}/album/a.bin"]
        page.hang = True
        number = at.daemon.add(at.url, seed=0)
        until(lambda: at.daemon.task(number)["download"]["handle"], "it is begun")
        other = web_seeded(at.server, "other", FILES)
        at.daemon.call("downloads.refresh_url", id=number, url=at.server.put("other.torrent", other.content))
        done = at.daemon.finished(number)
        assert done["status"] == "completed", done["error"]
        assert delivered_files(at.daemon) == {f"other/{name}": body for name, body in FILES.items()}
