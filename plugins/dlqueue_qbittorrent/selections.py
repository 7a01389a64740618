"""Selections that are still to be made. A torrent with one is stopped when its files are known (qBittorrent does so by
itself), its files are chosen, and then it begins. Written down: whoever comes after a crash has to do it."""

from __future__ import annotations

import threading
from pathlib import Path


class Selections:
    """
    :param folder: private.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "selections"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._open = {path.name: _read(path) for path in self._folder.iterdir()}

    def get(self, key: str) -> tuple[int, ...] | None:
        """Indexes from 0."""
        return self._open.get(key) or None

    def note(self, key: str, indexes: tuple[int, ...]) -> None:
        with self._lock:
            new = self._folder / f"{key}.new"
            new.write_text(" ".join(map(str, indexes)), encoding="ascii")
            new.replace(self._folder / key)
            self._open[key] = indexes

    def forget(self, key: str) -> None:
        with self._lock:
            if self._open.pop(key, None) is not None:
                (self._folder / key).unlink(missing_ok=True)


def _read(path: Path) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in path.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return ()
