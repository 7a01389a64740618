"""Transfers in downloaders that are away, to be removed when they are back: a file each. No task has to wait for it."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from dlqueue.downloads.state import Obligation

_SUFFIX = ".owed"


class Debts:
    """:param folder: private to the daemon; beside the folders of the downloaders, which belong to their plug-ins."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _file(self, owed: Obligation) -> Path:
        return self.folder(owed.downloader) / owed.key

    def folder(self, downloader: str) -> Path:
        """Where it is written what is owed to this one."""
        return self._folder / f"{downloader}{_SUFFIX}"

    def names(self) -> list[str]:
        """Downloaders that anything is owed to, configured or not."""
        return sorted(path.name.removesuffix(_SUFFIX) for path in self._folder.glob(f"*{_SUFFIX}"))

    def since(self, downloader: str) -> float:
        """Since when the oldest is owed; now if there is none."""
        with suppress(OSError):
            times = [path.stat().st_mtime for path in self.folder(downloader).iterdir()]
            if times:
                return min(times)
        return time.time()

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
            files = sorted(self.folder(downloader).iterdir())
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
