"""Torrents on loopback: delivered while they seed, then completed; only what was selected."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.aria2_world import World, both_versions, command, delivered_files, staging_left, web_seeded, world
from tests.daemon.instance import until
from tests.plugins.aria2.live import Aria2
from tests.plugins.aria2.swarm import Swarm, Tracker
from tests.webserver import pattern

FILES = {"a.bin": pattern(100_000), "b.bin": pattern(70_000)[::-1], "sub/c.bin": pattern(50_000)}
DELIVERED = {f"album/{name}": body for name, body in FILES.items()}
FOR_EVER = {"ratio": None, "time": None}
AN_HOUR = {"ratio": None, "time": 3600}


def seeds(w: World, number: int) -> str:
    """The GID of its transfer, once aria2 itself says that it seeds."""
    found: list[str] = []

    def seeding() -> bool:
        handle = w.daemon.task(number)["download"]["handle"] or {}  # none while one that was lost is created anew
        active = w.aria2.call("tellActive", ["gid", "infoHash", "seeder"])
        mine = (handle.get("hash"), "true")
        found[:] = [entry["gid"] for entry in active if (entry.get("infoHash"), entry["seeder"]) == mine]
        return bool(found)

    until(seeding, "aria2 seeds it")
    (gid,) = found
    return gid


def delivered(w: World, number: int) -> dict[str, Any]:
    """The task: delivered, and seeding on."""
    w.daemon.finished(number, "delivered")
    until(lambda: w.why(number)["reason"] == "seeding", "why says that it seeds")
    until(lambda: w.daemon.task(number)["status"] == "suspending", "it waits")
    task = w.daemon.task(number)
    assert (task["download"]["phase"], task["retries"]) == ("seeding", 0)
    assert task["download"]["delivered_at"] is not None and task["finished_at"] is None
    return task


def over(w: World, number: int) -> None:
    """Completed, and cleared up behind."""
    done = w.daemon.finished(number)
    assert (done["status"], done["retries"]) == ("completed", 0), done["error"]
    assert w.transfers() == set()
    assert staging_left(w.daemon) == []


def canceled(w: World, number: int) -> None:
    """What is delivered stays; its transfer goes."""
    before = delivered_files(w.daemon)
    assert w.daemon.call("tasks.cancel", id=number)["status"] == "canceled"
    until(lambda: not w.transfers() and not staging_left(w.daemon), "it is removed in aria2")
    assert delivered_files(w.daemon) == before


# -- in a swarm -------------------------------------------------------------------------------------------------------


@both_versions
def test_delivered_while_it_seeds(tmp_path: Path, version: str) -> None:
    with Swarm(command("system"), tmp_path) as swarm, world(tmp_path, version=version) as w:
        w.daemon.start()
        number = w.add(swarm.seed("album", FILES), select=[1, 3], seed=FOR_EVER)
        task = delivered(w, number)
        wanted = {name: body for name, body in DELIVERED.items() if "b.bin" not in name}
        assert delivered_files(w.daemon) == wanted, "only what was selected"
        assert task["download"]["location"] == str(w.daemon.destination / "album")
        assert seeds(w, number) == task["download"]["handle"]["id"]
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
        seeds(w, number)
        w.aria2.restart()
        seeds(w, number)  # its metadata is fetched again, its content is there
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

        def given() -> bool:
            """Whoever looks late finds that it has ended by itself: a look is taken once a minute."""
            return "ratio 1.0" in w.why(number)["message"] or w.daemon.task(number)["finished_at"] is not None

        until(given, "box has given it all")
        with w.daemon.config.open("a") as config:
            config.write('[seeding]\nidle = "1d"\n')
        w.daemon.call("daemon.reload")  # bytes that go out wake nobody; another rule does
        over(w, number)


# -- the end of it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, {"ratio": None, "time": 1}])
def test_the_end_of_seeding(tmp_path: Path, seed: Any) -> None:
    with world(tmp_path) as w:
        w.daemon.start()
        number = w.add(web_seeded(w.server, "album", FILES), seed=seed)
        over(w, number)
        # A second is soon over, and nobody may have looked in it: what is written down tells.
        told = [one["kind"] for one in w.daemon.call("tasks.history", id=number)["items"]]
        seeded = "delivered" in told and "suspended" in told[told.index("delivered") : told.index("completed")]
        assert seeded == (seed != 0)
        assert (w.daemon.task(number)["download"]["phase"] == "seeding") == (seed != 0)
        assert delivered_files(w.daemon) == DELIVERED


def test_another_rule_of_the_configuration(tmp_path: Path) -> None:
    """Whoever has none of his own follows it at once."""
    with world(tmp_path) as w:
        w.daemon.start()
        ours = w.add(web_seeded(w.server, "album", FILES), seed=FOR_EVER)
        theirs = w.add(web_seeded(w.server, "other", FILES))
        delivered(w, ours)
        delivered(w, theirs)
        with w.daemon.config.open("a") as config:
            config.write('[seeding]\ntime = "0s"\n')
        w.daemon.call("daemon.reload")
        assert w.daemon.finished(theirs)["status"] == "completed"
        assert seeds(w, ours)
        canceled(w, ours)


def test_removed_by_hand_while_it_seeds(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.daemon.start()
        number = w.add(web_seeded(w.server, "album", FILES), seed=FOR_EVER)
        delivered(w, number)
        w.aria2.call("forceRemove", seeds(w, number))
        over(w, number)
        assert delivered_files(w.daemon) == DELIVERED


# -- who dies while it seeds ------------------------------------------------------------------------------------------


def test_the_daemon_is_killed_while_it_seeds(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.daemon.start()
        number = w.add(web_seeded(w.server, "album", FILES), seed=AN_HOUR)
        before = delivered(w, number)
        w.daemon.kill()
        w.daemon.start()
        after = delivered(w, number)
        for same in ("handle", "name", "location", "delivered_at", "files"):
            assert after["download"][same] == before["download"][same]
        assert len(after["download"]["attempts"]) == 1
        assert seeds(w, number) == before["download"]["handle"]["id"]
        assert delivered_files(w.daemon) == DELIVERED
        assert w.daemon.cli("rm", str(number)).returncode == 0
        until(lambda: not w.transfers() and not staging_left(w.daemon), "it is removed in aria2")
        assert delivered_files(w.daemon) == DELIVERED


@both_versions
def test_aria2_is_restarted_while_it_seeds(tmp_path: Path, version: str) -> None:
    """Its session forgets what seeds. It is created anew, on the bytes that are there, and seeds on."""
    with world(tmp_path, version=version) as w:
        w.daemon.start()
        number = w.add(web_seeded(w.server, "album", FILES), seed=AN_HOUR)
        before = delivered(w, number)
        asked = len(w.server.requests)
        w.aria2.restart()
        seeds(w, number)
        after = delivered(w, number)
        assert after["download"]["delivered_at"] == before["download"]["delivered_at"]
        assert delivered_files(w.daemon) == DELIVERED, "delivered once"
        assert len(w.server.requests) == asked, "and not a byte fetched again"
        canceled(w, number)


def test_aria2_stays_away(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.daemon.start()
        number = w.add(web_seeded(w.server, "album", FILES), seed=FOR_EVER)
        delivered(w, number)
        w.aria2.stop()
        until(lambda: w.why(number)["reason"] == "downloader_unavailable", "why names box")
        assert w.why(number)["blocking"] == "box"
        assert w.daemon.call("tasks.cancel", id=number)["status"] == "canceled"
        w.aria2.start()
        until(lambda: not w.transfers() and not staging_left(w.daemon), "the removal was still owed")
        assert delivered_files(w.daemon) == DELIVERED
