"""Folders on the way to a destination: made when something is to go there, and taken away again with it, if nobody else
has put anything in. Every function here blocks."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from dlqueue.downloads.policy import PolicyRefused, resolved
from dlqueue.downloads.state import MadeFolder
from dlqueue.runtime.files import fsync


def make_folders(folder: Path, root: Path | None = None, made: list[MadeFolder] | None = None) -> None:
    """Make what is missing, durably: a file in a folder that is lost with the power is lost too.

    :param made: gets those that were made here.
    :raises PolicyRefused: what is there already is not below ``root`` (nor above it).
    """
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    if root is not None and missing and not resolved(root).is_relative_to(resolved(folder)):
        check_below(resolved(folder), folder, root)
    for one in reversed(missing):
        with contextlib.suppress(FileExistsError):
            one.mkdir()
            if made is not None:
                made.append(MadeFolder(str(one), one.lstat().st_ino))
        fsync(one.parent)


def check_below(found: Path, folder: Path, root: Path) -> None:
    """:raises PolicyRefused: ``folder``, which is at ``found``, is not below ``root``."""
    if not found.is_relative_to(resolved(root)):
        raise PolicyRefused(f"{folder} leads outside the allowed destination {root} by now", "directory", "destination")


def remove_made(made: Iterable[MadeFolder], root: Path) -> None:
    """Remove those that are empty, are still the ones that were made, and lie below ``root``; the last made first. The
    others stay, and so does ``root``."""
    real_root = Path(os.path.realpath(root))
    for one in reversed(list(made)):
        path = Path(one.path)
        with contextlib.suppress(OSError):
            parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                place = Path(f"/proc/self/fd/{parent}").readlink() / path.name
                seen = os.lstat(path.name, dir_fd=parent)
                ours = stat.S_ISDIR(seen.st_mode) and seen.st_ino == one.inode
                if ours and place != real_root and place.is_relative_to(real_root):
                    os.rmdir(path.name, dir_fd=parent)
            finally:
                os.close(parent)
