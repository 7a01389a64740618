"""A house without a daemon for the tests of this room."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.downloads.house import Builder, builder


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def build(tmp_path: Path) -> AsyncIterator[Builder]:
    async with builder(tmp_path) as build:
        yield build
