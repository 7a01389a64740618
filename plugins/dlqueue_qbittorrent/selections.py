"""Selections of files, written down until they are sure to be made: whoever comes after a crash has to make them.

A torrent with one is stopped when its files are known (qBittorrent does so by itself), its files are chosen, and then
it begins. A qBittorrent that is killed a moment later has written down that it began, but perhaps not which files.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import NamedTuple

SURE = 60.0
"""Seconds after which it has surely written down what was chosen. (It does so at once, in the background.)"""


class _Made(NamedTuple):
    indexes: tuple[int, ...]
    instance: str
    at: float


class Selections:
    """
    :param folder: private.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "selections"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._open: dict[str, tuple[int, ...]] = {}
        self._made: dict[str, _Made] = {}
        for path in self._folder.iterdir():
            indexes, instance, at = _read(path)
            if instance:
                self._made[path.name] = _Made(indexes, instance, at)
            else:
                self._open[path.name] = indexes

    def get(self, key: str) -> tuple[int, ...] | None:
        """What is still to be chosen: indexes from 0."""
        return self._open.get(key) or None

    def note(self, key: str, indexes: tuple[int, ...]) -> None:
        """It is to be made."""
        with self._lock:
            self._write(key, indexes)

    def made(self, key: str, indexes: tuple[int, ...], instance: str | None) -> None:
        """It has been told that program, of which it may come to nothing."""
        if instance is None:
            self.forget(key)
            return
        with self._lock:
            self._write(key, indexes, instance)

    def look(self, key: str, instance: str | None) -> None:
        """Another program runs than the one that was told: it is to be made again."""
        if key not in self._made:
            return  # as with nearly all, at each poll
        with self._lock:
            made = self._made.get(key)
            if made is not None and instance is not None and made.instance != instance:
                self._write(key, made.indexes)
        if made is not None and made.instance == instance and not 0 <= time.time() - made.at < SURE:
            self.forget(key)

    def outdate(self, key: str) -> None:
        """What was told is not to be told again: the program has been told something later."""
        if key in self._made:
            self.forget(key)

    def forget(self, key: str) -> None:
        with self._lock:
            known = self._open.pop(key, None), self._made.pop(key, None)
            if known != (None, None):
                (self._folder / key).unlink(missing_ok=True)

    def _write(self, key: str, indexes: tuple[int, ...], instance: str = "") -> None:
        new = self._folder / f"{key}.new"
        new.write_text(f"{' '.join(map(str, indexes))}\n{instance}", encoding="utf-8")
        new.replace(self._folder / key)
        self._open.pop(key, None)
        self._made.pop(key, None)
        if instance:
            self._made[key] = _Made(indexes, instance, time.time())
        else:
            self._open[key] = indexes


def _read(path: Path) -> tuple[tuple[int, ...], str, float]:
    try:
        words, _, instance = path.read_text(encoding="utf-8").partition("\n")
        return tuple(int(word) for word in words.split()), instance, path.stat().st_mtime
    except (OSError, ValueError):
        return (), "", 0.0
