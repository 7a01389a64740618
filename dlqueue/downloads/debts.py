"""Transfers in downloaders that are away, to be removed when they are back: a file each. No task has to wait for it."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import msgspec

from dlqueue.downloads.state import Obligation
from dlqueue.runtime.files import write_whole

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
        write_whole(self._file(owed), msgspec.json.encode(owed))

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
