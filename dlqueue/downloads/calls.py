"""Calls of a plug-in: its methods block, so they run on threads of its own, each with a deadline."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from dlqueue.runtime.threads import Threads
from dlqueue.sdk import Unavailable

R = TypeVar("R")

AT_ONCE = 2
"""Threads for each downloader."""


class Calls:
    """Of one downloader: one that hangs hurts no other."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._local = threading.local()
        self._threads = Threads(AT_ONCE, f"dlqueue-{name}")

    async def run(self, function: Callable[[], R], timeout: float) -> R:
        """What it answers. :raises Unavailable: it has not come back, a second after its deadline."""

        def run() -> R:
            self._local.until = time.monotonic() + timeout
            return function()

        future = self._threads.run(run)
        # Not by the injected clock: a thread that hangs does so in real time.
        expiry = asyncio.get_running_loop().call_later(timeout + 1.0, self._expire, future, timeout)
        try:
            return await future
        finally:
            expiry.cancel()

    def _expire(self, future: asyncio.Future[Any], timeout: float) -> None:
        if not future.done():
            future.set_exception(Unavailable(f"{self._name} did not answer within {timeout:g} s"))

    def deadline(self) -> float:
        """Seconds left for the call that is running in this thread."""
        until: float = getattr(self._local, "until", 0.0)
        return max(until - time.monotonic(), 0.1)

    def close(self) -> None:
        self._threads.close()
