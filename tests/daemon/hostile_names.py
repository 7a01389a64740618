"""Torrents whose names want to be elsewhere, whatever program fetches them."""

from __future__ import annotations

import base64
import hashlib
from itertools import count
from pathlib import Path
from typing import Any

import bencode2

from dlqueue.client import RpcError
from tests.daemon.instance import Instance, everything
from tests.daemon.test_aria2_hostile import BODY, serve_everything
from tests.webserver import WebServer

ODD = [
    "..", ".", "../escaped", "../../../../../escaped", "/tmp/escaped", "~/escaped", "a/../../escaped", "..\\escaped",
    "\\escaped",
    "C:\\escaped", "NUL", "escaped\0.bin", "escaped\n.bin", "\x1b[31mescaped", "\u202egnp.exe", "x" * 255, "x" * 300,
    "ü" * 130, "-rf", "$(touch escaped)", " ", "", ".profile", ".dlqueue", "escaped.!qB", "escaped.parts",
    "escaped.part", "\udcff", "...", "\u2028escaped", "\r\nescaped", "escaped.", "a:b*c?d|e", "~root",
]  # fmt: skip
"""Names of files and folders."""


def infos() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for odd in (name.encode(errors="surrogateescape") for name in ODD):
        made.append({"name": odd, "length": 5000})
        made.append({"name": odd, "files": [{"path": ["a.bin"], "length": 5000}]})
        made.append({"name": "album", "files": [{"path": [odd], "length": 5000}]})
        made.append({"name": "album", "files": [{"path": [odd, odd, "escaped"], "length": 5000}]})
        made.append({"name": odd, "files": [{"path": [odd], "length": 5000}]})
        made.append({"name": "album", "files": [{"path": ["a", odd], "length": 5000}, {"path": [odd], "length": 0}]})
    return made


def add_all(daemon: Instance, server: WebServer) -> dict[int, Path]:
    """Tasks, each with a destination of its own. What dlqueue refuses itself is not among them."""
    serve_everything(server)
    numbers = count()
    ids: dict[int, Path] = {}
    for info in infos():
        number = next(numbers)
        info |= {"piece length": 16384, "pieces": hashlib.sha1(BODY).digest(), "x": number}
        content = bencode2.bencode({"info": info, "url-list": [server.url("seed/")]})
        folder = daemon.destination / str(number)
        try:
            task = daemon.call(
                "downloads.add", torrent=base64.b64encode(content).decode(), seed=0, directory=str(folder)
            )
        except RpcError as error:
            assert error.code == -32602, error
            continue
        ids[task["id"]] = folder
    return ids


def is_tame(task: dict[str, Any], folder: Path) -> None:
    """One thing came of it, in its folder, with a name that can be shown; and no link."""
    location = Path(task["download"]["location"])
    assert location.parent == folder and list(folder.iterdir()) == [location]
    assert location.name.isprintable(), location
    assert not any(path.is_symlink() for path in everything(folder))


def outside(daemon: Instance, program: str) -> set[str]:
    """Everything but the destination and what the two programs keep for themselves.

    :param program: the folder of the downloader.
    """
    own = ("state/", "run/", "daemon.log", f"{program}/", "home/downloads/")
    found = {str(path.relative_to(daemon.folder)) for path in everything(daemon.folder) if not path.is_dir()}
    return {name for name in found if not name.startswith(own)}
