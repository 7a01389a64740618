"""An aria2c of the daemon's own: it comes when it is needed and goes with the daemon, whatever happens to that."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import signal
import urllib.request
from pathlib import Path
from typing import Any

from tests.daemon.aria2_world import Valve, aria2c_of, delivered_files, pieces_known, staging_left, web_seeded
from tests.daemon.instance import DEADLINE, Instance, until
from tests.webserver import WebServer, pattern

MANAGED = '[downloaders.aria2]\nkind = "aria2"\ndht = false\npoll = "200ms"\n'
MIB = 1 << 20


def private(daemon: Instance, name: str = "aria2") -> Path:
    """The folder of the plug-in, where aria2c has its session."""
    return daemon.folder / "state" / "dlqueue" / "downloaders" / name


def settings(daemon: Instance) -> dict[str, str]:
    lines = (private(daemon) / "aria2.conf").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def is_locked(daemon: Instance) -> bool:
    """Does anybody hold the lock on its session?"""
    with (private(daemon) / "aria2.lock").open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def nobody_left(daemon: Instance) -> bool:
    """No process of it, and nobody holds its lock."""
    return not is_locked(daemon) and aria2c_of(daemon.folder) == []


def ask(daemon: Instance, method: str, *params: Any) -> Any:
    """Ask its aria2c, as only somebody can who may read its settings."""
    own = settings(daemon)
    body = {"jsonrpc": "2.0", "id": 1, "method": f"aria2.{method}", "params": [f"token:{own['rpc-secret']}", *params]}
    url = f"http://127.0.0.1:{own['rpc-listen-port']}/jsonrpc"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, json.dumps(body).encode()), timeout=DEADLINE) as answer:
        return json.load(answer)["result"]


def half_done(daemon: Instance, page: Valve) -> int:
    """A download of which half is there, and known to aria2's session and control file."""
    number = daemon.add(page.url)
    page.let(2 * MIB)
    gid = ""

    def has_half() -> bool:
        nonlocal gid
        gid = (daemon.task(number)["download"]["handle"] or {}).get("id", "")
        return bool(gid) and int(ask(daemon, "tellStatus", gid)["completedLength"]) >= 2 * MIB

    until(has_half, "half of it is there")
    until(lambda: gid in (private(daemon) / "session").read_text(), "its session knows it")
    until(lambda: pieces_known(daemon.destination) == 2, "its control file knows it")
    return number


def test_it_comes_when_it_is_needed_and_goes_with_the_daemon(tmp_path: Path) -> None:
    body = pattern(300_000)
    with WebServer() as server, Instance(tmp_path, MANAGED) as daemon:
        daemon.start()
        until(lambda: daemon.call("downloaders.get", name="aria2")["version"], "its version is known")
        listed = daemon.cli("downloader", "ls").stdout
        assert listed.startswith("aria2\taria2\tup\taria2 1.3"), listed
        assert aria2c_of(tmp_path) == [], "nobody has needed it yet"
        done = daemon.finished(daemon.add(server.put("file.bin", body)))
        assert (done["status"], done["download"]["downloader"]) == ("completed", "aria2")
        assert daemon.delivered() == {"file.bin": body}
        (process,) = aria2c_of(tmp_path)
        assert is_locked(daemon), "for the next daemon to wait until it has ended"
        secret = settings(daemon)["rpc-secret"].encode()
        assert secret not in Path(f"/proc/{process}/cmdline").read_bytes()
        assert secret not in Path(f"/proc/{process}/environ").read_bytes()
        assert (private(daemon) / "aria2.conf").stat().st_mode & 0o777 == 0o600
        assert daemon.stop() == 0
        assert nobody_left(daemon)
        assert secret not in daemon.log.read_bytes()


def test_the_daemon_is_killed_and_started_at_once(tmp_path: Path) -> None:
    body = pattern(4 * MIB)
    with WebServer() as server, Instance(tmp_path, MANAGED) as daemon:
        page = Valve(server, "slow.bin", body)
        daemon.start()
        number = half_done(daemon, page)
        (first,) = aria2c_of(tmp_path)
        daemon.kill()
        daemon.start()
        # It notices within a second, and must not fetch the rest before.
        until(lambda: first not in aria2c_of(tmp_path), "the first aria2c ends")
        page.open()
        seen: set[int] = set()

        def ended() -> bool:
            running = aria2c_of(tmp_path)
            seen.update(running)
            assert len(running) <= 1, "one aria2c at a time"
            return bool(daemon.task(number)["finished_at"])

        until(ended, "the download goes on")
        done = daemon.task(number)
        assert (done["status"], done["retries"]) == ("completed", 0), done["error"]
        assert daemon.delivered() == {"slow.bin": body}
        assert len(seen - {first}) == 1
        assert any("Range" in asked.headers for asked in server.asked("slow.bin")), "it went on from where it was"
        assert daemon.stop() == 0
        assert nobody_left(daemon)


def test_a_killed_daemon_takes_it_along(tmp_path: Path) -> None:
    with WebServer() as server, Instance(tmp_path, MANAGED) as daemon:
        daemon.start()
        half_done(daemon, Valve(server, "slow.bin", pattern(4 * MIB)))
        daemon.kill()
        until(lambda: nobody_left(daemon), "its aria2c has noticed")


def test_its_aria2c_is_killed(tmp_path: Path) -> None:
    body = pattern(4 * MIB)
    with WebServer() as server, Instance(tmp_path, MANAGED) as daemon:
        page = Valve(server, "slow.bin", body)
        daemon.start()
        number = half_done(daemon, page)
        (process,) = aria2c_of(tmp_path)
        page.open()
        os.kill(process, signal.SIGKILL)
        done = daemon.finished(number)
        assert (done["status"], done["retries"]) == ("completed", 0), done["error"]
        assert daemon.delivered() == {"slow.bin": body}


def test_stopped_in_the_middle(tmp_path: Path) -> None:
    """An orderly stop: the session is saved, and the next daemon goes on with it."""
    body = pattern(4 * MIB)
    with WebServer() as server, Instance(tmp_path, MANAGED) as daemon:
        page = Valve(server, "slow.bin", body)
        daemon.start()
        number = half_done(daemon, page)
        assert daemon.stop() == 0
        assert nobody_left(daemon)
        page.open()
        daemon.start()
        done = daemon.finished(number)
        assert (done["status"], done["retries"]) == ("completed", 0), done["error"]
        assert daemon.delivered() == {"slow.bin": body}
        assert server.asked("slow.bin")[-1].headers["Range"].startswith(f"bytes={2 * MIB}-")


def test_two_daemons_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    body = pattern(4 * MIB)
    with WebServer() as server, Instance(tmp_path / "one", MANAGED) as one, Instance(tmp_path / "two", MANAGED) as two:
        page = Valve(server, "slow.bin", body)
        tasks = [half_done(daemon.start(), page) for daemon in (one, two)]
        assert len(aria2c_of(tmp_path / "one")) == len(aria2c_of(tmp_path / "two")) == 1
        assert settings(one)["rpc-listen-port"] != settings(two)["rpc-listen-port"]
        page.open()
        for daemon, number in zip((one, two), tasks, strict=True):
            assert daemon.finished(number)["status"] == "completed"
            assert daemon.delivered() == {"slow.bin": body}
        assert one.stop() == 0
        assert nobody_left(one)
        assert len(aria2c_of(tmp_path / "two")) == 1, "the other one goes on"


def test_without_any_downloader_section(tmp_path: Path) -> None:
    """Two are there: http, which takes what it can, and aria2 for the rest."""
    files = {"a.bin": pattern(50_000), "b.bin": pattern(20_000)}
    with WebServer() as server, Instance(tmp_path) as daemon:
        daemon.start()
        assert [line.split("\t")[:2] for line in daemon.cli("downloader", "ls").stdout.splitlines()] == [
            ["http", "http"],
            ["aria2", "aria2"],
        ]
        plain = daemon.finished(daemon.add(server.put("file.bin", b"plain")))
        assert plain["download"]["downloader"] == "http"
        assert aria2c_of(tmp_path) == []
        torrent = web_seeded(server, "album", files)
        content = base64.b64encode(torrent.content).decode()
        done = daemon.finished(daemon.call("downloads.add", torrent=content, seed=0)["id"])
        assert (done["status"], done["download"]["downloader"]) == ("completed", "aria2"), done["error"]
        assert delivered_files(daemon) == {
            "file.bin": b"plain",
            "album/a.bin": files["a.bin"],
            "album/b.bin": files["b.bin"],
        }
        assert staging_left(daemon) == []
        assert daemon.stop() == 0
        assert nobody_left(daemon)


def test_taken_out_of_the_configuration(tmp_path: Path) -> None:
    """Its aria2c goes too."""
    with WebServer() as server, Instance(tmp_path, MANAGED) as daemon:
        daemon.start()
        assert daemon.finished(daemon.add(server.put("file.bin", b"1")))["status"] == "completed"
        assert len(aria2c_of(tmp_path)) == 1
        text = daemon.config.read_text()
        daemon.config.write_text(text.replace(MANAGED, '[downloaders.web]\nkind = "http"\n'))
        daemon.call("daemon.reload")
        assert nobody_left(daemon)
        assert daemon.finished(daemon.add(server.put("file.bin", b"2")))["download"]["downloader"] == "web"
