"""Transfers in downloaders that are away, to be removed when they are back: a file each. No task has to wait for it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import msgspec

from dlqueue.downloads.state import Obligation


class Debts:
    """:param folder: private to the daemon; beside the folders of the downloaders, which belong to their plug-ins."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _file(self, owed: Obligation) -> Path:
        return self._folder / f"{owed.downloader}.owed" / owed.key

    def write(self, owed: Obligation) -> None:
        """On disk when it returns. :raises OSError: it cannot be written."""
        file = self._file(owed)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = file.with_name(file.name + ".new")
        with new.open("wb") as output:
            output.write(msgspec.json.encode(owed))
            output.flush()
            os.fsync(output.fileno())
        new.replace(file)
        for folder in (file.parent, self._folder):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def of(self, downloader: str) -> list[Obligation]:
        """All that is owed to it. What cannot be read is left alone."""
        found = []
        try:
            files = sorted((self._folder / f"{downloader}.owed").iterdir())
        except FileNotFoundError:  # nothing is owed, or not any more
            return []
        for file in files:
            with suppress(OSError, msgspec.MsgspecError):
                if not file.name.endswith(".new"):
                    found.append(msgspec.json.decode(file.read_bytes(), type=Obligation))
        return found

    def forget(self, owed: Obligation) -> None:
        """It is done."""
        with suppress(FileNotFoundError):
            self._file(owed).unlink()
        with suppress(OSError):  # there is more in it
            self._file(owed).parent.rmdir()
