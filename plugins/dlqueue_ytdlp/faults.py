"""What an error of yt-dlp means, in the words of the SDK."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from http import HTTPStatus

from dlqueue.sdk import Final, Rejected

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S*")
_COLOURS = re.compile("\x1b\\[[0-9;]*m")
# 408 and 425 ask for another try, 429 for a later one; 416 is an answer to a range.
_PASSING = frozenset({408, 416, 425, 429})


def explain(error: BaseException) -> Rejected:
    """Called in the process that has imported yt-dlp."""
    from yt_dlp.networking.exceptions import HTTPError, TransportError
    from yt_dlp.utils import ExtractorError, GeoRestrictedError, PostProcessingError, UnsupportedError

    chain = list(_chain(error))
    for one in chain:
        if isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT):
            return Rejected("no space left where the files are to go", kind="disk_full")
        if isinstance(one, HTTPError):
            return _status(one.status)
    said = scrubbed(str(error)).removeprefix("ERROR: ")
    for one in chain:
        if isinstance(one, UnsupportedError):
            return Rejected("yt-dlp finds nothing to fetch at this URL", "downloader", kind="unsupported")
        if isinstance(one, GeoRestrictedError):
            return Rejected(f"yt-dlp: {said}", "downloader", kind="geo")
        if isinstance(one, TransportError):
            return Rejected(f"yt-dlp: {said}", kind="connection")
        if isinstance(one, PostProcessingError):
            return Rejected(f"yt-dlp: {said}", "downloader", kind="postprocessing")
    if "Requested format is not available" in said:
        return Rejected("yt-dlp: the format that is asked for is not there", "request", kind="bad_option")
    final: Final | None = "request" if any(isinstance(e, ExtractorError) and e.expected for e in chain) else None
    return Rejected(f"yt-dlp: {said or type(error).__name__}", final, kind="ytdlp")


def scrubbed(message: str) -> str:
    """One line, not long, without colours and addresses: these may hold secrets."""
    text = "".join(sign if sign.isprintable() else " " for sign in _COLOURS.sub("", message))
    text = text.partition("; please report this issue")[0]
    return " ".join(_URL.sub("(address)", text).split())[:300]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes; yt-dlp keeps some of them in places of its own."""
    seen: list[BaseException] = []
    rest = [error]
    while rest:
        one = rest.pop(0)
        if one is None or one in seen:
            continue
        seen.append(one)
        yield one
        kept = getattr(one, "exc_info", None)
        inner = [kept[1] if isinstance(kept, tuple) and len(kept) > 1 else None, getattr(one, "cause", None)]
        rest += [*(e for e in inner if isinstance(e, BaseException)), one.__cause__, one.__context__]


def _status(status: int) -> Rejected:
    try:
        phrase = f" ({HTTPStatus(status).phrase})"
    except ValueError:
        phrase = ""
    final: Final | None = "request" if 400 <= status < 500 and status not in _PASSING else None
    return Rejected(f"HTTP {status}{phrase} from the server", final, kind=f"http_{status}")
