"""The plug-in against the promises of the SDK, on a real transmission-daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dlqueue.sdk import Downloader, Request, TransferState
from dlqueue.sdk.testing import Album, DownloaderConformance, HostileConformance, SelectionConformance, Source
from dlqueue.sdk.testing.conformance import wait
from dlqueue_transmission import TransmissionConfig
from tests.plugins.albums import album
from tests.plugins.transmission.live import Transmission, opened, until, web_seeded
from tests.webserver import WebServer, pattern


class TestTransmission(DownloaderConformance):
    """A source's "URL" names one of the torrents: one that comes at once, or another with a slow web seed."""

    @pytest.fixture
    def source(self, transmission: Transmission) -> Iterator[Source]:
        content = pattern(300_000)
        self.transmission = transmission
        with WebServer() as server:
            self.torrents = {
                "fast": web_seeded(server, "file.bin", content),
                "slow": web_seeded(server, "slow.bin", content, rate=20_000),
            }
            slow = server.pages[f"{self.torrents['slow'].hash}/slow.bin"]
            yield Source(urls=("fast",), content=content, slow_urls=("slow",), let=lambda: setattr(slow, "rate", None))

    def request(self, source: Source, folder: Path, urls: tuple[str, ...] | None = None) -> Request:
        (name,) = urls or source.urls
        # As the core does it: the name of the folder ends with the key.
        return Request(urls=(), torrent=self.torrents[name].content, directory=folder / f"transfer-{self.key}")

    def test_an_error_says_why_and_can_be_tried_again(
        self, downloader: Downloader, source: Source, tmp_path: Path
    ) -> None:
        """A torrent cannot fail to be found. Its files can."""
        request, digest = self.request(source, tmp_path), self.torrents["fast"].hash
        handle = downloader.create(request, self.key)
        file = Path(self.whole(downloader, handle).content[0])
        file.unlink()
        self.transmission.client.verify_torrent(digest)
        until(lambda: self.transmission.look(digest, "error")["error"] == 3, "transmission misses it")
        status = self.wait(downloader, handle, lambda status: status.state is TransferState.ERROR, "failed")
        assert status.error is not None
        assert (status.error.message, status.error.final) == ("its files are gone from the disk", None)
        assert downloader.create(request, self.key) == handle
        assert Path(self.whole(downloader, handle).content[0]).read_bytes() == source.content


class TestTransmissionSelects(SelectionConformance):
    @pytest.fixture
    def album(self) -> Iterator[Album]:
        with WebServer() as server:
            yield album(server)

    def test_less_is_wanted_while_it_runs(self, downloader: Downloader, album: Album, tmp_path: Path) -> None:
        """A web seed that holds back what is not wanted any more holds up all else of Transmission 3.00, so it goes
        on; what had been asked for may still come."""
        folder, last = self.folder(tmp_path), len(album.files)
        handle = downloader.create(album.request(folder, None), self.key)
        wait(downloader, handle, lambda status: status.total is not None and status.downloaded > 0, "moving")
        downloader.select(handle, range(1, last))
        album.let()
        wanted = list(album.files.items())[:-1]
        wait(downloader, handle, lambda status: status.whole, "whole")
        assert {file.index for file in downloader.files(handle) if file.selected} == set(range(1, last))
        assert all((folder / path).read_bytes() == content for path, content in wanted)


class TestTransmissionIsHeldAgainst(HostileConformance):
    @pytest.fixture
    def connected(self, tmp_path: Path) -> Iterator[Callable[[str], Downloader]]:
        made: list[Downloader] = []

        def connect(url: str) -> Downloader:
            made.append(
                opened(TransmissionConfig(f"{url}/transmission/rpc", "u", "p"), tmp_path / str(len(made)), lambda: 1.0)
            )
            return made[-1]

        yield connect
        for downloader in made:
            downloader.close()
