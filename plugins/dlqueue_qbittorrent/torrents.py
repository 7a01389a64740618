"""The identity of a torrent, known before qBittorrent is asked: its answer to an add tells nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import bencode2

from dlqueue.sdk import Rejected

_HEX = re.compile(r"[0-9a-fA-F]{40}")
_BASE32 = re.compile(r"[A-Za-z2-7]{32}")
_MULTIHASH = re.compile(r"1220([0-9a-fA-F]{64})")
_V1, _V2 = "urn:btih:", "urn:btmh:"


@dataclass(frozen=True, slots=True)
class Identity:
    """Info-hashes in lower-case hex; at least one of them is known."""

    v1: str | None
    v2: str | None
    """The first 40 digits: qBittorrent names a torrent of BEP 52 so."""
    files: int | None = None
    """How many there are, if that is known."""


def read_torrent(content: bytes) -> Identity:
    """Raises `Rejected`."""
    try:
        meta: Any = bencode2.bdecode(content)
    except (ValueError, TypeError, RecursionError, OverflowError):
        meta = None
    info = meta.get(b"info") if isinstance(meta, dict) else None
    if not isinstance(info, dict):
        raise Rejected("this is no .torrent file", "request", kind="bad_torrent")
    plain = bencode2.bencode(info)
    first, second = isinstance(info.get(b"pieces"), bytes), b"file tree" in info
    if not first and not second:
        raise Rejected("this is no .torrent file", "request", kind="bad_torrent")
    files = info.get(b"files")
    return Identity(
        v1=hashlib.sha1(plain, usedforsecurity=False).hexdigest() if first else None,
        v2=hashlib.sha256(plain).hexdigest()[:40] if second else None,
        # With a file tree, files that only fill up pieces count differently in different programs.
        files=None if second else len(files) if isinstance(files, list) else 1,
    )


def read_magnet(url: str) -> Identity:
    """Raises `Rejected`."""
    v1 = v2 = None
    for name, value in parse_qsl(urlsplit(url).query):
        if name.lower().partition(".")[0] != "xt":
            continue
        if value.lower().startswith(_V1):
            digest = value[len(_V1) :]
            if _HEX.fullmatch(digest):
                v1 = v1 or digest.lower()
            elif _BASE32.fullmatch(digest):
                v1 = v1 or base64.b32decode(digest.upper()).hex()
        elif value.lower().startswith(_V2) and (match := _MULTIHASH.fullmatch(value[len(_V2) :])):
            v2 = v2 or match[1][:40].lower()
    if v1 is None and v2 is None:
        raise Rejected("the magnet link names no info-hash (xt=urn:btih:…)", "request", kind="bad_url")
    return Identity(v1, v2)
