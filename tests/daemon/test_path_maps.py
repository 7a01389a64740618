"""Real downloaders that know folders by other names than dlqueue does.

Neither a container nor a mount is needed for that: the name that the downloader is told is a symbolic link to the
folder that dlqueue is told, and dlqueue finds everything by its own name. Where the map has to be wrong, dlqueue is
told another folder.
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import aria2_world, qbittorrent_world, transmission_world
from tests.daemon.instance import DEADLINE, Instance, as_json, until
from tests.plugins.aria2.live import Aria2
from tests.plugins.qbittorrent.live import Qbittorrent
from tests.plugins.transmission.live import Transmission, web_seeded
from tests.webserver import WebServer, pattern

FILES = {"a.bin": pattern(100_000), "sub/b.bin": pattern(70_000)[::-1]}
DELIVERED = {f"album/{name}": body for name, body in FILES.items()}
KINDS = ("aria2", "qbittorrent", "transmission")


@dataclass(frozen=True, slots=True)
class There:
    daemon: Instance
    server: WebServer
    transfers: Callable[[], object]
    """What the downloader has."""
    folder: Path
    """Where it writes, as dlqueue knows it."""

    def add(self, **params: Any) -> int:
        content = base64.b64encode(web_seeded(self.server, "album", FILES).content).decode()
        number: int = self.daemon.call("downloads.add", torrent=content, **params)["id"]
        return number

    def here(self) -> dict[str, bytes]:
        """Files in its folder, below the folder of the transfer."""
        found: dict[str, bytes] = {}
        for where, _, names in os.walk(self.folder):
            for path in (Path(where) / name for name in names):
                # The downloader may be removing it, or renaming a file of its own, just now.
                with contextlib.suppress(FileNotFoundError):
                    found[str(Path(*path.relative_to(self.folder).parts[1:]))] = path.read_bytes()
        return found

    def nothing_left(self) -> None:
        until(lambda: not self.transfers(), "nothing is left in the downloader")
        until(lambda: list(self.folder.iterdir()) == [], "nothing is left in its folder")


@contextlib.contextmanager
def there(folder: Path, kind: str, *, mounted: str = "mounted", more: str = "") -> Iterator[There]:
    """
    :param mounted: what dlqueue believes to be the downloader's folder.
    """
    real = folder / "mounted" / "dl"
    real.mkdir(parents=True)
    (folder / "elsewhere" / "dl").mkdir(parents=True)
    (folder / "over-there").symlink_to(folder / "mounted")
    section = (
        f'directory = "{folder}/over-there/dl"\n{more}'
        f'paths = [{{ remote = "{folder}/over-there", local = "{folder}/{mounted}" }}]\n'
    )
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(WebServer())
        transfers: Callable[[], object]
        if kind == "aria2":
            aria2 = stack.enter_context(Aria2(aria2_world.command("system"), folder / "aria2"))
            config, transfers = aria2_world.box(aria2, section), aria2.gids
        elif kind == "qbittorrent":
            qbittorrent = stack.enter_context(Qbittorrent(folder / "qbittorrent", None))
            config, transfers = qbittorrent_world.box(qbittorrent, section), qbittorrent.torrents
        else:
            transmission = stack.enter_context(Transmission(folder / "transmission"))
            config, transfers = transmission_world.box(transmission, section), transmission.hashes
        daemon = stack.enter_context(Instance(folder, config))
        yield There(daemon.start(), server, transfers, real)


def path_map(daemon: Instance) -> dict[str, Any]:
    (found,) = [c for c in daemon.call("downloaders.test", name="box")["checks"] if c["name"] == "path map"]
    return dict(found)


@pytest.mark.parametrize("kind", KINDS)
def test_the_map_is_proven_and_used(tmp_path: Path, kind: str) -> None:
    with there(tmp_path, kind) as at:
        result = at.daemon.cli("downloader", "test", "box", "--json")
        answer = as_json(result)
        assert result.returncode == 0 and answer["ok"] is True, answer
        (found,) = [check for check in answer["checks"] if check["name"] == "path map"]
        assert "writes where dlqueue looks" in found["message"] and f"{tmp_path}/over-there/dl" in found["message"]
        at.nothing_left()
        number = at.add(seed=0)
        done = at.daemon.finished(number)
        assert done["status"] == "completed", done["error"]
        assert done["download"]["location"] == str(at.daemon.destination / "album")
        assert aria2_world.delivered_files(at.daemon) == DELIVERED
        at.nothing_left()


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_map_is_found_out(tmp_path: Path, kind: str) -> None:
    with there(tmp_path, kind, mounted="elsewhere") as at:
        found = path_map(at.daemon)
        assert found["ok"] is False and "dlqueue does not find it in" in found["message"], found
        # The link is in sight here, so the names that the downloader has would do.
        assert "same names" in found["cure"]
        assert at.daemon.cli("downloader", "test", "box").returncode == 1
        at.nothing_left()
        assert list((tmp_path / "elsewhere" / "dl").iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_it_stays_where_the_downloader_has_put_it(tmp_path: Path, kind: str) -> None:
    with there(tmp_path, kind, more='delivery = "none"\n') as at:
        number = at.add(seed={"ratio": None, "time": None})
        done = at.daemon.finished(number, "delivered")
        location = Path(done["download"]["location"])
        assert location.is_relative_to(at.folder) and location.name == "album"
        assert DELIVERED.items() <= at.here().items() and aria2_world.is_empty(at.daemon)
        until(lambda: at.daemon.task(number)["download"]["phase"] == "seeding", "it seeds")
        at.daemon.call("tasks.cancel", id=number)
        until(lambda: not at.transfers(), "it is removed over there")
        until(lambda: at.here() == DELIVERED, "what was delivered stays, and nothing else")
        at.daemon.call("tasks.remove", id=number, delete_data=True)
        at.nothing_left()


@pytest.mark.parametrize("kind", KINDS)
def test_what_two_tasks_have_where_it_is_stays_for_the_second(tmp_path: Path, kind: str) -> None:
    """The second is attached to the transfer of the first, and both are delivered in the folder of the first."""
    with there(tmp_path, kind, more='delivery = "none"\n') as at:
        places = []
        for name in ("one", "two"):
            number = at.add(seed={"ratio": None, "time": None}, directory=str(at.daemon.destination / name))
            places.append(at.daemon.finished(number, "delivered")["download"]["location"])
        assert places[0] == places[1]
        removed = at.daemon.cli("rm", "1", "--delete-data")
        assert removed.returncode == 0
        assert f"kept: {places[0]}: task 2 uses it" in removed.stderr
        until(lambda: not at.transfers(), "its transfer is removed")
        assert DELIVERED.items() <= at.here().items()


@pytest.mark.parametrize("kind", KINDS)
def test_the_daemon_killed_while_it_creates_and_while_it_delivers(tmp_path: Path, kind: str) -> None:
    with there(tmp_path, kind) as at:
        at.daemon.stop()
        at.daemon.start(failpoint="created")
        number = at.add(seed=0)
        at.daemon.wait_killed()
        at.daemon.start(failpoint="renamed")
        at.daemon.wait_killed()
        at.daemon.start()
        done = at.daemon.finished(number)
        assert (done["status"], done["retries"]) == ("completed", 0), done["error"]
        assert len(done["download"]["attempts"]) == 1, "it was adopted"
        assert aria2_world.delivered_files(at.daemon) == DELIVERED
        at.nothing_left()


@pytest.mark.parametrize("kind", KINDS)
def test_a_proof_that_a_kill_interrupts_is_removed_at_the_next_start(tmp_path: Path, kind: str) -> None:
    with there(tmp_path, kind) as at:
        at.daemon.stop()
        at.daemon.start(failpoint="proving")
        asked = at.daemon.begin_cli("downloader", "test", "box")
        at.daemon.wait_killed()
        asked.communicate(timeout=DEADLINE)
        assert list(at.folder.iterdir()) != []
        at.daemon.start()
        at.nothing_left()
