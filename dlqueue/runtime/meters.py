"""Counting what happens often, for whoever asks how it is going. An observation costs a fraction of a microsecond; what
the figures are turned into is the business of the reader."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

OTHER = "other"
NAMES = 50
"""Names that are counted one by one; what comes after them counts as `OTHER`. Names may come from users."""

SECONDS = (0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0)
"""Upper bounds that serve from a quick step to an hour of waiting."""


class Histogram:
    """How often values were within bounds. To be fed by one thread at a time; may be read by any."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        """Of each bound, what is not above it, and above the one before; the last: above them all."""
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class ByName(dict[str, T], Generic[T]):
    """Made when a name is seen first; after `NAMES` of them one for all others."""

    def __init__(self, make: Callable[[], T]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, name: str) -> T:
        if len(self) >= NAMES and name != OTHER:
            return self[OTHER]
        made = self[name] = self._make()
        return made


class Tally(Counter[tuple[str, str]]):
    """Counts by a name, which may come from a user, and a word of ours."""

    def add(self, name: str, word: str) -> None:
        if (name, word) not in self and len({known for known, _ in self} | {name}) > NAMES:
            name = OTHER
        self[name, word] += 1
