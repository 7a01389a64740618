"""Webhooks: one POST, signed as Standard Webhooks says (standardwebhooks.com, specification 1.0). Redirects are not
followed, and the address that is connected to is checked."""

from __future__ import annotations

import email.utils
import http.client
import re
import time
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import urlsplit

import urllib3

from dlqueue import __version__
from dlqueue.downloads.pinned import Limit, ask, broken, login, parsed, pool_for
from dlqueue.downloads.policy import Policy
from dlqueue.notify.failure import Failed
from dlqueue.notify.signing import signature
from dlqueue.queue import InvalidTask
from dlqueue.sdk import Rejected

SECONDS_MAX = 30.0
"""For all of it, from the name of the host to the status of the answer."""
SILENCE_MAX = 15.0


def send(url: str, key: str, body: bytes, secret: bytes | None, policy: Policy, now: float) -> None:
    """Blocks.

    :param key: the ``webhook-id``.
    :raises Failed: nobody said that it has arrived.
    """
    until = time.monotonic() + SECONDS_MAX
    host = _host(url)
    timestamp = int(now)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"dlqueue/{__version__}",
        "Accept-Encoding": "identity",
        "webhook-id": key,
        "webhook-timestamp": str(timestamp),
    }
    if secret is not None:
        headers["webhook-signature"] = signature(secret, key, timestamp, body)
    try:
        policy.check_url(url)
        status, answered = _exchange(url, headers, body, policy, until)
        if time.monotonic() >= until:  # what was cut off may look like an answer
            raise TimeoutError
    except InvalidTask as error:
        raise Failed(error.message) from error
    except Rejected as error:
        raise Failed(str(error)) from error
    except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
        if time.monotonic() >= until:
            raise Failed(f"{host} did not answer within {SECONDS_MAX:g} s") from error
        raise Failed(str(broken(error, host))) from error
    if 200 <= status < 300:
        return
    hint = " (redirects are not followed)" if 300 <= status < 400 else ""
    raise Failed(
        f"HTTP {status}{_phrase(status)} from {host}{hint}",
        final=status == HTTPStatus.GONE,
        retry_after=_retry_after(answered, now),
    )


def _exchange(
    url: str, headers: dict[str, str], body: bytes, policy: Policy, until: float
) -> tuple[int, Mapping[str, str]]:
    parts = parsed(url)
    if (known := login(parts)) is not None:
        headers["Authorization"] = known
    with Limit(until) as limit, pool_for(parts, policy, limit) as pool:
        answer = ask(pool, "POST", parts, headers, SILENCE_MAX, body)
        answer.close()  # its body says nothing to us
        return answer.status, answer.headers


def _retry_after(headers: Mapping[str, str], now: float) -> float | None:
    given = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}", given, re.ASCII):
        return float(given)
    try:
        return max(email.utils.parsedate_to_datetime(given).timestamp() - now, 0.0)
    except (ValueError, OverflowError):
        return None


def _phrase(status: int) -> str:
    try:
        return f" ({HTTPStatus(status).phrase})"
    except ValueError:
        return ""


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "the receiver"
    except ValueError:
        return "the receiver"
