"""Connections to servers that somebody else named: the policy decides about the address that is really connected to,
and none outlasts its time."""

from __future__ import annotations

import base64
import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from queue import Empty, SimpleQueue
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import urllib3
import urllib3.connection
from urllib3.util import Timeout, Url, parse_url

from dlqueue.downloads.policy import Policy, PolicyRefused
from dlqueue.sdk import Rejected

SILENCE_MAX = 20.0
"""Seconds without a byte."""

# urllib3 writes whole URLs into its log, with the tokens in them.
logging.getLogger("urllib3").setLevel(logging.ERROR)
logging.getLogger("urllib3.connection").setLevel(logging.CRITICAL)


class Limit:
    """Cuts a connection when the time is up. A server that drips the lines of its head is never silent, and nothing
    else ends that."""

    def __init__(self, until: float) -> None:
        self.until = until
        self._lines: list[socket.socket] = []
        self._timer = threading.Timer(max(until - time.monotonic(), 0.0), self._cut)
        self._timer.daemon = True

    def hold(self, connection: socket.socket) -> socket.socket:
        """:raises TimeoutError: it came too late."""
        if time.monotonic() >= self.until:
            connection.close()
            raise TimeoutError
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


def pool_for(parts: Url, policy: Policy, limit: Limit) -> urllib3.HTTPConnectionPool:
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
            raise TimeoutError
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


def broken(error: Exception, host: str) -> Rejected:
    """What became of an exchange, for people; neither path nor query is repeated."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return Rejected(f"{host} has no valid certificate", "request", kind="tls")
    if isinstance(error, (TimeoutError, urllib3.exceptions.TimeoutError)):
        return Rejected(f"{host} did not answer in time", kind="timeout")
    if isinstance(error, urllib3.exceptions.LocationParseError):
        return Rejected("the URL cannot be used", "request", kind="bad_url")
    return Rejected(f"the connection to {host} broke", kind="connection")


def parsed(url: str) -> Url:
    """:raises Rejected: it cannot be used."""
    try:
        pieces = urlsplit(url)
        if not pieces.netloc.isascii():
            # urllib3 needs another library for these.
            user, at, host = pieces.netloc.rpartition("@")
            url = pieces._replace(netloc=user + at + host.encode("idna").decode()).geturl()
        return parse_url(url)
    except (urllib3.exceptions.LocationParseError, ValueError) as error:
        raise Rejected("the URL cannot be used", "request", kind="bad_url") from error


def login(parts: Url) -> str | None:
    """The header ``Authorization`` that says what stands before the @ of a URL; None = nothing does."""
    if parts.auth is None:
        return None
    user, _, password = parts.auth.partition(":")
    return "Basic " + base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()


def ask(
    pool: urllib3.HTTPConnectionPool,
    method: str,
    parts: Url,
    headers: Mapping[str, str],
    silence: float,
    body: bytes | None = None,
) -> urllib3.BaseHTTPResponse:
    """One request, and the head of its answer as it is: nothing is followed, tried again, unpacked or read further.

    :param silence: seconds without a byte.
    """
    return pool.urlopen(
        method,
        parts.request_uri,
        body=body,
        headers=headers,
        timeout=Timeout(connect=silence, read=silence),
        retries=False,
        redirect=False,
        preload_content=False,
        decode_content=False,
    )
