"""What a server's answer, or its silence, means: errors in the words of the SDK, validators, ranges, waiting times."""

from __future__ import annotations

import email.utils
import errno
import http.client
import re
import ssl
import time
from collections.abc import Mapping
from http import HTTPStatus

import urllib3.exceptions

from dlqueue.sdk import Final, Rejected

_CONTENT_RANGE = re.compile(r"bytes +(\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.IGNORECASE)
# 408 and 425 ask for another try, 429 for a later one; 416 is an answer to a range and is handled where it was asked.
_PASSING = frozenset({408, 416, 425, 429})
_MAX_WAIT = 7 * 24 * 3600.0


def refused(status: int, headers: Mapping[str, str], host: str) -> Rejected:
    """The error for an answer that is not the file."""
    try:
        phrase = f" ({HTTPStatus(status).phrase})"
    except ValueError:
        phrase = ""
    final: Final | None = "request" if 300 <= status < 500 and status not in _PASSING else None
    wait = retry_after(headers.get("Retry-After")) if status in (429, 503) else None
    asked = f"; the server asked us to wait {wait:.0f} s" if wait is not None else ""
    return Rejected(f"HTTP {status}{phrase} from {host}{asked}", final, kind=f"http_{status}", retry_after=wait)


def retry_after(value: str | None) -> float | None:
    """Seconds from now, of a Retry-After header in either of its forms."""
    if value is None:
        return None
    if re.fullmatch(r"\d{1,9}", value.strip()):
        return min(float(value), _MAX_WAIT)
    try:
        moment = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
    return min(max(moment - time.time(), 0.0), _MAX_WAIT)


def explain(error: Exception, host: str) -> Rejected:
    """The error for an exchange or a write that broke off."""
    if isinstance(error, Rejected):
        return error
    cause = _innermost(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Rejected(f"{host} has no valid certificate: {cause.verify_message}", "downloader", kind="tls")
    if isinstance(cause, TimeoutError) or isinstance(error, urllib3.exceptions.TimeoutError):
        return Rejected(f"{host} did not answer in time", kind="timeout")
    if isinstance(error, urllib3.exceptions.SSLError) or isinstance(cause, ssl.SSLError):
        return Rejected(f"the TLS connection to {host} failed", kind="tls")
    if isinstance(cause, http.client.IncompleteRead) or isinstance(error, urllib3.exceptions.IncompleteRead):
        return truncated(host)
    if isinstance(cause, http.client.RemoteDisconnected):
        return Rejected(f"{host} closed the connection without an answer", kind="connection")
    if isinstance(error, urllib3.exceptions.DecodeError):
        return Rejected(f"{host} sent content that cannot be decoded", kind="bad_answer")
    if isinstance(error, urllib3.exceptions.LocationParseError):
        return Rejected("the URL cannot be used", "request", kind="bad_url")
    if isinstance(cause, http.client.HTTPException) or isinstance(error, urllib3.exceptions.InvalidHeader):
        return Rejected(f"{host} sent something that is not HTTP", kind="bad_answer")
    if isinstance(error, urllib3.exceptions.HTTPError):
        reason = f": {cause.strerror}" if isinstance(cause, OSError) and cause.strerror else ""
        return Rejected(f"the connection to {host} broke{reason}", kind="connection")
    if isinstance(error, OSError):
        return cannot_write(error)
    return Rejected(f"unexpected {type(error).__name__} while talking to {host}", kind="internal")


def cannot_write(error: OSError) -> Rejected:
    """The error for a file that cannot be made or written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Rejected("no space left where the file is to go", kind="disk_full")
    return Rejected(f"cannot write the file: {error.strerror or type(error).__name__}", kind="file")


def truncated(host: str) -> Rejected:
    return Rejected(f"{host} ended the answer before the end of the file", kind="truncated")


def validator(headers: Mapping[str, str]) -> str | None:
    """What If-Range may be asked with: a strong ETag, or a Last-Modified that is strong (RFC 9110, 8.8.2.2), which is
    one that was already past when the answer was made."""
    etag = headers.get("ETag", "").strip()
    if etag.startswith('"'):
        return etag
    modified = headers.get("Last-Modified")
    if modified is None:
        return None
    try:
        then = email.utils.parsedate_to_datetime(modified).timestamp()
        date = headers.get("Date")
        now = email.utils.parsedate_to_datetime(date).timestamp() if date else time.time()
    except (ValueError, OverflowError, OSError):
        return None
    return modified.strip() if now - then >= 1 else None


def same_content(known: str | None, headers: Mapping[str, str]) -> bool:
    """Does this partial answer belong to the content we know? Some servers ignore If-Range."""
    if known is None:
        return False
    found = headers.get("ETag" if known.startswith('"') else "Last-Modified")
    return found is None or found.strip() == known


def content_range(value: str | None) -> tuple[int, int, int | None] | None:
    """First byte, one past the last, and the whole size if told."""
    match = _CONTENT_RANGE.fullmatch(value.strip()) if value else None
    if match is None:
        return None
    return int(match[1]), int(match[2]) + 1, None if match[3] == "*" else int(match[3])


def _innermost(error: BaseException) -> BaseException:
    """urllib3 wraps what happened, sometimes twice: as an argument or as the cause."""
    for _ in range(5):
        inner = next((part for part in error.args if isinstance(part, BaseException)), None) or error.__cause__
        if inner is None:
            break
        error = inner
    return error
