"""Reading a metalink file (RFC 5854, and version 3 before it).

aria2 reads them too, but gives every file in one an identity of its own choice: created twice, it would be fetched
twice. So one file of a metalink becomes what it says: mirrors, a name, a checksum.
"""

from __future__ import annotations

import xml.parsers.expat
from dataclasses import dataclass, field

from dlqueue.sdk import Rejected

MAX_FILES = 10_000
_HASHES = {"sha-256": "sha-256", "sha256": "sha-256", "sha-512": "sha-512", "sha512": "sha-512"}
_HASHES |= {"sha-1": "sha-1", "sha1": "sha-1", "md5": "md5"}
_BEST = ("sha-512", "sha-256", "sha-1", "md5")
_LOWEST = 1_000_000


@dataclass(slots=True)
class LinkedFile:
    """One file that a metalink describes."""

    name: str
    hashes: dict[str, str] = field(default_factory=dict)
    mirrors: list[tuple[int, str]] = field(default_factory=list)
    """Rank (the smaller the better) and URL."""

    @property
    def urls(self) -> tuple[str, ...]:
        """The mirrors, best first."""
        return tuple(url for _, url in sorted(self.mirrors, key=lambda mirror: mirror[0]))

    @property
    def checksum(self) -> str | None:
        """Of the whole file, by the best algorithm given."""
        return next((f"{name}={self.hashes[name]}" for name in _BEST if name in self.hashes), None)


def read_metalink(content: bytes) -> list[LinkedFile]:
    """The files, in order. Raises `Rejected`."""
    reader = _Reader()
    try:
        reader.parse(content)
    except (xml.parsers.expat.ExpatError, LookupError, ValueError) as error:
        raise Rejected("this is no metalink file", "request", kind="bad_metalink") from error
    if not reader.files:
        raise Rejected("there is no file in the metalink", "request", kind="bad_metalink")
    return reader.files


class _Reader:
    def __init__(self) -> None:
        self.files: list[LinkedFile] = []
        self._path: list[str] = []
        self._attributes: dict[str, str] = {}
        self._text: list[str] = []

    def parse(self, content: bytes) -> None:
        parser = xml.parsers.expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.Parse(content, True)

    def _doctype(self, *declared: object) -> None:
        # No metalink has one; entities in it could grow without bound.
        raise Rejected("a metalink must not declare a document type", "request", kind="bad_metalink")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._path.append(name.rpartition(" ")[2])
        self._attributes, self._text = attributes, []
        if self._path[-1] == "file":
            if len(self.files) >= MAX_FILES:
                raise Rejected(f"the metalink has more than {MAX_FILES} files", "request", kind="bad_metalink")
            self.files.append(LinkedFile(attributes.get("name", "")))

    def _characters(self, text: str) -> None:
        self._text.append(text)  # a string that grows would be copied for every line

    def _end(self, _name: str) -> None:
        element = self._path.pop()
        text, self._text = "".join(self._text).strip(), []
        if "file" not in self._path or "pieces" in self._path:
            return
        file = self.files[-1]
        if element == "url" and text:
            file.mirrors.append((self._rank(), text))
        elif element == "hash" and self._attributes.get("type", "").lower() in _HASHES:
            file.hashes[_HASHES[self._attributes["type"].lower()]] = text

    def _rank(self) -> int:
        """Version 4 has a priority, smaller is better; version 3 a preference, larger is better."""
        for name, sign in (("priority", 1), ("preference", -1)):
            value = self._attributes.get(name, "")
            if value.isascii() and value.isdigit() and len(value) < 7:
                return sign * int(value)
        return _LOWEST
