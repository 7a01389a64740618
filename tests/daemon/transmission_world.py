"""A real daemon with a real transmission-daemon that somebody else has started, and a web server that seeds."""

from __future__ import annotations

import base64
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.daemon.aria2_world import delivered_files, staging_left
from tests.daemon.instance import Instance, until
from tests.plugins.aria2.swarm import Torrent
from tests.plugins.transmission.live import Transmission, web_seeded
from tests.webserver import WebServer, pattern

FILES = {"a.bin": pattern(100_000), "b.bin": pattern(70_000)[::-1], "sub/c.bin": pattern(50_000)}
DELIVERED = {f"album/{name}": body for name, body in FILES.items()}
FOR_EVER = {"ratio": None, "time": None}


@dataclass(frozen=True, slots=True)
class World:
    daemon: Instance
    transmission: Transmission
    server: WebServer

    def add(self, torrent: Torrent, **params: Any) -> int:
        content = base64.b64encode(torrent.content).decode()
        number: int = self.daemon.call("downloads.add", torrent=content, **params)["id"]
        return number

    def album(self) -> Torrent:
        """Its second file is held back until `let`."""
        torrent = web_seeded(self.server, "album", FILES)
        page = self.server.pages[f"{torrent.hash}/album/b.bin"]
        page.gate, page.gate_at = threading.Event(), 0
        return torrent

    def let(self) -> None:
        for page in self.server.pages.values():
            if page.gate is not None:
                page.gate.set()

    def moving(self, number: int) -> None:
        """Until Transmission fetches it, and the task knows."""
        until(lambda: self.daemon.task(number)["download"]["state"] == "downloading", f"{number} is watched")
        until(lambda: self.server.requests, f"{number} moves")

    def why(self, number: int) -> dict[str, Any]:
        found: dict[str, Any] = self.daemon.call("tasks.why", id=number)
        return found

    def delivered(self, number: int) -> dict[str, Any]:
        """The task: delivered, and seeding on, over there too."""
        self.daemon.finished(number, "delivered")
        until(lambda: self.why(number)["reason"] == "seeding", "why says that it seeds")
        until(lambda: self.daemon.task(number)["status"] == "suspending", "it waits")
        task = self.daemon.task(number)
        assert (task["download"]["phase"], task["retries"]) == ("seeding", 0)
        assert task["download"]["delivered_at"] is not None and task["finished_at"] is None
        self.seeds(task["download"]["handle"]["hash"])
        return task

    def seeds(self, digest: str) -> None:
        """Until Transmission itself says that it does, from our folder."""

        def so() -> bool:
            seen = self.transmission.look(digest)
            return bool(seen and seen["status"] == 6 and ".dlqueue" in seen["downloadDir"])

        until(so, "transmission seeds it")

    def canceled(self, number: int) -> None:
        """What is delivered stays; its transfer goes."""
        before = delivered_files(self.daemon)
        assert self.daemon.call("tasks.cancel", id=number)["status"] == "canceled"
        until(lambda: not self.transmission.hashes() and not staging_left(self.daemon), "it is removed over there")
        assert delivered_files(self.daemon) == before


@contextlib.contextmanager
def world(folder: Path, section: str = "", config: str = "") -> Iterator[World]:
    """The daemon is not started yet.

    :param section: more lines of ``[downloaders.box]``.
    """
    with (
        WebServer() as server,
        Transmission(folder / "transmission") as transmission,
        Instance(folder, box(transmission, section) + config) as daemon,
    ):
        yield World(daemon, transmission, server)


def box(transmission: Transmission, more: str = "", password: str | None = None) -> str:
    """The section of the downloader ``box``."""
    password = transmission.password if password is None else password
    return (
        f'[downloaders.box]\nkind = "transmission"\nurl = "{transmission.url}"\nusername = "{transmission.username}"\n'
        f'password = "{password}"\npoll = "200ms"\n{more}'
    )
