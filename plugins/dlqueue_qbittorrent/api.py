"""Calls to a qBittorrent, on qbittorrent-api, with the errors of the SDK.

Imported when it is first needed: the library takes a fifth of a second.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import qbittorrentapi
import requests

from dlqueue.sdk import AuthFailed, Unavailable
from dlqueue_qbittorrent.config import QbittorrentConfig
from dlqueue_qbittorrent.session import Client, NoLogin, NoQbittorrent

T = TypeVar("T")


class Refused(Exception):
    """qBittorrent does not do this one thing.

    :param status: the HTTP status.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


class Api:
    """One qBittorrent. All methods may be called from any thread; one call is made at a time, since the library's
    session, its login and what `sync/maindata` has told belong together.

    Everything here may raise `Unavailable` (no answer, or none that makes sense) and `AuthFailed`. Once a login was
    refused, nothing is asked any more: after a few wrong ones qBittorrent bans the address, this machine's own too.
    """

    def __init__(self, config: QbittorrentConfig, deadline: Callable[[], float]) -> None:
        self.url = config.url
        self._config = config
        self._deadline = deadline
        self._client = Client(config, deadline)
        self._lock = threading.Lock()
        self._refusal: str | None = None

    def call(self, ask: Callable[[Client], T], *expected: int) -> T:
        """Raises `Refused`.

        :param expected: HTTP statuses that are an answer.
        """
        if not self._lock.acquire(timeout=self._deadline()):
            raise Unavailable(f"qBittorrent at {self.url} is still busy with another call")
        try:
            if self._refusal is not None:
                raise AuthFailed(self._refusal)
            return ask(self._client)
        except (qbittorrentapi.LoginFailed, qbittorrentapi.HTTP401Error, qbittorrentapi.HTTP403Error) as error:
            if isinstance(error, qbittorrentapi.HTTP401Error) and self._config.api_key is None:
                raise Unavailable(
                    f"qBittorrent at {self.url} does not take requests under this name and port: use those that it "
                    "listens on, or change its `Enable Host header validation`"
                ) from None
            self._refusal = self._why_refused(error)
            raise AuthFailed(self._refusal) from None
        except qbittorrentapi.HTTPError as error:
            if error.http_status_code in expected:
                raise Refused(error.http_status_code) from None
            raise Unavailable(f"no qBittorrent answers at {self.url}: HTTP {error.http_status_code}") from None
        except NoQbittorrent as error:
            raise Unavailable(f"no qBittorrent answers at {self.url}: {error}") from None
        except qbittorrentapi.APIConnectionError as error:
            raise Unavailable(f"qBittorrent at {self.url} cannot be reached{_reason(error)}") from None
        except (qbittorrentapi.APIError, requests.RequestException, ValueError, RecursionError):
            raise self.garbage() from None
        finally:
            self._lock.release()

    def read(self, answer: Any, into: type[T]) -> T:
        """An answer as the type it ought to have."""
        try:
            return msgspec.convert(answer, into)
        except (msgspec.ValidationError, RecursionError):
            raise self.garbage() from None

    def try_again(self) -> None:
        """Somebody wants to know whether the login is still refused."""
        self._refusal = None

    def garbage(self) -> Unavailable:
        return Unavailable(f"what answers at {self.url} is no qBittorrent")

    def close(self) -> None:
        self._client.close()

    def _why_refused(self, error: requests.RequestException) -> str:
        if isinstance(error, NoLogin):
            return f"qBittorrent at {self.url} wants a login: set `username` and `password`"
        if error.response is not None and "banned" in error.response.text[:1000]:
            return (
                f"qBittorrent at {self.url} has banned this address after too many wrong logins: "
                "check `username` and `password`, and restart qBittorrent or wait until the ban is over"
            )
        if self._config.api_key is not None:
            return f"qBittorrent at {self.url} refuses our `api_key` (5.2 or newer takes them)"
        return f"qBittorrent at {self.url} refuses our login: check `username` and `password`"


def _reason(error: BaseException) -> str:
    """The system's words for it, without what the library adds to them."""
    inner: BaseException | None = error
    for _ in range(8):
        if isinstance(inner, requests.Timeout):
            return ": it did not answer in time"
        if isinstance(inner, OSError) and inner.strerror:
            return f": {inner.strerror}"
        nested = next((part for part in inner.args if isinstance(part, BaseException)), None) if inner else None
        inner = nested or getattr(inner, "reason", None) or (inner and (inner.__cause__ or inner.__context__))
        if not isinstance(inner, BaseException):
            break
    return ""
