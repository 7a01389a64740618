"""Which downloaders a person has paused: a file each, so that a restart forgets none."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Pause:
    """:param by: who wanted it; :param at: since when."""

    by: str
    at: float


class Pauses:
    """:param folder: private to the daemon; beside the folders of the downloaders, which belong to their plug-ins."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.paused"

    def read(self, name: str) -> Pause | None:
        """The pause of this downloader, if there is one. A file that cannot be understood is a pause too."""
        try:
            found = json.loads(self._file(name).read_bytes())
            return Pause(str(found["by"]), float(found["at"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, OSError):
            return Pause("somebody", 0.0)

    def write(self, name: str, pause: Pause) -> None:
        """On disk when it returns. :raises OSError: it cannot be written."""
        file = self._file(name)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = file.with_name(file.name + ".new")
        with new.open("w", encoding="utf-8") as output:
            json.dump(asdict(pause), output)
            output.flush()
            os.fsync(output.fileno())
        new.replace(file)
        _flush(file.parent)

    def forget(self, name: str) -> None:
        """:raises OSError: it cannot be removed."""
        with suppress(FileNotFoundError):
            self._file(name).unlink()
            _flush(self._folder)


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
