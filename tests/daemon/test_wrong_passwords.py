"""A downloader that refuses our login is told as such wherever one looks, and not as one that does not answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.daemon import qbittorrent_world, transmission_world
from tests.daemon.aria2_world import box as aria2_box
from tests.daemon.aria2_world import command
from tests.daemon.instance import Instance, until
from tests.plugins.aria2.live import Aria2
from tests.plugins.aria2.swarm import make_torrent
from tests.plugins.qbittorrent.live import Qbittorrent
from tests.plugins.transmission.live import Transmission

MAGNET = make_torrent("album", b"content").magnet
WRONG = "wr0ng-pass"


def box(kind: str, folder: Path) -> tuple[Aria2 | Qbittorrent | Transmission, str]:
    """The program, and a section ``box`` of it with a wrong password."""
    if kind == "aria2":
        aria2 = Aria2(command("system"), folder / "program")
        return aria2, aria2_box(aria2, secret=WRONG)
    if kind == "qbittorrent":
        qbittorrent = Qbittorrent(folder / "program")
        return qbittorrent, qbittorrent_world.box(qbittorrent, password=WRONG)
    transmission = Transmission(folder / "program")
    return transmission, transmission_world.box(transmission, password=WRONG)


@pytest.mark.parametrize("kind", ["aria2", "qbittorrent", "transmission"])
def test_it_is_told(kind: str, tmp_path: Path) -> None:
    program, section = box(kind, tmp_path)
    more = '[downloaders.web]\nkind = "http"\n[[routes]]\nuse = ["box", "web"]\n'
    with program, Instance(tmp_path, section + more) as daemon:
        daemon.start()
        number = daemon.add(MAGNET)
        until(
            lambda: daemon.call("tasks.why", id=number)["reason"] == "downloader_unavailable", "it waits for its login"
        )
        until(lambda: daemon.call("downloaders.get", name="box")["health"] == "down", "it was asked")
        later = daemon.add(make_torrent("later", b"content").magnet)  # which begins when that is known
        until(lambda: daemon.call("tasks.why", id=later)["reason"] == "downloader_unavailable", "so does another")
        for said in (
            daemon.cli("why", str(number)).stdout,
            daemon.cli("downloader", "ls").stdout,
            daemon.cli("add", "--dry-run", MAGNET).stdout,
            daemon.cli("show", str(number)).stdout,
            json.dumps(daemon.task(number)["progress"]),
            json.dumps(daemon.task(later)["progress"]),
        ):
            assert "refuses our" in said and "does not answer" not in said, said
        tested = daemon.cli("downloader", "test", "box")
        assert tested.returncode == 1
        assert "refuses our" in tested.stdout and "correct the user name, password or secret" in tested.stdout
        assert "does not answer" not in tested.stdout + tested.stderr
        assert WRONG not in daemon.log.read_text()
