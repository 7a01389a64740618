"""What the clients of a socket have been answered and have not taken yet, all together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

BACKLOG = 24 * 1024 * 1024
"""Bytes that all of them may leave lying."""
PATIENCE = 0.5
"""Seconds without taking anything, after which a client goes if the memory is needed."""


class Slow(Protocol):
    """A connection whose client does not keep up."""

    @property
    def untaken(self) -> int:
        """Bytes that wait for the client."""
        ...

    def drop(self) -> None:
        """End it: its client does not read."""
        ...


class Backlog:
    """Each client may leave some megabytes lying; a hundred that never read must not have them all at once. Beyond the
    limit those are dropped that take nothing, the longest time first. Who reads, however slowly, stays."""

    def __init__(self, limit: int = BACKLOG, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._monotonic = monotonic
        self.turn = asyncio.Lock()
        """Held by whoever puts something long together: it is long several times over before it is counted here."""
        self._waiting: dict[Slow, tuple[int, float]] = {}
        """How much waited when it was looked at last, and since when it has been that much."""

    def add(self, connection: Slow) -> None:
        """Its client has begun to leave things lying."""
        now = self._monotonic()
        self._waiting[connection] = (connection.untaken, now)
        total = sum(one.untaken for one in self._waiting)
        for one, (before, since) in tuple(self._waiting.items()):
            if total <= self._limit:
                return
            size = one.untaken
            if size < before:
                del self._waiting[one]
                self._waiting[one] = (size, now)
            elif now - since >= PATIENCE:
                del self._waiting[one]
                total -= size
                one.drop()

    def remove(self, connection: Slow) -> None:
        """Its client has taken everything, or is gone."""
        self._waiting.pop(connection, None)
