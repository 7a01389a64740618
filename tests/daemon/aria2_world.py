"""A real daemon with a real aria2c that somebody else has started, and a web server that both can reach."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bencode2
import pytest

from tests.daemon.instance import Instance, everything, until
from tests.plugins.aria2.conftest import named
from tests.plugins.aria2.live import Aria2
from tests.plugins.aria2.swarm import Torrent, make_torrent
from tests.webserver import WebServer

both_versions = pytest.mark.parametrize("version", ["system", "bundled"])
"""The test runs with Debian's aria2c, and with that of the extra `bundled`."""


def command(version: str) -> Path:
    return named(version)


@dataclass(frozen=True, slots=True)
class World:
    daemon: Instance
    aria2: Aria2
    server: WebServer

    def add(self, torrent: Torrent, **params: Any) -> int:
        content = base64.b64encode(torrent.content).decode()
        number: int = self.daemon.call("downloads.add", torrent=content, **params)["id"]
        return number

    def handle(self, number: int) -> str:
        """The GID of a task's transfer, once aria2 has it."""

        def gid() -> str:
            found = (self.daemon.task(number)["download"]["handle"] or {}).get("id")
            return str(found or "")

        until(gid, f"task {number} has a transfer")
        return gid()

    def remembered(self, gid: str, pieces: int) -> None:
        """Until an aria2 that is killed now would go on with this transfer: its session knows it, and its control file
        so many pieces of 1 MiB."""
        session = self.aria2.home / "session"
        until(lambda: gid in session.read_text(), f"{gid} is in aria2's session")
        folder = Path(self.aria2.call("getOption", gid)["dir"])
        until(lambda: pieces_known(folder) == pieces, f"aria2's control file knows {pieces} pieces")

    def why(self, number: int) -> dict[str, Any]:
        found: dict[str, Any] = self.daemon.call("tasks.why", id=number)
        return found

    def transfers(self) -> set[str]:
        return self.aria2.gids()


def pieces_known(folder: Path) -> int:
    """How many of its one transfer an aria2 that is killed now would not fetch again, as its control file says. (The
    format is in aria2's technical notes.)"""
    for control in everything(folder):
        if control.suffix == ".aria2":
            with contextlib.suppress(OSError):
                content = control.read_bytes()
                length = int.from_bytes(content[30:34], "big")
                return int.from_bytes(content[34 : 34 + length], "big").bit_count()
    return 0


@contextlib.contextmanager
def world(folder: Path, *options: str, version: str = "system", section: str = "", config: str = "") -> Iterator[World]:
    """The daemon is not started yet.

    :param options: more arguments of aria2c.
    :param section: more lines of ``[downloaders.box]``.
    """
    with (
        WebServer() as server,
        Aria2(command(version), folder / "aria2", *options) as aria2,
        Instance(folder, box(aria2, section) + config) as daemon,
    ):
        yield World(daemon, aria2, server)


def box(aria2: Aria2, more: str = "", secret: str | None = None) -> str:
    """The section of the downloader ``box``."""
    poll = "" if "poll" in more else 'poll = "200ms"\n'
    secret = aria2.secret if secret is None else secret
    return f'[downloaders.box]\nkind = "aria2"\nurl = "{aria2.url}"\nsecret = "{secret}"\n{poll}{more}'


class Valve:
    """A page of the web server that comes as far as it is let."""

    def __init__(self, server: WebServer, name: str, body: bytes, **how: Any) -> None:
        self.url = server.put(name, body, gate=threading.Event(), gate_at=0, **how)
        self._page = server.pages[name]

    def let(self, size: int) -> None:
        """So many bytes of each answer, and no more."""
        former = self._page.gate
        self._page.gate_at, self._page.gate = size, threading.Event()
        if former is not None:
            former.set()

    def open(self) -> None:
        if self._page.gate is not None:
            self._page.gate.set()


def committed_state(daemon: Instance, number: int) -> dict[str, Any]:
    """What a task has written down."""
    with contextlib.closing(sqlite3.connect(daemon.folder / "state" / "dlqueue" / "dlqueue.db")) as database:
        (text,) = database.execute("SELECT state FROM task_data WHERE task_id = ?", (number,)).fetchone()
    state: dict[str, Any] = json.loads(text or "{}")
    return state


def staging_left(daemon: Instance) -> list[str]:
    """Everything in the staging folder of the destination, and that folder itself."""
    return [name for where, _, files in os.walk(daemon.destination / ".dlqueue") for name in (where, *files)]


def delivered_files(daemon: Instance) -> dict[str, bytes]:
    """What is in the destination, by path; staging and folders do not count."""
    return {
        name: body
        for name, body in daemon.delivered().items()
        if not name.startswith(".dlqueue") and (daemon.destination / name).is_file()
    }


def is_empty(daemon: Instance) -> bool:
    """Is nothing in the destination, no staging folder either?"""
    return not any(daemon.destination.iterdir())


def web_seeded(server: WebServer, name: str, files: dict[str, bytes], tracker: str | None = None) -> Torrent:
    """A torrent whose content comes from the web server at once: no peer has to be found."""
    plain = make_torrent(name, files) if tracker is None else make_torrent(name, files, tracker)
    for path, body in files.items():
        server.put(f"{plain.hash}/{name}/{path}", body)
    content: dict[bytes, Any] = bencode2.bdecode(plain.content)
    content[b"url-list"] = [server.url(f"{plain.hash}/").encode()]
    return replace(plain, content=bencode2.bencode(content))


def aria2c_of(folder: Path) -> list[int]:
    """The processes that aria2c runs as with files below this folder; others of this machine do not count."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
                if b"aria2c" in arguments[0] and any(os.fsencode(folder) in argument for argument in arguments):
                    found.append(int(entry.name))
    return found
