"""A clock that stands still until it is told to go on."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from dlqueue.runtime.clock import Timer

START = 1_700_000_000.0


class _FakeTimer:
    def __init__(self, when: float, number: int, callback: Callable[[], None]) -> None:
        self.when = when
        self.number = number
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def __lt__(self, other: _FakeTimer) -> bool:
        return (self.when, self.number) < (other.when, other.number)


class FakeClock:
    """A `dlqueue.runtime.clock.Clock` in the hand of a test. Belongs to one event loop; may be read from any thread."""

    def __init__(self, now: float = START) -> None:
        self._now = now
        self._timers: list[_FakeTimer] = []
        self._number = 0

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """What is due already is called at once, but from the loop: never before this returns."""
        if when <= self._now:
            return asyncio.get_running_loop().call_soon(callback)
        self._number += 1
        timer = _FakeTimer(when, self._number, callback)
        heapq.heappush(self._timers, timer)
        return timer

    @property
    def next_time(self) -> float | None:
        """When the earliest pending timer is due; None = there is none."""
        while self._timers and self._timers[0].cancelled:
            heapq.heappop(self._timers)
        return self._timers[0].when if self._timers else None

    def advance(self, seconds: float) -> None:
        """Let time pass. Every timer on the way is called when the clock shows its time, in order; timers that are set
        meanwhile count too."""
        end = self._now + seconds
        while (when := self.next_time) is not None and when <= end:
            timer = heapq.heappop(self._timers)
            self._now = max(self._now, when)
            timer.callback()
        self._now = max(self._now, end)

    def set_back(self, seconds: float) -> None:
        """Somebody turns the clock back. Timers keep their times."""
        self._now -= seconds
