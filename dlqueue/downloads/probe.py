"""What a downloader is given to fetch so that it proves where it writes: a few bytes, from here, for a moment."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import urlsplit

from bencode2 import bencode

_RANGE = re.compile(r"bytes=(\d{1,9})-(\d{0,9})")
_SECONDS = 5.0
_PIECE = 16 * 1024


@dataclass(frozen=True, slots=True)
class Offer:
    urls: tuple[str, ...]
    torrent: bytes | None
    address: str


@asynccontextmanager
async def offered(options: Any, key: str, *, torrent: bool) -> AsyncIterator[Offer]:
    """As long as the block lasts.

    :param options: of the downloader. If they have a ``url``, it is offered where that machine can reach it; else
        to this machine alone.
    :param torrent: as one, whose content comes from the URL (BEP 19), and no peer is needed nor looked for.
    """
    server = await asyncio.to_thread(_Server, _own_address(options), key)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="dlqueue-proof", daemon=True)
    thread.start()
    try:
        content = None if not torrent else _torrent(server)
        yield Offer(() if torrent else (f"{server.base}/{server.name}",), content, server.origin)
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()


def _own_address(options: Any) -> str:
    """That which the downloader's machine would see of us. Asking for it sends nothing."""
    host = urlsplit(getattr(options, "url", None) or "").hostname or "127.0.0.1"
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as asking:
            asking.connect(address)
            return str(asking.getsockname()[0])
    except OSError:
        return "127.0.0.1"


def _torrent(server: _Server) -> bytes:
    """Of two files: an empty one is there even if the other cannot be fetched."""
    info = {
        b"files": [
            {b"length": 0, b"path": [b"empty"]},
            {b"length": len(server.content), b"path": [b"full"]},
        ],
        b"name": server.name.encode(),
        b"piece length": _PIECE,
        b"pieces": hashlib.sha1(server.content, usedforsecurity=False).digest(),
        b"private": 1,
    }
    return bencode({b"info": info, b"url-list": [f"{server.base}/".encode()]})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: str, key: str) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, 0), _Handler)
        self.name = f"dlqueue-proof-{key}.bin"
        self.content = f"dlqueue {key}\n".encode()
        host = f"[{address}]" if ":" in address else address
        self.origin = f"http://{host}:{self.server_address[1]}"
        self.base = f"{self.origin}/{key}"
        self.pages = {f"/{key}/{self.name}": self.content, f"/{key}/{self.name}/full": self.content}
        self.pages[f"/{key}/{self.name}/empty"] = b""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever breaks off is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout: ClassVar[float] = _SECONDS
    server: _Server

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path)
        if page is None:
            self.send_error(404)
            return
        wanted = _RANGE.fullmatch(self.headers.get("Range", ""))
        if wanted is not None and int(wanted[1]) < len(page):
            first, last = int(wanted[1]), min(int(wanted[2] or len(page)), len(page) - 1)
            body = page[first : last + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(page)}")
        else:
            body = page
            self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""
