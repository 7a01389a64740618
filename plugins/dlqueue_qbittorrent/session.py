"""The HTTP below qbittorrent-api: no proxies, no redirects, bounded answers, the deadline of the call."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import qbittorrentapi
import requests
import requests.adapters
import urllib3.exceptions
from qbittorrentapi.request import QbittorrentSession

from dlqueue_qbittorrent.config import QbittorrentConfig

MAX_ANSWER = 64 * 1024 * 1024
"""Bytes. Some 40,000 torrents fit."""
_MAX_EXPLANATION = 64 * 1024
_PIECE = 64 * 1024


class NoQbittorrent(qbittorrentapi.APIError):
    """What came is no answer that a qBittorrent gives. (Of this class, so that the library does not ask again.)"""


class NoLogin(qbittorrentapi.LoginFailed):
    """It wants a login, and none is configured."""


class Client(qbittorrentapi.Client):
    """The library's client over sessions of our own."""

    def __init__(self, config: QbittorrentConfig, deadline: Callable[[], float]) -> None:
        super().__init__(host=config.url, FORCE_SCHEME_FROM_HOST=True, SIMPLE_RESPONSES=True)
        # What is not given the library takes from variables of the environment.
        self.username = config.username or ""
        self._password = config.password or ""
        self._api_key = config.api_key or ""
        self._VERIFY_WEBUI_CERTIFICATE = True
        self._deadline = deadline

    @property
    def _session(self) -> QbittorrentSession:
        if self._http_session is None:
            self._http_session = _Session(self._deadline)
            if self._api_key:
                self._http_session.headers["Authorization"] = f"Bearer {self._api_key}"
        return self._http_session

    def auth_log_in(self, username: str | None = None, password: str | None = None, **kwargs: Any) -> None:
        if not self.username and not self._api_key:
            raise NoLogin
        super().auth_log_in(username, password, **kwargs)

    def close(self) -> None:
        self._trigger_session_initialization()


class _Session(QbittorrentSession):
    def __init__(self, deadline: Callable[[], float]) -> None:
        super().__init__()
        self._deadline = deadline
        # A proxy of the environment would see the password, and a .netrc would add to it.
        self.trust_env = False
        self.headers["Accept-Encoding"] = "identity"
        adapter = requests.adapters.HTTPAdapter(max_retries=0)
        for scheme in ("http://", "https://"):
            self.mount(scheme, adapter)

    def request(self, method: str, url: str, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        left = self._deadline()
        until = time.monotonic() + left
        kwargs |= {"timeout": max(left, 0.1), "allow_redirects": False, "stream": True}
        with super().request(method, url, **kwargs) as answer:
            if 300 <= answer.status_code < 400:
                raise NoQbittorrent("it redirects to another address")
            limit = MAX_ANSWER if answer.status_code < 300 else _MAX_EXPLANATION
            body = bytearray()
            # What is there, not what fills a piece: an answer that drips is to be noticed.
            while piece := _read(answer):
                body += piece
                if len(body) > limit:
                    raise NoQbittorrent(f"its answer is larger than {limit >> 10} KiB")
                if time.monotonic() > until:
                    raise NoQbittorrent("it did not finish its answer in time")
        answer._content = bytes(body)
        answer.encoding = "utf-8"  # or the library would guess, which takes long with garbage
        return answer


def _read(answer: requests.Response) -> bytes:
    try:
        piece: bytes = answer.raw.read1(_PIECE)
    except urllib3.exceptions.TimeoutError as error:
        raise requests.ReadTimeout(error) from error
    except urllib3.exceptions.HTTPError as error:
        raise requests.ConnectionError(error) from error
    return piece
