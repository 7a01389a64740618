"""Only the wanted files of a torrent are fetched, delivered and counted: with aria2, qBittorrent and Transmission."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from dlqueue.protocol.errors import InvalidParams
from tests.daemon import aria2_world, qbittorrent_world, transmission_world
from tests.daemon.aria2_world import delivered_files
from tests.daemon.instance import until
from tests.plugins.albums import FILES
from tests.plugins.aria2.swarm import Swarm
from tests.plugins.transmission.live import web_seeded

AnyWorld = aria2_world.World | qbittorrent_world.World | transmission_world.World
WORLDS: dict[str, Callable[[Path], AbstractContextManager[AnyWorld]]] = {
    "aria2": aria2_world.world,
    "qbittorrent": qbittorrent_world.world,
    "transmission": transmission_world.world,
}


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyWorld]:
    with WORLDS[request.param](tmp_path) as made:
        made.daemon.start()
        yield made


def test_what_is_wanted_changes_while_it_runs(world: AnyWorld) -> None:
    """By a glob. The last file, which is wanted no more, would never come."""
    daemon, torrent = world.daemon, web_seeded(world.server, "album", FILES)
    page = world.server.pages[f"{torrent.hash}/album/sub/c.bin"]
    page.gate, page.gate_at = threading.Event(), 0
    number = world.add(torrent, seed=0)
    until(lambda: ((daemon.task(number)["progress"] or {}).get("counters") or {}).get("total"), "its size is known")
    wrong: tuple[dict[str, Any], ...] = ({"indexes": []}, {"match": "*.txt"})
    for nothing in wrong:
        with pytest.raises(InvalidParams):
            daemon.call("downloads.select", id=number, **nothing)
    chosen = daemon.call("downloads.select", id=number, match="album/?.bin")["items"]
    assert [file["selected"] for file in chosen] == [True, True, False]
    done = daemon.finished(number)
    page.gate.set()
    assert (done["status"], done["retries"]) == ("completed", 0), done["error"]
    size = len(FILES["a.bin"]) + len(FILES["b.bin"])
    assert (done["progress"]["percent"], done["progress"]["counters"]["total"]) == (100, size)
    assert done["result"]["size"] == size
    assert delivered_files(daemon) == {f"album/{name}": FILES[name] for name in ("a.bin", "b.bin")}


def test_what_is_wanted_is_said_before(world: AnyWorld) -> None:
    daemon, torrent = world.daemon, web_seeded(world.server, "album", FILES)
    with pytest.raises(InvalidParams):
        world.add(torrent, select=[])
    done = daemon.finished(world.add(torrent, seed=0, select=[2]))
    assert done["status"] == "completed", done["error"]
    assert done["progress"]["counters"]["total"] == done["progress"]["counters"]["downloaded"] == len(FILES["b.bin"])
    assert delivered_files(daemon) == {"album/b.bin": FILES["b.bin"]}


def magnet(world: AnyWorld, swarm: Swarm) -> str:
    """Its metadata comes from a peer, its content also from the web server, which is faster."""
    torrent = swarm.seed("album", FILES)
    for name, body in FILES.items():
        world.server.put(f"{torrent.hash}/album/{name}", body)
    return f"{torrent.magnet}&ws={quote(world.server.url(f'{torrent.hash}/'), safe='')}"


def test_a_glob_waits_for_the_metadata_of_a_magnet(world: AnyWorld, tmp_path: Path) -> None:
    """It is kept, and applied when the names are known; one that matches nothing is told, and can be put right."""
    daemon = world.daemon
    with Swarm(aria2_world.command("system"), tmp_path / "swarm") as swarm:
        number = daemon.add(magnet(world, swarm), seed=0, paused=True)
        kept = daemon.cli("files", str(number), "--match", "*.txt")
        assert kept.returncode == 0 and "those that match *.txt are fetched when they are" in kept.stderr
        daemon.call("tasks.resume", id=number)
        failed = daemon.finished(number)
        assert (failed["status"], failed["error"]["kind"], failed["retries"]) == ("error", "bad_select", 0)
        assert "matches none of its 3 files" in failed["error"]["message"]
        there = daemon.call("downloads.files", id=number)["items"]
        assert [file["path"] for file in there] == [f"album/{name}" for name in FILES]
        chosen = daemon.call("downloads.select", id=number, match="album/b.*")["items"]
        assert [file["selected"] for file in chosen] == [False, True, False]
        daemon.call("tasks.retry", id=number)
        done = daemon.finished(number)
        assert done["status"] == "completed", done["error"]
        assert delivered_files(daemon) == {"album/b.bin": FILES["b.bin"]}


def test_numbers_of_a_magnet_that_are_not_there_can_be_put_right(world: AnyWorld, tmp_path: Path) -> None:
    daemon = world.daemon
    with Swarm(aria2_world.command("system"), tmp_path / "swarm") as swarm:
        number = daemon.add(magnet(world, swarm), seed=0, select=[9])
        failed = daemon.finished(number)
        assert (failed["status"], failed["error"]["kind"]) == ("error", "bad_select")
        assert failed["download"]["name"] == "album"
        assert len(daemon.call("downloads.files", id=number)["items"]) == 3
        daemon.call("downloads.select", id=number, indexes=[3])
        daemon.call("tasks.retry", id=number)
        done = daemon.finished(number)
        assert done["status"] == "completed", done["error"]
        assert delivered_files(daemon) == {"album/sub/c.bin": FILES["sub/c.bin"]}
