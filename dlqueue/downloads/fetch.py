"""Fetches .torrent files for downloaders that want the file and not its URL: bounded in size and time, and the policy
is asked about every URL and every address that is connected to."""

from __future__ import annotations

import base64
import contextlib
import http.client
import logging
import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from http import HTTPStatus
from queue import Empty, SimpleQueue
from typing import Any, Self
from urllib.parse import unquote, urljoin, urlsplit

import urllib3
import urllib3.connection
from urllib3.util import Timeout, Url, parse_url

from dlqueue import __version__
from dlqueue.downloads.policy import Policy, PolicyRefused
from dlqueue.downloads.torrent import read_torrent
from dlqueue.queue import InvalidTask
from dlqueue.sdk import Final, Rejected

SIZE_MAX = 10 * 1024 * 1024
SECONDS_MAX, SILENCE_MAX = 60.0, 20.0
MAX_REDIRECTS = 10
_BLOCK = 64 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 425, 429})
# What may go to a server that the user did not name. Anything else may be a secret.
_HARMLESS = frozenset({"accept", "accept-language", "user-agent"})

# urllib3 writes whole URLs into its log, with the tokens in them.
logging.getLogger("urllib3").setLevel(logging.ERROR)
logging.getLogger("urllib3.connection").setLevel(logging.CRITICAL)


def fetch_torrent(urls: tuple[str, ...], headers: Mapping[str, str], policy: Policy) -> bytes:
    """The first of these mirrors that answers with a .torrent file. Blocks.

    :raises Rejected: none does. What any of them may still do is passing.
    """
    errors = []
    for url in urls:
        try:
            content = _fetch(url, headers, policy, time.monotonic() + SECONDS_MAX)
            read_torrent(content)
            return content
        except Rejected as error:
            errors.append(error)
        except InvalidTask as error:
            message = f"what came from {_host(url)} {error.message}"
            errors.append(Rejected(message, "request", kind="bad_torrent"))
    raise next((error for error in errors if error.final is None), errors[0])


def _fetch(url: str, headers: Mapping[str, str], policy: Policy, until: float) -> bytes:
    target = url
    for _ in range(MAX_REDIRECTS + 1):
        _check(policy, target)
        own = _origin(target) == _origin(url)
        sent = {name: value for name, value in headers.items() if own or name.lower() in _HARMLESS}
        try:
            answer, content = _exchange(target, sent, policy, until)
        except Rejected:
            raise
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            if time.monotonic() >= until:
                raise _too_slow(_host(target)) from error
            raise _broken(error, _host(target)) from error
        if time.monotonic() >= until:  # what was cut off may look like an answer
            raise _too_slow(_host(target))
        if answer.status in _REDIRECTS and (location := answer.headers.get("Location")) is not None:
            target = _next(target, location)
            continue
        if answer.status != HTTPStatus.OK:
            raise _refused(answer.status, answer.headers, _host(target))
        return content
    raise Rejected(f"more than {MAX_REDIRECTS} redirects from {_host(url)}", "request", kind="redirects")


def _exchange(
    url: str, headers: dict[str, str], policy: Policy, until: float
) -> tuple[urllib3.BaseHTTPResponse, bytes]:
    parts = _parsed(url)
    given = {name.lower() for name in headers}
    defaults = {"User-Agent": f"dlqueue/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}
    headers |= {name: value for name, value in defaults.items() if name.lower() not in given}
    if parts.auth is not None and "authorization" not in given:
        user, _, password = parts.auth.partition(":")
        secret = f"{unquote(user)}:{unquote(password)}".encode()
        headers["Authorization"] = "Basic " + base64.b64encode(secret).decode()
    with _Limit(until) as limit, _pool(parts, policy, limit) as pool:
        answer = pool.urlopen(
            "GET",
            parts.request_uri,
            headers=headers,
            timeout=Timeout(connect=SILENCE_MAX, read=SILENCE_MAX),
            retries=False,
            redirect=False,
            preload_content=False,
            decode_content=False,
        )
        try:
            return answer, _body(answer, _host(url), until) if answer.status == HTTPStatus.OK else b""
        finally:
            answer.close()


def _body(answer: urllib3.BaseHTTPResponse, host: str, until: float) -> bytes:
    found = bytearray()
    # As it comes, not in full blocks: a server that drips must not outlast the clock.
    while piece := answer.read1(_BLOCK):
        found += piece
        if len(found) > SIZE_MAX:
            message = f"what {host} sends is no .torrent file: it is larger than {SIZE_MAX >> 20} MiB"
            raise Rejected(message, "request", kind="bad_torrent")
        if time.monotonic() > until:
            raise _too_slow(host)
    if answer.length_remaining:
        raise Rejected(f"{host} ended the answer before the end of the file", kind="truncated")
    return bytes(found)


class _Limit:
    """Cuts a connection when the time is up. A server that drips the lines of its head is never silent, and nothing
    else ends that."""

    def __init__(self, until: float) -> None:
        self.until = until
        self._lines: list[socket.socket] = []
        self._timer = threading.Timer(max(until - time.monotonic(), 0.0), self._cut)
        self._timer.daemon = True

    def hold(self, connection: socket.socket) -> socket.socket:
        self._lines.append(connection.dup())  # TLS takes the socket itself away
        return connection

    def _cut(self) -> None:
        for line in self._lines:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._timer.join()
        for line in self._lines:
            line.close()


def _pool(parts: Url, policy: Policy, limit: _Limit) -> urllib3.HTTPConnectionPool:
    """For one exchange: the policy decides about the address that is really connected to."""

    def connect(connection: urllib3.connection.HTTPConnection) -> socket.socket:
        return limit.hold(_connect(connection.host, connection.port, policy, limit.until))

    class Plain(urllib3.connection.HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return connect(self)

    class Secure(urllib3.connection.HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return connect(self)

    pool: urllib3.HTTPConnectionPool
    if parts.scheme == "https":
        pool = urllib3.HTTPSConnectionPool(str(parts.host), parts.port, ssl_context=ssl.create_default_context())
        pool.ConnectionCls = Secure
    else:
        pool = urllib3.HTTPConnectionPool(str(parts.host), parts.port)
        pool.ConnectionCls = Plain
    return pool


def _connect(host: str, port: int, policy: Policy, until: float) -> socket.socket:
    """A socket to the first address that the policy allows and that answers."""
    failure = Rejected(f"the name {host} has no address", kind="dns")
    for family, kind, protocol, _, address in _resolve(host, port, until):
        try:
            policy.check_address(str(address[0]).partition("%")[0])
        except PolicyRefused as error:
            failure = Rejected(error.message, "request", kind="policy")
            continue
        left = until - time.monotonic()
        if left <= 0:
            raise _too_slow(host)
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(min(left, SILENCE_MAX))
            connection.connect(address)
        except OSError as error:
            connection.close()
            reason = "no answer in time" if isinstance(error, TimeoutError) else error.strerror or type(error).__name__
            failure = Rejected(f"cannot connect to {host}:{port}: {reason.lower()}", kind="connection")
        else:
            connection.settimeout(SILENCE_MAX)
            return connection
    raise failure


def _resolve(host: str, port: int, until: float) -> list[Any]:
    """The addresses of a name. The system's resolver takes no time limit and cannot be stopped: one that is too slow is
    left behind, in a thread of its own."""
    answers: SimpleQueue[list[Any] | Exception] = SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM))
        except Exception as error:  # noqa: BLE001 - it is judged where it is awaited
            answers.put(error)

    threading.Thread(target=ask, name="dlqueue-resolve", daemon=True).start()
    try:
        found = answers.get(timeout=max(min(until - time.monotonic(), SILENCE_MAX), 0.0))
    except Empty:
        raise Rejected(f"the name {host} was not resolved in time", kind="dns") from None
    if isinstance(found, (socket.gaierror, UnicodeError)):
        raise Rejected(f"the name {host} cannot be resolved", kind="dns") from found
    if isinstance(found, Exception):
        raise found
    return found


def _check(policy: Policy, url: str) -> None:
    try:
        policy.check_url(url)
    except InvalidTask as error:
        raise Rejected(f"a URL that is not allowed: {error.message}", "request", kind="policy") from error


def _refused(status: int, headers: Mapping[str, str], host: str) -> Rejected:
    try:
        phrase = f" ({HTTPStatus(status).phrase})"
    except ValueError:
        phrase = ""
    final: Final | None = "request" if 300 <= status < 500 and status not in _PASSING else None
    wait = headers.get("Retry-After", "").strip()
    after = float(wait) if status in (429, 503) and re.fullmatch(r"\d{1,5}", wait) else None
    return Rejected(f"HTTP {status}{phrase} from {host}", final, kind=f"http_{status}", retry_after=after)


def _too_slow(host: str) -> Rejected:
    return Rejected(f"{host} did not send the .torrent file within {SECONDS_MAX:g} s", kind="timeout")


def _broken(error: Exception, host: str) -> Rejected:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return Rejected(f"{host} has no valid certificate", "request", kind="tls")
    if isinstance(error, (TimeoutError, urllib3.exceptions.TimeoutError)):
        return Rejected(f"{host} did not answer in time", kind="timeout")
    if isinstance(error, urllib3.exceptions.LocationParseError):
        return Rejected("the URL cannot be used", "request", kind="bad_url")
    return Rejected(f"the connection to {host} broke", kind="connection")


def _parsed(url: str) -> Url:
    try:
        pieces = urlsplit(url)
        if not pieces.netloc.isascii():
            # urllib3 needs another library for these.
            user, at, host = pieces.netloc.rpartition("@")
            url = pieces._replace(netloc=user + at + host.encode("idna").decode()).geturl()
        return parse_url(url)
    except (urllib3.exceptions.LocationParseError, ValueError) as error:
        raise Rejected("the URL cannot be used", "request", kind="bad_url") from error


def _origin(url: str) -> tuple[Any, ...]:
    parts = _parsed(url)
    return parts.scheme, parts.host, parts.port or (443 if parts.scheme == "https" else 80)


def _next(url: str, location: str) -> str:
    try:
        target = urljoin(url, location.strip().replace(" ", "%20"))
    except ValueError:
        target = ""
    if urlsplit(target).scheme not in ("http", "https"):
        raise Rejected(f"{_host(url)} redirects to another scheme", "request", kind="bad_redirect")
    return target


def _host(url: str) -> str:
    """For messages: neither user, nor path, nor query."""
    try:
        return urlsplit(url).hostname or "the server"
    except ValueError:
        return "the server"
