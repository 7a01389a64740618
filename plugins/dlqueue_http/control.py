"""What survives the end of the process: which transfers there are, what is known about them, how far they have come.

`Journal` is one file for all transfers, a JSON object per line; later lines about a key add to and replace what earlier
ones said. A line is appended in one write, so a kill at any moment leaves a readable file (a torn line is skipped). One
shared file, because making and deleting a file per transfer would cost more than fetching a small file does.
`Positions` is a small file of one transfer, overwritten in place; only transfers that live longer than a moment get it.

Written bytes survive the end of this process at once, but the end of the machine only after a sync. The kernel's
boot id tells which of the two happened: after another boot only synced positions are believed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dlqueue.sdk import Request
from dlqueue_http.segments import Segments

KEY = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")
"""What a creation key may look like: it becomes a file name."""
SLACK = 1024 * 1024
"""Bytes that the journal may grow by before it is written anew with what still counts."""

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

    def record(self) -> Record:
        return {name: getattr(self, name) for name in self.__slots__}


class Journal:
    """All transfers of one engine, in one file. Contains secrets: it is for its owner only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file: int | None = None
        self.records: dict[str, Record] = {}
        """By key, as an earlier process left them; then as they are."""
        if path.exists():
            self._read()
        self._compact()

    def put(self, key: str, record: Record) -> None:
        """Begin a transfer, or add to what is known of it. Raises `OSError`; then nothing has changed for a later
        process."""
        with self._lock:
            self._append({"key": key} | record)
            self.records[key] = self.records.get(key, {}) | record
            self._tidy()

    def drop(self, key: str) -> None:
        """The transfer is gone. Raises `OSError`."""
        with self._lock:
            self._append({"key": key, "gone": True})
            self.records.pop(key, None)
            self._tidy()

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _read(self) -> None:
        for line in self._path.read_bytes().splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError):
                addition = json.loads(line)
                key = addition.pop("key")
                if addition.get("gone"):
                    self.records.pop(key, None)
                elif KEY.fullmatch(key):
                    self.records[key] = self.records.get(key, {}) | addition

    def _append(self, record: Record) -> None:
        if self._file is None:
            raise OSError(errno.EBADF, "the journal is closed")
        # The line break in front ends what a full disk may have cut short.
        line = b"\n" + json.dumps(record).encode() + b"\n"
        self._size += len(line)
        if os.write(self._file, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _tidy(self) -> None:
        if self._size > self._limit:
            with contextlib.suppress(OSError):
                self._compact()

    def _compact(self) -> None:
        lines = [json.dumps({"key": key} | record) + "\n" for key, record in self.records.items()]
        new = self._path.with_suffix(".new")
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        content = "".join(lines).encode()
        self._size, self._limit = len(content), 2 * len(content) + SLACK
        try:
            if os.write(file, content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if content:
                os.fsync(file)
            new.rename(self._path)
        except OSError:
            os.close(file)
            raise
        old, self._file = self._file, file
        if old is not None:
            os.close(old)


class Positions:
    """How far the segments of one transfer have come."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self.exist = False
        """Is there a file that a later process would believe?"""

    def save(self, segments: Segments, *, durable: bool = False) -> None:
        """Note them; ``durable``: before this returns, even for a power cut. Raises `OSError`."""
        if self._file is None:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self.exist = True
        os.pwrite(self._file, segments.pack(), 0)
        if durable:
            os.fdatasync(self._file)

    def load(self, total: int | None, *, same_boot: bool) -> Segments | None:
        """As last saved; ``None`` when there is nothing to go by."""
        try:
            record = self._path.read_bytes()
            self.exist = True
            return Segments.unpack(record, total, only_synced=not same_boot)
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def remove(self) -> None:
        self.close()
        if self.exist:
            self._path.unlink(missing_ok=True)
            self.exist = False


def to_record(request: Request) -> Record:
    """A request as JSON knows it."""
    return {
        "urls": list(request.urls),
        "directory": str(request.directory),
        "name": request.name,
        "headers": dict(request.headers),
        "options": dict(request.options),
        "checksum": request.checksum,
    }


def from_record(record: Record) -> Request:
    """The inverse of `to_record`. Raises `KeyError`, `TypeError` or `ValueError` for what it did not write."""
    return Request(
        urls=tuple(str(url) for url in record["urls"]),
        directory=Path(record["directory"]),
        name=record["name"],
        headers=dict(record["headers"]),
        options=dict(record["options"]),
        checksum=record.get("checksum"),
    )
