"""Room on file systems, over all downloaders: what is free, what running transfers still need, what is to stay free.

Nothing here waits, writes or asks anybody but through `Measure`: `dlqueue.downloads.room` is what acts on it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dlqueue.downloads.policy import real_folder, resolved
from dlqueue.units import format_size

KEEP_FREE_MAX = 1 << 30
KEEP_FREE_PART = 50
"""By default this part of a file system (one of 50) stays free, but no more than `KEEP_FREE_MAX` bytes: a small one can
be used nearly to its end."""


class FileSystem(NamedTuple):
    """One look at the file system of a folder."""

    device: int
    size: int
    free: int
    """Bytes that the daemon may use."""
    mount: str
    """Where it is mounted."""


Measure = Callable[[Path], FileSystem]


class NotMounted(OSError):
    """The file system that a folder was on is not there now."""

    def __init__(self, folder: Path, mount: str) -> None:
        super().__init__(errno.ENODEV, f"nothing is mounted on {mount} now", str(folder))
        self.mount = mount


def measure(folder: Path) -> FileSystem:
    """Of a folder, or of the nearest one above it that is there. Blocks. :raises OSError: it cannot be asked."""
    path = _existing(folder)
    try:
        device, mount = _mount(path)
        found = os.statvfs(path)
    except FileNotFoundError:
        if Path(path).exists():
            raise
        return measure(folder)  # a download has ended meanwhile, and its folder with it
    return FileSystem(device, found.f_frsize * found.f_blocks, found.f_frsize * found.f_bavail, mount)


def _mount(path: str) -> tuple[int, str]:
    """Device, and where it is mounted."""
    device = Path(path).stat().st_dev
    while path != "/":
        above = path.rpartition("/")[0] or "/"
        if Path(above).stat().st_dev != device:
            break
        path = above
    return device, path


def mount_of(folder: Path) -> str | None:
    """Where the file system of a folder is mounted, to be remembered; None = it is that of ``/``, which is always
    there, or cannot be told. Not its device number: that may be another one after a restart of the machine. Blocks."""
    try:
        if folder.stat().st_dev == Path("/").stat().st_dev:
            return None  # most are, and every submit asks
    except OSError:
        pass
    try:
        mount = _mount(_existing(folder))[1]
    except OSError:
        return None
    return None if mount == "/" else mount


def _existing(folder: Path) -> str:
    found = real_folder(folder)
    if found is not None:
        return str(found)
    path = resolved(folder)
    while not path.exists() and path != path.parent:
        path = path.parent
    return str(path)


def is_there(seen: FileSystem, mount: str | None) -> bool:
    """Is a folder on the file system that it was on, or on one that has been mounted inside of that since?"""
    return mount is None or Path(seen.mount).is_relative_to(mount)


@dataclass(slots=True)
class Claim:
    """What one transfer will still write."""

    key: str
    device: int
    left: int
    """Bytes to come, on the file system that it is fetched to."""
    other: int | None = None
    """The file system that it will be copied to when it is whole; None = it can be renamed or linked."""
    copy: int = 0

    def parts(self) -> Iterator[tuple[int, int]]:
        """Device, bytes."""
        yield self.device, self.left
        if self.other is not None:
            yield self.other, self.copy


class Lack(NamedTuple):
    """Why there is no room now."""

    device: int
    need: int
    message: str


class Ledger:
    """Who has been promised how much. In memory: rebuilt at start from what the tasks remember.

    :param keep_free: bytes that stay free on every file system; None = by `KEEP_FREE_PART` and `KEEP_FREE_MAX`.
    """

    def __init__(self, keep_free: int | None = None) -> None:
        self.keep_free = keep_free
        self.low: set[int] = set()
        """File systems on which nothing begins: less than the floor was free, and not twice as much has been since."""
        self._seen: dict[int, FileSystem] = {}
        self._claims: dict[int, Claim] = {}
        self._promised: dict[int, int] = {}

    def floor(self, seen: FileSystem) -> int:
        """Bytes that are to stay free."""
        if self.keep_free is not None:
            return self.keep_free
        return min(KEEP_FREE_MAX, seen.size // KEEP_FREE_PART)

    def enough(self, seen: FileSystem) -> int:
        """Bytes that have to be free before one that was low is used again: twice the floor, as far as it has that."""
        floor = self.floor(seen)
        return min(2 * floor, max((floor + seen.size) // 2, floor))

    def note(self, seen: FileSystem) -> str | None:
        """The newest look; answers ``low`` or ``back`` if that has just become so."""
        self._seen[seen.device] = seen
        if seen.device in self.low:
            if seen.free < self.enough(seen):
                return None
            self.low.discard(seen.device)
            return "back"
        if seen.free >= self.floor(seen):
            return None
        self.low.add(seen.device)
        return "low"

    def ask(self, task_id: int, claim: Claim) -> Lack | None:
        """Promise it this much in place of what it had, if there is room; else nothing changes. What it was promised
        before it has in any case, unless the file system is low."""
        for device, need in claim.parts():
            mine = self._share(task_id, device)
            if device in self.low:
                return Lack(device, need, self.why(device, need))
            if need > mine and self.available(device) + mine < need:
                return Lack(device, need, self.why(device, need))
        self.claim(task_id, claim)
        return None

    def claim(self, task_id: int, claim: Claim) -> None:
        """Promise it in any case: it runs already."""
        self.release(task_id)
        self._claims[task_id] = claim
        for device, need in claim.parts():
            self._promised[device] = self.promised(device) + need

    def name(self, task_id: int, key: str) -> None:
        """Its transfer has got its key."""
        claim = self._claims.get(task_id)
        if claim is not None:
            claim.key = key

    def progress(self, task_id: int, left: int) -> None:
        """So much is to come now; more than was promised is asked for, not told."""
        claim = self._claims.get(task_id)
        if claim is not None and left < claim.left:
            self._promised[claim.device] -= claim.left - left
            claim.left = left

    def release(self, task_id: int) -> Claim | None:
        """It writes no more, for now. What it has written is on the disk, and no longer free anyway."""
        claim = self._claims.pop(task_id, None)
        for device, need in claim.parts() if claim is not None else ():
            self._promised[device] -= need
        return claim

    def _share(self, task_id: int, device: int) -> int:
        claim = self._claims.get(task_id)
        return 0 if claim is None else sum(need for where, need in claim.parts() if where == device)

    def promised(self, device: int) -> int:
        """Bytes that are still to come there."""
        return self._promised.get(device, 0)

    def available(self, device: int) -> int:
        """Bytes that can still be promised there; may be negative."""
        seen = self._seen[device]
        return seen.free - self.promised(device) - self.floor(seen)

    def on(self, device: int) -> list[Claim]:
        """All who write there."""
        return [claim for claim in self._claims.values() if device in (claim.device, claim.other)]

    def devices(self) -> set[int]:
        """Where somebody writes."""
        return {device for claim in self._claims.values() for device, _ in claim.parts()}

    def seen(self, device: int) -> FileSystem | None:
        """The last look."""
        return self._seen.get(device)

    def why(self, device: int, need: int | None) -> str:
        """Why that much does not fit there.

        :param need: bytes; None = not known.
        """
        seen = self._seen.get(device)
        if seen is None:
            return "waits for space: the file system of its staging folder is full"
        floor = format_size(self.floor(seen))
        has = f"the file system of {seen.mount} has {format_size(seen.free)} free"
        if device in self.low:
            enough = format_size(self.enough(seen))
            return f"waits for space: {has}; it goes on when {enough} are ({floor} stay free: keep_free)"
        wants = "" if need is None else f", and this needs {format_size(need)}"
        promised = self.promised(device)
        taken = f", {format_size(promised)} of that for transfers that run" if promised else ""
        return f"waits for space: {has}{taken}{wants}; {floor} stay free (keep_free)"
