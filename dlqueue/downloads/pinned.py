"""Connections to servers that somebody else named: the policy decides about the address that is really connected to,
and none outlasts its time."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
import time
from typing import Self
from urllib.parse import urlsplit

import urllib3
import urllib3.connection
from urllib3.util import Url, parse_url

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
        self._until = until
        self._lines: list[socket.socket] = []
        self._timer = threading.Timer(max(until - time.monotonic(), 0.0), self._cut)
        self._timer.daemon = True

    def hold(self, connection: socket.socket) -> socket.socket:
        """:raises TimeoutError: it came too late."""
        if time.monotonic() >= self._until:
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
        return limit.hold(_connect(connection.host, connection.port, policy))

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


def _connect(host: str, port: int, policy: Policy) -> socket.socket:
    """A socket to the first address that the policy allows and that answers."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise Rejected(f"the name {host} cannot be resolved", kind="dns") from error
    failure = Rejected(f"the name {host} has no address", kind="dns")
    for family, kind, protocol, _, address in found:
        try:
            policy.check_address(str(address[0]).partition("%")[0])
        except PolicyRefused as error:
            failure = Rejected(error.message, "request", kind="policy")
            continue
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(SILENCE_MAX)
            connection.connect(address)
        except OSError as error:
            connection.close()
            reason = "no answer in time" if isinstance(error, TimeoutError) else error.strerror or type(error).__name__
            failure = Rejected(f"cannot connect to {host}:{port}: {reason.lower()}", kind="connection")
        else:
            return connection
    raise failure


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
