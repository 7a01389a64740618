"""A web server on loopback that behaves well or badly on demand, and remembers what it was asked and what it sent.

    with WebServer() as server:
        url = server.put("a.bin", b"…")                    # http://127.0.0.1:PORT/a.bin
        server.put("b.bin", b"…", cut=1000)                # closes the connection after 1000 bytes of each answer
        server.requests[-1].headers["Range"], server.served("a.bin"), server.connections

The content of a name can be changed while the server runs: `put` again, or change the `Page` that `pages` holds.
"""

from __future__ import annotations

import contextlib
import email.utils
import gzip
import hashlib
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

MODIFIED = 1_700_000_000


@dataclass
class Page:
    """One resource and how it is served. Everything may be changed between two requests."""

    body: bytes = b""
    etag: str | None = ""
    """``""`` = a strong one from the content; ``None`` = no ETag."""
    modified: bool = True
    """Send Last-Modified."""
    ranges: bool = True
    accept_ranges: bool = True
    if_range: bool = True
    """Look at If-Range; some servers do not."""
    rate: int | None = None
    """Bytes per second, per connection."""
    cut: int | None = None
    """Close the connection after so many bytes of a body."""
    cuts: int | None = None
    """Do that only so many times."""
    shift: int = 0
    """Send other bytes than those that were asked for: from so much later on, and say so."""
    once: bool = False
    """Close the connection without an answer, unless this is the first request on it."""
    status: int | None = None
    """Answer this instead."""
    failures: int | None = None
    """Answer `status` only so many times, then the body."""
    redirect: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    """More headers for every answer, such as Retry-After or Content-Disposition."""
    need: dict[str, str] = field(default_factory=dict)
    """403 without these request headers (401 for Authorization)."""
    chunked: bool = False
    """No Content-Length: Transfer-Encoding instead."""
    endless: bool = False
    """No Content-Length either: the end of the connection ends the body."""
    gzip: bool = False
    """Packed whatever the client accepts."""
    hang: bool = False
    """Never answer, until the server closes."""
    gate: threading.Event | None = None
    """After `gate_at` bytes of the body wait for this event."""
    gate_at: int = 0


@dataclass(frozen=True)
class Asked:
    """One request as it came in."""

    method: str
    path: str
    query: str
    headers: Message


class WebServer:
    """Serves `pages` from a thread per connection. A context manager."""

    def __init__(self, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.pages: dict[str, Page] = {}
        self.requests: list[Asked] = []
        self.connections = 0
        """Accepted so far."""
        self.closing = threading.Event()
        self._sent: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._scheme = "https" if tls else "http"
        self._server = _Server(self, tls, port)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def put(self, name: str, body: bytes = b"", **how: Any) -> str:
        """Serve it as ``/name``; returns the URL."""
        self.pages[name] = Page(body, **how)
        return self.url(name)

    def slow(self, name: str, body: bytes) -> tuple[str, Callable[[], None]]:
        """Serve it so that it takes 15 s; returns the URL, and what ends that."""
        url = self.put(name, body, rate=max(len(body) // 15, 1))
        page = self.pages[name]
        return url, lambda: setattr(page, "rate", None)

    def url(self, name: str) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}/{name}"

    def served(self, name: str) -> int:
        """Bytes of bodies that went out for this name, over all requests."""
        with self._lock:
            return self._sent[name]

    def asked(self, name: str) -> list[Asked]:
        return [request for request in self.requests if unquote(request.path) == f"/{name}"]

    def count(self, name: str, sent: int) -> None:
        with self._lock:
            self._sent[name] += sent

    def note(self, request: Asked) -> None:
        with self._lock:
            self.requests.append(request)

    def accepted(self) -> None:
        with self._lock:
            self.connections += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def pattern(size: int, seed: int = 0) -> bytes:
    """Reproducible bytes in which every place is different, so that a misplaced piece shows."""
    block = hashlib.shake_128(b"%d" % seed).digest(1 << 16)
    blocks = (index.to_bytes(8, "big") + block[8:] for index in range(size // len(block) + 1))
    return b"".join(blocks)[:size]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, web: WebServer, tls: ssl.SSLContext | None, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.web = web
        self._tls = tls

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.web.accepted()
        if self._tls is not None:
            try:
                request = self._tls.wrap_socket(request, server_side=True)
            except OSError:
                return
        with contextlib.suppress(ConnectionError, ssl.SSLError), request:
            super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what many tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A header in one segment and the body in the next would wait for each other's acknowledgement.
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024

    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def setup(self) -> None:
        super().setup()
        self.answered = 0

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        web = self.server.web
        web.note(Asked(self.command, parts.path, parts.query, self.headers))
        name = unquote(parts.path[1:])
        page = web.pages.get(name)
        if page is None:
            self._short(404)
        elif page.once and self.answered:
            self.close_connection = True
        elif page.hang:
            web.closing.wait(60)
            self.close_connection = True
        elif page.status is not None and (page.failures is None or page.failures > 0):
            if page.failures is not None:
                page.failures -= 1
            self._short(page.status, page.headers)
        elif page.redirect is not None:
            self._short(302, {"Location": page.redirect} | page.headers)
        elif missing := [header for header, value in page.need.items() if self.headers.get(header) != value]:
            self._short(401 if missing == ["Authorization"] else 403)
        else:
            self._page(name, page)

    do_HEAD = do_GET

    def end_headers(self) -> None:
        self.answered += 1
        super().end_headers()

    def _short(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        body = b"" if status in (204, 304) else b"no\n"
        self.send_response(status)
        for header, value in (headers or {}).items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _page(self, name: str, page: Page) -> None:
        body = gzip.compress(page.body, 1) if page.gzip else page.body
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"' if page.etag == "" else page.etag
        modified = email.utils.formatdate(MODIFIED, usegmt=True) if page.modified else None
        first, last = 0, len(body)
        asked = self._range(page, etag, modified, len(body))
        if asked is not None:
            first, last = asked
            if first >= last:
                self._short(416, {"Content-Range": f"bytes */{len(body)}"})
                return
        self.send_response(200 if asked is None else 206)
        if asked is not None:
            self.send_header("Content-Range", f"bytes {first}-{last - 1}/{len(body)}")
        for header, value in (("ETag", etag), ("Last-Modified", modified)):
            if value is not None:
                self.send_header(header, value)
        if page.accept_ranges and page.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if page.gzip:
            self.send_header("Content-Encoding", "gzip")
        if page.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif page.endless:
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(last - first))
        for header, value in page.headers.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "GET":
            self._body(name, page, body[first:last])

    def _range(self, page: Page, etag: str | None, modified: str | None, size: int) -> tuple[int, int] | None:
        wanted = self.headers.get("Range", "")
        condition = self.headers.get("If-Range")
        if not page.ranges or not wanted.startswith("bytes="):
            return None
        if page.if_range and condition is not None and condition not in (etag, modified):
            return None
        first, _, last = wanted[len("bytes=") :].partition("-")
        return int(first) + page.shift, min(int(last) + 1, size) if last else size

    def _body(self, name: str, page: Page, body: bytes) -> None:
        web = self.server.web
        step = max(256, page.rate // 50) if page.rate else 64 * 1024
        position = 0
        while position < len(body):
            end = min(position + step, len(body))
            if page.cut is not None and page.cuts != 0:
                end = min(end, page.cut)
            gate = page.gate  # before `gate_at`: who changes both sets this one when it is done
            if gate is not None and not gate.is_set():
                end = min(end, max(page.gate_at, position))
                if end == position:
                    self.wfile.flush()
                    while not gate.wait(0.02):
                        if web.closing.is_set():
                            self.close_connection = True
                            return
                    continue
            if end == position:
                if page.cuts is not None:
                    page.cuts -= 1
                self.close_connection = True
                return
            piece = body[position:end]
            if page.chunked:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            else:
                self.wfile.write(piece)
            if rate := page.rate:
                self.wfile.flush()
                if web.closing.wait(len(piece) / rate):
                    self.close_connection = True
                    return
            web.count(name, len(piece))
            position = end
        if page.chunked:
            self.wfile.write(b"0\r\n\r\n")
