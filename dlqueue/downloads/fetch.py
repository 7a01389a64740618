"""Fetches .torrent files for downloaders that want the file and not its URL: bounded in size and time, and the policy
is asked about every URL and every address that is connected to."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urljoin, urlsplit

import urllib3

from dlqueue import __version__
from dlqueue.downloads.pinned import SILENCE_MAX, Limit, ask, broken, login, parsed, pool_for
from dlqueue.downloads.policy import Policy
from dlqueue.downloads.torrent import read_torrent
from dlqueue.queue import InvalidTask
from dlqueue.sdk import Final, Rejected

SIZE_MAX = 10 * 1024 * 1024
SECONDS_MAX = 60.0
MAX_REDIRECTS = 10
_BLOCK = 64 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 425, 429})
# What may go to a server that the user did not name. Anything else may be a secret.
_HARMLESS = frozenset({"accept", "accept-language", "user-agent"})


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
            raise broken(error, _host(target)) from error
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
    parts = parsed(url)
    given = {name.lower() for name in headers}
    defaults = {"User-Agent": f"dlqueue/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}
    headers |= {name: value for name, value in defaults.items() if name.lower() not in given}
    if "authorization" not in given and (known := login(parts)) is not None:
        headers["Authorization"] = known
    with Limit(until) as limit, pool_for(parts, policy, limit) as pool:
        answer = ask(pool, "GET", parts, headers, SILENCE_MAX)
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


def _origin(url: str) -> tuple[Any, ...]:
    parts = parsed(url)
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
