"""For the tests of the gateway: one with tokens of all roles."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dlqueue.downloads import task as download_task
from tests.transports.gateway_world import World, world


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download_task, "LINGER", 0.0)
        with world(tmp_path_factory.mktemp("gateway")) as made:
            yield made
