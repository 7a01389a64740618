"""Torrents in a real qBittorrent, on loopback: delivered while they seed, then completed; only what was selected."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.aria2_world import command, delivered_files, staging_left, web_seeded
from tests.daemon.instance import until
from tests.daemon.qbittorrent_world import World, world
from tests.plugins.aria2.live import Aria2
from tests.plugins.aria2.swarm import Swarm, Torrent, Tracker
from tests.webserver import pattern

FILES = {"a.bin": pattern(100_000), "b.bin": pattern(70_000)[::-1], "sub/c.bin": pattern(50_000)}
DELIVERED = {f"album/{name}": body for name, body in FILES.items()}
FOR_EVER = {"ratio": None, "time": None}
AN_HOUR = {"ratio": None, "time": 3600}


def delivered(w: World, number: int) -> dict[str, Any]:
    """The task: delivered, and seeding on."""
    w.daemon.finished(number, "delivered")
    until(lambda: w.why(number)["reason"] == "seeding", "why says that it seeds")
    until(lambda: w.daemon.task(number)["status"] == "suspending", "it waits")
    task = w.daemon.task(number)
    assert (task["download"]["phase"], task["retries"]) == ("seeding", 0)
    assert task["download"]["delivered_at"] is not None and task["finished_at"] is None
    return task


def seeds(w: World, torrent: Torrent) -> None:
    w.qbittorrent.wait(torrent.hash, "stalledUP", "uploading")


def over(w: World, number: int) -> None:
    """Completed, and cleared up behind."""
    done = w.daemon.finished(number)
    assert (done["status"], done["retries"]) == ("completed", 0), done["error"]
    assert w.left() == (set(), [])
    assert staging_left(w.daemon) == []


def canceled(w: World, number: int) -> None:
    """What is delivered stays; its transfer goes."""
    before = delivered_files(w.daemon)
    assert w.daemon.call("tasks.cancel", id=number)["status"] == "canceled"
    until(lambda: w.left() == (set(), []) and not staging_left(w.daemon), "it is removed in qBittorrent")
    assert delivered_files(w.daemon) == before


# -- in a swarm -------------------------------------------------------------------------------------------------------


def test_delivered_while_it_seeds(tmp_path: Path) -> None:
    with Swarm(command("system"), tmp_path) as swarm, world(tmp_path) as w:
        w.daemon.start()
        torrent = swarm.seed("album", FILES)
        number = w.add(torrent, select=[1, 3], seed=FOR_EVER)
        task = delivered(w, number)
        wanted = {name: body for name, body in DELIVERED.items() if "b.bin" not in name}
        assert delivered_files(w.daemon) == wanted, "only what was selected"
        assert task["download"]["location"] == str(w.daemon.destination / "album")
        assert task["download"]["handle"]["hash"] == torrent.hash
        seeds(w, torrent)
        said = w.daemon.cli("why", str(number)).stdout
        assert "seeding" in said and "seeds in box" in said
        canceled(w, number)


def test_a_magnet(tmp_path: Path) -> None:
    with Swarm(command("system"), tmp_path) as swarm, world(tmp_path) as w:
        torrent = swarm.seed("album", FILES)
        swarm.tracker.closed = True
        w.daemon.start()
        number = w.daemon.add(torrent.magnet, select=[2], seed=AN_HOUR)
        until(lambda: w.why(number)["reason"] == "metadata", "it looks for its metadata")
        swarm.tracker.closed = False
        delivered(w, number)
        assert delivered_files(w.daemon) == {"album/b.bin": FILES["b.bin"]}
        seeds(w, torrent)
        w.qbittorrent.restart()
        seeds(w, torrent)
        delivered(w, number)
        assert delivered_files(w.daemon) == {"album/b.bin": FILES["b.bin"]}
        canceled(w, number)


def test_the_ratio_ends_it(tmp_path: Path) -> None:
    with Tracker() as tracker, world(tmp_path) as w, Aria2(command("system"), tmp_path / "leecher") as leecher:
        torrent = web_seeded(w.server, "album", FILES, tracker.url)
        w.daemon.start()
        number = w.add(torrent, seed={"ratio": 1, "time": None})
        delivered(w, number)
        for path in FILES:
            w.server.pages[f"{torrent.hash}/album/{path}"].status = 404  # from now on it has to come from us
        gid = leecher.call("addTorrent", base64.b64encode(torrent.content).decode(), [], {"seed-time": "0"})
        leecher.wait(gid, "complete")
        assert (leecher.home / "dl" / "album" / "b.bin").read_bytes() == FILES["b.bin"]
        with w.daemon.config.open("a") as config:
            config.write('[seeding]\nidle = "1d"\n')

        def given() -> bool:
            there = w.qbittorrent.torrents().get(torrent.hash)
            return there is None or bool(there["uploaded"] >= 220_000)  # it may be over already

        until(given, "box has given it all")
        w.daemon.call("daemon.reload")  # bytes that go out wake nobody; another rule does
        over(w, number)


# -- the end of it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, {"ratio": None, "time": 1}])
def test_the_end_of_seeding(tmp_path: Path, seed: Any) -> None:
    with world(tmp_path) as w:
        w.daemon.start()
        torrent = web_seeded(w.server, "album", FILES)
        number = w.add(torrent, seed=seed)
        over(w, number)
        if seed != 0:
            task = w.daemon.task(number)
            assert task["download"]["delivered_at"] < task["finished_at"], "who waits for it is told before"
        assert delivered_files(w.daemon) == DELIVERED


def test_removed_by_hand_while_it_seeds(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.daemon.start()
        torrent = web_seeded(w.server, "album", FILES)
        number = w.add(torrent, seed=FOR_EVER)
        delivered(w, number)
        w.qbittorrent.call("torrents/delete", hashes=torrent.hash, deleteFiles="true")
        over(w, number)
        assert delivered_files(w.daemon) == DELIVERED


def test_paused_and_resumed_while_it_seeds(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.daemon.start()
        torrent = web_seeded(w.server, "album", FILES)
        number = w.add(torrent, seed=FOR_EVER)
        delivered(w, number)
        assert w.daemon.cli("pause", str(number)).returncode == 0
        w.qbittorrent.wait(torrent.hash, "pausedUP", "stoppedUP")
        assert w.daemon.cli("resume", str(number)).returncode == 0
        seeds(w, torrent)
        delivered(w, number)
        canceled(w, number)


# -- who dies while it seeds ------------------------------------------------------------------------------------------


def test_the_daemon_is_killed_while_it_seeds(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.daemon.start()
        torrent = web_seeded(w.server, "album", FILES)
        number = w.add(torrent, seed=AN_HOUR)
        before = delivered(w, number)
        w.daemon.kill()
        w.daemon.start()
        after = delivered(w, number)
        for same in ("handle", "name", "location", "delivered_at", "files"):
            assert after["download"][same] == before["download"][same]
        assert len(after["download"]["attempts"]) == 1
        seeds(w, torrent)
        assert delivered_files(w.daemon) == DELIVERED
        assert w.daemon.cli("rm", str(number)).returncode == 0
        until(lambda: w.left() == (set(), []) and not staging_left(w.daemon), "it is removed in qBittorrent")
        assert delivered_files(w.daemon) == DELIVERED


def test_qbittorrent_stays_away(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.daemon.start()
        number = w.add(web_seeded(w.server, "album", FILES), seed=FOR_EVER)
        delivered(w, number)
        w.qbittorrent.stop()
        until(lambda: w.why(number)["reason"] == "downloader_unavailable", "why names box")
        assert w.why(number)["blocking"] == "box"
        assert w.daemon.call("tasks.cancel", id=number)["status"] == "canceled"
        w.qbittorrent.start()
        until(lambda: w.left() == (set(), []) and not staging_left(w.daemon), "the removal was still owed")
        assert delivered_files(w.daemon) == DELIVERED
