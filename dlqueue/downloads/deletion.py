"""Removing what was delivered, and only that: each file is told by its place, inode, size and time of change.

Every function here blocks. Links are never followed below the folder that a thing was delivered to, and that folder has
to be inside its allowed destination still.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dlqueue.downloads.state import Entry

_SEAL = 8
"""Bytes that tell a file or folder from all others."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NAMED = 3

Users = Callable[[Path], str | None]
"""Who else needs what is at this place, in words; None = nobody."""


def seals(folder: Path) -> str:
    """Marks of all files and folders in a folder, and of itself, to be kept in the manifest: a few bytes each."""
    found = [_seal(".", folder.lstat())]
    for where, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(where, name)
            found.append(_seal(str(path.relative_to(folder)), path.lstat()))
    return base64.b64encode(b"".join(found)).decode()


def _seal(path: str, seen: os.stat_result) -> bytes:
    """Not by the device, whose number may be another one after a restart of the machine."""
    facts: list[object] = [stat.S_IFMT(seen.st_mode), seen.st_ino]
    if not stat.S_ISDIR(seen.st_mode):
        facts += [seen.st_size, seen.st_mtime_ns]
    told = f"{facts}\0{path}".encode(errors="surrogateescape")
    return hashlib.blake2b(told, digest_size=_SEAL).digest()


def _read(kept: str) -> frozenset[bytes]:
    plain = base64.b64decode(kept)
    return frozenset(plain[at : at + _SEAL] for at in range(0, len(plain), _SEAL))


@dataclass
class _Removal:
    """Of one delivered folder."""

    target: Path
    """As people know it."""
    place: Path
    """Where it is, without links: what `Users` are asked about."""
    ours: frozenset[bytes]
    users: Users
    strange: list[str] = field(default_factory=list)
    """What is in it and was not delivered, or has been changed since."""
    used: list[str] = field(default_factory=list)

    def empty(self, folder: int, path: str) -> None:
        """Remove what is ours in an open folder.

        :param path: of the folder, relative to the target; ``""`` = the target.
        """
        for name in os.listdir(folder):
            inner = f"{path}/{name}" if path else name
            try:
                seen = os.lstat(name, dir_fd=folder)
            except FileNotFoundError:
                continue
            ours = _seal(inner, seen) in self.ours
            user = self.users(self.place / inner)
            if user is not None:
                self.used.append(f"{self.target / inner} ({user})")
            elif stat.S_ISDIR(seen.st_mode):
                self._folder(folder, name, inner, ours)
            elif ours:
                os.unlink(name, dir_fd=folder)
            else:
                self.strange.append(inner)

    def _folder(self, folder: int, name: str, inner: str, ours: bool) -> None:
        held = _open(name, folder)
        if held is None:
            return
        before = len(self.strange) + len(self.used)
        try:
            self.empty(held, inner)
        finally:
            os.close(held)
        if ours:
            _rmdir(name, folder)
        elif len(self.strange) + len(self.used) == before:
            self.strange.append(inner + "/")


def _open(name: str, folder: int) -> int | None:
    """A folder in an open folder; None if it has been swapped for something else just now."""
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
            return None
        raise


def _rmdir(name: str, folder: int) -> None:
    try:
        os.rmdir(name, dir_fd=folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.EBUSY):
            raise


def delete(entry: Entry, root: Path, users: Users) -> list[str]:
    """Remove what this line of the manifest has brought; answers in words what of it was kept, and why.

    :raises OSError: something cannot be removed.
    """
    target = Path(entry.target)
    try:
        parent = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return []
    try:
        real = Path(f"/proc/self/fd/{parent}").readlink()
        if not real.is_relative_to(Path(os.path.realpath(root))):
            return [f"{target}: its folder leads outside the allowed destination {root} by now"]
        try:
            seen = os.lstat(target.name, dir_fd=parent)
        except FileNotFoundError:
            return []
        user = users(real / target.name)
        if user is not None:
            return [f"{target}: {user}"]
        if stat.S_ISDIR(seen.st_mode):
            return _delete_folder(entry, parent, real, users)
        if not _same(entry, seen):
            return [f"{target}: it is not the file that was delivered, or it has been changed since"]
        os.unlink(target.name, dir_fd=parent)
    finally:
        os.close(parent)
    return []


def _same(entry: Entry, seen: os.stat_result) -> bool:
    if entry.modified == 0:
        return (seen.st_dev, seen.st_ino) == (entry.device, entry.inode)
    # An inode number is used again at once: a file of the same name may be somebody's new one.
    return (seen.st_ino, seen.st_size, seen.st_mtime_ns) == (entry.inode, entry.size, entry.modified)


def _delete_folder(entry: Entry, parent: int, real: Path, users: Users) -> list[str]:
    target = Path(entry.target)
    removal = _Removal(target, real / target.name, _read(entry.seals), users)
    held = _open(target.name, parent)
    if held is None:
        return [f"{target}: it is not the folder that was delivered"]
    try:
        ours = _seal(".", os.fstat(held)) in removal.ours
        removal.empty(held, "")
    finally:
        os.close(held)
    if ours:
        _rmdir(target.name, parent)
    kept = [f"{used}" for used in removal.used]
    if removal.strange:
        kept.append(f"in {target} what was added or changed since: {_few(sorted(removal.strange))}")
    return kept


def _few(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def in_words(kept: Iterable[str]) -> str | None:
    """For people; None if nothing was kept."""
    told = "; ".join(kept)
    return f"kept: {told}" if told else None
