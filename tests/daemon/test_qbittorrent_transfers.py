"""What may happen while a torrent runs in a real qBittorrent: somebody dies, somebody else has a hand in it, the login
is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.aria2_world import Valve, delivered_files, is_empty, staging_left
from tests.daemon.instance import until
from tests.daemon.qbittorrent_world import World, world
from tests.plugins.aria2.swarm import Torrent, make_torrent
from tests.webserver import pattern

POINTS = ["keyed", "created", "handled", "whole", "manifest", "renamed", "removed", "cleaned"]
BODY = pattern(400_000)


class Running:
    """A torrent of one file whose second half comes when it is let."""

    def __init__(self, w: World) -> None:
        import bencode2

        plain = make_torrent("file.bin", BODY)
        self.valve = Valve(w.server, f"{plain.hash}/file.bin", BODY)
        content: dict[bytes, Any] = bencode2.bdecode(plain.content)
        content[b"url-list"] = [self.valve.url.encode()]
        self.torrent = Torrent(plain.name, bencode2.bencode(content), plain.hash, plain.tracker)
        self.valve.let(200_000)


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def delivered_once(w: World, number: int, retries: int = 0) -> None:
    done = w.daemon.finished(number)
    assert done["status"] == "completed", done["error"]
    assert (done["retries"], done["download"]["downloader"]) == (retries, "box")
    assert w.daemon.delivered() == {"file.bin": BODY}, "one file, and nothing of staging is left"
    assert w.left() == (set(), [])


# -- somebody dies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", POINTS)
def test_the_daemon_killed_at_every_point(w: World, point: str) -> None:
    running = Running(w)
    running.valve.open()
    w.daemon.start(failpoint=point)
    number = w.add(running.torrent, seed=0)
    w.daemon.wait_killed()
    w.daemon.start()
    delivered_once(w, number)
    assert len(w.daemon.task(number)["download"]["attempts"]) == 1


def test_the_daemon_killed_in_the_middle(w: World) -> None:
    running = Running(w)
    w.daemon.start()
    number = w.add(running.torrent, seed=0)
    w.moving(running.torrent)
    w.daemon.kill()
    w.daemon.start()
    running.valve.open()
    delivered_once(w, number)


def test_qbittorrent_killed_in_the_middle(w: World) -> None:
    running = Running(w)
    w.daemon.start()
    number = w.add(running.torrent, seed=0)
    w.moving(running.torrent)
    w.qbittorrent.stop()
    until(lambda: w.why(number)["reason"] == "downloader_unavailable", "the task waits for box")
    assert w.why(number)["blocking"] == "box" and "cannot be reached" in w.daemon.cli("why", str(number)).stdout
    running.valve.open()
    w.qbittorrent.start()
    delivered_once(w, number)
    told = [line for line in w.daemon.log_lines() if "downloader box" in line]
    assert ["is down" in line for line in told] == [True, False] and "is back" in told[1]


def test_qbittorrent_has_forgotten_it_after_a_restart(w: World) -> None:
    """Killed before it had written it down: it is created anew, on the bytes that are there."""
    running = Running(w)
    w.daemon.start()
    number = w.add(running.torrent, seed=0)
    w.moving(running.torrent)
    until(lambda: w.daemon.task(number)["download"]["state"] == "downloading", "the daemon has seen it")
    w.qbittorrent.stop()
    for path in (w.qbittorrent.home / "qBittorrent" / "data" / "BT_backup").iterdir():
        path.unlink()
    running.valve.open()
    w.qbittorrent.start()
    delivered_once(w, number)
    assert [one["error_class"] for one in w.daemon.task(number)["download"]["attempts"]] == ["lost", None]


def test_everything_dies_at_once(w: World) -> None:
    running = Running(w)
    w.daemon.start()
    number = w.add(running.torrent, seed=0)
    w.moving(running.torrent)
    w.daemon.kill()
    w.qbittorrent.restart()
    running.valve.open()
    w.daemon.start()
    delivered_once(w, number)


# -- somebody else has a hand in it -----------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["now", "while the daemon was dead"])
def test_removed_by_hand(w: World, when: str) -> None:
    running = Running(w)
    w.daemon.start()
    number = w.add(running.torrent, seed=0)
    w.moving(running.torrent)
    until(lambda: w.daemon.task(number)["download"]["state"] == "downloading", "the daemon has seen it")
    if when != "now":
        w.daemon.kill()
    w.qbittorrent.call("torrents/delete", hashes=running.torrent.hash, deleteFiles="false")
    if when != "now":
        w.daemon.start()
    done = w.daemon.finished(number)
    assert (done["status"], done["retries"], done["error"]["kind"]) == ("error", 0, "removed_elsewhere")
    assert f"removed it in box; `dlqueue retry {number}`" in done["error"]["message"]
    assert delivered_files(w.daemon) == {}
    running.valve.open()
    w.daemon.call("tasks.retry", id=number)
    delivered_once(w, number, retries=1)  # that of the person


def test_paused_by_hand_is_resumed(w: World) -> None:
    running = Running(w)
    w.daemon.start()
    number = w.add(running.torrent, seed=0)
    w.moving(running.torrent)
    stop = "torrents/pause" if str(w.qbittorrent.call("app/version")).startswith("v4") else "torrents/stop"
    w.qbittorrent.call(stop, hashes=running.torrent.hash)
    running.valve.open()
    delivered_once(w, number)


def test_paused_and_resumed(w: World) -> None:
    running = Running(w)
    w.daemon.start()
    number = w.add(running.torrent, seed=0)
    w.moving(running.torrent)
    assert w.daemon.cli("pause", str(number)).returncode == 0
    w.qbittorrent.wait(running.torrent.hash, "pausedDL", "stoppedDL")
    running.valve.open()
    assert w.daemon.task(number)["status"] == "paused"
    assert w.daemon.cli("resume", str(number)).returncode == 0
    delivered_once(w, number)


def test_canceled_with_its_data(w: World) -> None:
    running = Running(w)
    w.daemon.start()
    number = w.add(running.torrent)
    w.moving(running.torrent)
    assert w.daemon.cli("cancel", str(number), "--delete-data").returncode == 0
    until(lambda: w.left() == (set(), []), "it is removed in qBittorrent")
    until(lambda: is_empty(w.daemon), "nothing of it is left")


@pytest.mark.parametrize("end", ["completes", "canceled"])
def test_a_foreign_torrent_is_attached_to(w: World, end: str) -> None:
    """Never paused, limited or removed; what it fetched is copied, and stays where it is."""
    running = Running(w)
    theirs = w.qbittorrent.home / "theirs"
    if end == "completes":
        running.valve.open()
    w.qbittorrent.add(running.torrent.content, theirs, tags="mine", upLimit="4096")
    w.moving(running.torrent)
    w.daemon.start()
    number = w.add(running.torrent)
    if end == "completes":
        done = w.daemon.finished(number)
        assert done["status"] == "completed", done["error"]
        assert delivered_files(w.daemon) == {"file.bin": BODY}
        w.daemon.call("tasks.remove", id=number, delete_data=True)
    else:
        until(lambda: w.daemon.task(number)["download"]["state"] == "downloading", "it is watched")
        assert w.daemon.cli("pause", str(number)).returncode == 0
        assert w.daemon.cli("resume", str(number)).returncode == 0
        assert w.daemon.cli("cancel", str(number), "--delete-data").returncode == 0
    until(lambda: is_empty(w.daemon), "all of ours is gone")
    w.daemon.stop()
    torrent = w.qbittorrent.torrents()[running.torrent.hash]
    assert (torrent["tags"], torrent["save_path"], torrent["up_limit"]) == ("mine", str(theirs), 4096)
    assert torrent["state"] in ("stalledUP", "uploading", "downloading", "stalledDL")
    if end == "completes":
        assert (theirs / "file.bin").read_bytes() == BODY


def test_more_files_are_selected_while_it_runs(w: World) -> None:
    import bencode2

    files = {"a.bin": pattern(100_000), "b.bin": pattern(70_000), "c.bin": pattern(50_000)}
    plain = make_torrent("album", files)
    for path, body in files.items():
        w.server.put(f"{plain.hash}/album/{path}", body)
    valve = Valve(w.server, f"{plain.hash}/album/a.bin", files["a.bin"])
    content: dict[bytes, Any] = bencode2.bdecode(plain.content)
    content[b"url-list"] = [w.server.url(f"{plain.hash}/").encode()]
    w.daemon.start()
    number = w.add(Torrent(plain.name, bencode2.bencode(content), plain.hash, plain.tracker), select=[1], seed=0)
    until(lambda: w.daemon.task(number)["download"]["state"] == "downloading", "it runs")
    assert w.daemon.cli("files", str(number), "--select", "1,3").returncode == 0
    valve.open()
    done = w.daemon.finished(number)
    assert done["status"] == "completed", done["error"]
    assert delivered_files(w.daemon) == {"album/a.bin": files["a.bin"], "album/c.bin": files["c.bin"]}
    assert staging_left(w.daemon) == []


# -- the login --------------------------------------------------------------------------------------------------------


def test_a_wrong_password(tmp_path: Path) -> None:
    with world(tmp_path, section='poll = "100ms"\n') as w:
        right = w.daemon.config.read_text()
        w.daemon.config.write_text(right.replace(w.qbittorrent.password, "wr0ng-wr0ng"))
        w.daemon.start()
        torrents = [make_torrent(f"{number}.bin", pattern(1000 + number)) for number in range(10)]
        ids = [w.add(torrent, seed=0) for torrent in torrents]
        for number in ids:
            until(lambda n=number: w.why(n)["reason"] == "downloader_unavailable", "it waits")  # type: ignore[misc]
        shown = w.daemon.cli("downloader", "ls")
        assert shown.stdout.count("refuses our login") == 1 and "\tdown\t" in shown.stdout
        why = w.daemon.cli("why", str(ids[-1]))
        assert "refuses our login" in why.stdout and "box" in why.stdout
        told = [line for line in w.daemon.log_lines() if "refuses our login" in line]
        assert len(told) == 1
        refused = [line for line in w.qbittorrent.call("log/main") if "login failure" in line["message"].lower()]
        assert len(refused) == 1, "many tasks and some poll intervals later, it was asked once"
        w.daemon.config.write_text(right)
        assert w.daemon.cli("config", "reload").returncode == 0
        until(lambda: len(w.qbittorrent.torrents()) == 5, "so many as may be active begin")
        for known in ("wr0ng-wr0ng", w.qbittorrent.password):
            assert known not in w.daemon.log.read_text() + shown.stdout + why.stdout + why.stderr


def test_secrets_are_not_shown(w: World) -> None:
    w.daemon.start()
    for command in (
        ("config", "show"),
        ("config", "check"),
        ("downloader", "show", "box"),
        ("downloader", "test", "box"),
    ):
        result = w.daemon.cli(*command, "--json")
        assert w.qbittorrent.password not in result.stdout + result.stderr
    assert w.qbittorrent.password not in w.daemon.log.read_text()
