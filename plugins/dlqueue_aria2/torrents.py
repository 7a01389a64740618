"""What has to be known of a torrent before aria2 is asked: its info-hash and how many files it has."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import bencode2

from dlqueue.sdk import Rejected

_PIECE_MAX = 1 << 28
_HEX = re.compile(r"[0-9a-fA-F]{40}")
_BASE32 = re.compile(r"[A-Za-z2-7]{32}")
_BTIH = "urn:btih:"


@dataclass(frozen=True, slots=True)
class Torrent:
    """A .torrent file; ``hash`` is the v1 info-hash, 40 lower-case hex digits."""

    hash: str
    files: int


def read_torrent(content: bytes) -> Torrent:
    """Raises `Rejected` for what is no torrent that aria2 can fetch (it knows version 1 only)."""
    try:
        meta: Any = bencode2.bdecode(content)
    except (ValueError, TypeError, RecursionError, OverflowError):
        meta = None
    info = meta.get(b"info") if isinstance(meta, dict) else None
    if not isinstance(info, dict):
        raise Rejected("this is no .torrent file", "request", kind="bad_torrent")
    length = info.get(b"piece length")
    if not isinstance(length, int) or not 0 < length <= _PIECE_MAX:
        # aria2 divides by it.
        raise Rejected("the pieces of this torrent have a length that cannot be", "request", kind="bad_torrent")
    if not isinstance(info.get(b"pieces"), bytes):
        raise Rejected("aria2 cannot fetch torrents of version 2 only", "downloader", kind="unsupported")
    files = info.get(b"files")
    count = len(files) if isinstance(files, list) else 1
    return Torrent(hashlib.sha1(bencode2.bencode(info), usedforsecurity=False).hexdigest(), count)


def magnet_hash(url: str) -> str:
    """The v1 info-hash of a magnet link, lower-case hex. Raises `Rejected` if it names none."""
    for name, value in parse_qsl(urlsplit(url).query):
        if name.lower() != "xt" or not value.lower().startswith(_BTIH):
            continue
        digest = value[len(_BTIH) :]
        if _HEX.fullmatch(digest):
            return digest.lower()
        if _BASE32.fullmatch(digest):
            return base64.b32decode(digest.upper()).hex()
    raise Rejected("the magnet link names no version 1 info-hash (xt=urn:btih:…)", "downloader", kind="bad_url")
