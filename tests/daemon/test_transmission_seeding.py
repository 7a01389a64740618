"""Torrents in a real Transmission: delivered while they seed, then completed; only what was selected."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.daemon.aria2_world import command, delivered_files, staging_left
from tests.daemon.instance import until
from tests.daemon.transmission_world import DELIVERED, FILES, FOR_EVER, world
from tests.plugins.aria2.swarm import Swarm
from tests.plugins.transmission.live import web_seeded


def test_delivered_while_it_seeds(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.daemon.start()
        number = w.add(web_seeded(w.server, "album", FILES), select=[1, 3], seed=FOR_EVER)
        task = w.delivered(number)
        wanted = {name: body for name, body in DELIVERED.items() if "b.bin" not in name}
        assert delivered_files(w.daemon) == wanted, "only what was selected"
        assert task["download"]["location"] == str(w.daemon.destination / "album")
        said = w.daemon.cli("why", str(number)).stdout
        assert "seeding" in said and "seeds in box" in said
        listed = w.daemon.call("downloads.files", id=number)["items"]
        assert [(file["path"], file["selected"]) for file in listed] == [
            ("album/a.bin", True),
            ("album/b.bin", False),
            ("album/sub/c.bin", True),
        ]
        w.canceled(number)


def test_a_magnet(tmp_path: Path) -> None:
    with Swarm(command("system"), tmp_path) as swarm, world(tmp_path) as w:
        torrent = swarm.seed("album", FILES)
        for name, body in FILES.items():
            w.server.put(f"{torrent.hash}/album/{name}", body)
        swarm.tracker.closed = True
        w.daemon.start()
        link = f"{torrent.magnet}&ws={quote(w.server.url(f'{torrent.hash}/'), safe='')}"
        number = w.daemon.add(link, select=[2], seed={"ratio": None, "time": 2})
        until(lambda: w.why(number)["reason"] == "metadata", "it looks for its metadata")
        swarm.tracker.closed = False
        done = w.daemon.finished(number)
        assert (done["status"], done["retries"]) == ("completed", 0), done["error"]
        assert delivered_files(w.daemon) == {"album/b.bin": FILES["b.bin"]}
        assert w.transmission.hashes() == set() and staging_left(w.daemon) == []


@pytest.mark.parametrize("seed", [0, {"ratio": None, "time": 1}])
def test_the_end_of_seeding(tmp_path: Path, seed: Any) -> None:
    with world(tmp_path) as w:
        w.daemon.start()
        done = w.daemon.finished(w.add(web_seeded(w.server, "album", FILES), seed=seed))
        assert (done["status"], done["retries"]) == ("completed", 0), done["error"]
        assert delivered_files(w.daemon) == DELIVERED
        assert w.transmission.hashes() == set() and staging_left(w.daemon) == []


def test_removed_by_hand_while_it_seeds(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.daemon.start()
        torrent = web_seeded(w.server, "album", FILES)
        number = w.add(torrent, seed=FOR_EVER)
        w.delivered(number)
        w.transmission.client.remove_torrent(torrent.hash)
        done = w.daemon.finished(number)
        assert (done["status"], done["retries"]) == ("completed", 0), done["error"]
        assert delivered_files(w.daemon) == DELIVERED
        assert staging_left(w.daemon) == []


def test_a_torrent_of_somebody_else_is_attached_to(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        torrent = web_seeded(w.server, "album", FILES)
        w.transmission.client.add_torrent(torrent.content)
        w.daemon.start()
        done = w.daemon.finished(w.add(torrent, select=[2]))
        assert (done["status"], done["retries"]) == ("completed", 0), done["error"]
        assert delivered_files(w.daemon) == {"album/b.bin": FILES["b.bin"]}
        assert w.transmission.hashes() == {torrent.hash}
        assert w.transmission.look(torrent.hash)["seedRatioMode"] == 0
        assert (w.transmission.theirs / "album/a.bin").read_bytes() == FILES["a.bin"]


def test_paused_and_resumed_while_it_seeds(tmp_path: Path) -> None:
    """It seeds on: what is whole and stopped by us has not come to its end."""
    with world(tmp_path) as w:
        w.daemon.start()
        torrent = web_seeded(w.server, "album", FILES)
        number = w.add(torrent, seed=FOR_EVER)
        w.delivered(number)
        assert w.daemon.cli("pause", str(number)).returncode == 0
        assert w.transmission.look(torrent.hash)["status"] == 0
        assert w.daemon.cli("resume", str(number)).returncode == 0
        w.delivered(number)
        w.canceled(number)


def test_pause_and_resume(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.daemon.start()
        torrent = w.album()
        number = w.add(torrent, seed=0)
        w.moving(number)
        assert w.daemon.cli("pause", str(number)).returncode == 0
        assert w.transmission.look(torrent.hash)["status"] == 0
        assert w.daemon.cli("resume", str(number)).returncode == 0
        w.let()
        assert w.daemon.finished(number)["status"] == "completed"
        assert delivered_files(w.daemon) == DELIVERED
