"""Calls to an aria2, on aria2p: kept connections, no proxies, bounded answers, time-outs, errors of the SDK.

Imported when it is first needed: aria2p takes a quarter of a second.
"""

from __future__ import annotations

import http.cookiejar
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import aria2p
import msgspec
import requests
import requests.adapters
import urllib3.exceptions

from dlqueue.sdk import AuthFailed, Unavailable
from dlqueue_aria2.entries import Call, Fault, TooLarge

T = TypeVar("T")

MAX_ANSWER = 16 * 1024 * 1024
_PIECE = 64 * 1024


class _Client(aria2p.Client):
    """aria2p's client over one session of our own."""

    def __init__(self, url: str, secret: str, deadline: Callable[[], float]) -> None:
        super().__init__(secret=secret)
        self._url = url
        self._deadline = deadline
        self._session = requests.Session()
        # A proxy of the environment would see the secret, and a .netrc would add to it.
        self._session.trust_env = False
        self._session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers.update({"Accept-Encoding": "identity", "Content-Type": "application/json"})
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=4)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, adapter)

    @property
    def server(self) -> str:
        return self._url

    def post(self, payload: str) -> dict[str, Any]:
        until = time.monotonic() + self._deadline()
        try:
            return self._exchange(payload, until)
        except requests.ConnectionError:
            # A kept connection may have been closed meanwhile. All calls that are made here may be repeated.
            return self._exchange(payload, until)

    def close(self) -> None:
        self._session.close()

    def _exchange(self, payload: str, until: float) -> dict[str, Any]:
        left = max(until - time.monotonic(), 0.1)
        with self._session.post(
            self._url, data=payload.encode(), timeout=left, stream=True, allow_redirects=False
        ) as answer:
            if answer.status_code in (401, 403):
                raise AuthFailed(f"HTTP {answer.status_code} from {self._url}: check `url` and `secret`")
            if answer.status_code not in (200, 400):
                raise Unavailable(f"no aria2 answers at {self._url}: HTTP {answer.status_code}")
            body = bytearray()
            # What is there, not what fills a piece: an answer that drips is to be noticed.
            while piece := answer.raw.read1(_PIECE):
                body += piece
                if len(body) > MAX_ANSWER:
                    raise TooLarge(f"the answer of {self._url} is larger than {MAX_ANSWER >> 20} MiB")
                if time.monotonic() > until:
                    raise Unavailable(f"{self._url} did not finish its answer in time")
        try:
            reply = msgspec.json.decode(body, type=_Reply)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Unavailable(f"what answers at {self._url} is no aria2") from error
        if isinstance(reply.error, _Error):
            return {"error": {"code": reply.error.code, "message": reply.error.message}}
        if reply.result is msgspec.UNSET:
            raise Unavailable(f"what answers at {self._url} is no aria2")
        return {"result": reply.result}


class _Error(msgspec.Struct):
    code: int
    message: str


class _Reply(msgspec.Struct):
    result: Any = msgspec.UNSET
    error: _Error | msgspec.UnsetType = msgspec.UNSET


class Rpc:
    """One aria2. All methods may be called from any thread.

    Everything here may raise `Unavailable` (no answer, or none that makes sense) and `AuthFailed`.
    """

    def __init__(self, url: str, secret: str | None, deadline: Callable[[], float]) -> None:
        self.url = url
        self._has_secret = bool(secret)
        self._client = _Client(url, secret or "", deadline)

    def call(self, method: str, *params: Any) -> Any:
        """The answer to one call. Raises `Fault`."""
        (answer,) = self.multicall([(method, list(params))])
        if isinstance(answer, Fault):
            raise answer
        return answer

    def multicall(self, calls: Sequence[Call]) -> list[Any]:
        """The answers to many calls, in one request; a `Fault` for those that failed."""
        if not calls:
            return []
        try:
            found = self._client.multicall2([("aria2." + method, params) for method, params in calls])
        except aria2p.ClientException as error:
            raise self._refused(error.message) from None
        except (requests.Timeout, urllib3.exceptions.TimeoutError):
            raise Unavailable(f"aria2 at {self.url} did not answer in time") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise Unavailable(f"aria2 at {self.url} cannot be reached{_reason(error)}") from None
        if not isinstance(found, list) or len(found) != len(calls):
            raise self._garbage()
        return [self._one(answer) for answer in found]

    def read(self, answer: Any, into: type[T]) -> T:
        """An answer as the type it ought to have. aria2 sends numbers and truth values as text."""
        try:
            return msgspec.convert(answer, into, strict=False)
        except msgspec.ValidationError as error:
            raise self._garbage() from error

    def close(self) -> None:
        self._client.close()

    def _one(self, answer: Any) -> Any:
        if isinstance(answer, list) and len(answer) == 1:
            return answer[0]
        message = self.read(answer, _Error).message
        if message == "Unauthorized":
            raise self._refused(message)
        return Fault(message)

    def _garbage(self) -> Unavailable:
        return Unavailable(f"what answers at {self.url} is no aria2")

    def _refused(self, message: str) -> Exception:
        if message != "Unauthorized":
            return Unavailable(f"aria2 at {self.url} does not understand us: {' '.join(message.split())[:200]}")
        if self._has_secret:
            return AuthFailed(f"aria2 at {self.url} refuses our secret: `secret` must be what its rpc-secret is")
        return AuthFailed(f"aria2 at {self.url} wants a secret: set `secret` to what its rpc-secret is")


def _reason(error: BaseException) -> str:
    """The system's words for it, without what the library adds to them."""
    for _ in range(6):
        if isinstance(error, OSError) and error.strerror:
            return f": {error.strerror}"
        inner = next((part for part in error.args if isinstance(part, BaseException)), None)
        inner = inner or getattr(error, "reason", None) or error.__cause__ or error.__context__
        if not isinstance(inner, BaseException):
            break
        error = inner
    return ""
