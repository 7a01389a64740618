"""The outbox: letters about what became of tasks, written in the transaction of the change itself, so that none is
ever forgotten. What a letter says, to whom it goes and how it gets there is the business of whoever uses the queue.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol

import msgspec

from dlqueue.queue.record import Change, TaskRecord

TOLD = frozenset({"delivered", "completed", "error", "canceled"})
"""What letters are about: the result is there, and the three ends."""


BUNDLE = "|"
"""What stands before it in a lane is common to several lanes."""


class Notice(msgspec.Struct, frozen=True, gc=False):
    """A letter before it is posted."""

    target: str
    """Where it goes, in words of its sender."""
    lane: str
    """What letters have in common that get in each other's way, such as the host they go to."""
    body: str


class Letter(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A letter in the outbox. It stays there until it is settled."""

    id: int
    key: str
    """Never used for another letter; its receiver may know by it what it has seen before."""
    task_id: int
    event: str
    """One of `TOLD`."""
    at: float
    """When that happened."""
    target: str
    lane: str
    body: str
    attempts: int = 0
    """How often it has been tried in vain."""
    due_at: float
    last_error: str | None = None


class Settled(msgspec.Struct, frozen=True, gc=False):
    """What came of an attempt. ``due_at`` None: the letter goes; otherwise it is tried again then."""

    id: int
    due_at: float | None = None
    error: str | None = None


class Pending(msgspec.Struct, frozen=True, gc=False):
    """What is in the outbox."""

    count: int
    oldest: float | None
    """When that happened which the oldest letter tells."""


Address = Callable[[TaskRecord, str, float], Sequence[Notice]]
"""Who is to be told of this: the task after the change, which of `TOLD` it is, and when it was. Called inside the
store's transaction, in whatever thread that has; pure, quick, and it does not raise."""


class OutboxStore(Protocol):
    """What a store does with letters. They outlive the tasks they are about."""

    def address(self, address: Address | None) -> None:
        """Ask this for each change from now on; None = nobody wants to be told."""
        ...

    async def letters(self, limit: int, without: Collection[str] = ()) -> list[Letter]:
        """Those due first, whether they are due yet or not.

        :param without: none of these lanes; one that ends in `BUNDLE` stands for all that begin so.
        """
        ...

    async def letters_about(self, task_id: int) -> list[Letter]:
        """Those that are still there, oldest first."""
        ...

    async def letters_pending(self) -> Pending:
        """How many there are, and how old they are."""
        ...

    async def settle_letters(self, settled: Sequence[Settled]) -> None:
        """Take away what has arrived or is given up, and put off the rest. Letters that are not there are passed
        over."""
        ...


def happened(change: Change) -> Sequence[str]:
    """Which of `TOLD` a change is. A task may be delivered and completed at once."""
    if change.kind not in TOLD:
        return ()
    if change.kind == "completed":
        return ("delivered", "completed") if "delivered_at" in change.changed else ("completed",)
    if change.kind == "delivered" and "delivered_at" not in change.changed:
        return ()  # the result was there before, and is another one now
    return (change.kind,)


def post(changes: Iterable[Change], address: Address) -> list[Letter]:
    """The letters of these changes, still without ids. Changes that have any are marked."""
    letters = []
    for change in changes:
        if change.kind not in TOLD:  # on the hot path: most are not
            continue
        for event in happened(change):
            for notice in address(change.record, event, change.at):
                change.posted = True
                letters.append(
                    Letter(
                        id=0,
                        key=f"msg_{uuid.uuid4().hex}",
                        task_id=change.record.id,
                        event=event,
                        at=change.at,
                        target=notice.target,
                        lane=notice.lane,
                        body=notice.body,
                        due_at=change.at,
                    )
                )
    return letters


class Outbox:
    """The outbox of a queue, for the one who sends what is in it."""

    def __init__(self, store: OutboxStore) -> None:
        self._store = store
        self.arrived = asyncio.Event()
        """Set when there may be a new letter."""

    def address(self, address: Address | None) -> None:
        """See `OutboxStore.address`."""
        self._store.address(address)

    async def letters(self, limit: int, without: Collection[str] = ()) -> list[Letter]:
        """See `OutboxStore.letters`."""
        return await self._store.letters(limit, without)

    async def about(self, task_id: int) -> list[Letter]:
        """See `OutboxStore.letters_about`."""
        return await self._store.letters_about(task_id)

    async def pending(self) -> Pending:
        """See `OutboxStore.letters_pending`."""
        return await self._store.letters_pending()

    async def settle(self, settled: Sequence[Settled]) -> None:
        """See `OutboxStore.settle_letters`."""
        await self._store.settle_letters(settled)
