"""A real Transmission and the daemon: whoever dies, and when; what others do over there; a wrong password."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from tests.daemon.aria2_world import command, delivered_files, staging_left
from tests.daemon.instance import until
from tests.daemon.test_aria2_secret import Ear
from tests.daemon.transmission_world import DELIVERED, FILES, FOR_EVER, World, world
from tests.plugins.aria2.swarm import Swarm
from tests.plugins.transmission.live import web_seeded


def completed(w: World, number: int) -> None:
    """Delivered, and cleared up behind."""
    done = w.daemon.finished(number)
    assert (done["status"], done["retries"]) == ("completed", 0), done["error"]
    assert delivered_files(w.daemon) == DELIVERED
    assert w.transmission.hashes() == set() and staging_left(w.daemon) == []


# -- the daemon dies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["keyed", "created", "handled", "whole", "manifest", "renamed", "removed"])
def test_the_daemon_killed_at_every_point(tmp_path: Path, point: str) -> None:
    with world(tmp_path) as w:
        w.daemon.start(failpoint=point)
        number = w.add(web_seeded(w.server, "album", FILES), seed=0)
        w.daemon.wait_killed()
        w.daemon.start()
        completed(w, number)


def test_the_daemon_killed_in_the_middle_and_while_it_seeds(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        torrent = w.album()
        w.daemon.start()
        number = w.add(torrent, select=[2, 3], seed=FOR_EVER)
        w.moving(number)
        w.daemon.kill()
        w.let()
        w.daemon.start()
        before = w.delivered(number)
        w.daemon.kill()
        w.daemon.start()
        after = w.delivered(number)
        for same in ("handle", "name", "location", "delivered_at", "files"):
            assert after["download"][same] == before["download"][same]
        assert len(after["download"]["attempts"]) == 1
        assert delivered_files(w.daemon) == {name: body for name, body in DELIVERED.items() if "a.bin" not in name}
        w.canceled(number)


# -- Transmission dies -------------------------------------------------------------------------------------------------


def test_transmission_killed_in_the_middle(tmp_path: Path) -> None:
    """It comes back with the torrent, but knows nothing of its folder and its selection any more."""
    with world(tmp_path) as w:
        torrent = w.album()
        w.daemon.start()
        number = w.add(torrent, select=[2, 3], seed=FOR_EVER)
        w.moving(number)
        w.transmission.stop()
        until(lambda: w.why(number)["reason"] == "downloader_unavailable", "the task waits for box")
        assert w.why(number)["blocking"] == "box"
        w.let()
        w.transmission.start()
        task = w.delivered(number)
        assert [attempt["error_class"] for attempt in task["download"]["attempts"]] == ["lost", None]
        assert delivered_files(w.daemon) == {name: body for name, body in DELIVERED.items() if "a.bin" not in name}
        told = [line for line in w.daemon.log_lines() if "downloader box" in line]
        assert ["is down" in line for line in told] == [True, False] and "is back" in told[1]
        w.canceled(number)


def test_transmission_killed_while_it_seeds(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.daemon.start()
        torrent = web_seeded(w.server, "album", FILES)
        number = w.add(torrent, seed=FOR_EVER)
        before = w.delivered(number)
        w.transmission.restart()
        after = w.delivered(number)
        assert after["download"]["delivered_at"] == before["download"]["delivered_at"]
        assert delivered_files(w.daemon) == DELIVERED, "delivered once"
        w.canceled(number)


def test_transmission_killed_with_a_magnet(tmp_path: Path) -> None:
    with Swarm(command("system"), tmp_path) as swarm, world(tmp_path) as w:
        torrent = swarm.seed("album", FILES)
        for name, body in FILES.items():
            w.server.put(f"{torrent.hash}/album/{name}", body)
        swarm.tracker.closed = True
        w.daemon.start()
        link = f"{torrent.magnet}&ws={quote(w.server.url(f'{torrent.hash}/'), safe='')}"
        number = w.daemon.add(link, select=[2], seed=FOR_EVER)
        until(lambda: w.why(number)["reason"] == "metadata", "it looks for its metadata")
        w.transmission.restart()
        swarm.tracker.closed = False
        w.delivered(number)
        w.transmission.restart()
        w.delivered(number)
        assert delivered_files(w.daemon) == {"album/b.bin": FILES["b.bin"]}
        w.canceled(number)


def test_transmission_stays_away(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.daemon.start()
        number = w.add(web_seeded(w.server, "album", FILES), seed=FOR_EVER)
        w.delivered(number)
        w.transmission.stop(15)  # it writes down what it knows
        until(lambda: w.why(number)["reason"] == "downloader_unavailable", "why names box")
        assert w.daemon.call("tasks.cancel", id=number)["status"] == "canceled"
        w.transmission.start()
        until(lambda: not w.transmission.hashes() and not staging_left(w.daemon), "the removal was still owed")
        assert delivered_files(w.daemon) == DELIVERED


# -- others ------------------------------------------------------------------------------------------------------------


def test_removed_elsewhere_in_the_middle(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        torrent = w.album()
        w.daemon.start()
        number = w.add(torrent, seed=0)
        w.moving(number)
        w.transmission.client.remove_torrent(torrent.hash)
        done = w.daemon.finished(number)
        assert (done["status"], done["error"]["kind"]) == ("error", "removed_elsewhere")
        w.let()
        w.daemon.call("tasks.retry", id=number)
        done = w.daemon.finished(number)
        assert done["status"] == "completed", done["error"]
        assert delivered_files(w.daemon) == DELIVERED


def test_a_wrong_password(tmp_path: Path) -> None:
    with world(tmp_path) as w, Ear(w.transmission.port) as ear, w.daemon:
        right = w.daemon.config.read_text().replace(f":{w.transmission.port}/", f":{ear.port}/")
        w.daemon.config.write_text(right.replace(w.transmission.password, "wr0ng"))
        w.daemon.start()
        album = web_seeded(w.server, "album", FILES)
        ids = [w.add(album)]
        until(lambda: w.why(ids[0])["reason"] == "downloader_unavailable", "it waits")
        ids += [w.add(web_seeded(w.server, f"{number}.bin", FILES["a.bin"])) for number in range(10)]
        for number in ids:
            until(lambda n=number: w.why(n)["reason"] == "downloader_unavailable", "it waits")  # type: ignore[misc]
        clear = "refuses our username and password"
        shown = w.daemon.cli("downloader", "ls")
        assert shown.stdout.count(clear) == 1 and "\tdown\t" in shown.stdout
        why = w.daemon.cli("why", str(ids[-1]))
        assert clear in why.stdout and "box" in why.stdout
        asked = ear.heard.count(b"POST /transmission/rpc")
        assert asked <= 2, "no hammering: one by the look-out, and one for the first task if that was at the same time"
        assert len([line for line in w.daemon.log_lines() if clear in line]) == 1
        w.daemon.config.write_text(right)
        assert w.daemon.cli("config", "reload").returncode == 0
        w.daemon.finished(ids[0], "delivered")
        for known in ("wr0ng", w.transmission.password):
            assert known not in w.daemon.log.read_text() + shown.stdout + why.stdout + why.stderr
