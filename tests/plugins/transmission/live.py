"""A real transmission-daemon on loopback that somebody else has started, torrents for it, and plug-ins on it."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import bencode2
import pytest
import transmission_rpc

from dlqueue.sdk import Context, Downloader, Handle, TransferStatus
from dlqueue_transmission import TransmissionConfig, TransmissionDownloader
from tests.plugins.aria2.live import free_port
from tests.plugins.aria2.swarm import Torrent, make_torrent
from tests.webserver import WebServer

PATIENCE = 30.0
FIELDS = ["name", "status", "downloadDir", "labels", "seedRatioMode", "seedIdleMode", "leftUntilDone", "percentDone"]

T = TypeVar("T")


class Transmission:
    """Without any discovery of peers but by trackers, and with a download folder that is not ours."""

    def __init__(self, home: Path, *, username: str = "u", password: str = "t0p-s3cret", **settings: Any) -> None:
        self.home = home
        self.theirs = home / "theirs"
        self.username, self.password = username, password
        self.port, self.peer_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}/transmission/rpc"
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> TransmissionConfig:
        return TransmissionConfig(self.url, self.username or None, self.password or None)

    @property
    def client(self) -> transmission_rpc.Client:
        """The eyes and hands of somebody else."""
        return transmission_rpc.Client(port=self.port, username=self.username, password=self.password)

    def start(self) -> None:
        command = shutil.which("transmission-daemon")
        if command is None:
            pytest.skip("no transmission-daemon: install the package transmission-daemon")
        self.theirs.mkdir(parents=True, exist_ok=True)
        settings = {
            "rpc-enabled": True, "rpc-port": self.port, "rpc-bind-address": "127.0.0.1",
            "rpc-authentication-required": bool(self.username), "rpc-username": self.username,
            "rpc-password": self.password, "rpc-whitelist-enabled": False, "rpc-host-whitelist-enabled": False,
            "download-dir": str(self.theirs), "incomplete-dir-enabled": False, "message-level": 1,
            "dht-enabled": False, "lpd-enabled": False, "pex-enabled": False, "utp-enabled": False,
            "port-forwarding-enabled": False, "bind-address-ipv4": "127.0.0.1", "bind-address-ipv6": "::1",
            "peer-port": self.peer_port, "peer-port-random-on-start": False, "blocklist-enabled": False,
            **{name.replace("_", "-"): value for name, value in self._settings.items()},
        }  # fmt: skip
        (self.home / "settings.json").write_text(json.dumps(settings))
        self._process = subprocess.Popen(
            [command, "-f", "-g", str(self.home)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        def answers() -> bool:
            assert self._process is not None and self._process.poll() is None, "transmission-daemon did not start"
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        until(answers, "transmission-daemon")

    def stop(self, number: int = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(PATIENCE)
            self._process = None

    def restart(self, number: int = signal.SIGKILL) -> None:
        self.stop(number)
        self.start()

    def look(self, digest: str, *fields: str) -> dict[str, Any]:
        """A torrent as it is over there; nothing if it is not there."""
        for torrent in self.client.get_torrents([digest], arguments=[*FIELDS, *fields]):
            return dict(torrent.fields)
        return {}

    def hashes(self) -> set[str]:
        return {str(torrent.fields["hashString"]) for torrent in self.client.get_torrents(arguments=["hashString"])}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def web_seeded(server: WebServer, name: str, files: dict[str, bytes] | bytes, **how: Any) -> Torrent:
    """A torrent whose content comes from the web server (BEP 19): no peer has to be found.

    :param how: it is served; see `WebServer.put`.
    """
    plain = make_torrent(name, files)
    for path, body in {"": files}.items() if isinstance(files, bytes) else files.items():
        server.put(f"{plain.hash}/{name}/{path}".rstrip("/"), body, **how)
    content: dict[bytes, Any] = bencode2.bdecode(plain.content)
    content[b"url-list"] = [server.url(f"{plain.hash}/").encode()]
    return replace(plain, content=bencode2.bencode(content))


def until(probe: Callable[[], T | None], what: str) -> T:
    """Look until there is something."""
    limit = time.monotonic() + PATIENCE
    while True:
        found = probe()
        if found:
            return found
        assert time.monotonic() < limit, f"no {what}"
        time.sleep(0.01)


def wait(
    downloader: Downloader, handle: Handle, is_right: Callable[[TransferStatus], bool], what: str
) -> TransferStatus:
    """Poll until the status is as it should be."""
    seen: Sequence[TransferStatus | None] = []

    def probe() -> TransferStatus | None:
        nonlocal seen
        status = downloader.poll([handle]).get(handle)
        seen = [status]
        return status if status is not None and is_right(status) else None

    try:
        return until(probe, what)
    except AssertionError:
        raise AssertionError(f"not {what}: {seen[-1]}") from None


def whole(downloader: Downloader, handle: Handle) -> TransferStatus:
    return wait(downloader, handle, lambda status: status.whole, "whole")


def opened(
    config: TransmissionConfig, folder: Path, deadline: Callable[[], float] = lambda: 20.0
) -> TransmissionDownloader:
    folder.mkdir(parents=True, exist_ok=True)
    made = TransmissionDownloader()
    context = Context(
        name="transmission",
        folder=folder,
        logger=logging.getLogger("test"),
        deadline=deadline,
        check_url=lambda url: None,
        check_address=lambda address: None,
    )
    made.open(config, context)
    return made
