"""Which delivered things more than one task needs: a small file for each, so that a restart forgets none.

Most files belong to the one task that has delivered them, and nothing is written down. Written down is who was content
with a file that was there already (`on_exists` = skip), who has put its own in place of another's (overwrite), and who
has linked, or taken where it is (`delivery` = none), what a transfer that is not ours has brought: there a second
task's file can be the very same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from dlqueue.downloads.policy import resolved
from dlqueue.runtime.files import write_whole


class Uses:
    """:param folder: private to the daemon."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _file(self, place: Path) -> Path:
        told = str(place).encode(errors="surrogateescape")
        return self._folder / hashlib.blake2b(told, digest_size=16).hexdigest()

    def note(self, target: Path, task_id: int) -> None:
        """This task needs what is there. On disk when it returns. :raises OSError: it cannot be written."""
        file = self._file(resolved(target.parent) / target.name)
        users = self._read(file)
        if task_id not in users:
            self._write(file, {*users, task_id})

    def others(self, place: Path, task_id: int) -> str | None:
        """Which other tasks need what is there, in words.

        :param place: without links.
        """
        others = sorted(self._read(self._file(place)) - {task_id})
        if not others:
            return None
        named = ", ".join(map(str, others))
        return f"task {named} uses it" if len(others) == 1 else f"tasks {named} use it"

    def forget(self, target: Path, task_id: int) -> None:
        """It does so no more."""
        file = self._file(resolved(target.parent) / target.name)
        self._write(file, self._read(file) - {task_id})

    def tasks(self) -> set[int]:
        """All that are written down anywhere."""
        return {task_id for file in self._files() for task_id in self._read(file)}

    def sweep(self, there: set[int]) -> None:
        """Only these are there still."""
        for file in self._files():
            users = self._read(file)
            if not users <= there:
                self._write(file, users & there)

    def _files(self) -> Iterator[Path]:
        if self._folder.is_dir():
            yield from (file for file in sorted(self._folder.iterdir()) if not file.name.endswith(".new"))

    def _read(self, file: Path) -> set[int]:
        with suppress(FileNotFoundError, ValueError, TypeError):
            return {int(one) for one in json.loads(file.read_bytes())}
        return set()

    def _write(self, file: Path, users: set[int]) -> None:
        if not users:
            file.unlink(missing_ok=True)
            return
        write_whole(file, json.dumps(sorted(users)).encode())
