"""A reload that fails has changed nothing, wherever it fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from unittest.mock import AsyncMock, MagicMock

import pytest

from dlqueue.config import Config, load
from dlqueue.daemon.owners import Owners
from dlqueue.daemon.reload import Parts, Reloader
from dlqueue.daemon.systemd import Notifier
from dlqueue.protocol.caller import Caller
from dlqueue.queue import StorageError
from dlqueue.service.access import Access

pytestmark = pytest.mark.anyio

BEFORE = "[daemon]\nadmins = []\n[owners.ann]\nmax_tasks = 1\n"
AFTER = '[daemon]\nworkers = 3\nadmins = ["tape"]\n[owners.ann]\nmax_tasks = 2\n'
TAPE = Caller(uid=4001, gid=26, name="nobody-of-that-name")


def configured(folder: Path, text: str) -> Config:
    file = folder / "dlqueue.toml"
    file.write_text(text)
    return load(file, mode="user", kinds={}, environ={"HOME": str(folder)})


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    queue, access = MagicMock(), Access(())
    queue.configure, queue.wake = AsyncMock(), AsyncMock()
    queue.quotas.limit, queue.quotas.look_again = AsyncMock(), AsyncMock()
    endpoints = MagicMock()
    endpoints.reconfigure, endpoints.shares.changed = AsyncMock(), AsyncMock()
    owners = Owners(access, configured(tmp_path, BEFORE))
    return Parts({}, queue, endpoints, MagicMock(), access, owners, MagicMock(), MagicMock())


def reloader(folder: Path, parts: Parts) -> Reloader:
    made = Reloader(configured(folder, BEFORE), lambda: configured(folder, AFTER), parts, Notifier({}))
    made.started()
    return made


@pytest.mark.parametrize("where", [lambda queue: queue.configure, lambda queue: queue.quotas.limit])
async def test_a_store_that_fails(tmp_path: Path, parts: Parts, where: Callable[[Any], AsyncMock]) -> None:
    made = reloader(tmp_path, parts)
    queue, endpoints, postman = cast(Any, parts.queue), cast(Any, parts.endpoints), cast(Any, parts.postman)
    failing = where(queue)
    failing.side_effect = [StorageError("full"), None]
    with pytest.raises(StorageError):
        await made.reload()
    assert made.config.daemon.workers != 3 and "full" in made.refused
    assert not parts.access.is_admin(TAPE)
    assert parts.owners.quota("ann") is not None and cast(Any, parts.owners.quota("ann")).tasks == 1
    endpoints.reconfigure.assert_not_called()
    postman.configure.assert_not_called()
    assert await made.reload()
    assert made.config.daemon.workers == 3 and not made.refused
    assert cast(Any, parts.owners.quota("ann")).tasks == 2
    await made.stop()


async def test_who_waits_and_cannot_be_told_keeps_nothing_back(tmp_path: Path, parts: Parts) -> None:
    made = reloader(tmp_path, parts)
    cast(Any, parts.queue).quotas.look_again.side_effect = StorageError("full")
    assert await made.reload()
    assert made.config.daemon.workers == 3 and not made.refused
    await made.stop()
