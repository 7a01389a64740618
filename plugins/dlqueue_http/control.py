"""The control files of one transfer: what it is, what is known about it, and how far it has come.

``KEY.json`` holds one JSON object per line; later lines add to and replace what earlier lines said. A line is appended
in one write, so a kill at any moment leaves a readable file (a torn last line is skipped).
``KEY.pos`` holds the positions of the segments and is overwritten in place; it appears only for a transfer that lives
longer than a moment, so that a small file costs one tiny control file and nothing else.

Written bytes survive the end of this process at once, but the end of the machine only after a sync. The kernel's
boot id tells which of the two happened: after another boot only synced positions are believed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dlqueue.sdk import Request
from dlqueue_http.segments import Segments

KEY = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")
"""What a creation key may look like: it becomes a file name."""

Record = dict[str, Any]


@cache
def boot_id() -> str:
    """Differs after every start of the machine; empty where the kernel does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the first answer told; kept for the life of the transfer."""

    name: str | None = None
    total: int | None = None
    validator: str | None = None
    """Goes into If-Range: the bytes we have may be kept as long as the server still knows it."""
    ranges: bool = False
    """The server has shown that it can answer with a part of the file."""
    mirror: int = 0
    """Whose facts these are: an index into the request's URLs."""


class Control:
    """The control files of one key in one folder."""

    def __init__(self, folder: Path, key: str) -> None:
        self._json = folder / f"{key}.json"
        self._pos = folder / f"{key}.pos"
        self._pos_file: int | None = None

    @classmethod
    def stored(cls, folder: Path) -> Iterator[tuple[str, Control, Record]]:
        """Every transfer that an earlier process left here, with all that it wrote down."""
        for path in sorted(folder.glob("*.json")):
            if not KEY.fullmatch(path.stem):
                continue
            control = cls(folder, path.stem)
            record: Record = {}
            for line in path.read_bytes().splitlines():
                with contextlib.suppress(ValueError):
                    addition = json.loads(line)
                    if isinstance(addition, dict):
                        record |= addition
            yield path.stem, control, record

    def create(self, record: Record) -> None:
        """Begin anew."""
        with contextlib.suppress(FileNotFoundError):
            self._pos.unlink()
        self._write(record, os.O_TRUNC)

    def append(self, record: Record) -> None:
        self._write(record, os.O_APPEND)

    def _write(self, record: Record, flag: int) -> None:
        # The line break in front ends what a kill or a full disk may have cut short.
        line = b"\n" + json.dumps(record).encode() + b"\n"
        file = os.open(self._json, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flag, 0o600)
        try:
            written = os.write(file, line)
        finally:
            os.close(file)
        if written < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def save(self, segments: Segments, *, durable: bool = False) -> None:
        """Note the positions; ``durable``: before this returns, even for a power cut."""
        if self._pos_file is None:
            self._pos_file = os.open(self._pos, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.pwrite(self._pos_file, segments.pack(), 0)
        if durable:
            os.fdatasync(self._pos_file)

    def has_positions(self) -> bool:
        return self._pos_file is not None or self._pos.exists()

    def load(self, total: int | None, *, same_boot: bool) -> Segments | None:
        """The positions as last saved; ``None`` when there is nothing to go by."""
        try:
            return Segments.unpack(self._pos.read_bytes(), total, only_synced=not same_boot)
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        if self._pos_file is not None:
            os.close(self._pos_file)
            self._pos_file = None

    def remove(self) -> None:
        self.close()
        for path in (self._pos, self._json):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def to_record(request: Request) -> Record:
    """A request as JSON knows it. Contains secrets: the file is for its owner only."""
    return {
        "urls": list(request.urls),
        "directory": str(request.directory),
        "name": request.name,
        "headers": dict(request.headers),
        "options": dict(request.options),
    }


def from_record(record: Record) -> Request:
    """The inverse of `to_record`. Raises `KeyError`, `TypeError` or `ValueError` for what it did not write."""
    return Request(
        urls=tuple(str(url) for url in record["urls"]),
        directory=Path(record["directory"]),
        name=record["name"],
        headers=dict(record["headers"]),
        options=dict(record["options"]),
    )
