"""Temporary folders: one for each task that asks, kept over its steps, gone when it is over.

They lie under one root that belongs to one queue alone, and are named after the task's id, so that what is left of a
task that is over is found again. The size that counts is the sum of the sizes of the files.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import shutil
import stat
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec

from dlqueue.queue.errors import QueueError, TaskNotFound, TempFull
from dlqueue.queue.record import TaskRecord
from dlqueue.queue.store import Store
from dlqueue.runtime.clock import Clock, sleep
from dlqueue.units import format_size

log = logging.getLogger(__name__)

LOOK = 5.0
"""Seconds between two looks at the sizes while steps run that may write."""
SWEEP = 3600.0
_OURS = re.compile(r"[1-9][0-9]{0,18}")
_DYING = re.compile(r"\.removed-([0-9a-f]{8})-[0-9]+-[0-9]+")


class _Folder(msgspec.Struct):
    size: int = 0
    touched: float = 0.0
    """When something in it was changed last."""


class TemporaryFolders:
    """:param root: None = a folder of its own under the system's temporary folder, gone at the end of this run.
    :param cap: bytes of all of them together.
    :param age: seconds after which the folder of a task is removed though it is not over; a running one keeps its own.
    """

    def __init__(self, root: Path | None, cap: int | None, age: float, clock: Clock, store: Store) -> None:
        self.root = root
        self._given = root is not None
        self._cap = cap
        self._age = age
        self._clock = clock
        self._store = store
        self.is_running: Callable[[int], bool] = lambda task_id: False
        self._folders: dict[int, _Folder] = {}
        self._removals: set[asyncio.Task[None]] = set()
        self._removed = 0
        self._run = uuid.uuid4().hex[:8]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._looker: asyncio.Task[None] | None = None

    # -- for steps ----------------------------------------------------------------------------------------------------

    def of(self, record: TaskRecord, name: str | None = None) -> Path:
        """The folder of this task (0700), or ``name`` in it; made if it is not there. From any thread.

        :raises TempFull: the cap is reached. Only a task that keeps to its estimate gets the folder that it has.
        :raises ValueError: the name is not a plain one.
        """
        if name is not None and (name in ("", ".", "..") or "/" in name or "\0" in name):
            raise ValueError(f"the name of a temporary folder is one plain name, not {name!r}")
        known = self._folders.get(record.id)
        self._check_cap(record, known)
        path = self._ready_root() / str(record.id)
        _make(path)
        if known is None:
            self._folders[record.id] = _Folder(0, self._clock.time())
            if self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._begin_looking)
        if name is not None:
            path = path / name
            _make(path)
        return path

    def _check_cap(self, record: TaskRecord, known: _Folder | None) -> None:
        if self._cap is None or (used := self.size) < self._cap:
            return
        estimate = record.options.estimate
        if known is not None and estimate is not None and known.size <= estimate.temp:
            return
        raise TempFull(
            f"task {record.id} gets no temporary folder: {format_size(used)} are in use of all tasks, and "
            f"{format_size(self._cap)} is the cap; it is free again when others have ended"
        )

    def _ready_root(self) -> Path:
        if self.root is None:
            self.root = Path(tempfile.mkdtemp(prefix="dlqueue-"))
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self.root.stat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise PermissionError(f"others may write to {self.root}: temporary folders need one that is ours alone")
        return self.root

    def has(self, task_id: int) -> bool:
        """Is there a folder of this task?"""
        return task_id in self._folders

    async def measure(self, task_id: int) -> None:
        """A step is over: what has it left there?"""
        folder = self._folders.get(task_id)
        if folder is not None and self.root is not None:
            folder.size, folder.touched = await asyncio.to_thread(_measured, self.root / str(task_id))

    @property
    def size(self) -> int:
        """Bytes of all, as of the last look."""
        return sum(folder.size for folder in tuple(self._folders.values()))

    def sizes(self) -> dict[int, int]:
        """The same for each task. From any thread."""
        return {task_id: folder.size for task_id, folder in tuple(self._folders.items())}

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Take up what an earlier run left."""
        self._loop = asyncio.get_running_loop()
        if self._given and self.root is not None and self.root.is_dir():
            self._begin_looking()

    async def stop(self) -> None:
        """Let removals end."""
        if self._looker is not None:
            self._looker.cancel()
            await asyncio.wait({self._looker})
        if self._removals:
            await asyncio.wait(self._removals)
        if not self._given and self.root is not None:
            await asyncio.to_thread(remove, self.root)

    def note(self, record: TaskRecord) -> None:
        """A task has changed. One that is over, clean-up included, needs its folder no more."""
        if self._folders and record.final and not record.cleanup and record.id in self._folders:
            self._drop(record.id)

    def _drop(self, task_id: int) -> None:
        del self._folders[task_id]
        if self.root is None:
            return
        # Out of the way first: should the task live again, it gets a new one.
        self._removed += 1
        dying = self.root / f".removed-{self._run}-{task_id}-{self._removed}"
        try:
            (self.root / str(task_id)).rename(dying)
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("task %d: its temporary folder cannot be removed: %s", task_id, error)
            return
        self._remove(dying)

    def _remove(self, dying: Path) -> None:
        removal = asyncio.ensure_future(asyncio.to_thread(remove, dying))
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)

    # -- now and then -------------------------------------------------------------------------------------------------

    def _begin_looking(self) -> None:
        if self._looker is None or self._looker.done():
            self._looker = asyncio.create_task(self._look_on(), name="dlqueue-temporary")

    async def _look_on(self) -> None:
        swept = None
        while True:
            try:
                if swept is None or self._clock.time() >= swept + SWEEP:
                    swept = self._clock.time()
                    await self._sweep()
                for task_id in [task_id for task_id in self._folders if self.is_running(task_id)]:
                    await self.measure(task_id)
            except (OSError, QueueError) as error:
                log.warning("temporary folders cannot be looked at: %s", error)
            if not self._folders:
                return
            await sleep(self._clock, LOOK)

    async def _sweep(self) -> None:
        """Know what is there; what is left of tasks that are over, or untouched for too long, goes."""
        if self.root is None:
            return
        for name in await asyncio.to_thread(os.listdir, self.root):
            dying = _DYING.fullmatch(name)
            if dying is not None and dying[1] != self._run:  # an earlier run did not come to its end
                self._remove(self.root / name)
            elif _OURS.fullmatch(name):
                await self._look_at(int(name))

    async def _look_at(self, task_id: int) -> None:
        folder = self._folders.setdefault(task_id, _Folder(0, self._clock.time()))
        await self.measure(task_id)
        try:
            record = await self._store.get(task_id)
            over = record.final and not record.cleanup
        except TaskNotFound:
            over = True
        too_old = self._clock.time() - folder.touched >= self._age and not self.is_running(task_id)
        if (over or too_old) and task_id in self._folders:
            if not over:
                log.info("task %d: its temporary folder was untouched for %g s and is removed", task_id, self._age)
            self._drop(task_id)


def _make(path: Path) -> None:
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
        return
    if not stat.S_ISDIR(path.lstat().st_mode):
        raise PermissionError(f"{path} is not a folder: something else was put in its place")


def _measured(path: Path) -> tuple[int, float]:
    """Bytes, and when something was changed last. Links are not followed."""
    size, newest, left = 0, 0.0, [os.fspath(path)]
    while left:
        try:
            found = os.lstat(folder := left.pop())
            newest = max(newest, found.st_mtime)
            if not stat.S_ISDIR(found.st_mode):
                continue
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                    else:
                        told = entry.stat(follow_symlinks=False)
                        size, newest = size + told.st_size, max(newest, told.st_mtime)
        except OSError:
            continue  # gone while we looked
    return size, newest


def remove(path: Path) -> None:
    """A folder and all that is in it; a link is removed itself, and never what it leads to."""
    try:
        if not stat.S_ISDIR(path.lstat().st_mode):
            path.unlink()
            return
        try:
            shutil.rmtree(path)
        except PermissionError:
            # Folders that their owner may not write to: by their descriptors, so that no link is followed here either.
            for _, _, _, descriptor in os.fwalk(path, follow_symlinks=False):
                os.fchmod(descriptor, 0o700)
            shutil.rmtree(path)
    except FileNotFoundError:
        return
    except (OSError, RecursionError) as error:
        log.warning("the temporary folder %s cannot be removed: %s; the next start tries again", path, error)
