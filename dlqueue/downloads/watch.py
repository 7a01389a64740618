"""A transfer that somebody waits for: what is known of it, what its task has been told, how long it stands still."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from dlqueue.sdk import Handle, TransferState, TransferStatus

LONGEST_GAP = 60.0
"""Seconds between two looks that count as time without a byte, or twice the poll interval if that is more. In a longer
gap the machine was asleep or its clock was turned, and nobody knows what the transfer did."""
_OUGHT_TO_MOVE = (TransferState.DOWNLOADING, TransferState.METADATA, TransferState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Sight:
    """What is known of a transfer. ``status`` is None if the downloader does not know it (any more)."""

    status: TransferStatus | None
    instance: str | None
    restarted: bool
    still: float = 0.0
    """Seconds for which it ought to have moved and did not."""


@dataclass(slots=True)
class Watch:
    task_id: int
    owner: str
    handle: Handle
    latest: TransferStatus | None = None
    fresh: bool = False
    """It was created just now: whatever it has, it has got since."""
    instance: str | None = None
    """The running program that knew it when it was last seen."""
    gone: bool = False
    restarted: bool = False
    """It is gone, and the downloader may have restarted since it was last seen."""
    looked: bool = False
    known: TransferState | None = TransferState.DOWNLOADING
    """The state that the task has been told of; None = that it is gone. It is woken for any other."""
    untold: bool = False
    """Its downloader has been away: whatever it is now is news: what was done about its former state may
    be lost."""
    known_total: int | None = None
    """The size that the task has been told of, and has written down: it proves content whose entry is gone."""
    moved: asyncio.Event | None = None
    """Set instead of waking it, while its step waits a moment."""
    still: float = 0.0
    told_still: bool = False
    as_of: float = 0.0
    """When the look began that this is from; monotonic seconds."""
    seen_at: float | None = None
    """When it was seen last; None = not since its downloader was down, and that time does not count."""

    def note(self, new: TransferStatus | None, instance: str | None, now: float, interval: float) -> bool:
        """The newest answer of its downloader. Is it another than before?

        :param interval: seconds between two polls.
        """
        self.looked, self.gone = True, new is None
        if new is None:
            self.restarted = instance is None or instance != self.instance
            return False
        former, self.latest, self.instance = self.latest, new, instance
        if new.state in _OUGHT_TO_MOVE:
            if former is None or new.downloaded > former.downloaded or new.state is not former.state:
                self.still, self.told_still = 0.0, False
            elif self.seen_at is not None:
                self.still += min(max(now - self.seen_at, 0.0), max(LONGEST_GAP, 2 * interval))
        self.seen_at = now
        return new != former

    def is_news(self) -> bool:
        """Does the state, or the size, concern its task, which does not know it yet? From now on it does. Mere bytes
        concern nobody's next step."""
        state, total = (None, None) if self.gone or self.latest is None else (self.latest.state, self.latest.total)
        if state is not self.known or self.untold:
            self.untold = False
            self.known, self.known_total = state, total
            return True
        if total not in (None, self.known_total) and self.moved is None:
            self.known_total = total
            return True
        return False

    def tell(self) -> Sight:
        """For its task, which then knows."""
        latest = None if self.gone else self.latest
        self.untold = False
        self.known = None if latest is None else latest.state
        self.known_total = None if self.latest is None else self.latest.total
        return Sight(latest, self.instance, self.restarted, self.still)
