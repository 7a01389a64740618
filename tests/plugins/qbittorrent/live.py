"""A real qbittorrent-nox that somebody else has started, and plug-ins on it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.cookiejar
import json
import logging
import os
import shlex
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from dlqueue.sdk import Context, Handle, TransferStatus
from dlqueue_qbittorrent import QbittorrentConfig, QbittorrentDownloader
from tests.plugins.aria2.live import PATIENCE, free_port, until

_CONFIG = """\
[LegalNotice]
Accepted=true

[BitTorrent]
Session\\DefaultSavePath={home}/dl
Session\\Port={peers}
Session\\InterfaceAddress=127.0.0.1
Session\\DHTEnabled=false
Session\\LSDEnabled=false
Session\\PeXEnabled=false
Session\\BTProtocol=TCP
Session\\MultiConnectionsPerIp=true
Session\\QueueingSystemEnabled=false
Session\\RefreshInterval=100
{session}

[Network]
PortForwardingEnabled=false

[Preferences]
General\\Locale=en
WebUI\\Enabled=true
WebUI\\Address=127.0.0.1
WebUI\\Port={port}
WebUI\\UseUPnP=false
WebUI\\Username={username}
WebUI\\Password_PBKDF2="@ByteArray({password})"
WebUI\\LocalHostAuth=true
{web}
"""


def find_command() -> list[str]:
    """Debian's, or what the variable QBITTORRENT_NOX says: another version, in a chroot for example."""
    named = shlex.split(os.environ.get("QBITTORRENT_NOX", ""))
    found = shutil.which(named[0] if named else "qbittorrent-nox")
    if found is None:
        pytest.skip("no qbittorrent-nox: install the package qbittorrent-nox")
    return [found, *named[1:]]


class Qbittorrent:
    """On loopback only and without any discovery of peers but by trackers. It looks at its torrents ten times a second
    (else every 1.5 s)."""

    def __init__(
        self, home: Path, session: Mapping[str, str] | None = None, web: Mapping[str, str] | None = None
    ) -> None:
        """
        :param session: more keys of ``[BitTorrent] Session\\``.
        :param web: more keys of ``[Preferences] WebUI\\``.
        """
        self.home = home
        self.username, self.password = "dl", "t0p-s3cret"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = find_command()
        self._more = {"session": session or {}, "web": web or {}}
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._opener = _opener()

    def start(self) -> None:
        # Its log counts in seconds: two starts within one are the same to whoever reads that.
        until(lambda: int(time.time()) > int(self._started), "it is a second later")
        config = self.home / "qBittorrent" / "config" / "qBittorrent.conf"
        if not config.exists():
            config.parent.mkdir(parents=True)
            lines = {
                "session": "\n".join(f"Session\\{key}={value}" for key, value in self._more["session"].items()),
                "web": "\n".join(f"WebUI\\{key}={value}" for key, value in self._more["web"].items()),
            }
            password = _hashed(self.password)
            config.write_text(
                _CONFIG.format(
                    home=self.home,
                    peers=free_port(),
                    port=self.port,
                    username=self.username,
                    password=password,
                    **lines,
                )
            )
        with (self.home / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [*self._command, f"--profile={self.home}"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "HOME": str(self.home), "QT_LOGGING_RULES": "*=false"},
            )
        end = time.monotonic() + PATIENCE
        while not self._answers():
            assert self._process.poll() is None, (self.home / "output").read_text()
            assert time.monotonic() < end, "qbittorrent-nox does not answer"
            time.sleep(0.02)
        self._started = time.time()

    def _answers(self) -> bool:
        try:
            self._opener.open(f"{self.url}/api/v2/app/version", timeout=2).close()
        except urllib.error.HTTPError as error:
            error.close()
            return error.code in (401, 403)
        except OSError:
            return False
        return True

    def stop(self, number: int = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(PATIENCE)
            self._process = None

    def restart(self, number: int = signal.SIGKILL) -> None:
        self.stop(number)
        self.start()

    # -- as a person with the web interface ---------------------------------------------------------------------------

    def call(self, method: str, **params: str) -> Any:
        """POST; the answer as JSON if it is that, else as text."""
        try:
            return self._post(method, params)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 403:
                raise
        self._opener = _opener()
        self._post("auth/login", {"username": self.username, "password": self.password})
        return self._post(method, params)

    def _post(self, method: str, params: Mapping[str, str]) -> Any:
        body = urllib.parse.urlencode(params).encode()
        with self._opener.open(f"{self.url}/api/v2/{method}", body, timeout=PATIENCE) as answer:
            text = answer.read().decode()
        with contextlib.suppress(ValueError):
            return json.loads(text)
        return text

    def torrents(self) -> dict[str, dict[str, Any]]:
        """By hash."""
        return {torrent["hash"]: torrent for torrent in self.call("torrents/info")}

    def wait(self, digest: str, *states: str) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            torrent = self.torrents().get(digest)
            return torrent if torrent is not None and torrent["state"] in states else None

        return until(found, f"{digest} in {states}")

    def add(self, content: bytes, folder: Path, **params: str) -> None:
        """A torrent of somebody else's."""
        parts = [*params.items(), ("savepath", str(folder)), ("autoTMM", "false")]
        lines = [f'--B\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in parts]
        lines.append('--B\r\nContent-Disposition: form-data; name="t"; filename="t.torrent"\r\n\r\n')
        body = "".join(lines).encode() + content + b"\r\n--B--\r\n"
        self.call("app/version")  # logs in
        request = urllib.request.Request(
            f"{self.url}/api/v2/torrents/add", body, {"Content-Type": "multipart/form-data; boundary=B"}
        )
        with self._opener.open(request, timeout=PATIENCE) as answer:
            answer.read()

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _opener() -> urllib.request.OpenerDirector:
    jar = http.cookiejar.CookieJar()
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(jar))


def _hashed(password: str) -> str:
    salt = b"0123456789abcdef"
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 100_000, 64)
    return f"{base64.b64encode(salt).decode()}:{base64.b64encode(key).decode()}"


def config_of(qbittorrent: Qbittorrent) -> QbittorrentConfig:
    return QbittorrentConfig(url=qbittorrent.url, username=qbittorrent.username, password=qbittorrent.password)


def opened(
    config: QbittorrentConfig, folder: Path, deadline: Callable[[], float] = lambda: 20.0
) -> QbittorrentDownloader:
    made = QbittorrentDownloader()
    context = Context(
        name="box",
        folder=folder,
        logger=logging.getLogger("test"),
        deadline=deadline,
        check_url=lambda url: None,
        check_address=lambda address: None,
    )
    made.open(config, context)
    return made


def wait(
    downloader: QbittorrentDownloader, handle: Handle, is_right: Callable[[TransferStatus], bool], what: str
) -> TransferStatus:
    """Poll until the status is as it should be."""

    def probe() -> TransferStatus | None:
        status = downloader.poll([handle]).get(handle)
        seen.append(status)
        return status if status is not None and is_right(status) else None

    seen: list[TransferStatus | None] = []
    try:
        return until(probe, what)
    except AssertionError:
        raise AssertionError(f"not {what}: {seen[-1]}") from None


def whole(downloader: QbittorrentDownloader, handle: Handle) -> TransferStatus:
    return wait(downloader, handle, lambda status: status.whole, "whole")
