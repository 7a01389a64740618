"""In front of everything that the gateway answers: whose name was asked for, who asks, and how often in vain."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from email.utils import formatdate

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dlqueue.address import Address
from dlqueue.protocol.caller import Caller
from dlqueue.protocol.errors import Forbidden, InvalidRequest, LimitExceeded, RpcError, Unauthenticated
from dlqueue.transports.problem import problem

FAILURES = 10
"""Wrong tokens that one peer may show within `WINDOW` seconds."""
WINDOW = 60.0
_PEERS = 1000
"""Peers whose failures are remembered."""
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Names:
    """Under which names the gateway may be asked for. A page of somebody else, whose name was made to lead to us (DNS
    rebinding), sends its own name.

    :param hosts: further ones than the address itself and this machine: ``NAME`` (on any port) or ``NAME:PORT``.
    :param origins: further ones than those of the hosts, such as ``https://nas.example.org``.
    """

    def __init__(self, address: Address, hosts: Iterable[str], origins: Iterable[str]) -> None:
        self._hosts = {host.lower() for host in hosts}
        self._origins = {origin.lower().rstrip("/") for origin in origins}
        own = ("localhost", "127.0.0.1", "[::1]")
        if address.path is not None:
            self._hosts.update(own)  # no name leads to a Unix socket: a proxy says what it likes
            return
        self._hosts.update((address.authority, *(f"{name}:{address.port}" for name in own)))
        if address.port == 80:
            self._hosts.update(host.removesuffix(":80") for host in tuple(self._hosts))

    def check(self, headers: Headers) -> None:
        """:raises Forbidden: this request is not meant for us."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._knows(hosts[0]):
            named = hosts[0][:100] if hosts else ""
            cure = "; if this is its name, add it to http.hosts"
            raise Forbidden(f'this gateway is not asked for as "{named}"{cure}', kind="host")
        for origin in headers.getlist("origin"):
            if not self._allows(origin):
                cure = "; if it is meant to, add it to http.origins"
                raise Forbidden(f'a page of "{origin[:100]}" may not ask this gateway{cure}', kind="origin")

    def _knows(self, host: str) -> bool:
        host = host.lower()
        return host in self._hosts or _without_port(host) in self._hosts

    def _allows(self, origin: str) -> bool:
        scheme, _, host = origin.lower().partition("://")
        return origin.lower() in self._origins or (scheme in ("http", "https") and self._knows(host))


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


class Guard:
    """An ASGI application around another one. Behind it ``scope["caller"]`` is set, but for what is public.

    :param caller: who may come in with this token; ``None`` = nobody.
    :param public: the paths for which no token is needed.
    """

    def __init__(
        self,
        app: ASGIApp,
        names: Names,
        caller: Callable[[str], Caller | None],
        public: Collection[str],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._names = names
        self._caller = caller
        self._public = public
        self._monotonic = monotonic
        self._failures: dict[str, tuple[float, int]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        answer = self._app
        try:
            headers = Headers(scope=scope)
            self._names.check(headers)
            if "transfer-encoding" in headers and "content-length" in headers:
                # A proxy in front may have taken the other one for the end of it (RFC 9112, 6.1 and 11.2).
                raise InvalidRequest("Transfer-Encoding and Content-Length do not go together", kind="http")
            if scope["path"] not in self._public:
                scope["caller"] = self._identify(scope, headers)
        except RpcError as error:
            answer = problem(error, headers={"Connection": "close"} if error.kind == "http" else None)
        await answer(scope, receive, _hardened(send, scope["path"] in self._public))

    def _identify(self, scope: Scope, headers: Headers) -> Caller:
        given = headers.getlist("authorization")
        scheme, _, token = given[0].strip().partition(" ") if given else ("", "", "")
        if len(given) != 1 or scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated("a token is needed: Authorization: Bearer TOKEN (dlqueue token new makes one)")
        found = self._caller(token.strip())
        # A token that is right is always let in: whoever shares an address with a guesser must not be locked out, and
        # guessing 256 bits is hopeless at any rate.
        if found is None:
            # What the peer says about itself (X-Forwarded-For) is not asked.
            self._count_failure(scope["client"][0] if scope.get("client") else "unix")
            raise Unauthenticated("there is no such token; it may have been revoked", kind="token")
        return found

    def _count_failure(self, peer: str) -> None:
        """:raises LimitExceeded: too many."""
        now = self._monotonic()
        since, count = self._failures.pop(peer, (now, 0))
        if now - since >= WINDOW:
            since, count = now, 0
        self._failures[peer] = (since, count + 1)
        if len(self._failures) > _PEERS:
            del self._failures[next(iter(self._failures))]
        if count >= FAILURES:
            wait = since + WINDOW - now
            raise LimitExceeded("too many wrong tokens; wait", kind="logins", retry_after=wait)


def _hardened(send: Send, cacheable: bool) -> Send:
    async def hardened(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Date", formatdate(usegmt=True))
            headers.setdefault("Cache-Control", "no-cache" if cacheable else "no-store")
        await send(message)

    return hardened
