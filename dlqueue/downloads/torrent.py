"""What dlqueue reads in .torrent and .metalink files and magnet links before a downloader sees them: is it one, what is
it called, how many files, which info-hash. From strangers: nothing here trusts it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

from bencode2 import BencodeDecodeError, bdecode, bencode

from dlqueue.queue import InvalidTask

FILE_MAX = 3_000_000
"""Bytes of a .torrent or .metalink file. As base64 it has to fit into one line of the protocol, which has 4 MiB."""
_PIECE_MAX = 1 << 28
"""Bytes of a piece. Far above what is in use; a length of 0, or a huge one, takes an aria2 down."""
_HEX_HASH = re.compile(r"[0-9A-Fa-f]{40}")
_BASE32_HASH = re.compile(r"[A-Za-z2-7]{32}")
_BTIH = "urn:btih:"


class Contents(NamedTuple):
    """What a file or link tells."""

    name: str | None
    files: int | None
    hash: str | None
    """The v1 info-hash; None if it has none (BEP 52)."""
    sizes: tuple[int, ...] | None = None
    """Bytes of each file, in the order that indexes count; None if it does not tell them all."""


def decoded(text: str, field: str) -> bytes:
    """:raises InvalidTask: no base64, or too big."""
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidTask("must be the content of the file as base64", field) from None
    if len(content) > FILE_MAX:
        raise InvalidTask(f"has {len(content)} bytes; at most {FILE_MAX} are possible", field)
    return content


def read_torrent(content: bytes) -> Contents:
    """:raises InvalidTask: it is no torrent (the format is BEP 3; names and lengths of BEP 52 are understood too)."""
    try:
        torrent = bdecode(content)
    except BencodeDecodeError as error:
        raise InvalidTask(f"is not a .torrent file: {error}", "torrent") from None
    except ValueError:  # a number of more digits than Python reads
        raise InvalidTask("is not a .torrent file: a number in it is too large", "torrent") from None
    info = torrent.get(b"info") if isinstance(torrent, dict) else None
    if not isinstance(info, dict) or not isinstance(info.get(b"piece length"), int):
        raise InvalidTask("is not a .torrent file: it has no info", "torrent")
    if not 0 < info[b"piece length"] <= _PIECE_MAX:
        raise InvalidTask("has pieces of a length that cannot be", "torrent")
    first = isinstance(info.get(b"pieces"), bytes)
    files = _count(info.get(b"files")) if first else _leaves(info.get(b"file tree"))
    if files == 0 or not (first or b"file tree" in info):
        raise InvalidTask("is not a .torrent file: it names no files", "torrent")
    name = info.get(b"name")
    # What is canonical (anything else was refused above) has only one encoding, so this is the part as it was sent.
    digest = hashlib.sha1(bencode(info), usedforsecurity=False).hexdigest() if first else None
    sizes = _lengths(info.get(b"files", [info])) if first else None
    return Contents(name.decode(errors="replace") if isinstance(name, bytes) else None, files, digest, sizes)


def _lengths(files: list[Any]) -> tuple[int, ...] | None:
    lengths = [file.get(b"length") if isinstance(file, dict) else None for file in files]
    known = [length for length in lengths if isinstance(length, int) and 0 <= length < 2**63]
    return tuple(known) if len(known) == len(lengths) else None


def list_files(content: bytes) -> list[tuple[str, int]]:
    """Path and size of each file of a torrent that `read_torrent` has accepted, in the order that indexes count; empty
    if it is one of BEP 52 only."""
    info = bdecode(content)[b"info"]
    name = _text(info.get(b"name"))
    if b"files" not in info:
        return [(name, _size(info))] if b"length" in info else []
    return [
        ("/".join([name, *map(_text, path if isinstance(path := file.get(b"path"), list) else [])]), _size(file))
        for file in info[b"files"]
        if isinstance(file, dict)
    ]


def _text(name: Any) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else ""


def _size(entry: dict[bytes, Any]) -> int:
    length = entry.get(b"length")
    return length if isinstance(length, int) else 0


def _count(files: Any) -> int:
    if files is None:
        return 1
    return len(files) if isinstance(files, list) else 0


def _leaves(tree: Any) -> int:
    count, rest = 0, [tree]
    while rest:
        node = rest.pop()
        if not isinstance(node, dict):
            return 0
        count += b"" in node
        rest += [inner for name, inner in node.items() if name != b""]
    return count


def read_magnet(url: str) -> Contents:
    """:raises InvalidTask: it names no BitTorrent content (BEP 9)."""
    query = parse_qs(urlsplit(url).query)
    topics = [topic[len(_BTIH) :] for topic in query.get("xt", ()) if topic.lower().startswith(_BTIH)]
    name = next(iter(query.get("dn", ())), None)
    for topic in topics:
        if _HEX_HASH.fullmatch(topic):
            return Contents(name, None, topic.lower())
        if _BASE32_HASH.fullmatch(topic):
            return Contents(name, None, base64.b32decode(topic.upper()).hex())
    if not topics and any(topic.lower().startswith("urn:btmh:") for topic in query.get("xt", ())):
        return Contents(name, None, None)
    raise InvalidTask("is not a magnet link of a torrent: it has no xt=urn:btih:… with a valid info-hash", "url")


def read_metalink(content: bytes) -> tuple[Contents, list[str]]:
    """The second part are the URLs in it. (Formats: RFC 5854, and version 3.0 of metalinker.org.)

    :raises InvalidTask: it is no metalink, or has files with no URL.
    """
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise InvalidTask("has a document type of its own, which no metalink needs", "metalink")
    try:
        root = ElementTree.fromstring(content)  # noqa: S314 - what makes XML dangerous was refused above
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # the last two: an encoding that is not known
        raise InvalidTask(f"is not a metalink file: {error}", "metalink") from None
    files = [element for element in root.iter() if _plain(element.tag) == "file"]
    if _plain(root.tag) != "metalink" or not files:
        raise InvalidTask("is not a metalink file: it names no files", "metalink")
    urls = [(element.text or "").strip() for element in root.iter() if _plain(element.tag) in ("url", "metaurl")]
    if not urls:
        raise InvalidTask("has no URL in it", "metalink")
    told = [(element.text or "").strip() for file in files for element in file if _plain(element.tag) == "size"]
    known = tuple(int(text) for text in told if text.isascii() and text.isdigit() and len(text) < 19)
    return Contents(files[0].get("name"), len(files), None, known if len(known) == len(files) else None), urls


def _plain(tag: Any) -> str:
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""
