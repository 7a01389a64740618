"""From a request to the call that starts it: checked, with options that aria2 takes as text."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from dlqueue.sdk import Rejected, Request
from dlqueue_aria2.metalinks import LinkedFile, read_metalink
from dlqueue_aria2.torrents import magnet_hash, read_torrent

GID = re.compile(r"(?!0{16})[0-9a-f]{16}")
SCHEMES = frozenset({"http", "https", "ftp", "sftp"})
OPTIONS = frozenset(
    {"split", "max-connection-per-server", "min-split-size", "max-download-limit", "max-upload-limit", "max-tries"}
    | {"retry-wait", "timeout", "connect-timeout", "lowest-speed-limit", "user-agent", "referer", "http-accept-gzip"}
    | {"http-no-cache", "ftp-pasv", "ftp-type", "uri-selector", "stream-piece-selector", "remote-time"}
    | {"bt-max-peers", "bt-request-peer-speed-limit", "bt-prioritize-piece", "bt-stop-timeout", "bt-require-crypto"}
    | {"bt-min-crypto-level", "bt-force-encryption", "bt-tracker-timeout", "bt-tracker-connect-timeout"}
    | {"enable-peer-exchange", "follow-torrent"}
)
"""What a request may set. Nothing that names a file, a program, a proxy or another address."""

_HOSTILE = re.compile("[\x00-\x20\x7f\x80-\x9f\u2028\u2029\ud800-\udfff]")
_UNSAFE_NAME = re.compile("[\x00-\x1f\x7f-\x9f/\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# These frame the messages; aria2 sets them itself.
_OWN_HEADERS = frozenset(
    {"accept-encoding", "connection", "content-length", "expect", "if-range", "keep-alive", "proxy-connection", "range"}
    | {"te", "trailer", "transfer-encoding", "upgrade"}
)
_CHECKSUM = re.compile(r"(sha-1|sha-256|sha-512|md5)=([0-9a-fA-F]+)")
_DIGITS = {"sha-1": 40, "sha-256": 64, "sha-512": 128, "md5": 32}
_FOREVER = "35000000"
"""Minutes: 66 years. aria2 counts seconds in 31 bits; with more than they hold, the seeding ends as it begins."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to call, and what is known beforehand."""

    method: str
    params: list[Any]
    hash: str | None = None
    """The info-hash of a torrent or magnet link."""
    names_torrent: bool = False
    """It is a torrent or leads to one: what is in the folder can be proven piece by piece."""

    @property
    def size(self) -> int:
        """Bytes, roughly, of the request it takes."""
        return 1024 + sum(len(param) for param in self.params if isinstance(param, str))


def make_order(request: Request, key: str, check_url: Callable[[str], None]) -> Order:
    """Raises `Rejected` for what can be seen to be wrong without asking anybody.

    :param check_url: asked about the mirrors that a metalink names; raises `Rejected` too.
    """
    if not GID.fullmatch(key):
        raise Rejected("a creation key is 16 hex digits, not all of them 0", "request", kind="bad_key")
    if not request.directory.is_absolute() or _HOSTILE.search(str(request.directory).replace(" ", "")):
        raise Rejected("the folder is not a plain absolute path", "request", kind="bad_name")
    options = _options(request, key)
    if request.torrent is not None:
        return _torrent(request, options)
    if request.metalink is not None:
        return _metalink(request, options, check_url)
    if not request.urls:
        raise Rejected("there is nothing to fetch", "request", kind="bad_url")
    if any(url[:7].lower() == "magnet:" for url in request.urls):
        return _magnet(request, options)
    leads = any(urlsplit(url).path.lower().endswith(".torrent") for url in _checked(request.urls))
    if request.select is not None and request.select != (1,) and not leads:
        raise Rejected("there is one file to select, number 1", "request", kind="bad_select")
    if leads and request.select is not None:
        options["select-file"] = check_selection(request.select, None)
    if request.name is not None and not leads:
        options["out"] = _name(request.name)
    _checksum(request.checksum, options)
    return Order("addUri", [list(request.urls), options], names_torrent=leads)


def check_selection(indexes: tuple[int, ...], files: int | None) -> str:
    """The value of ``select-file``. Raises `Rejected`.

    :param files: how many there are; ``None`` = not known yet.
    """
    if not indexes or min(indexes) < 1 or max(indexes) > 1_000_000:
        raise Rejected("file numbers count from 1", "request", kind="bad_select")
    if files is not None and max(indexes) > files:
        what = "there is one file" if files == 1 else f"there are {files} files"
        raise Rejected(f"{what}, no number {max(indexes)}", "request", kind="bad_select")
    return ",".join(str(index) for index in sorted(set(indexes)))


def _torrent(request: Request, options: dict[str, Any]) -> Order:
    torrent = read_torrent(request.torrent or b"")
    if request.select is not None:
        options["select-file"] = check_selection(request.select, torrent.files)
    content = base64.b64encode(request.torrent or b"").decode()
    return Order("addTorrent", [content, list(_checked(request.urls)), options], torrent.hash, names_torrent=True)


def _magnet(request: Request, options: dict[str, Any]) -> Order:
    if len(request.urls) != 1:
        raise Rejected("a magnet link has no mirrors", "request", kind="bad_url")
    (url,) = request.urls
    if _HOSTILE.search(url):
        raise Rejected("the magnet link has a character that no URL may have", "request", kind="bad_url")
    if request.select is not None:
        # What is fetched after the metadata inherits it, and begins with it.
        options["select-file"] = check_selection(request.select, None)
    return Order("addUri", [[url], options], magnet_hash(url), names_torrent=True)


def _metalink(request: Request, options: dict[str, Any], check_url: Callable[[str], None]) -> Order:
    file = _chosen(read_metalink(request.metalink or b""), request.select)
    urls = [url for url in file.urls if url.partition(":")[0].lower() in SCHEMES]
    if not urls:
        raise Rejected("the metalink names no address that aria2 can fetch", "request", kind="bad_metalink")
    for url in _checked(tuple(urls)):
        check_url(url)
    # A name with folders in it is for metalinks of several files.
    options["out"] = _name(request.name or file.name.rpartition("/")[2])
    _checksum(request.checksum or file.checksum, options)
    return Order("addUri", [urls, options])


def _chosen(files: list[LinkedFile], select: tuple[int, ...] | None) -> LinkedFile:
    if select is not None:
        check_selection(select, len(files))
    wanted = sorted(set(select)) if select is not None else list(range(1, len(files) + 1))
    if len(wanted) > 1:
        raise Rejected(
            f"the metalink describes {len(wanted)} files: add it once for each, selecting one",
            "downloader",
            kind="unsupported",
        )
    return files[wanted[0] - 1]


def _checked(urls: tuple[str, ...]) -> tuple[str, ...]:
    for url in urls:
        if _HOSTILE.search(url):
            raise Rejected("the URL has a character that no URL may have", "request", kind="bad_url")
        if url.partition(":")[0].lower() not in SCHEMES:
            raise Rejected("aria2 fetches http, https, ftp, sftp and magnet", "downloader", kind="bad_url")
    return urls


def _name(name: str) -> str:
    if name in ("", ".", "..") or _UNSAFE_NAME.search(name) or len(name.encode()) > 255 - len(".aria2"):
        raise Rejected("the name is not usable as the name of one file", "request", kind="bad_name")
    return name


def _checksum(checksum: str | None, options: dict[str, Any]) -> None:
    if checksum is None:
        return
    match = _CHECKSUM.fullmatch(checksum)
    if match is None or len(match[2]) != _DIGITS[match[1]]:
        raise Rejected("the checksum must be like sha-256=HEX", "request", kind="bad_checksum")
    options["checksum"] = f"{match[1]}={match[2].lower()}"


def _options(request: Request, key: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "gid": key,
        "dir": str(request.directory),
        "file-allocation": "none",
        # The folder is this transfer's alone: no second name, and what has no control file is begun anew.
        "auto-file-renaming": "false",
        "allow-overwrite": "true",
        "always-resume": "false",
        "max-resume-failure-tries": "0",
        # Content that is there without a control file is proven piece by piece.
        "check-integrity": "true",
        "follow-torrent": "mem",
        "follow-metalink": "false",
        "force-save": "false",
        "pause": "false",
        "pause-metadata": "false",
        "content-disposition-default-utf8": "true",
        # The core ends the seeding.
        "seed-ratio": "0.0",
        "seed-time": _FOREVER if request.seed else "0",
    }
    for name, value in request.headers.items():
        if not _TOKEN.fullmatch(name):
            raise Rejected("a header has a name that HTTP does not allow", "request", kind="bad_header")
        if name.lower() in _OWN_HEADERS:
            raise Rejected(f"the header {name} is set by aria2 itself", "request", kind="bad_header")
        if not _is_one_line(value):
            raise Rejected(f"the value of the header {name} is not one line of text", "request", kind="bad_header")
    if request.headers:
        options["header"] = [f"{name}: {value}" for name, value in request.headers.items()]
    for name, value in request.options.items():
        if name not in OPTIONS:
            raise Rejected(
                f"aria2 has no option {name!r} that may be set here (see the documentation for those that may)",
                "request",
                kind="bad_option",
            )
        if not _is_one_line(value):
            raise Rejected(f"the option {name} takes one line of text", "request", kind="bad_option")
        if name == "follow-torrent" and value not in ("true", "false"):
            raise Rejected("the option follow-torrent takes true or false", "request", kind="bad_option")
        options[name] = "mem" if (name, value) == ("follow-torrent", "true") else value
    return options


def _is_one_line(value: str) -> bool:
    return all(character == "\t" or character.isprintable() for character in value)
