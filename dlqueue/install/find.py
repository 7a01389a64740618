"""Which downloaders run on this machine: asked at the ports they have by default, by a request that changes nothing."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import urllib3

from dlqueue.sdk import Downloader
from dlqueue.sdk.downloader import Context

PORTS = {"aria2": 6800, "qbittorrent": 8080, "transmission": 9091}
"""Where they listen if nobody says otherwise."""

_SECONDS = 3.0
_TEST_SECONDS = 15.0
_LARGEST = 64 * 1024

Needs = Literal["nothing", "secret", "login"]


@dataclass(frozen=True, slots=True)
class Found:
    """A downloader that answers."""

    kind: str
    port: int
    needs: Needs

    @property
    def url(self) -> str:
        path = {"aria2": "/jsonrpc", "transmission": "/transmission/rpc"}.get(self.kind, "")
        return f"http://127.0.0.1:{self.port}{path}"


def look(ports: Mapping[str, int]) -> list[Found]:
    """Those that answer, of the kinds of `PORTS`. Anything else that listens there is left alone."""
    asked = {"aria2": _aria2, "qbittorrent": _qbittorrent, "transmission": _transmission}
    found = []
    for kind, port in ports.items():
        try:
            needs = asked[kind](port)
        except (urllib3.exceptions.HTTPError, OSError):
            continue
        if needs is not None:
            found.append(Found(kind, port, needs))
    return found


def version_of(kind: type[Downloader], name: str, options: Mapping[str, Any]) -> str:
    """Open it as the daemon would, and ask for its version. :raises DownloaderError, ValueError: why it cannot be."""
    downloader = kind()
    with tempfile.TemporaryDirectory(prefix="dlqueue-setup-") as folder:
        context = Context(
            name=name,
            folder=Path(folder),
            logger=logging.getLogger(f"dlqueue.downloader.{name}"),
            deadline=lambda: _TEST_SECONDS,
            check_url=lambda _url: None,
            check_address=lambda _address: None,
        )
        downloader.open(kind.config_type(**options), context)
        try:
            return downloader.test()
        finally:
            downloader.close()


def _ask(method: str, port: int, path: str, body: str | None = None) -> tuple[urllib3.BaseHTTPResponse, str]:
    with urllib3.PoolManager(timeout=_SECONDS, retries=False) as pool:
        answer = pool.request(
            method, f"http://127.0.0.1:{port}{path}", body=body, redirect=False, preload_content=False
        )
        try:
            return answer, answer.read(_LARGEST, decode_content=True).decode("utf-8", "replace")
        finally:
            answer.close()


def _aria2(port: int) -> Needs | None:
    _, text = _ask("POST", port, "/jsonrpc", '{"jsonrpc":"2.0","id":"dlqueue","method":"aria2.getVersion"}')
    try:
        said = json.loads(text)
    except ValueError:
        return None
    if not isinstance(said, dict):
        return None
    result, error = said.get("result"), said.get("error")
    if isinstance(result, dict) and "enabledFeatures" in result:
        return "nothing"
    return "secret" if isinstance(error, dict) and error.get("message") == "Unauthorized" else None


def _qbittorrent(port: int) -> Needs | None:
    answer, text = _ask("GET", port, "/api/v2/app/version")
    if answer.status == 200 and text.startswith("v") and len(text) < 32:
        return "nothing"
    if answer.status not in (401, 403):
        return None
    # Many programs listen on 8080; only its page says that it is the one.
    _, page = _ask("GET", port, "/")
    return "login" if "qBittorrent" in page else None


def _transmission(port: int) -> Needs | None:
    answer, text = _ask("GET", port, "/transmission/rpc")
    if answer.status == 409 and "X-Transmission-Session-Id" in answer.headers:
        return "nothing"
    realm = answer.headers.get("WWW-Authenticate", "")
    return "login" if answer.status == 401 and "Transmission" in realm + text else None
