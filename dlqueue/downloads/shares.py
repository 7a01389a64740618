"""`max_active` of owners: transfers of one person at once, in all downloaders together."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable

from dlqueue.downloads.slots import Slots
from dlqueue.queue.quotas import HOLD

log = logging.getLogger(__name__)

PASSES = 16
"""How often a turn that could not be used is passed on, until one is used: another may want another downloader. Not to
everybody: a thousand that wait for the same downloader must not all look whenever something ends."""


class Shares:
    """Like slots, of owners in place of downloaders; whoever begins needs one of each.

    :param limit: of an owner; None = no limit. Asked every time, so that it may change.
    :param wake: is given a hold, and how many of those who hold it.
    """

    def __init__(
        self, limit: Callable[[str], int | None], wake: Callable[[str, int | None], Awaitable[object]]
    ) -> None:
        self.limit = limit
        self._wake = wake
        self._slots = Slots()
        self._passed: dict[str, int] = {}

    def free(self, owner: str, task_id: int) -> bool:
        """May it begin, or has it begun?"""
        self._define(owner)
        return self._slots.free(owner, task_id) > 0

    def hold(self, owner: str) -> str:
        """For a task that has to wait."""
        self._slots.ask(owner)
        return f"{HOLD}:{owner}"

    def adopt(self, owner: str, task_id: int) -> None:
        """It runs."""
        self._passed.pop(owner, None)
        self._slots.adopt(owner, task_id)

    def active(self, owner: str) -> int:
        return self._slots.active(owner)

    async def release(self, task_id: int) -> None:
        """It does not run any more: another may."""
        owner = self._slots.release(task_id)
        if owner is not None:
            self._passed.pop(owner, None)
            await self.offer(owner)

    async def offer(self, owner: str) -> None:
        """Let those begin who wait, as far as they may."""
        self._define(owner)
        asked, free = self._slots.asked(owner), self._slots.free(owner)
        if asked and free and not await self._woken(owner, free):
            self._slots.nobody(owner, asked)

    async def pass_on(self, owner: str) -> None:
        """Whose turn it was waits for a downloader: perhaps another does not have to."""
        passed = self._passed.get(owner, 0)
        if self._slots.asked(owner) and passed < PASSES and self._slots.free(owner):
            self._passed[owner] = passed + 1
            await self._woken(owner, 1)

    async def changed(self, owners: Iterable[str]) -> None:
        """Limits are others now, or nobody was there to tell those who wait."""
        for owner in owners:
            if self.limit(owner) is None:
                await self._woken(owner, None)
            else:
                self._slots.ask(owner)
                await self.offer(owner)

    async def _woken(self, owner: str, count: int | None) -> bool:
        try:
            return bool(await self._wake(f"{HOLD}:{owner}", count))
        except Exception as error:  # noqa: BLE001 - whoever ends next tries again
            log.warning("could not wake who waits for a transfer of %s to end: %s", owner, error)
            return True

    def _define(self, owner: str) -> None:
        limit = self.limit(owner)
        self._slots.limit(owner, UNLIMITED if limit is None else limit)


UNLIMITED = 2**31
