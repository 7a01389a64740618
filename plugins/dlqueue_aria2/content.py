"""What is in the folder of a transfer: paths that may be believed, proofs that it is whole, and what to delete."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Sequence
from pathlib import Path

from dlqueue.sdk import Rejected
from dlqueue_aria2.entries import File

CONTROL = ".aria2"
_UPLOADED = re.compile(r"([0-9a-f]{40})\.(torrent|meta4|metalink)")
_PIECE = 1024 * 1024


def relative(folder: str, path: str) -> str:
    """The path of a file below the folder. Raises `Rejected`: whatever aria2 says, nothing else is ours."""
    root = os.path.normpath(folder)
    below = os.path.relpath(os.path.normpath(path), root) if Path(path).is_absolute() else ".."
    if ".." in path.split("/") or below.split("/")[0] in ("..", "."):
        raise Rejected("aria2 put a file outside of the transfer's folder", "request", kind="bad_path")
    return below


def top_level(folder: str, files: Sequence[File]) -> tuple[str, ...]:
    """The files and folders right below the folder that hold the selected files. Raises `Rejected`."""
    tops = (relative(folder, file.path).split("/")[0] for file in files if file.selected and file.path)
    return tuple(str(Path(os.path.normpath(folder), name)) for name in dict.fromkeys(tops))


def clear(folder: Path, *, everything: bool) -> None:
    """Remove what aria2 cannot go on with: files without a control file, or (``everything``) all files. Raises
    `Rejected`."""
    try:
        with os.scandir(folder) as found:
            entries = {entry.name: entry for entry in found}
        for name, entry in entries.items():
            kept = name + CONTROL in entries or (name.endswith(CONTROL) and name[: -len(CONTROL)] in entries)
            if entry.is_dir(follow_symlinks=False):
                if everything:
                    shutil.rmtree(entry.path)
            elif everything or not kept or entry.is_symlink():
                Path(entry.path).unlink()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise Rejected(f"cannot clear the folder of the transfer: {error.strerror}", kind="file") from error


def only_file(folder: Path) -> Path | None:
    """The one regular file in the folder, if nothing else is in it: no control file above all."""
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except OSError:
        return None
    if len(entries) != 1 or not entries[0].is_file(follow_symlinks=False) or entries[0].name.endswith(CONTROL):
        return None
    return Path(entries[0].path)


def is_full(path: Path, total: int | None) -> bool:
    """Has it the size, and no hole in it?"""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode) or (total is not None and about.st_size != total):
            return False
        return about.st_size == 0 or os.lseek(file, 0, os.SEEK_HOLE) >= about.st_size
    except OSError:
        return False
    finally:
        os.close(file)


def matches(path: Path, checksum: str, patience: float) -> bool:
    """Has the file this checksum? False also if there was not time enough to find out.

    :param patience: seconds.
    """
    name, _, wanted = checksum.partition("=")
    until = time.monotonic() + patience
    try:
        digest = hashlib.new(name.replace("-", ""), usedforsecurity=False)
        with open(path, "rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                if time.monotonic() > until:
                    return False
    except (OSError, ValueError):
        return False
    return digest.hexdigest() == wanted.lower()


def delete(folder: str, files: Sequence[File], seen: Path) -> None:
    """Delete the files of a transfer, its control files, what aria2 kept of an uploaded .torrent, and folders that
    are empty then. Nothing outside of the folder, nothing through a symlink, nothing else. Raises `Rejected`.

    :param seen: the folder as we see it.
    """
    root = Path(os.path.normpath(seen))
    below = []
    for file in files:
        with contextlib.suppress(Rejected):
            if file.path and not file.path.startswith("["):
                below.append(Path(relative(folder, file.path)))
    try:
        if root.is_symlink() or not root.is_dir():
            return
        for path in below:
            if _is_inside(root, path):
                (root / path).unlink(missing_ok=True)
        for top in {path.parts[0] for path in below}:
            (root / (top + CONTROL)).unlink(missing_ok=True)
        for parent in sorted({up for path in below for up in path.parents if up.parts}, reverse=True):
            if _is_inside(root, parent):
                with contextlib.suppress(OSError):
                    (root / parent).rmdir()
        _delete_uploaded(root)
    except OSError as error:
        raise Rejected(f"cannot delete the content: {error.strerror}", kind="file") from error


def tidy(content: Sequence[Path]) -> None:
    """Of what is whole, remove what aria2 has beside it: nobody goes on with that."""
    with contextlib.suppress(OSError):
        for path in content:
            path.with_name(path.name + CONTROL).unlink(missing_ok=True)
        for folder in {path.parent for path in content}:
            if not folder.is_symlink():
                _delete_uploaded(folder)


def _is_inside(root: Path, path: Path) -> bool:
    """No folder on the way is a symlink."""
    return not any((root / up).is_symlink() for up in path.parents if up.parts)


def _delete_uploaded(root: Path) -> None:
    """aria2 keeps an uploaded .torrent under its SHA-1, to have it after a restart."""
    for path in root.iterdir():
        match = _UPLOADED.fullmatch(path.name)
        if match is None or path.is_symlink() or not path.is_file():
            continue
        if hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest() == match[1]:
            path.unlink()
