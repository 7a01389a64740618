"""Both stores keep the promises of the `Store` protocol."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dlqueue.queue import Store
from dlqueue.queue.memory import MemoryStore
from dlqueue.queue.sql import SqlStore
from dlqueue.queue.testing import StoreConformance


class TestMemory(StoreConformance):
    @pytest.fixture
    def new_store(self) -> Callable[[], Store]:
        return MemoryStore


class TestSqlDisk(StoreConformance):
    durable = True

    @pytest.fixture
    def new_store(self, tmp_path: Path) -> Callable[[], Store]:
        return lambda: SqlStore(f"sqlite:///{tmp_path}/queue.db")


class TestSqlProcess(StoreConformance):
    durable = True

    @pytest.fixture
    def new_store(self, tmp_path: Path) -> Callable[[], Store]:
        return lambda: SqlStore(f"sqlite:///{tmp_path}/queue.db", durability="process")
