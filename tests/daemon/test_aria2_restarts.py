"""An aria2 that runs already, with the daemon or the aria2 dying: one transfer, the bytes right, no retry spent."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path

import pytest

from tests.daemon.aria2_world import Valve, World, both_versions, staging_left, world
from tests.daemon.instance import until
from tests.webserver import pattern

POINTS = ["keyed", "created", "handled", "whole", "manifest", "renamed", "removed", "cleaned"]
MIB = 1 << 20


def delivered_once(w: World, number: int, body: bytes) -> None:
    done = w.daemon.finished(number)
    assert done["status"] == "completed", done["error"]
    assert (done["retries"], done["download"]["downloader"]) == (0, "box")
    name = Path(done["download"]["location"]).name
    assert w.daemon.delivered() == {name: body}, "one file, and nothing of staging is left"
    assert w.daemon.call("tasks.count") == 1
    until(lambda: not w.transfers(), "aria2 is left as it was")


def classes(w: World, number: int) -> list[str | None]:
    """How the attempts of the task ended."""
    return [attempt["error_class"] for attempt in w.daemon.task(number)["download"]["attempts"]]


# -- the daemon dies --------------------------------------------------------------------------------------------------


@both_versions
def test_three_kills_of_the_daemon_in_one_transfer(tmp_path: Path, version: str) -> None:
    body = pattern(4 * MIB)
    with world(tmp_path, version=version) as w:
        page = Valve(w.server, "slow.bin", body)
        w.daemon.start()
        number = w.daemon.add(page.url)
        gid = w.handle(number)
        for part in (1, 2, 3):
            page.let(part * MIB)
            until(partial(_has, w, gid, part * MIB), f"{part} MiB are there")
            w.daemon.kill()
            w.daemon.start()
            assert w.transfers() == {gid}
        page.open()
        delivered_once(w, number, body)
        assert len(w.server.asked("slow.bin")) == 1
        assert w.server.served("slow.bin") <= len(body) * 1.05
        assert classes(w, number) == [None]


def _has(w: World, gid: str, size: int) -> bool:
    return int(w.aria2.call("tellStatus", gid)["completedLength"]) >= size


@pytest.mark.parametrize("point", POINTS)
def test_the_daemon_killed_at_every_point(tmp_path: Path, point: str) -> None:
    body = pattern(300_000)
    with world(tmp_path) as w:
        w.daemon.start(failpoint=point)
        number = w.daemon.add(w.server.put("file.bin", body))
        w.daemon.wait_killed()
        w.daemon.start()
        delivered_once(w, number, body)
        assert w.server.served("file.bin") == len(body), "one transfer"


# -- aria2 dies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "session"), [("system", "kept"), ("bundled", "lost")])
def test_aria2_killed_for_a_while(tmp_path: Path, version: str, session: str) -> None:
    body = pattern(4 * MIB)
    with world(tmp_path, version=version) as w:
        page = Valve(w.server, "slow.bin", body)
        w.daemon.start()
        number = w.daemon.add(page.url)
        gid = w.handle(number)
        page.let(2 * MIB)
        w.remembered(gid, 2)
        w.aria2.stop()
        until(lambda: w.why(number)["reason"] == "downloader_unavailable", "the task waits for box")
        # A question that was on its way is not refused but cut off; the next one tells.
        until(lambda: "Connection refused" in w.why(number)["message"], "box has been asked again")
        why = w.why(number)
        assert (why["status"], why["blocking"]) == ("suspending", "box")
        said = w.daemon.cli("why", str(number)).stdout
        assert "box" in said and "does not answer" in said and "Connection refused" in said
        assert w.daemon.task(number)["retries"] == 0
        page.open()
        if session == "lost":
            (w.aria2.home / "session").write_text("")
        w.aria2.start()
        delivered_once(w, number, body)
        assert classes(w, number) == ([None] if session == "kept" else ["lost", None])
        assert w.server.asked("slow.bin")[-1].headers["Range"].startswith(f"bytes={2 * MIB}-"), "it went on from there"
        told = [line for line in w.daemon.log_lines() if "downloader box" in line]
        assert ["is down" in line for line in told] == [True, False] and "is back" in told[1]


@pytest.mark.parametrize("session", ["kept", "lost"])
def test_aria2_killed_and_back_within_one_poll(tmp_path: Path, session: str) -> None:
    body = pattern(4 * MIB)
    with world(tmp_path, section='poll = "1h"\n') as w:
        page = Valve(w.server, "slow.bin", body)
        w.daemon.start()
        number = w.daemon.add(page.url)
        gid = w.handle(number)
        page.let(2 * MIB)
        w.remembered(gid, 2)
        w.aria2.stop()
        if session == "lost":
            (w.aria2.home / "session").write_text("")
        w.aria2.start()
        page.open()
        delivered_once(w, number, body)
        assert classes(w, number) == ([None] if session == "kept" else ["lost", None])


def test_everything_dies_at_once(tmp_path: Path) -> None:
    body = pattern(4 * MIB)
    with world(tmp_path) as w:
        page = Valve(w.server, "slow.bin", body)
        w.daemon.start()
        number = w.daemon.add(page.url)
        gid = w.handle(number)
        page.let(2 * MIB)
        w.remembered(gid, 2)
        w.daemon.kill()
        w.aria2.restart()
        page.open()
        w.daemon.start()
        delivered_once(w, number, body)


def test_added_while_aria2_is_away(tmp_path: Path) -> None:
    body = pattern(100_000)
    with world(tmp_path) as w:
        w.aria2.stop()
        w.daemon.start()
        number = w.daemon.add(w.server.put("file.bin", body))
        until(lambda: w.why(number)["reason"] == "downloader_unavailable", "the task waits")
        assert "box" in w.why(number)["message"]
        w.aria2.start()
        delivered_once(w, number, body)
        assert w.server.served("file.bin") == len(body)


def test_canceled_while_aria2_is_away(tmp_path: Path) -> None:
    """Canceled at once; what is to be removed is removed when aria2 comes back, session and all."""
    with world(tmp_path) as w:
        page = Valve(w.server, "slow.bin", pattern(4 * MIB))
        w.daemon.start()
        number = w.daemon.add(page.url)
        gid = w.handle(number)
        page.let(2 * MIB)
        w.remembered(gid, 2)
        w.aria2.stop()
        page.let(0)
        assert w.daemon.call("tasks.cancel", id=number, delete_data=True)["status"] == "canceled"
        w.aria2.start()
        until(lambda: not w.transfers(), "it is removed there")
        until(lambda: not staging_left(w.daemon), "nothing of it is left")
        w.aria2.restart()
        assert w.transfers() == set(), "and nothing revives it"


def test_aria2_stopped_politely_in_the_middle(tmp_path: Path) -> None:
    """A stop of aria2 is no failure of the download: its entry comes back from the session."""
    body = pattern(4 * MIB)
    with world(tmp_path) as w:
        page = Valve(w.server, "slow.bin", body)
        w.daemon.start()
        number = w.daemon.add(page.url)
        w.handle(number)
        page.let(2 * MIB)
        until(lambda: w.server.served("slow.bin") >= 2 * MIB, "half of it came")
        w.aria2.stop(signal.SIGTERM)
        until(lambda: w.why(number)["reason"] == "downloader_unavailable", "the task waits")
        page.open()
        w.aria2.start()
        delivered_once(w, number, body)
