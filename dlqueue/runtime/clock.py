"""The clock: all time enters here, so that a test can own it. Times are seconds since 1970, UTC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that has been asked for and can be taken back."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Wall-clock time, and a way to be called at a point of it."""

    def time(self) -> float:
        """Now."""
        ...

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` in the running event loop at or soon after ``when``."""
        ...


class SystemClock:
    """The machine's clock. A timer set for far away is early rather than late when the clock is turned forward: who
    waits looks at the time again (`MAX_WAIT` seconds at most pass unnoticed)."""

    MAX_WAIT = 30.0

    def time(self) -> float:
        return time.time()

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        loop = asyncio.get_running_loop()
        return loop.call_later(min(max(when - time.time(), 0.0), self.MAX_WAIT), callback)


async def sleep_until(clock: Clock, when: float) -> None:
    """Wait until the clock shows ``when``."""
    while clock.time() < when:
        rung = asyncio.Event()
        timer = clock.call_at(when, rung.set)
        try:
            await rung.wait()
        finally:
            timer.cancel()


async def sleep(clock: Clock, seconds: float) -> None:
    """Wait for so many seconds of the clock."""
    await sleep_until(clock, clock.time() + seconds)
