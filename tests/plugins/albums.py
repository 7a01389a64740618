"""A torrent of several files whose content comes from a web server as far as a test lets it."""

from __future__ import annotations

import threading
from pathlib import Path

from dlqueue.sdk import Request
from dlqueue.sdk.testing import Album
from tests.plugins.aria2.swarm import PIECE
from tests.plugins.transmission.live import web_seeded
from tests.webserver import WebServer, pattern

FILES = {"a.bin": pattern(6 * PIECE), "b.bin": pattern(4 * PIECE)[::-1], "sub/c.bin": pattern(9 * PIECE)}


def album(server: WebServer) -> Album:
    torrent = web_seeded(server, "album", FILES)
    page = server.pages[f"{torrent.hash}/album/sub/c.bin"]
    page.gate, page.gate_at = threading.Event(), 0

    def request(folder: Path, select: tuple[int, ...] | None) -> Request:
        return Request(urls=(), torrent=torrent.content, directory=folder, select=select)

    return Album(request, {f"album/{name}": body for name, body in FILES.items()}, page.gate.set)
