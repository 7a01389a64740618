"""As much of qBittorrent's and Transmission's web interfaces as setup sees, and a `systemctl` that only notes."""

from __future__ import annotations

import base64
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from tests.serving import Serving


class StandIn(Serving):
    """A small server on loopback. ``requests`` are those that it got: method and path."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.requests: list[str] = []
        self.server.requests = self.requests  # type: ignore[attr-defined]
        self.port = int(self.server.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass

    def note(self) -> str:
        self.server.requests.append(f"{self.command} {self.path}")  # type: ignore[attr-defined]
        length = int(self.headers.get("Content-Length") or 0)
        return self.rfile.read(length).decode()

    def put(self, status: int, text: str = "", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())


class QBittorrent(_Handler):
    """User ``admin``, password ``right``."""

    def do_GET(self) -> None:
        self.note()
        if self.path == "/":
            self.put(200, "<html><head><title>qBittorrent WebUI</title>")
        elif "SID=sid" not in self.headers.get("Cookie", ""):
            self.put(403, "Forbidden")
        else:
            self.put(200, {"/api/v2/app/version": "v4.6.0", "/api/v2/app/webapiVersion": "2.9.3"}.get(self.path, "{}"))

    def do_POST(self) -> None:
        form = parse_qs(self.note())
        if self.path != "/api/v2/auth/login":
            self.do_GET()
        elif (form.get("username"), form.get("password")) == (["admin"], ["right"]):
            self.put(200, "Ok.", Set_Cookie="SID=sid; HttpOnly; path=/")
        else:
            self.put(200, "Fails.")


class Transmission(_Handler):
    """Wants no login."""

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = self.note()
        if self.headers.get("X-Transmission-Session-Id") != "session":
            self.put(409, "<h1>409: Conflict</h1>", X_Transmission_Session_Id="session")
            return
        asked = json.loads(body)
        arguments = {"version": "3.00 (bb6b5a062e)", "rpc-version": 16, "rpc-version-minimum": 1}
        self.put(200, json.dumps({"result": "success", "arguments": arguments, "tag": asked.get("tag")}))


class LockedTransmission(_Handler):
    """User ``u``, password ``right``."""

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        wanted = "Basic " + base64.b64encode(b"u:right").decode()
        if self.headers.get("Authorization") != wanted:
            self.note()
            self.put(401, "<h1>401: Unauthorized</h1>", WWW_Authenticate='Basic realm="Transmission"')
        else:
            Transmission.do_POST(self)  # type: ignore[arg-type]


class Stranger(_Handler):
    """Something else that happens to listen there, and refuses everything."""

    def do_GET(self) -> None:
        self.note()
        self.put(403, "Forbidden")

    def do_POST(self) -> None:
        self.do_GET()


def stub_programs(folder: Path, **answers: int) -> Path:
    """A folder for the PATH with a ``systemctl`` (and the like) that notes its arguments in ``folder/ran``.

    :param answers: exit codes by a word of the arguments (``is_active=3``); otherwise 0.
    """
    programs = folder / "programs"
    programs.mkdir()
    cases = "".join(f"*{word.replace('_', '-')}*) exit {code};; " for word, code in answers.items())
    for name in ("systemctl", "systemd-sysusers", "systemd-tmpfiles"):
        file = programs / name
        file.write_text(f'#!/bin/sh\necho "{name} $*" >> "{folder}/ran"\ncase "$*" in {cases}*) exit 0;; esac\n')
        file.chmod(0o755)
    return programs


def ran(folder: Path) -> list[str]:
    """What was asked of the stubs."""
    file = folder / "ran"
    return file.read_text().splitlines() if file.exists() else []
