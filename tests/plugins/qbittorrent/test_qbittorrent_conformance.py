"""The plug-in against the promises of the SDK, on a real qBittorrent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dlqueue.sdk import Downloader, TransferState
from dlqueue.sdk.testing import Album, DownloaderConformance, HostileConformance, SelectionConformance, Source
from dlqueue_qbittorrent import QbittorrentConfig, QbittorrentDownloader
from tests.plugins.albums import album
from tests.plugins.aria2.swarm import Swarm, Torrent
from tests.plugins.qbittorrent.live import Qbittorrent, opened, wait
from tests.webserver import WebServer, pattern

CONTENT = pattern(300_000)


@pytest.fixture(scope="session")
def torrents(swarm: Swarm) -> tuple[Torrent, Torrent]:
    """One that comes at once, and one that is slow until a test lets it."""
    return swarm.seed("file.bin", CONTENT), swarm.seed("slow.bin", CONTENT)


class TestQbittorrent(DownloaderConformance):
    @pytest.fixture
    def source(self, swarm: Swarm, torrents: tuple[Torrent, Torrent]) -> Source:
        fast, slow = torrents
        swarm.limit(slow, "40K")
        return Source((fast.magnet,), CONTENT, (slow.magnet,), let=lambda: swarm.limit(slow, "0"))

    def test_an_error_says_why_and_can_be_tried_again(
        self, downloader: Downloader, source: Source, tmp_path: Path
    ) -> None:
        """No link is broken enough for an error: nobody has it yet, that is all. But its files may go."""
        assert isinstance(downloader, QbittorrentDownloader)
        request = self.request(source, tmp_path)
        handle = downloader.create(request, self.key)
        path = Path(self.whole(downloader, handle).content[0])
        qbittorrent = self.qbittorrent
        qbittorrent.stop(15)
        path.unlink()
        qbittorrent.start()
        status = wait(downloader, handle, lambda status: status.state is TransferState.ERROR, "failed")
        assert status.error is not None and status.error.final is None and "misses files" in status.error.message
        assert downloader.create(request, self.key) == handle
        assert Path(self.whole(downloader, handle).content[0]).read_bytes() == CONTENT

    @pytest.fixture(autouse=True)
    def known(self, qbittorrent: Qbittorrent) -> None:
        self.qbittorrent = qbittorrent


class TestQbittorrentSelects(SelectionConformance):
    @pytest.fixture
    def album(self) -> Iterator[Album]:
        with WebServer() as server:
            yield album(server)


class TestQbittorrentIsHeldAgainst(HostileConformance):
    @pytest.fixture
    def connected(self, tmp_path: Path) -> Iterator[Callable[[str], Downloader]]:
        made: list[Downloader] = []

        def connect(url: str) -> Downloader:
            made.append(
                opened(QbittorrentConfig(url, username="u", password="p"), tmp_path / str(len(made)), lambda: 1.0)
            )
            return made[-1]

        yield connect
        for downloader in made:
            downloader.close()
