"""What a file is called on our disk, whatever a server or a URL would like it to be called."""

from __future__ import annotations

import re
from urllib.parse import unquote, unquote_to_bytes, urlsplit

MAX_BYTES = 255
FALLBACK = "download"

# Control characters, line separators, halves of surrogate pairs, the byte order mark, and everything that turns the
# direction of text around ("exe.fdp" shown as "pdf.exe").
_HOSTILE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)')
_EXTENDED = re.compile(r"(utf-8|iso-8859-1)'[^']*'(.*)", re.IGNORECASE | re.DOTALL)


def sanitise(name: str) -> str:
    """One harmless path component, or ``""`` when nothing is left of it.

    Only what follows the last separator counts; leading dots go, so that no server can plant a hidden file such as
    ``.profile``; at most 255 bytes of UTF-8, and the extension is kept.
    """
    name = re.split(r"[/\\]", name)[-1]
    name = _HOSTILE.sub("", name).strip().lstrip(". ")
    return _shorten(name)


def is_safe(name: str) -> bool:
    """May a user's own choice of name be taken as it is?"""
    return (
        name not in ("", ".", "..")
        and "/" not in name
        and _HOSTILE.search(name) is None
        and len(name.encode()) <= MAX_BYTES
    )


def choose(disposition: str | None, *urls: str) -> str:
    """The name from a Content-Disposition header, else from the first URL that has one in its path."""
    return (
        (sanitise(from_disposition(disposition)) if disposition else "")
        or next((name for url in urls if (name := from_url(url))), "")
        or FALLBACK
    )


def from_url(url: str) -> str:
    """The last segment of the path, percent-decoded, without the query."""
    return sanitise(unquote(urlsplit(url).path.rpartition("/")[2], errors="replace"))


def from_disposition(value: str) -> str:
    """The file name in a Content-Disposition header (RFC 6266; ``filename*`` wins), or ``""``; not yet safe."""
    parameters = {name.lower(): _unquote(raw.strip()) for name, raw in _PARAMETER.findall(";" + decode_header(value))}
    extended = _EXTENDED.fullmatch(parameters.get("filename*", ""))
    if extended:
        return unquote_to_bytes(extended[2]).decode(extended[1], errors="replace")
    return parameters.get("filename", "")


def decode_header(value: str) -> str:
    """A header value as text: servers send UTF-8 where the standard says Latin-1, which is how it arrives here."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value


def _unquote(raw: str) -> str:
    if len(raw) >= 2 and raw[0] == raw[-1] == '"':
        return re.sub(r"\\(.)", r"\1", raw[1:-1])
    return raw


def _shorten(name: str) -> str:
    if len(name.encode()) <= MAX_BYTES:
        return name
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension.encode()) > MAX_BYTES // 4:
        stem, dot, extension = name, "", ""
    tail = (dot + extension).encode()
    return stem.encode()[: MAX_BYTES - len(tail)].decode(errors="ignore") + tail.decode()
