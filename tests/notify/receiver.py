"""Somebody who gets webhooks, and answers as a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.serving import Serving


@dataclass(frozen=True, slots=True)
class Got:
    path: str
    headers: dict[str, str]
    """Names in small letters."""
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)


class Receiver(Serving):
    """:param reply: what to answer to each."""

    def __init__(self, reply: Callable[[Got], Reply] = lambda got: Reply()) -> None:
        self.got: list[Got] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                got = Got(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                with receiver._changed:
                    receiver.got.append(got)
                    answer = reply(got)
                    receiver._changed.notify_all()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128

        self._changed = threading.Condition()
        self.server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self.server.server_address[1]

    def url(self, path: str = "hook") -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def wait(self, count: int, seconds: float = 30) -> list[Got]:
        """Once it has got so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.got) >= count, seconds), f"only {len(self.got)}"
            return list(self.got)
