"""A real qbittorrent-nox for each test, and a swarm on loopback for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dlqueue_qbittorrent import QbittorrentDownloader
from tests.plugins.aria2.conftest import named
from tests.plugins.aria2.swarm import Swarm
from tests.plugins.qbittorrent.live import Qbittorrent, config_of, opened


@pytest.fixture(scope="session")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    """Its seeds are those of an aria2c."""
    with Swarm(named("system"), tmp_path_factory.mktemp("swarm")) as running:
        yield running


@pytest.fixture
def qbittorrent(tmp_path: Path) -> Iterator[Qbittorrent]:
    with Qbittorrent(tmp_path / "qbittorrent") as running:
        yield running


@pytest.fixture
def open_again(qbittorrent: Qbittorrent, tmp_path: Path) -> Iterator[Callable[[], QbittorrentDownloader]]:
    """A plug-in of another daemon process on the same qBittorrent."""
    made: list[QbittorrentDownloader] = []

    def again() -> QbittorrentDownloader:
        made.append(opened(config_of(qbittorrent), tmp_path / "control"))
        return made[-1]

    yield again
    for downloader in made:
        downloader.close()


@pytest.fixture
def downloader(open_again: Callable[[], QbittorrentDownloader]) -> QbittorrentDownloader:
    return open_again()
