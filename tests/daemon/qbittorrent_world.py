"""A real daemon with a real qBittorrent that somebody else has started, and a web server that seeds."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.daemon.instance import Instance, until
from tests.plugins.aria2.swarm import Torrent
from tests.plugins.qbittorrent.live import Qbittorrent
from tests.webserver import WebServer


@dataclass(frozen=True, slots=True)
class World:
    daemon: Instance
    qbittorrent: Qbittorrent
    server: WebServer

    def add(self, torrent: Torrent, **params: Any) -> int:
        content = base64.b64encode(torrent.content).decode()
        number: int = self.daemon.call("downloads.add", torrent=content, **params)["id"]
        return number

    def why(self, number: int) -> dict[str, Any]:
        found: dict[str, Any] = self.daemon.call("tasks.why", id=number)
        return found

    def moving(self, torrent: Torrent) -> None:
        """Until some of it is there."""
        until(lambda: self.qbittorrent.torrents().get(torrent.hash, {}).get("completed", 0) > 0, "first bytes")

    def left(self) -> tuple[set[str], list[str]]:
        """What qBittorrent has: torrents, and tags."""
        return set(self.qbittorrent.torrents()), self.qbittorrent.call("torrents/tags")


@contextlib.contextmanager
def world(folder: Path, *, section: str = "", session: Mapping[str, str] | None = None) -> Iterator[World]:
    """The daemon is not started yet.

    :param section: more lines of ``[downloaders.box]``.
    :param session: see `Qbittorrent`.
    """
    with WebServer() as server, Qbittorrent(folder / "qbittorrent", session) as qbittorrent:
        with Instance(folder, box(qbittorrent, section)) as daemon:
            yield World(daemon, qbittorrent, server)


def box(qbittorrent: Qbittorrent, more: str = "", password: str | None = None) -> str:
    """The section of the downloader ``box``."""
    poll = "" if "poll" in more else 'poll = "200ms"\n'
    return (
        f'[downloaders.box]\nkind = "qbittorrent"\nurl = "{qbittorrent.url}"\nusername = "{qbittorrent.username}"\n'
        f'password = "{qbittorrent.password if password is None else password}"\n{poll}{more}'
    )
