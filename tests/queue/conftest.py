"""For the tests of the queue: asyncio, a queue on either store, and assertions of the published suite with values."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("dlqueue.queue.testing")

from dlqueue.queue import Store  # noqa: E402 - after the line above
from dlqueue.queue.memory import MemoryStore  # noqa: E402
from dlqueue.queue.sql import SqlStore  # noqa: E402
from tests.queue.rig import Rig  # noqa: E402


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


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
