"""kill -9 in every phase: of the daemon or of a real downloader, with a torrent of which only some files are wanted, and
with a magnet link. It is delivered once all the same, and nothing is left when it is over.

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
from tests.daemon.instance import Instance, until
from tests.daemon.test_selection_everywhere import WORLDS, AnyWorld
from tests.plugins.aria2.live import Aria2
from tests.plugins.aria2.swarm import Swarm
from tests.plugins.qbittorrent.live import Qbittorrent
from tests.plugins.transmission.live import Transmission, web_seeded
from tests.webserver import pattern

FILES = {"a.bin": pattern(100_000), "b.bin": pattern(70_000)[::-1], "sub/c.bin": pattern(50_000)}
WANTED = {"album/b.bin": FILES["b.bin"], "album/sub/c.bin": FILES["sub/c.bin"]}
PHASES = ["created", "monitor", "deliver", "seeding"]
MARKS = {"created": "created", "deliver": "renamed"}
"""Where the daemon dies: it has not written down yet that the transfer was created, or that it was delivered."""
HALTS = {"created": "created:stop", "deliver": "manifest:stop"}
"""Where the daemon is while its downloader dies: it is about to watch the transfer, or to move what was fetched."""


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
        until(lambda: self.over_there(self.task(number)["download"]["handle"]["hash"]), "it seeds over there")

    def over_there(self, digest: str) -> bool:
        if isinstance(self.w, qbittorrent_world.World):
            return self.w.qbittorrent.torrents().get(digest, {}).get("state") in ("stalledUP", "uploading")
        if isinstance(self.w, transmission_world.World):
            return bool(self.w.transmission.look(digest).get("status") == 6)
        active = self.w.aria2.call("tellActive", ["infoHash", "seeder"])
        return {"infoHash": digest, "seeder": "true"} in active

    def left(self) -> set[str]:
        """What the downloader has: transfers, tags, and files where it puts those of other people."""
        if isinstance(self.w, qbittorrent_world.World):
            torrents, tags = self.w.left()
            return torrents | set(tags) | _files(self.w.qbittorrent.home / "dl")
        if isinstance(self.w, transmission_world.World):
            return self.w.transmission.hashes() | _files(self.w.transmission.theirs)
        return self.w.transfers() | _files(self.w.aria2.home / "dl")


def _files(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")} if folder.exists() else set()


@pytest.fixture(params=WORLDS)
def w(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyWorld]:
    with WORLDS[request.param](tmp_path) as made:
        yield made


@pytest.fixture(params=["torrent", "magnet"])
def case(request: pytest.FixtureRequest, w: AnyWorld, tmp_path: Path) -> Iterator[Case]:
    with Swarm(command("system"), tmp_path / "swarm") as swarm:
        yield Case(w, swarm, request.param, threading.Event())


@pytest.mark.parametrize("phase", PHASES)
def test_the_daemon_is_killed(case: Case, phase: str) -> None:
    number = _reached(case, phase, MARKS)
    if phase in MARKS:
        case.daemon.wait_killed()
    else:
        case.daemon.kill()
    before = _fetched(case)
    case.let()
    case.daemon.start()
    case.seeds(number)
    assert phase in ("created", "monitor") or _fetched(case) == before, "not a byte is fetched again"
    assert _ends(case, number) == [None]
    _is_over(case, number)


@pytest.mark.parametrize("phase", PHASES)
def test_the_downloader_is_killed(case: Case, phase: str) -> None:
    number = _reached(case, phase, HALTS)
    process = case.daemon.process
    assert process is not None
    if phase in HALTS:
        until(lambda: _is_halted(process.pid), f"the daemon is at {HALTS[phase]}")
    case.downloader.stop()
    before = _fetched(case)
    process.send_signal(signal.SIGCONT)
    until(lambda: case.w.why(number)["reason"] == "downloader_unavailable", "why names box")
    case.let()
    case.downloader.start()
    case.seeds(number)
    assert phase in ("created", "monitor") or _fetched(case) == before, "not a byte is fetched again"
    assert _ends(case, number) in ([None], ["lost", None])
    _is_over(case, number)


def _reached(case: Case, phase: str, points: dict[str, str]) -> int:
    """A task that is in this phase, or soon dies or halts in it."""
    case.daemon.start(failpoint=points.get(phase))
    number = case.add(held=phase == "monitor")
    if phase == "monitor":
        case.moving(number)
    elif phase == "seeding":
        case.seeds(number)
    return number


def _is_over(case: Case, number: int) -> None:
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


def _ends(case: Case, number: int) -> list[str | None]:
    """How its attempts ended."""
    return [attempt["error_class"] for attempt in case.task(number)["download"]["attempts"]]


def _fetched(case: Case) -> int:
    """Bytes of the content that went out of the web server."""
    return sum(case.w.server.served(name) for name in case.w.server.pages)


def _is_halted(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
