"""Which downloaders a person has paused: a file each, so that a restart forgets none."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from dlqueue.runtime.files import fsync, write_whole


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
        write_whole(self._file(name), json.dumps(asdict(pause)).encode())

    def forget(self, name: str) -> None:
        """:raises OSError: it cannot be removed."""
        with suppress(FileNotFoundError):
            self._file(name).unlink()
            fsync(self._folder)
