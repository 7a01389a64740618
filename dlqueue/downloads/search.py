"""Where is a file that a downloader knows under another name? Among what is mounted, and near by."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

DEPTH = 2
"""Folders below a place where something is mounted."""
FOLDERS_MAX, SECONDS_MAX = 5_000, 5.0
_MOUNTS = Path("/proc/self/mountinfo")
_NO_FILES = ("/proc", "/sys", "/dev", "/run/lock")


@dataclass(frozen=True, slots=True)
class Found:
    """What the downloader calls ``remote`` is ``local`` here; the file is at ``place``."""

    remote: Path
    local: Path
    place: Path


def search(remote: Path, near: Iterable[Path]) -> Found | None:
    """
    :param remote: the downloader's name for the file; nobody can have guessed the last two parts of it.
    :param near: folders to begin with.
    """
    parts = remote.parts[1:]
    tails = [parts[start:] for start in range(max(len(parts) - 1, 0))]
    until = time.monotonic() + SECONDS_MAX
    for count, folder in enumerate(_folders([*near, *_mounted()])):
        for tail in tails:
            place = folder.joinpath(*tail)
            if os.path.lexists(place):
                return Found(Path("/", *parts[: len(parts) - len(tail)]), folder, place)
        if count >= FOLDERS_MAX or time.monotonic() > until:
            return None
    return None


def _folders(roots: Iterable[Path]) -> Iterator[Path]:
    """Each once, those at the top first."""
    level, seen = list(dict.fromkeys(roots)), set[Path]()
    for _ in range(DEPTH + 1):
        below: list[Path] = []
        for folder in level:
            if folder in seen or str(folder).startswith(_NO_FILES):
                continue
            seen.add(folder)
            yield folder
            try:
                with os.scandir(folder) as entries:
                    below += [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError:
                continue
        level = below


def _mounted() -> list[Path]:
    """Where something is mounted (the fifth column of proc_pid_mountinfo(5), with spaces and the like in octal)."""
    try:
        lines = _MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return [Path("/")]
    names = [line.split(" ")[4] for line in lines if line.count(" ") > 4]
    return [Path(name.encode("latin-1", "replace").decode("unicode_escape")) for name in names if name.isascii()]
