"""Torrents whose names want to be elsewhere, in a real qBittorrent. Nothing lands outside."""

from __future__ import annotations

import base64
import hashlib
from itertools import count
from pathlib import Path
from typing import Any

import bencode2

from dlqueue.client import RpcError
from tests.daemon.qbittorrent_world import World, world
from tests.daemon.test_aria2_hostile import BODY, serve_everything

ODD = [
    "..", ".", "../escaped", "../../../../../escaped", "/tmp/escaped", "~/escaped", "a/../../escaped", "..\\escaped",
    "\\escaped",
    "C:\\escaped", "NUL", "escaped\0.bin", "escaped\n.bin", "\x1b[31mescaped", "\u202egnp.exe", "x" * 255, "x" * 300,
    "ü" * 130, "-rf", "$(touch escaped)", " ", "", ".profile", ".dlqueue", "escaped.!qB", "escaped.parts", "\udcff",
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


def outside(w: World) -> set[str]:
    """Everything but the destination and what the two programs keep for themselves."""
    own = ("state/", "run/", "daemon.log", "qbittorrent/", "home/downloads/")
    found = {str(path.relative_to(w.daemon.folder)) for path in w.daemon.folder.rglob("*") if not path.is_dir()}
    return {name for name in found if not name.startswith(own)}


def test_torrents(tmp_path: Path) -> None:
    numbers = count()
    with world(tmp_path, section="max_active = 300\n") as w:
        serve_everything(w.server)
        w.daemon.start()
        before = outside(w)
        ids: dict[int, Path] = {}
        for info in infos():
            number = next(numbers)
            info |= {"piece length": 16384, "pieces": hashlib.sha1(BODY).digest(), "x": number}
            content = bencode2.bencode({"info": info, "url-list": [w.server.url("seed/")]})
            folder = w.daemon.destination / str(number)
            try:
                task = w.daemon.call(
                    "downloads.add", torrent=base64.b64encode(content).decode(), seed=0, directory=str(folder)
                )
            except RpcError as error:
                assert error.code == -32602, error
                continue
            ids[task["id"]] = folder
        completed = 0
        for number, folder in ids.items():
            done = w.daemon.finished(number)
            if done["status"] == "completed":
                completed += 1
                location = Path(done["download"]["location"])
                assert location.parent == folder and list(folder.iterdir()) == [location]
                assert location.name.isprintable(), location
                assert not any(path.is_symlink() for path in folder.rglob("*"))
            else:
                assert done["error"]["kind"] == "refused", done["error"]
        assert completed > 150, "most are harmless once they have other names"
        assert outside(w) == before
        assert not list(w.qbittorrent.home.rglob("*escaped*"))
