"""What a process of yt-dlp is told to do: checked, and nothing in it that names a program or a file elsewhere."""

from __future__ import annotations

import re

import msgspec

from dlqueue.sdk import Rejected, Request

KEY = re.compile(r"[0-9a-f]{16}")
OPTIONS = frozenset({"format", "format-sort", "limit-rate", "playlist", "playlist-items"})
"""What a request may set."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})
_RULES = {
    "format": (re.compile(r"[^\x00-\x1f\x7f]{1,500}"), "one line of text, such as bv*+ba/b"),
    "format-sort": (re.compile(r"[\w+:.~, -]{1,500}"), "fields with commas between them, such as res:720,ext"),
    "limit-rate": (re.compile(r"[1-9]\d{0,14}"), "bytes per second"),
    "playlist": (re.compile(r"true|false"), "true or false"),
    "playlist-items": (re.compile(r"[\d:,-]{1,500}"), "numbers and ranges, such as 1-3,7"),
}


class Job(msgspec.Struct, frozen=True):
    """Kept in the private folder, and given to the process on its standard input: it may hold secrets."""

    url: str
    directory: str
    name: str | None = None
    headers: dict[str, str] = {}
    options: dict[str, str] = {}


def make_job(request: Request, key: str, format: str | None) -> Job:
    """:param format: where the request says nothing of it. :raises Rejected: for what can be seen to be wrong."""
    if not KEY.fullmatch(key):
        raise Rejected("a creation key is 16 hex digits", "request", kind="bad_key")
    if request.torrent is not None or request.metalink is not None or len(request.urls) != 1:
        raise Rejected("yt-dlp fetches one URL, without mirrors", "downloader", kind="unsupported")
    (url,) = request.urls
    if url.partition(":")[0].lower() not in ("http", "https") or not url.isprintable() or " " in url:
        raise Rejected("yt-dlp fetches http and https URLs", "downloader", kind="bad_url")
    if not request.directory.is_absolute():
        raise Rejected("the folder of the transfer is not an absolute path", "request", kind="bad_name")
    if request.select is not None and tuple(request.select) != (1,):
        raise Rejected("which files come is not known beforehand: nothing can be selected", "downloader",
                       kind="bad_select")  # fmt: skip
    name = request.name
    if name is not None and (name in ("", ".", "..") or "/" in name or not name.isprintable()):
        raise Rejected("the name is not usable as the name of one file", "request", kind="bad_name")
    for header, value in request.headers.items():
        if not _TOKEN.fullmatch(header) or not all(sign == "\t" or sign.isprintable() for sign in value):
            raise Rejected("a header is not one line of text", "request", kind="bad_header")
        if header.lower() in _SECRET_HEADERS:
            raise Rejected(
                f"the header {header} is not given to yt-dlp: every server that a page leads to would see it",
                "downloader",
                kind="bad_header",
            )
    options = {"format": format} if format is not None else {}
    return Job(url, str(request.directory), name, dict(request.headers), options | _options(request))


def check_format(format: str) -> None:
    """:raises ValueError: it is no text that yt-dlp could read."""
    if not _RULES["format"][0].fullmatch(format):
        raise ValueError(f"format must be {_RULES['format'][1]}")


def _options(request: Request) -> dict[str, str]:
    for name, value in request.options.items():
        if name not in OPTIONS:
            known = ", ".join(sorted(OPTIONS))
            raise Rejected(f"yt-dlp has no option {name!r} that may be set here (there are {known})", "request",
                           kind="bad_option")  # fmt: skip
        pattern, what = _RULES[name]
        if not pattern.fullmatch(value):
            raise Rejected(f"the option {name} takes {what}", "request", kind="bad_option")
    return dict(request.options)
