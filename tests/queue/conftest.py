"""For the tests of the queue: asyncio, a queue on either store, and assertions of the published suite with values."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from dlqueue.queue import Store
from dlqueue.queue.memory import MemoryStore
from dlqueue.queue.sql import SqlStore
from tests.queue.rig import Rig

IDLE, BUSY = 60, 600.0
"""A test hangs when it has computed less than a second in so many seconds, three times running, or so many in all. A
machine with much else to do makes a test slow; it makes it neither idle nor busier."""


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    """A queue that hangs ends the test run. (Any exception but this one the event loop would swallow.)"""
    if settings.get_current_profile_name() == "nightly":
        yield
        return
    began = time.process_time()
    seen, idle = began, 0

    def look(*_: object) -> None:
        nonlocal seen, idle
        now = time.process_time()
        idle = idle + 1 if now - seen < 1 else 0
        seen = now
        if idle >= 3 or now - began > BUSY:
            raise KeyboardInterrupt("this test hangs")

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, IDLE, IDLE)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=["memory", "sqlite"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    """Answers a store on the same data at every call."""
    if request.param == "sqlite":
        return lambda: SqlStore(f"sqlite:///{tmp_path}/queue.db")
    store = MemoryStore()
    return lambda: store


@pytest.fixture
async def rig(new_store: Callable[[], Store]) -> AsyncIterator[Rig]:
    rig = Rig(new_store)
    yield rig
    await rig.stop()


@pytest.fixture
async def memory_rig() -> AsyncIterator[Rig]:
    """For what does not touch the store."""
    store: Any = MemoryStore()
    rig = Rig(lambda: store)
    yield rig
    await rig.stop()
