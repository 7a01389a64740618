"""Starts per period: of each queue that has a rate, when its last tasks were started. By the clock, in memory only."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from dlqueue.units import parse_rate


class _Window:
    """The last starts, as many as one period may have: with ``10/s`` no second ever sees an eleventh."""

    def __init__(self, rate: str, before: _Window | None) -> None:
        count, self.seconds = parse_rate(rate)
        self.starts: deque[float] = deque(before.starts if before is not None else (), maxlen=count)

    def opens_at(self, now: float) -> float:
        """When the next one may start; what is past means now."""
        if len(self.starts) < (self.starts.maxlen or 0):
            return now
        if self.starts[-1] > now:  # the clock has been turned back: they count as of now
            self.starts = deque([now] * len(self.starts), self.starts.maxlen)
        return self.starts[0] + self.seconds


class Rates:
    """Knows nothing of tasks. False when no queue has a rate."""

    def __init__(self) -> None:
        self._windows: dict[str, _Window] = {}

    def __bool__(self) -> bool:
        return bool(self._windows)

    def set(self, rates: Mapping[str, str]) -> None:
        """From now on these queues have these rates, and no others. What has been started still counts."""
        before = self._windows
        self._windows = {queue: _Window(rate, before.get(queue)) for queue, rate in rates.items()}

    def opens_at(self, queue: str, now: float) -> float:
        """When the next task of this queue may be started; what is past means now."""
        window = self._windows.get(queue)
        return now if window is None else window.opens_at(now)

    def started(self, queue: str, now: float) -> None:
        """One more."""
        window = self._windows.get(queue)
        if window is not None:
            window.starts.append(now)

    def take_back(self, queue: str) -> None:
        """The last one was not started after all."""
        window = self._windows.get(queue)
        if window is not None and window.starts:
            window.starts.pop()

    def next_time(self, now: float) -> float | None:
        """When the first queue opens of those that are shut."""
        return min((at for window in self._windows.values() if (at := window.opens_at(now)) > now), default=None)
