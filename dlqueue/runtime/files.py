"""Small files of ours: written whole or not at all, and read without waiting for anybody. Every function blocks."""

from __future__ import annotations

import errno
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path


def fsync(path: Path) -> None:
    """Flush a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, data: bytes) -> None:
    """Put this in the place of what is there: after a crash it is one or the other. On disk when it returns; nobody
    but us can read it. A missing folder is made.

    :raises OSError: full disk, missing rights; what was there is there still.
    """
    folders = [path.parent] if path.parent.is_dir() else [path.parent, path.parent.parent]
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Another thread may be writing the same.
    new = path.with_name(f"{path.name}.{threading.get_native_id()}.new")
    new.unlink(missing_ok=True)  # left over: it may be anybody's to read
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        new.replace(path)
    except OSError:
        with suppress(OSError):
            new.unlink()
        raise
    for folder in folders:
        fsync(folder)


def read_whole(path: Path, largest: int) -> bytes:
    """Its content, at most one byte more than ``largest``.

    :raises OSError: it is not there, or cannot be read; also if it is a pipe, which might never end.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        return file.read(largest + 1)


def _without_waiting(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is a pipe, not a file", path)
    return descriptor
