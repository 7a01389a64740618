"""What has to outlive us and Transmission: which torrents we have added, and selections that wait for their files.

Transmission writes down what it knows of a torrent only every few minutes and at its end. After a crash it has the
torrent again, but in its default folder, with all files selected and without labels (seen with 3.00).
"""

from __future__ import annotations

import contextlib
import re
import threading
from pathlib import Path

import msgspec

KEY = re.compile(r"[0-9a-f]{16}")


class Note(msgspec.Struct, frozen=True):
    hash: str
    select: tuple[int, ...] | None = None
    """To be applied when its files are known."""
    run: str | None = None
    """The run of Transmission in which it was set up."""
    added: int | None = None
    """When it was added, as Transmission says, which it does not forget once it has written anything down."""
    seeds: bool = False
    """It is to be given away when it is whole."""
    sound: str | None = None
    """The run in which it last ran with Transmission having written down that it is whole; None = not yet, `SAVING` =
    it was stopped to have that written down, `HALTED` = it was stopped by us since."""


SAVING, HALTED = "saving", "halted"


class Ledger:
    """:param folder: private; a small file for each transfer in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "transfers"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._notes: dict[str, Note] = {}
        for path in self._folder.iterdir():
            if KEY.fullmatch(path.name):
                with contextlib.suppress(OSError, msgspec.DecodeError):
                    self._notes[path.name] = msgspec.json.decode(path.read_bytes(), type=Note)

    def get(self, key: str) -> Note | None:
        return self._notes.get(key)

    def write(self, key: str, note: Note) -> None:
        if not KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no creation key")
        with self._lock:
            if self._notes.get(key) != note:
                half = self._folder / f"{key}.new"
                half.write_bytes(msgspec.json.encode(note))
                half.replace(self._folder / key)
                self._notes[key] = note

    def forget(self, key: str) -> None:
        with self._lock:
            if self._notes.pop(key, None) is not None:
                (self._folder / key).unlink(missing_ok=True)
