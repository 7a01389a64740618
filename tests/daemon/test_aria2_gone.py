"""What others do in the same aria2: entries that are gone, GIDs that are taken, transfers that are not ours."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.aria2_world import Valve, World, committed_state, is_empty, staging_left, world
from tests.daemon.instance import until
from tests.plugins.aria2.swarm import make_torrent
from tests.webserver import pattern

MIB = 1 << 20


def removed_elsewhere(w: World, number: int) -> None:
    done = w.daemon.finished(number)
    assert (done["status"], done["retries"]) == ("error", 0)
    assert done["error"]["kind"] == "removed_elsewhere"
    assert f"removed it in box; `dlqueue retry {number}`" in done["error"]["message"]
    assert done["download"]["attempts"][-1]["error_class"] == "removed"


def fetched_again(w: World, number: int, name: str, body: bytes) -> None:
    w.daemon.call("tasks.retry", id=number)
    done = w.daemon.finished(number)
    assert done["status"] == "completed", done["error"]
    assert w.daemon.delivered() == {name: body}


# -- gone -------------------------------------------------------------------------------------------------------------


def test_aria2_remembers_three_of_fifty(tmp_path: Path) -> None:
    with world(tmp_path, "--max-download-result=3", "--max-concurrent-downloads=50", section="max_active = 50\n") as w:
        bodies = {f"{number:02}.bin": pattern(20_000 + number) for number in range(50)}
        valves = [Valve(w.server, name, body) for name, body in bodies.items()]
        w.daemon.start()
        with w.daemon.client() as client:
            ids = [client.call("downloads.add", {"url": valve.url})["id"] for valve in valves]
        until(lambda: len(w.server.requests) == 50, "all fifty run")
        for valve in valves:
            valve.open()
        done = [w.daemon.finished(number) for number in ids]
        assert [(task["status"], task["retries"]) for task in done] == [("completed", 0)] * 50
        assert w.daemon.delivered() == bodies
        assert len(w.server.requests) == 50, "none was fetched twice"


@pytest.mark.parametrize("purged", [True, False])
def test_removed_by_hand_while_it_runs(tmp_path: Path, purged: bool) -> None:
    body = pattern(2 * MIB)
    with world(tmp_path) as w:
        page = Valve(w.server, "file.bin", body)
        w.daemon.start()
        number = w.daemon.add(page.url)
        gid = w.handle(number)
        page.let(MIB)
        until(lambda: int(w.aria2.call("tellStatus", gid)["completedLength"]) >= MIB, "half of it is there")
        w.aria2.call("forceRemove", gid)
        if purged:
            w.aria2.call("purgeDownloadResult")
        removed_elsewhere(w, number)
        page.open()
        fetched_again(w, number, "file.bin", body)


def test_removed_by_hand_while_it_is_paused(tmp_path: Path) -> None:
    body = pattern(2 * MIB)
    with world(tmp_path) as w:
        page = Valve(w.server, "file.bin", body)
        w.daemon.start()
        number = w.daemon.add(page.url)
        gid = w.handle(number)
        page.let(MIB)
        assert w.daemon.cli("pause", str(number)).returncode == 0
        assert w.aria2.call("tellStatus", gid)["status"] == "paused"
        w.aria2.call("forceRemove", gid)
        w.aria2.call("purgeDownloadResult")
        assert w.daemon.task(number)["status"] == "paused"
        assert w.daemon.cli("resume", str(number)).returncode == 0
        removed_elsewhere(w, number)
        page.open()
        fetched_again(w, number, "file.bin", body)


def test_paused_by_hand_is_resumed(tmp_path: Path) -> None:
    body = pattern(2 * MIB)
    with world(tmp_path) as w:
        page = Valve(w.server, "file.bin", body)
        w.daemon.start()
        number = w.daemon.add(page.url)
        gid = w.handle(number)
        page.let(MIB)
        until(lambda: w.daemon.task(number)["download"]["state"] == "downloading", "it runs")
        w.aria2.call("forcePause", gid)
        page.open()
        assert w.daemon.finished(number)["status"] == "completed"
        assert w.daemon.delivered() == {"file.bin": body}


@pytest.mark.parametrize("size_known", [True, False])
def test_aria2_forgets_at_once_what_is_complete(tmp_path: Path, size_known: bool) -> None:
    body = pattern(2 * MIB)
    with world(tmp_path, "--max-download-result=0", section='poll = "1h"\n') as w:
        page = Valve(w.server, "file.bin", body, chunked=not size_known)
        w.daemon.start()
        number = w.daemon.add(page.url)
        gid = w.handle(number)
        page.let(MIB)
        until(lambda: int(w.aria2.call("tellStatus", gid)["completedLength"]) >= MIB, "half of it is there")
        page.open()
        done = w.daemon.finished(number)
        assert done["status"] == "completed", done["error"]
        assert w.daemon.delivered() == {"file.bin": body}
        assert len(w.server.requests) == 1


def test_complete_and_purged_while_the_daemon_was_dead(tmp_path: Path) -> None:
    """Its content is whole, so it is delivered: whoever cleared up in aria2 meant no harm."""
    body = pattern(2 * MIB)
    with world(tmp_path) as w:
        page = Valve(w.server, "file.bin", body)
        w.daemon.start()
        number = w.daemon.add(page.url)
        gid = w.handle(number)
        page.let(MIB)
        until(lambda: committed_state(w.daemon, number).get("total") == len(body), "its size is written down")
        w.daemon.kill()
        page.open()
        w.aria2.wait(gid, "complete")
        w.aria2.call("purgeDownloadResult")
        w.daemon.start()
        done = w.daemon.finished(number)
        assert done["status"] == "completed", done["error"]
        assert w.daemon.delivered() == {"file.bin": body}
        assert len(w.server.requests) == 1


def test_removed_while_the_daemon_was_dead(tmp_path: Path) -> None:
    """A part of it is no whole, whatever is in the folder."""
    body = pattern(2 * MIB)
    with world(tmp_path) as w:
        page = Valve(w.server, "file.bin", body)
        w.daemon.start()
        number = w.daemon.add(page.url)
        gid = w.handle(number)
        page.let(MIB)
        until(lambda: committed_state(w.daemon, number).get("total") == len(body), "its size is written down")
        w.daemon.kill()
        w.aria2.call("forceRemove", gid)
        w.aria2.call("purgeDownloadResult")
        w.daemon.start()
        removed_elsewhere(w, number)
        assert "file.bin" not in w.daemon.delivered()


# -- somebody else's --------------------------------------------------------------------------------------------------


def foreign(w: World, gid: str) -> dict[str, Any]:
    """What must not change of a transfer that is not ours."""
    status = w.aria2.call("tellStatus", gid)
    options = w.aria2.call("getOption", gid)
    return {key: status[key] for key in ("status", "dir", "files")} | {"options": options}


@pytest.mark.parametrize("then", ["start", "cancel"])
def test_a_gid_that_somebody_else_uses(tmp_path: Path, then: str) -> None:
    """Another one does as well. Theirs is not touched, also when ours is removed."""
    body = pattern(100_000)
    with world(tmp_path) as w:
        theirs = Valve(w.server, "theirs.bin", pattern(2 * MIB))
        theirs.let(MIB)
        w.daemon.start(failpoint="keyed")
        number = w.daemon.add(w.server.put("ours.bin", body))
        w.daemon.wait_killed()
        gid = committed_state(w.daemon, number)["key"]
        w.aria2.call("addUri", [theirs.url], {"gid": gid})
        until(lambda: int(w.aria2.call("tellStatus", gid)["completedLength"]) >= MIB, "theirs runs")
        before = foreign(w, gid)
        w.daemon.start()
        if then == "start":
            done = w.daemon.finished(number)
            assert (done["status"], done["retries"]) == ("completed", 0), done["error"]
            first, second = done["download"]["attempts"]
            assert first["key"] == gid != second["key"]
            assert "somebody else uses the GID" in first["message"]
            assert w.daemon.delivered() == {"ours.bin": body}
        w.daemon.call("tasks.remove", id=number, delete_data=True)
        until(lambda: is_empty(w.daemon), "all of ours is gone")
        w.daemon.stop()
        assert foreign(w, gid) == before
        assert w.transfers() == {gid}
        theirs.open()
        w.aria2.wait(gid, "complete")
        assert (w.aria2.home / "dl" / "theirs.bin").read_bytes() == pattern(2 * MIB)


@pytest.mark.parametrize("end", ["completes", "canceled"])
def test_a_foreign_torrent_is_attached_to(tmp_path: Path, end: str) -> None:
    """Never paused, limited or removed; what it fetched is copied, and stays where it is."""
    with world(tmp_path) as w:
        files = {"a.bin": pattern(100_000), "sub/b.bin": pattern(50_000)}
        torrent = make_torrent("album", files)
        whole = end == "completes"
        if whole:
            for name, body in files.items():
                path = w.aria2.home / "dl" / "album" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(body)
        options = {"check-integrity": "true", "seed-ratio": "0.0", "allow-overwrite": "true"}
        gid = w.aria2.call("addTorrent", base64.b64encode(torrent.content).decode(), [], options)
        wanted = "true" if whole else "false"
        until(lambda: w.aria2.call("tellStatus", gid).get("seeder") == wanted, "theirs runs")
        before = foreign(w, gid)
        w.daemon.start()
        task = w.daemon.call("downloads.add", torrent=base64.b64encode(torrent.content).decode())
        number = task["id"]
        assert w.handle(number) == gid
        if whole:
            done = w.daemon.finished(number)
            assert done["status"] == "completed", done["error"]
            left = {name: body for name, body in w.daemon.delivered().items() if body}
            assert left == {f"album/{name}": body for name, body in files.items()}
            assert staging_left(w.daemon) == []
            w.daemon.call("tasks.remove", id=number, delete_data=True)
            until(lambda: is_empty(w.daemon), "ours is deleted")
        else:
            assert w.daemon.cli("pause", str(number)).returncode == 0
            assert foreign(w, gid) == before
            assert w.daemon.cli("resume", str(number)).returncode == 0
            assert w.daemon.cli("cancel", str(number), "--delete-data").returncode == 0
            until(lambda: not staging_left(w.daemon), "all of ours is gone")
        w.daemon.stop()
        assert foreign(w, gid) == before
        if whole:
            for name, body in files.items():
                assert (w.aria2.home / "dl" / "album" / name).read_bytes() == body
