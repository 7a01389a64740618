"""kill -9 in every phase: of the daemon or of a real downloader, with a torrent of which only some files are wanted,
and with a magnet link. It is delivered once all the same, and nothing is left when it is over.

What is here is the table in docs/reliability.md, row by row.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.daemon import qbittorrent_world, transmission_world
from tests.daemon.aria2_world import command, delivered_files, staging_left
from tests.daemon.instance import Instance, everything, until
from tests.daemon.test_selection_everywhere import WORLDS, AnyWorld
from tests.plugins.aria2.live import Aria2
from tests.plugins.aria2.swarm import Swarm
from tests.plugins.qbittorrent.live import Qbittorrent
from tests.plugins.transmission.live import Transmission, web_seeded
from tests.webserver import pattern

FILES = {"a.bin": pattern(100_000), "b.bin": pattern(70_000)[::-1], "sub/c.bin": pattern(50_000)}
WANTED = {"album/b.bin": FILES["b.bin"], "album/sub/c.bin": FILES["sub/c.bin"]}


@dataclass(frozen=True)
class Case:
    """One download, and who can be killed."""

    w: AnyWorld
    swarm: Swarm
    source: str
    gate: threading.Event

    @property
    def daemon(self) -> Instance:
        return self.w.daemon

    @property
    def downloader(self) -> Aria2 | Qbittorrent | Transmission:
        if isinstance(self.w, qbittorrent_world.World):
            return self.w.qbittorrent
        return self.w.transmission if isinstance(self.w, transmission_world.World) else self.w.aria2

    def add(self, *, held: bool) -> int:
        """:param held: it cannot become whole before `let`."""
        if self.source == "magnet":
            torrent = self.swarm.seed("album", FILES)
            self.swarm.tracker.closed = held
            for name, body in FILES.items():
                self.w.server.put(f"{torrent.hash}/album/{name}", body)
            web = quote(self.w.server.url(f"{torrent.hash}/"), safe="")
            return self.daemon.add(f"{torrent.magnet}&ws={web}", select=[2, 3])
        torrent = web_seeded(self.w.server, "album", FILES)
        if held:
            page = self.w.server.pages[f"{torrent.hash}/album/b.bin"]
            page.gate, page.gate_at = self.gate, 0
        return self.w.add(torrent, select=[2, 3])

    def let(self) -> None:
        self.swarm.tracker.closed = False
        self.gate.set()

    def hurry(self) -> None:
        """A qBittorrent that has found no peer asks the tracker again after five minutes (libtorrent's
        `min_announce_interval`), unless it is told to."""
        if isinstance(self.w, qbittorrent_world.World) and self.source == "magnet":
            self.w.qbittorrent.call("torrents/reannounce", hashes="all")

    def task(self, number: int) -> dict[str, Any]:
        return self.daemon.task(number)

    def moving(self, number: int) -> None:
        """Until it is in the middle of it: of the content, or with a magnet of the metadata."""
        wanted = "metadata" if self.source == "magnet" else "downloading"
        until(lambda: self.task(number)["download"]["state"] == wanted, f"it is {wanted}")
        until(lambda: self.source == "magnet" or self.w.server.requests, "it moves")

    def seeds(self, number: int) -> None:
        """Until it is delivered, and the downloader itself says that it seeds."""
        self.daemon.finished(number, "delivered")
        until(lambda: self.w.why(number)["reason"] == "seeding", "why says that it seeds")
        until(
            lambda: self.over_there((self.task(number)["download"]["handle"] or {}).get("hash")), "it seeds over there"
        )

    def over_there(self, digest: str | None) -> bool:
        if digest is None:
            return False
        if isinstance(self.w, qbittorrent_world.World):
            return self.w.qbittorrent.torrents().get(digest, {}).get("state") in ("stalledUP", "uploading")
        if isinstance(self.w, transmission_world.World):
            return bool(self.w.transmission.look(digest).get("status") == 6)
        active = self.w.aria2.call("tellActive", ["infoHash", "seeder"])
        return {"infoHash": digest, "seeder": "true"} in active

    def ends(self, number: int) -> list[str | None]:
        """How its attempts ended."""
        return [attempt["error_class"] for attempt in self.task(number)["download"]["attempts"]]

    def fetched(self) -> int:
        """Bytes of the content that went out of the web server."""
        return sum(self.w.server.served(name) for name in self.w.server.pages)

    def left(self) -> set[str]:
        """What the downloader has: transfers, tags, and files where it puts those of other people."""
        if isinstance(self.w, qbittorrent_world.World):
            torrents, tags = self.w.left()
            return torrents | set(tags) | _files(self.w.qbittorrent.home / "dl")
        if isinstance(self.w, transmission_world.World):
            return self.w.transmission.hashes()  # and files, if it went on by itself where it puts those of others
        return self.w.transfers() | _files(self.w.aria2.home / "dl")


def _files(folder: Path) -> set[str]:
    return {str(path) for path in everything(folder)}


@pytest.fixture(params=WORLDS)
def w(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyWorld]:
    with WORLDS[request.param](tmp_path) as made:
        yield made


@pytest.fixture(params=["torrent", "magnet"])
def case(request: pytest.FixtureRequest, w: AnyWorld, tmp_path: Path) -> Iterator[Case]:
    with Swarm(command("system"), tmp_path / "swarm") as swarm:
        yield Case(w, swarm, request.param, threading.Event())


def test_the_daemon_is_killed_in_every_phase(case: Case) -> None:
    daemon = case.daemon
    daemon.start(failpoint="created")  # not written down yet that the downloader has it
    number = case.add(held=True)
    daemon.wait_killed()
    daemon.start()
    case.moving(number)
    daemon.kill()
    case.let()
    case.hurry()
    daemon.start(failpoint="renamed")  # not written down yet that it is delivered
    daemon.wait_killed()
    fetched = case.fetched()
    daemon.start()
    case.seeds(number)
    daemon.kill()
    daemon.start()
    case.seeds(number)
    assert case.ends(number) == [None], "one transfer"
    assert case.fetched() == fetched, "what is whole is not fetched again"
    _over(case, number)


def test_the_downloader_is_killed_before_it_is_whole(case: Case) -> None:
    case.daemon.start(failpoint="created:stop")  # about to watch it
    number = case.add(held=True)
    _kill_downloader_while_halted(case, number)
    case.downloader.start()
    case.moving(number)
    case.downloader.stop()
    _waits(case, number)
    case.let()
    case.downloader.start()
    case.seeds(number)
    assert case.ends(number) in ([None], ["lost", None], ["lost", "lost", None])
    _over(case, number)


def test_the_downloader_is_killed_when_it_is_whole(case: Case) -> None:
    case.daemon.start(failpoint="manifest:stop")  # about to move what was fetched
    number = case.add(held=False)
    _kill_downloader_while_halted(case, number)
    fetched = case.fetched()
    assert delivered_files(case.daemon) == WANTED, "it is delivered without its downloader"
    written = changes(case.daemon)
    case.downloader.start()
    case.seeds(number)
    case.downloader.stop()
    _waits(case, number)
    case.downloader.start()
    case.seeds(number)
    assert case.ends(number) == [None]
    assert case.fetched() == fetched, "what is whole is not fetched again"
    assert changes(case.daemon) == written, "what is delivered is not written to"
    _over(case, number)


def changes(daemon: Instance) -> dict[str, tuple[int, int]]:
    """Which file each delivered one is, and when it was last written to. (What seeds is a link to it.)"""
    seen = {str(path): path.stat() for path in (daemon.destination / "album").rglob("*") if path.is_file()}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in seen.items()}


def _kill_downloader_while_halted(case: Case, number: int) -> None:
    process = case.daemon.process
    assert process is not None
    stat = Path(f"/proc/{process.pid}/stat")
    until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "the daemon halts")
    case.downloader.stop()
    process.send_signal(signal.SIGCONT)
    _waits(case, number)


def _waits(case: Case, number: int) -> None:
    until(lambda: case.w.why(number)["reason"] == "downloader_unavailable", "why names box")


def _over(case: Case, number: int) -> None:
    """Seeding ends; then it is completed, once, and nothing is left anywhere."""
    assert delivered_files(case.daemon) == WANTED
    at = case.task(number)["download"]["delivered_at"]
    with case.daemon.config.open("a") as config:
        config.write('[seeding]\ntime = "0s"\n')
    case.daemon.call("daemon.reload")
    done = case.daemon.finished(number)
    assert (done["status"], done["retries"]) == ("completed", 0), done["error"]
    assert done["download"]["delivered_at"] == at
    assert done["download"]["location"] == str(case.daemon.destination / "album")
    assert delivered_files(case.daemon) == WANTED
    assert case.daemon.call("tasks.count") == 1
    assert staging_left(case.daemon) == []
    assert case.left() == set()
