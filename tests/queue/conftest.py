"""For the tests of the queue: asyncio, a queue on either store, and assertions of the published suite with values."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from dlqueue.queue import Store
from dlqueue.queue.memory import MemoryStore
from dlqueue.queue.sql import SqlStore
from tests.queue.rig import Rig


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    """A queue that hangs ends the test run. (Any exception but this one the event loop would swallow.)"""
    if settings.get_current_profile_name() == "nightly":
        yield
        return

    def ring(*_: object) -> None:
        raise KeyboardInterrupt("this test hangs")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(60)
    yield
    signal.alarm(0)
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
