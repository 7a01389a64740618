"""yt-dlp behind a real daemon: only where it is asked for, and through any end of the daemon."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.daemon.aria2_world import delivered_files, staging_left
from tests.daemon.instance import Instance, until
from tests.webserver import WebServer, pattern

BODY = pattern(400_000)
BOTH = '[downloaders.tube]\nkind = "ytdlp"\n[downloaders.web]\nkind = "http"\n'
PAGE = b'<html><head><title>film</title></head><body><video src="/film.mp4"></video></body></html>'


def test_it_is_used_where_it_is_asked_for(tmp_path: Path) -> None:
    with WebServer() as server, Instance(tmp_path, BOTH) as daemon:
        server.put("film.mp4", BODY)
        page = server.put("page.html", PAGE, headers={"Content-Type": "text/html"})
        daemon.start()
        plain = daemon.finished(daemon.add(page))
        assert (plain["status"], plain["download"]["downloader"]) == ("completed", "web")
        asked = daemon.finished(daemon.add(page, downloader="tube", options={"format": "b"}))
        assert (asked["status"], asked["download"]["downloader"]) == ("completed", "tube"), asked["error"]
        found = delivered_files(daemon)
        assert found.pop("page.html") == PAGE
        assert list(found.values()) == [BODY]
        refused = daemon.cli("add", page, "--on", "tube", "--header", "Authorization: s3cret", "--wait")
        assert refused.returncode == 5 and "Authorization is not given" in refused.stderr
        assert "s3cret" not in daemon.log.read_text() + refused.stderr
        listed = daemon.cli("downloader", "ls").stdout
        assert "tube" in listed and "yt-dlp 20" in listed


def test_without_a_section_it_is_not_there(tmp_path: Path) -> None:
    with Instance(tmp_path) as daemon:
        daemon.start()
        names = [row["name"] for row in daemon.call("downloaders.list")["items"]]
        assert "http" in names and "ytdlp" not in names


def test_the_daemon_killed_in_the_middle(tmp_path: Path) -> None:
    with WebServer() as server, Instance(tmp_path, BOTH) as daemon:
        gate = threading.Event()
        url = server.put("film.mp4", BODY, gate=gate, gate_at=200_000)
        daemon.start()
        number = daemon.add(url, downloader="tube")
        staging = daemon.destination / ".dlqueue"
        until(lambda: any(part.stat().st_size for part in staging.rglob("*.part")), "its first bytes")
        until(lambda: daemon.task(number)["download"]["state"] == "downloading", "somebody has seen them")
        daemon.kill()
        gate.set()
        daemon.start()
        done = daemon.finished(number)
        assert (done["status"], done["retries"]) == ("completed", 0), done["error"]
        assert delivered_files(daemon) == {"film.mp4": BODY}
        assert staging_left(daemon) == []
        assert server.asked("film.mp4")[-1].headers["Range"], "it went on where it was"


def test_pause_resume_and_cancel(tmp_path: Path) -> None:
    with WebServer() as server, Instance(tmp_path, BOTH) as daemon:
        gate = threading.Event()
        url = server.put("film.mp4", BODY, gate=gate, gate_at=200_000)
        daemon.start()
        number = daemon.add(url, downloader="tube")
        until(lambda: daemon.task(number)["download"]["state"] == "downloading", "it runs")
        assert daemon.cli("pause", str(number)).returncode == 0
        assert daemon.cli("resume", str(number)).returncode == 0
        until(lambda: daemon.task(number)["download"]["state"] == "downloading", "it runs again")
        assert daemon.cli("cancel", str(number), "--delete-data").returncode == 0
        until(lambda: not staging_left(daemon), "nothing is left")
        assert delivered_files(daemon) == {}
        gate.set()
