"""What has to be known of a torrent before Transmission is asked: its info-hash, which is its name over there."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import bencode2

from dlqueue.sdk import Rejected, Request

HASH = re.compile(r"[0-9a-f]{40}")
_TOPIC = re.compile(r"urn:btih:(?:([0-9a-f]{40})|([a-z2-7]{32}))", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Order:
    """What to add."""

    source: bytes | str
    """A .torrent file, or a magnet link."""
    hash: str
    """The v1 info-hash: 40 lower-case hex digits."""
    files: int | None
    """How many there are, if that is known."""


def make_order(request: Request) -> Order:
    """:raises Rejected: it is nothing that Transmission can fetch."""
    if request.options:
        names = ", ".join(sorted(request.options))
        raise Rejected(f"transmission takes no options, so not: {names}", "request", kind="bad_option")
    if not request.directory.is_absolute():
        raise Rejected("the folder of the transfer is not an absolute path", "request", kind="bad_name")
    if request.torrent is not None:
        order = _from_file(request.torrent)
    elif len(request.urls) == 1 and request.urls[0][:7].lower() == "magnet:":
        order = _from_magnet(request.urls[0])
    else:
        raise Rejected("transmission fetches one magnet link or .torrent file", "downloader", kind="bad_url")
    if request.select is not None:
        check_selection(request.select, order.files)
    return order


def check_selection(indexes: tuple[int, ...], files: int | None) -> None:
    """:param files: how many there are; None = not known yet. :raises Rejected: not a selection of them."""
    if not indexes or min(indexes) < 1:
        raise Rejected("file numbers count from 1", "request", kind="bad_select")
    if files is not None and max(indexes) > files:
        what = "there is one file" if files == 1 else f"there are {files} files"
        raise Rejected(f"{what}, no number {max(indexes)}", "request", kind="bad_select")


def _from_file(content: bytes) -> Order:
    info: Any = None
    try:
        meta: Any = bencode2.bdecode(content)
        info = meta.get(b"info") if isinstance(meta, dict) else None
    except (ValueError, TypeError, RecursionError, OverflowError):
        pass
    if not isinstance(info, dict):
        raise Rejected("this is no .torrent file", "request", kind="bad_torrent")
    if not isinstance(info.get(b"pieces"), bytes):
        # Transmission 4 reads the other half of hybrid torrents, but fetches none of version 2 only.
        raise Rejected("transmission cannot fetch torrents of version 2 only", "downloader", kind="unsupported")
    listed = info.get(b"files")
    digest = hashlib.sha1(bencode2.bencode(info), usedforsecurity=False).hexdigest()
    return Order(content, digest, len(listed) if isinstance(listed, list) else 1)


def _from_magnet(url: str) -> Order:
    if not url.isprintable() or " " in url:
        raise Rejected("the magnet link has a character that no URL may have", "request", kind="bad_url")
    for name, value in parse_qsl(urlsplit(url).query):
        if name.lower().partition(".")[0] == "xt" and (topic := _TOPIC.fullmatch(value)):
            digest = topic[1].lower() if topic[1] else base64.b32decode(topic[2].upper()).hex()
            return Order(url, digest, None)
    raise Rejected("the magnet link names no version 1 info-hash (xt=urn:btih:…)", "downloader", kind="bad_url")
