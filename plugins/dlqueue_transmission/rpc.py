"""Calls to a Transmission, on transmission-rpc: no proxies or redirects, bounded answers, time-outs, errors of the SDK.

Imported when it is first needed: the library takes a tenth of a second.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
import requests
import requests.adapters
import transmission_rpc
import urllib3.exceptions

from dlqueue.sdk import AuthFailed, Rejected, Unavailable
from dlqueue_transmission.config import TransmissionConfig
from dlqueue_transmission.entries import Entry, Listing, Statistics
from dlqueue_transmission.status import scrubbed

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

MAX_ANSWER = 64 * 1024 * 1024
"""Bytes. The list of files of a very large torrent has some MiB."""
_PIECE = 64 * 1024
_SESSION = "X-Transmission-Session-Id"

# The library writes whole answers, and at its debug level the password, to a log.
_SILENT = logging.Logger("transmission", logging.CRITICAL + 1)
_SILENT.addHandler(logging.NullHandler())


class Refused(Rejected):
    """Transmission has understood, and does not do it. ``said`` is its own text."""

    def __init__(self, said: str) -> None:
        super().__init__(f"transmission refuses it: {scrubbed(said)}", "downloader", kind="transmission")
        self.said = said


class _Gate(requests.adapters.HTTPAdapter):
    """What every exchange passes."""

    def __init__(self, config: TransmissionConfig, deadline: Callable[[], float]) -> None:
        super().__init__(pool_maxsize=4)
        self._config = config
        self._deadline = deadline
        self.used = threading.local()

    def send(self, request: requests.PreparedRequest, *_: Any, **given: Any) -> requests.Response:
        until = time.monotonic() + self._deadline()
        try:
            answer = self._exchange(request, until, given)
        except requests.ConnectionError:
            # A kept connection may have been closed meanwhile. All calls that are made here may be repeated.
            answer = self._exchange(request, until, given)
        self._judge(answer)
        self.used.session = answer.headers.get(_SESSION) or request.headers.get(_SESSION)
        return answer

    def _exchange(self, request: requests.PreparedRequest, until: float, given: dict[str, Any]) -> requests.Response:
        left = max(until - time.monotonic(), 0.1)
        answer = super().send(request, **(given | {"stream": True, "timeout": left}))
        body = bytearray()
        try:
            while piece := answer.raw.read1(_PIECE):
                body += piece
                if len(body) > MAX_ANSWER:
                    raise Unavailable(f"the answer of {self._config.endpoint} is larger than {MAX_ANSWER >> 20} MiB")
                if time.monotonic() > until:
                    raise requests.ReadTimeout
        finally:
            answer.close()
        answer._content, answer.encoding = bytes(body), "utf-8"
        return answer

    def _judge(self, answer: requests.Response) -> None:
        url, status = self._config.endpoint, answer.status_code
        if status == 401:
            if self._config.username:
                raise AuthFailed(
                    f"transmission at {url} refuses our username and password: check `username` and `password`"
                )
            raise AuthFailed(f"transmission at {url} wants a user name: set `username` and `password`")
        if status == 403:
            raise Unavailable(
                f"transmission at {url} does not let us in (HTTP 403): add our address to its rpc-whitelist,"
                " or restart it if it has seen too many wrong logins"
            )
        if status == 421:
            raise Unavailable(
                f"transmission at {url} does not answer to this name (HTTP 421): add it to its rpc-host-whitelist"
            )
        if status != 200 and not (status == 409 and _SESSION in answer.headers):
            raise Unavailable(f"no transmission answers at {url}: HTTP {status}")


class _Client(transmission_rpc.Client):
    """The library's client over our gate. Its constructor already asks."""

    def __init__(self, config: TransmissionConfig, gate: _Gate, timeout: float) -> None:
        self._gate: _Gate | None = gate
        super().__init__(
            protocol="https" if config.protocol == "https" else "http",
            username=config.username,
            password=config.password,
            host=config.host,
            port=config.port,
            path=config.path,
            timeout=timeout,
            logger=_SILENT,
        )

    def _http_query(self, query: dict[str, Any], timeout: Any = None) -> str:
        if self._gate is not None:
            self._http_session.headers["Accept-Encoding"] = "identity"
            for scheme in ("http://", "https://"):
                self._http_session.mount(scheme, self._gate)
            self._gate = None
        return super()._http_query(query, timeout)

    def close(self) -> None:
        self._http_session.close()


class Rpc:
    """One Transmission. All methods may be called from any thread.

    Everything here may raise `Unavailable` (no answer, or none that makes sense), `AuthFailed` and `Refused`.
    """

    def __init__(self, config: TransmissionConfig, deadline: Callable[[], float]) -> None:
        self._config = config
        self._deadline = deadline
        self._gate = _Gate(config, deadline)
        self._connecting = threading.Lock()
        self._client: _Client | None = None

    @property
    def session(self) -> str:
        """The session id that the last call of this thread was answered under: another one after a restart, and after
        an hour."""
        found: str = getattr(self._gate.used, "session", None) or ""
        return found

    def version(self) -> str:
        return str(self._ask(lambda client: client.get_session()).fields.get("version", ""))

    def statistics(self) -> Statistics:
        fields = self._ask(lambda client: client.session_stats()).fields
        seconds = self._read(fields.get("current-stats"), Statistics)
        count = self._read(fields.get("cumulative-stats"), Statistics)
        return Statistics(seconds.seconds_active, count.session_count)

    def torrents(self, hashes: Sequence[str] | None) -> dict[str, Entry]:
        """By info-hash; those that there are. None = all."""
        return {entry.hash_string: entry for entry in self._get(hashes, Entry)}

    def listings(self, hashes: Sequence[str]) -> dict[str, Listing]:
        return {listing.hash_string: listing for listing in self._get(hashes, Listing)}

    def add(self, source: bytes | str, folder: str) -> None:
        """Paused. One that is there already is no error."""
        self._ask(lambda client: client.add_torrent(source, download_dir=folder, paused=True))

    def change(self, digest: str, **values: Any) -> None:
        self._ask(lambda client: client.change_torrent(digest, **values))

    def place(self, digest: str, folder: str, *, move: bool) -> None:
        """Everything of it is to be in this folder."""
        self._ask(lambda client: client.move_torrent_data(digest, folder, move=move))

    def verify(self, digest: str) -> None:
        self._ask(lambda client: client.verify_torrent(digest))

    def start(self, *hashes: str) -> None:
        self._ask(lambda client: client.start_torrent([*hashes]))

    def stop(self, *hashes: str) -> None:
        self._ask(lambda client: client.stop_torrent([*hashes]))

    def remove(self, digest: str, *, delete_data: bool) -> None:
        self._ask(lambda client: client.remove_torrent(digest, delete_data=delete_data))

    def close(self) -> None:
        with self._connecting:
            if self._client is not None:
                self._client.close()

    # -- tools --------------------------------------------------------------------------------------------------------

    def _get(self, hashes: Sequence[str] | None, into: type[S]) -> list[S]:
        if hashes is not None and not hashes:
            return []  # to the library that would mean all
        fields = [field.encode_name for field in msgspec.structs.fields(into)]
        ids: list[int | str] | None = None if hashes is None else [*hashes]
        found = self._ask(lambda client: client.get_torrents(ids, arguments=fields))
        return [self._read(torrent.fields, into) for torrent in found]

    def _ask(self, call: Callable[[_Client], T]) -> T:
        url = self._config.endpoint
        try:
            return call(self._connected())
        except transmission_rpc.TransmissionError as error:
            if isinstance(error, transmission_rpc.TransmissionTimeoutError):
                raise Unavailable(f"transmission at {url} did not answer in time") from None
            if isinstance(error, transmission_rpc.TransmissionConnectError):
                raise Unavailable(f"transmission at {url} cannot be reached{_reason(error)}") from None
            answer = error.response if isinstance(error.response, dict) else {}
            if isinstance(answer.get("result"), str) and answer["result"] != "success":
                raise Refused(answer["result"]) from None
            raise self._garbage() from None
        except requests.Timeout:
            raise Unavailable(f"transmission at {url} did not answer in time") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise Unavailable(f"transmission at {url} cannot be reached{_reason(error)}") from None
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
            raise self._garbage() from None  # what the library makes of JSON of another shape

    def _connected(self) -> _Client:
        with self._connecting:
            if self._client is None:
                self._client = _Client(self._config, self._gate, self._deadline())
            return self._client

    def _read(self, answer: Any, into: type[T]) -> T:
        try:
            return msgspec.convert(answer, into)
        except msgspec.ValidationError:
            raise self._garbage() from None

    def _garbage(self) -> Unavailable:
        return Unavailable(f"what answers at {self._config.endpoint} is no transmission")


def _reason(error: BaseException) -> str:
    """The system's words for it, without what the libraries add to them."""
    seen = 0
    rest: list[BaseException | None] = [error]
    while rest and seen < 20:
        seen += 1
        one = rest.pop()
        if isinstance(one, OSError) and one.strerror:
            return f": {one.strerror}"
        if isinstance(one, BaseException):
            inner = [part for part in (*one.args, getattr(one, "reason", None)) if isinstance(part, BaseException)]
            rest += [one.__context__, one.__cause__, *inner]
    return ""
