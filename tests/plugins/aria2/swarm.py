"""A BitTorrent swarm on loopback: a tracker of our own and a second aria2c that seeds."""

from __future__ import annotations

import base64
import hashlib
import socket
import struct
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote_to_bytes, urlsplit

import bencode2

from tests.plugins.aria2.live import Aria2, until
from tests.serving import Serving

PIECE = 1 << 14


@dataclass(frozen=True)
class Torrent:
    name: str
    content: bytes
    """The .torrent file."""
    hash: str
    tracker: str

    @property
    def magnet(self) -> str:
        return f"magnet:?xt=urn:btih:{self.hash}&dn={quote(self.name)}&tr={quote(self.tracker, safe='')}"


def make_torrent(name: str, files: dict[str, bytes] | bytes, tracker: str = "http://127.0.0.1:9/announce") -> Torrent:
    """``files``: the content of one file, or several by their paths below the folder ``name``."""
    info: dict[str, Any] = {"name": name, "piece length": PIECE}
    if isinstance(files, bytes):
        info["length"] = len(files)
        whole = files
    else:
        info["files"] = [{"length": len(files[path]), "path": path.split("/")} for path in sorted(files)]
        whole = b"".join(files[path] for path in sorted(files))
    pieces = (whole[start : start + PIECE] for start in range(0, len(whole), PIECE))
    info["pieces"] = b"".join(hashlib.sha1(piece).digest() for piece in pieces)
    content = bencode2.bencode({"announce": tracker, "info": info})
    return Torrent(name, content, hashlib.sha1(bencode2.bencode(info)).hexdigest(), tracker)


class Tracker(Serving):
    """Knows who has announced. ``closed`` keeps its doors shut: nobody finds anybody."""

    def __init__(self) -> None:
        self._peers: dict[bytes, dict[bytes, tuple[str, int]]] = {}
        self._lock = threading.Lock()
        self.closed = False
        tracker = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                body = tracker._answer(urlsplit(self.path).query, self.client_address[0])
                try:
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except ConnectionError:
                    pass  # aria2 does not wait for the answer to its good-bye

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/announce"

    def _answer(self, query: str, address: str) -> bytes:
        # The info-hash is raw bytes, no text.
        asked = {name: unquote_to_bytes(value) for name, _, value in (pair.partition("=") for pair in query.split("&"))}
        peer = asked.get("peer_id", b"")
        with self._lock:
            peers = self._peers.setdefault(asked.get("info_hash", b""), {})
            if asked.get("event") == b"stopped":
                peers.pop(peer, None)
            else:
                peers[peer] = (address, int(asked.get("port", b"0")))
            others = [] if self.closed else [where for name, where in peers.items() if name != peer]
        packed = b"".join(socket.inet_aton(host) + struct.pack("!H", port) for host, port in others)
        answer: bytes = bencode2.bencode({"interval": 1, "min interval": 1, "peers": packed})
        return answer


class Swarm:
    """Tracker and seeder. `seed` makes a torrent that can be fetched."""

    def __init__(self, command: Path, home: Path) -> None:
        self.tracker = Tracker()
        self._home = home
        self.seeder = Aria2(command, home / "seeder")

    def seed(self, name: str, files: dict[str, bytes] | bytes, *options: tuple[str, str]) -> Torrent:
        torrent = make_torrent(name, files, self.tracker.url)
        data = self._home / torrent.hash
        for path, content in {"": files}.items() if isinstance(files, bytes) else files.items():
            file = data / name / path if path else data / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        how = {"dir": str(data), "check-integrity": "true", "seed-ratio": "0.0", **dict(options)}
        gid = self.seeder.call("addTorrent", base64.b64encode(torrent.content).decode(), [], how)
        until(lambda: self.seeder.call("tellStatus", gid).get("seeder") == "true", "seeder")
        return torrent

    def limit(self, torrent: Torrent, rate: str) -> None:
        """Let the seeder send so much of it in a second; ``0`` = as much as it can."""
        (gid,) = (one["gid"] for one in self.seeder.call("tellActive") if one.get("infoHash") == torrent.hash)
        self.seeder.call("changeOption", gid, {"max-upload-limit": rate})

    def __enter__(self) -> Self:
        self.tracker.__enter__()
        self.seeder.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seeder.stop()
        self.tracker.__exit__(kind, error, trace)
