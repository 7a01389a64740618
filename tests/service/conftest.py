"""A house without a daemon for the tests of this room."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dlqueue.downloads import task
from tests.downloads.house import Builder, builder


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Builder]:
    # The clock stands still, so that a step which lingers for a small file would linger for ever.
    monkeypatch.setattr(task, "LINGER", 0.0)
    async with builder(tmp_path) as build:
        yield build
