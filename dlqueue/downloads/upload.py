"""The .torrent and .metalink files that were sent with a submit: too big for a row that is written at every step.

Each lies in the daemon's own folder under the digest of its content, so that sending one twice is the same request. It
is there before the task is; what no unfinished task has needed for a month is swept away.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

from dlqueue.runtime.files import write_whole

KEPT = 30 * 86400.0
"""Seconds that a file stays after the last start of a daemon with an unfinished task for it: that long a failed one can
be retried."""
_NAME = re.compile(r"[0-9a-f]{64}(\.|$)")


def name_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Uploads:
    """:param folder: private; made when it is needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, content: bytes) -> None:
        """Durably. :raises OSError: full disk, missing rights."""
        path = self._folder / name_of(content)
        if path.exists():
            os.utime(path)
            return
        write_whole(path, content)

    def has(self, name: str) -> bool:
        return (self._folder / name).is_file()

    def read(self, name: str) -> bytes:
        """:raises FileNotFoundError: it is not kept any more."""
        return (self._folder / name).read_bytes()

    def stale(self) -> list[str]:
        """What would be swept away, unless a task needs it."""
        if not self._folder.is_dir():
            return []
        # File times are the system's, whatever clock the queue goes by.
        limit = time.time() - KEPT
        found = []
        for path in self._folder.iterdir():
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < limit and _NAME.match(path.name):
                    found.append(path.name)
        return found

    def sweep(self, needed: Iterable[str]) -> None:
        """Renew those that are needed, and drop the others that are old."""
        for name in needed:
            with contextlib.suppress(OSError):
                os.utime(self._folder / name)
        for name in self.stale():
            with contextlib.suppress(OSError):
                (self._folder / name).unlink()
