"""Looks after the space of file systems: who may begin to write, who has to stop, and who may go on.

One look serves everybody for a moment, so that a thousand small downloads do not ask a thousand times. While anybody
writes or waits it is looked again every few seconds; one line is logged when a file system runs low and one when it is
back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from dlqueue.downloads.space import Claim, FileSystem, Lack, Ledger, Measure, NotMounted, is_there, measure
from dlqueue.downloads.state import Entry
from dlqueue.runtime.clock import Clock
from dlqueue.runtime.threads import Threads
from dlqueue.sdk import TransferStatus
from dlqueue.units import format_size

log = logging.getLogger(__name__)

FRESH = 1.0
"""Seconds for which a look is good."""
LOOK_AGAIN = 5.0
"""Seconds between two looks while anybody writes or waits."""
AT_ONCE = 100
"""Tasks that are woken at once, in rank order; twice as many the next time if none of them could go on."""
_CACHED = 1000


class NoRoom(NamedTuple):
    """What a step has to wait for."""

    hold: str
    message: str


class Places(NamedTuple):
    """Where a download writes."""

    staging: Path
    directory: Path
    mounts: Sequence[str | None]
    """Where the file systems of the directory and of the staging folder were mounted, as far as that is known."""


class Disk(NamedTuple):
    """A file system, as a person sees it. All in bytes."""

    mount: str
    size: int
    free: int
    reserved: int
    """What running transfers will still write there."""
    floor: int
    """What is to stay free."""
    enough: int
    """What has to be free before it is used again once it was low."""
    low: bool
    """Nothing begins there, and who writes is paused."""
    now: bool
    """Has it answered, or is this what it said before?"""


class Room:
    """
    :param wake: is given a hold, and how many of those who hold it; answers how many there were.
    :param keep_free: see `Ledger`.
    """

    def __init__(
        self,
        clock: Clock,
        wake: Callable[[str, int | None], Awaitable[object]],
        keep_free: int | None = None,
        measure: Measure = measure,
    ) -> None:
        self.ledger = Ledger(keep_free)
        self._clock = clock
        self._wake = wake
        self._measure = measure
        self._threads = Threads(2, "dlqueue-space")
        self._cache: dict[Path, tuple[float, FileSystem]] = {}
        self._folders: dict[int, Path] = {}
        """A folder of each file system, to look at it again."""
        self._waiting: dict[int, int] = {}
        """The least that somebody needs who waits, by device."""
        self._missing: dict[str, Path] = {}
        """Mounts that are waited for, and a folder that is on them."""
        self._batch: dict[int, int] = {}
        self._pending: dict[Path, asyncio.Future[FileSystem]] = {}
        """What `survey` has asked for and not got yet: a file system that hangs is not asked twice."""
        self._poke = asyncio.Event()
        self._idle = False
        self._lookout: asyncio.Task[None] | None = None

    # -- life ---------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        self._lookout = asyncio.create_task(self._look_out(), name="dlqueue-space")

    async def close(self) -> None:
        if self._lookout is not None:
            self._lookout.cancel()
            await asyncio.gather(self._lookout, return_exceptions=True)
        for asked in list(self._pending.values()):
            asked.cancel()
        self._threads.close()

    def adapt(self, keep_free: int | None) -> None:
        """From now on."""
        if keep_free != self.ledger.keep_free:
            self.ledger.keep_free = keep_free
            self._waiting = dict.fromkeys(self._waiting, 0)
            self._poke.set()

    # -- asking -------------------------------------------------------------------------------------------------------

    async def _look(self, folder: Path, fresh: bool = False) -> FileSystem:
        found = self._cache.get(folder)
        if found is not None and not fresh and 0 <= self._clock.time() - found[0] < FRESH:
            return found[1]
        seen = await self._threads.run(partial(self._measure, folder))
        if len(self._cache) >= _CACHED:
            self._cache.clear()
        self._cache[folder] = (self._clock.time(), seen)
        self._folders.setdefault(seen.device, folder)
        await self._noted(seen)
        return seen

    def check(self, directory: Path, mount: str | None) -> None:
        """Right before something is written there. Blocks. :raises NotMounted: it would be on another disk."""
        if mount is not None and not is_there(self._measure(directory), mount):
            raise NotMounted(directory, mount)

    async def mounts(self, places: Places) -> list[str | None]:
        """Where both are mounted now, to be remembered."""
        seen = [await self._look(places.directory), await self._look(places.staging)]
        return [None if one.mount == "/" else one.mount for one in seen]

    async def ask(self, task_id: int, key: str, places: Places, total: int | None, done: int) -> NoRoom | None:
        """Room for the rest of a transfer, and for the copy of it if it will be delivered by one. None = it has it.

        :param total: bytes of it; None = not known: counted as much as is to stay free.
        :param done: bytes of it that are there.
        """
        try:
            there, here = await self._look(places.directory), await self._look(places.staging)
        except OSError:
            return None  # whoever writes there will say what is wrong with it
        for folder, seen, mount in zip((places.directory, places.staging), (there, here), places.mounts, strict=False):
            if mount is not None and not is_there(seen, mount):
                return self.missing(folder, mount)
        guess = self.ledger.floor(here)
        claim = Claim(key, here.device, guess if total is None else max(total - done, 0))
        if there.device != here.device:
            claim.other, claim.copy = there.device, guess if total is None else total
        return self._asked(task_id, claim)

    async def ask_for_copy(self, task_id: int, key: str, directory: Path, manifest: Sequence[Entry]) -> NoRoom | None:
        """Room for what has to be copied to its destination. To be released when that is done."""
        try:
            there = await self._look(directory)
        except OSError:
            return None
        need = sum(entry.size for entry in manifest if entry.device != there.device)
        return self._asked(task_id, Claim(key, there.device, need)) if need else None

    def _asked(self, task_id: int, claim: Claim) -> NoRoom | None:
        lack = self.ledger.ask(task_id, claim)
        if lack is None:
            self._batch.pop(claim.device, None)
            self._watch()
            return None
        return self.wait(lack)

    def wait(self, lack: Lack) -> NoRoom:
        """Wake whoever holds this when that much is free."""
        before = self._waiting.get(lack.device, lack.need)
        self._waiting[lack.device] = min(before, lack.need)
        self._watch()
        return NoRoom(f"space:{lack.device}", lack.message)

    def missing(self, folder: Path, mount: str) -> NoRoom:
        """Wake whoever holds this when something is mounted there."""
        self._missing[mount] = folder
        self._watch()
        return NoRoom(f"space:{mount}", why_missing(mount))

    async def survey(self, folders: Iterable[Path], timeout: float) -> list[Disk]:
        """The file systems of these folders and of all who write, each once; without those that cannot be asked. One
        that does not answer in time is as it was when it last did.

        :param timeout: seconds.
        """
        writing = (self._folders.get(device) for device in self.ledger.devices())
        asked = {folder: self._asking(folder) for folder in (*folders, *writing) if folder is not None}
        if asked:
            await asyncio.wait(asked.values(), timeout=timeout)
        found: dict[int, Disk] = {}
        for folder, future in asked.items():
            answered = future.done() and not future.cancelled()
            if answered and future.exception() is None:
                seen = future.result()
            elif not answered and folder in self._cache:
                seen = self._cache[folder][1]
            else:
                continue
            if seen.device not in found or not found[seen.device].now:
                found[seen.device] = self._disk(seen, answered)
        return list(found.values())

    def _disk(self, seen: FileSystem, now: bool) -> Disk:
        ledger, device = self.ledger, seen.device
        reserved, floor = max(ledger.promised(device), 0), ledger.floor(seen)
        low = device in ledger.low
        return Disk(seen.mount, seen.size, seen.free, reserved, floor, ledger.enough(seen), low, now)

    def _asking(self, folder: Path) -> asyncio.Future[FileSystem]:
        def answered(future: asyncio.Future[FileSystem]) -> None:
            del self._pending[folder]
            if not future.cancelled():
                future.exception()  # whoever still waits hears of it

        if folder not in self._pending:
            self._pending[folder] = asyncio.ensure_future(self._look(folder))
            self._pending[folder].add_done_callback(answered)
        return self._pending[folder]

    async def full(self, staging: Path) -> NoRoom | None:
        """A downloader says that its disk is full. None = not as far as can be seen from here (a quota, another
        machine)."""
        try:
            seen = await self._look(staging, fresh=True)
        except OSError:
            return None
        if seen.device not in self.ledger.low:
            return None
        return self.wait(Lack(seen.device, 0, self.ledger.why(seen.device, None)))

    async def adopt(self, task_id: int, key: str, places: Places, total: int | None, done: int) -> None:
        """At start: it runs already, whether it fits or not."""
        try:
            here, there = await self._look(places.staging), await self._look(places.directory)
        except OSError:
            return
        claim = Claim(key, here.device, max((total or 0) - done, 0))
        if there.device != here.device:
            claim.other, claim.copy = there.device, total or 0
        self.ledger.claim(task_id, claim)

    def progress(self, task_id: int, status: TransferStatus) -> None:
        """The newest of a transfer that runs."""
        if status.total is not None:
            self.ledger.progress(task_id, max(status.total - status.downloaded, 0))

    def release(self, task_id: int) -> None:
        """It writes no more, for now."""
        if self.ledger.release(task_id) is not None and self._waiting:
            self._poke.set()

    def why(self, whose: str, need: int | None) -> str:
        """For a task that holds ``space:`` and this."""
        if whose.startswith("/"):
            return why_missing(whose)
        return self.ledger.why(int(whose) if whose.isdecimal() else -1, need)

    def missing_mounts(self) -> list[str]:
        """That are waited for."""
        return list(self._missing)

    # -- the look-out -------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        if self._idle:
            self._poke.set()

    async def _look_out(self) -> None:
        while True:
            self._poke.clear()
            devices = self.ledger.devices() | set(self._waiting)
            for device in devices:
                await self._look_at(device)
            for mount, folder in list(self._missing.items()):
                await self._look_for(mount, folder)
            self._idle = not (devices or self._missing)
            timer = None if self._idle else self._clock.call_at(self._clock.time() + LOOK_AGAIN, self._poke.set)
            try:
                await self._poke.wait()
            finally:
                if timer is not None:
                    timer.cancel()

    async def _look_at(self, device: int) -> None:
        folder = self._folders.get(device)
        if folder is None:
            return
        try:
            seen = await self._look(folder, fresh=True)
        except OSError as error:
            log.debug("the file system of %s cannot be asked: %s", folder, error)
            return
        if seen.device != device:  # another one is there: who writes had better look
            self._folders.pop(device)
            await self._tell([f"transfer:{claim.key}" for claim in self.ledger.on(device)])
            await self._tell([f"space:{device}"])
            self._waiting.pop(device, None)
            return
        need = self._waiting.get(device)
        if need is None or device in self.ledger.low or self.ledger.available(device) < need:
            return
        del self._waiting[device]
        count = self._batch.get(device, AT_ONCE)
        self._batch[device] = 2 * count
        try:
            woken = await self._wake(f"space:{device}", count)
        except Exception as error:  # noqa: BLE001 - another look follows
            log.warning("could not wake who waits for space: %s", error)
            woken = count
        if woken == count:
            self._waiting.setdefault(device, need)  # there may be more

    async def _look_for(self, mount: str, folder: Path) -> None:
        try:
            seen = await self._look(folder, fresh=True)
        except OSError:
            return
        if is_there(seen, mount):
            del self._missing[mount]
            log.info("%s is mounted again", mount)
            await self._tell([f"space:{mount}"])

    async def _noted(self, seen: FileSystem) -> None:
        match self.ledger.note(seen):
            case "low":
                runs = self.ledger.on(seen.device)
                log.warning(
                    "the file system of %s runs low: %s are free, %s are to stay so; nothing begins there, and its %d"
                    " transfers are paused, until %s are free",
                    seen.mount,
                    format_size(seen.free),
                    format_size(self.ledger.floor(seen)),
                    len(runs),
                    format_size(self.ledger.enough(seen)),
                )
                self._waiting[seen.device] = 0
                await self._tell([f"transfer:{claim.key}" for claim in runs])
            case "back":
                log.info("the file system of %s has room again: %s are free", seen.mount, format_size(seen.free))
                self._waiting[seen.device] = 0
                self._poke.set()

    async def _tell(self, holds: Sequence[str]) -> None:
        for hold in holds:
            try:
                await self._wake(hold, None)
            except Exception as error:  # noqa: BLE001 - the tasks look by themselves later
                log.warning("could not wake %s: %s", hold, error)


def why_missing(mount: str) -> str:
    return (
        f"waits for space: nothing is mounted on {mount} now, where its file system was; mount that, or cancel the task"
        " and add it again"
    )
