"""The way to the web: one pool of kept connections, redirects, and the policy asked at every hop and every connect."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import logging
import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import unquote, urljoin, urlsplit

import urllib3
import urllib3.connection
from urllib3.util import Timeout, Url, parse_url

from dlqueue.sdk import Context, Rejected
from dlqueue_http import names

MAX_REDIRECTS = 20
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_HOSTS = 64
HEADERS_LINES = 1000
HEADERS_SECONDS = 60.0
_DRAIN = 64 * 1024
# What may go to a server that the user did not name. Anything else may be a secret.
_HARMLESS = frozenset({"accept", "accept-language", "user-agent", "range", "if-range"})

# urllib3 writes whole URLs into its log, with the tokens in them.
logging.getLogger("urllib3").setLevel(logging.ERROR)
logging.getLogger("urllib3.connection").setLevel(logging.CRITICAL)


class Stopped(Exception):
    """Somebody told us to stop."""


class Wire:
    """The connection that one worker uses now, so that another thread can cut it."""

    def __init__(self) -> None:
        self.writing = threading.Lock()
        """Held while a piece goes to disk: who has it knows that this worker is not writing."""
        self.reused = False
        self._lock = threading.Lock()
        self._connection: urllib3.connection.HTTPConnection | None = None
        self._cut = False

    def take(self, connection: urllib3.connection.HTTPConnection, reused: bool) -> None:
        with self._lock:
            if self._cut:
                raise Stopped
            self._connection, self.reused = connection, reused
        with _USERS_LOCK:
            connection.dlqueue_wire = self  # type: ignore[attr-defined]

    def cut(self) -> None:
        """Wake the worker out of whatever it waits for, and let it begin nothing new."""
        with self._lock:
            self._cut = True
            connection = self._connection
        if connection is None:
            return
        with _USERS_LOCK, contextlib.suppress(OSError):
            # It may have gone back to the pool and to somebody else.
            if getattr(connection, "dlqueue_wire", None) is self and connection.sock is not None:
                # Not SSLSocket.shutdown: that turns the socket into one that passes ciphertext on as content.
                socket.socket.shutdown(cast("socket.socket", connection.sock), socket.SHUT_RDWR)


_USERS_LOCK = threading.Lock()


class Answer:
    """A response, and the URL that it came from in the end."""

    def __init__(self, response: urllib3.BaseHTTPResponse, url: str) -> None:
        self.response = response
        self.url = url

    @property
    def host(self) -> str:
        return host_of(self.url)

    def finish(self) -> None:
        """Its body is of no interest; keep the connection if it is short."""
        length = self.response.length_remaining
        if length is not None and length <= _DRAIN:
            self.response.drain_conn()
        self.response.close()


class Web:
    """Fetches URLs for many threads at once."""

    def __init__(
        self,
        context: Context,
        *,
        user_agent: str,
        connect_timeout: float,
        read_timeout: float,
        verify: bool = True,
        ca_file: str | None = None,
    ) -> None:
        self._context = context
        self._defaults = {"User-Agent": user_agent, "Accept": "*/*", "Accept-Encoding": "identity"}
        self._timeout = Timeout(connect=connect_timeout, read=read_timeout)
        self._verify = verify
        self._ca_file = ca_file
        self._current = threading.local()
        self._lock = threading.Lock()
        self._pools: dict[tuple[str, str, int | None], urllib3.HTTPConnectionPool] = {}
        self._pool_types = _pool_types(context, self._current)
        self._context_tls: ssl.SSLContext | None = None

    def get(self, url: str, headers: Mapping[str, str], wire: Wire) -> Answer:
        """GET, following redirects. The body is still to be read; any status but a redirect is an answer.

        ``headers`` go to the origin of ``url``, and to another one only as far as they cannot be secrets.
        """
        target = url
        for _ in range(MAX_REDIRECTS + 1):
            self._context.check_url(target)
            own = _may_know(url, target)
            sent = {name: value for name, value in headers.items() if own or name.lower() in _HARMLESS}
            answer = Answer(self._exchange(target, sent, wire), target)
            location = answer.response.headers.get("Location")
            if answer.response.status not in _REDIRECTS or location is None:
                return answer
            answer.finish()
            target = _next_target(target, location)
        raise Rejected(f"more than {MAX_REDIRECTS} redirects from {host_of(url)}", "request", kind="redirects")

    def close(self) -> None:
        with self._lock:
            for pool in self._pools.values():
                pool.close()
            self._pools.clear()

    def _exchange(self, url: str, headers: dict[str, str], wire: Wire) -> urllib3.BaseHTTPResponse:
        parts = _parse(url)
        given = {name.lower() for name in headers}
        headers |= {name: value for name, value in self._defaults.items() if name.lower() not in given}
        if parts.auth is not None and "authorization" not in given:
            user, _, password = parts.auth.partition(":")
            secret = f"{unquote(user)}:{unquote(password)}".encode()
            headers["Authorization"] = "Basic " + base64.b64encode(secret).decode()
        pool = self._pool(str(parts.scheme), str(parts.host), parts.port)
        self._current.wire = wire
        while True:
            wire.reused = False
            try:
                return pool.urlopen(
                    "GET",
                    parts.request_uri,
                    headers=headers,
                    timeout=self._timeout,
                    retries=False,
                    redirect=False,
                    assert_same_host=False,
                    preload_content=False,
                    decode_content=False,
                )
            except urllib3.exceptions.ProtocolError:
                # A kept connection that the server has just given up: each try uses one up, a fresh one is believed.
                if not wire.reused:
                    raise

    def _pool(self, scheme: str, host: str, port: int | None) -> urllib3.HTTPConnectionPool:
        key = (scheme, host, port)
        with self._lock:
            pool = self._pools.pop(key, None)
            if pool is None:
                options: dict[str, Any] = {"ssl_context": self._tls()} if scheme == "https" else {}
                pool = self._pool_types[scheme](host, port, maxsize=32, block=False, **options)
                while len(self._pools) >= MAX_HOSTS:
                    # Its connections are closed when the last answer that uses it is gone.
                    del self._pools[next(iter(self._pools))]
            self._pools[key] = pool
            return pool

    def _tls(self) -> ssl.SSLContext:
        """One for all: reading the certificates takes longer than most downloads."""
        if self._context_tls is not None:
            return self._context_tls
        try:
            tls = ssl.create_default_context(cafile=self._ca_file)
        except (OSError, ssl.SSLError) as error:
            raise Rejected(f"ca_file cannot be used: {error.__class__.__name__}", "downloader", kind="tls") from error
        if not self._verify:
            tls.check_hostname = False
            tls.verify_mode = ssl.CERT_NONE
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self._context_tls = tls
        return tls


class StrictResponse(http.client.HTTPResponse):
    """`http.client` takes a connection that ends in the middle of the headers for the end of the headers, and leaves
    out what it cannot read of them: a cut-off answer would then be a complete, empty file."""

    def begin(self) -> None:
        plain = self.fp
        if self.headers is not None or plain is None:
            return
        self.fp = strict = cast(io.BufferedReader, _Headers(plain))
        try:
            super().begin()
        finally:
            if self.fp is strict:
                self.fp = plain
        message = self.msg
        lengths = set(message.get_all("Content-Length", []))
        if message.defects or message.get_payload():
            raise http.client.HTTPException("headers that cannot be read")
        if len(lengths) > 1 or any(not re.fullmatch(r"\d{1,19}", length.strip(), re.ASCII) for length in lengths):
            raise http.client.HTTPException("a Content-Length that is none")
        if message.get("Transfer-Encoding", "chunked").strip().lower() != "chunked":
            raise http.client.HTTPException("a Transfer-Encoding that nobody asked for")


class _Headers:
    """The lines before the body, which must come to their end: not too many, and not for ever."""

    def __init__(self, plain: io.BufferedIOBase) -> None:
        self._plain = plain
        self._lines = 0
        self._until = time.monotonic() + HEADERS_SECONDS

    def readline(self, limit: int = -1) -> bytes:
        line = self._plain.readline(limit)
        self._lines += 1
        if not line:
            raise http.client.RemoteDisconnected("the connection ended inside the headers")
        if self._lines > HEADERS_LINES:
            raise http.client.HTTPException("headers without end")
        if time.monotonic() > self._until:
            raise TimeoutError("the headers did not come to their end in time")
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain, name)


def _pool_types(context: Context, current: threading.local) -> dict[str, type[urllib3.HTTPConnectionPool]]:
    """urllib3's classes, with two things added: the policy decides about the address that is really connected to,
    and the connection in use is known to its worker."""

    def connect(connection: urllib3.connection.HTTPConnection) -> socket.socket:
        return _connect(connection.host, connection.port, connection.timeout, context)

    class Plain(urllib3.connection.HTTPConnection):
        response_class = StrictResponse

        def _new_conn(self) -> socket.socket:
            return connect(self)

        def request(self, *args: Any, **options: Any) -> None:
            current.wire.take(self, self.sock is not None)
            super().request(*args, **options)

    class Secure(urllib3.connection.HTTPSConnection):
        response_class = StrictResponse
        fresh = False

        def _new_conn(self) -> socket.socket:
            self.fresh = True
            return connect(self)

        def request(self, *args: Any, **options: Any) -> None:
            current.wire.take(self, not self.fresh)
            self.fresh = False
            super().request(*args, **options)

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


def _connect(host: str, port: int, timeout: float | None, context: Context) -> socket.socket:
    """A socket to the first address that the policy allows and that answers."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise Rejected(f"the name {host} cannot be resolved", kind="dns") from error
    except UnicodeError as error:
        raise Rejected("the host name in the URL is not valid", "request", kind="bad_url") from error
    failure = Rejected(f"the name {host} has no address", kind="dns")
    for family, kind, protocol, _, address in found:
        try:
            context.check_address(str(address[0]).partition("%")[0])
        except Rejected as error:
            failure = error
            continue
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(timeout)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.connect(address)
        except TimeoutError:
            connection.close()
            failure = Rejected(f"{host} did not answer in time", kind="timeout")
        except OSError as error:
            connection.close()
            reason = (error.strerror or type(error).__name__).lower()
            failure = Rejected(f"cannot connect to {host}:{port}: {reason}", kind="connection")
        else:
            return connection
    raise failure


def check_syntax(url: str) -> None:
    """Raises `Rejected` when this can never be fetched over HTTP."""
    if any(character <= " " or character == "\x7f" for character in url):
        raise Rejected("the URL contains a space or a control character", "request", kind="bad_url")
    scheme = url.partition(":")[0].lower()
    if scheme not in ("http", "https"):
        raise Rejected("the built-in engine fetches http and https only", "downloader", kind="unsupported")
    _parse(url)


def host_of(url: str) -> str:
    """The host, for messages: neither user, nor path, nor query."""
    try:
        return urlsplit(url).hostname or "the server"
    except ValueError:
        return "the server"


def _parse(url: str) -> Url:
    try:
        pieces = urlsplit(url)
        if not pieces.netloc.isascii():
            # urllib3 needs another library for these.
            user, at, host = pieces.netloc.rpartition("@")
            url = pieces._replace(netloc=user + at + host.encode("idna").decode()).geturl()
        parts = parse_url(url)
    except (urllib3.exceptions.LocationParseError, ValueError) as error:
        raise Rejected("the URL cannot be used", "request", kind="bad_url") from error
    if not parts.host:
        raise Rejected("the URL names no host", "request", kind="bad_url")
    return parts


def _origin(url: str) -> tuple[str | None, str | None, int]:
    parts = _parse(url)
    return parts.scheme, parts.host, parts.port or (443 if parts.scheme == "https" else 80)


def _may_know(named: str, target: str) -> bool:
    """May the server of ``target`` see what was meant for ``named``? The same origin may, and the same host when it
    only moved us from http to https on the usual ports."""
    if named == target:
        return True
    first, second = _origin(named), _origin(target)
    return first == second or (first == ("http", first[1], 80) and second == ("https", first[1], 443))


def _next_target(url: str, location: str) -> str:
    location = names.decode_header(location).strip()
    if any(character < " " or character == "\x7f" for character in location):
        raise Rejected(f"{host_of(url)} redirects to something that is no URL", "request", kind="bad_redirect")
    try:
        target = urljoin(url, location.replace(" ", "%20"))
    except ValueError:
        target = ""
    if urlsplit(target).scheme not in ("http", "https"):
        raise Rejected(f"{host_of(url)} redirects to another scheme", "request", kind="bad_redirect")
    return target
