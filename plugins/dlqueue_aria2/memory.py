"""What one daemon has learned of transfers and has to keep in mind, because aria2 may forget it: which are whole, and
which GIDs belong to somebody else."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from dlqueue_aria2.status import Details

_REMEMBERED = 20_000


class Memory:
    """
    :param folder: private; GIDs of others are written down in it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "foreign"
        self._lock = threading.Lock()
        self._foreign = frozenset(self._path.read_text().split()) if self._path.exists() else frozenset()
        self._details: dict[str, Details] = {}
        self._whole: dict[str, tuple[str, ...]] = {}
        self._heard: dict[str, None] = {}
        self._folders: dict[str, str] = {}

    # -- whole --------------------------------------------------------------------------------------------------------

    def note_whole(self, gid: str, content: tuple[str, ...]) -> None:
        """aria2 has told us, in answer to a question, that all of it is there."""
        if self._whole.get(gid) == content:
            return
        with self._lock:
            self._whole[gid] = content
            _bound(self._whole)

    def note_heard(self, gid: str) -> None:
        """aria2 has notified us that a download is complete; if it is a magnet link, that is only its metadata."""
        with self._lock:
            self._heard[gid] = None
            _bound(self._heard)

    def whole(self, gid: str) -> tuple[str, ...]:
        return self._whole.get(gid, ())

    def heard(self, gid: str) -> bool:
        return gid in self._heard

    # -- details ------------------------------------------------------------------------------------------------------

    def details(self, gid: str) -> Details | None:
        return self._details.get(gid)

    def note_details(self, details: dict[str, Details]) -> None:
        with self._lock:
            self._details |= details
            _bound(self._details)

    def forget(self, *gids: str) -> None:
        with self._lock:
            for gid in gids:
                for known in (self._details, self._whole, self._heard, self._folders):
                    known.pop(gid, None)

    # -- folders ------------------------------------------------------------------------------------------------------

    def note_folder(self, gid: str, folder: Path) -> None:
        with self._lock:
            self._folders[gid] = os.path.normpath(folder)
            _bound(self._folders)

    def is_ours(self, gid: str, folder: str) -> bool:
        """Is a transfer with this GID, in this folder, the one that was to be created with it? An earlier process may
        have done that: the core names each folder after its key."""
        known = self._folders.get(gid)
        return os.path.normpath(folder) == known if known is not None else folder.rstrip("/").endswith(gid)

    # -- others' ------------------------------------------------------------------------------------------------------

    def is_foreign(self, gid: str) -> bool:
        return gid in self._foreign

    def note_foreign(self, gid: str) -> None:
        """Somebody else uses this GID, and whatever we are told later, it is not ours to remove."""
        with self._lock:
            if gid not in self._foreign:
                self._foreign |= {gid}
                with open(self._path, "a", encoding="ascii") as file:
                    file.write(f"{gid}\n")


def _bound(known: dict[str, Any]) -> None:
    while len(known) > _REMEMBERED:
        del known[next(iter(known))]
