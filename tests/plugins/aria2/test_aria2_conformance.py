"""The plug-in against the promises of the SDK: on an aria2 that runs already, both versions, and on one of our own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dlqueue.sdk import Downloader
from dlqueue.sdk.testing import Album, DownloaderConformance, HostileConformance, SelectionConformance, Source
from dlqueue_aria2 import Aria2Config, Aria2Downloader
from tests.plugins.albums import album
from tests.plugins.aria2.live import opened
from tests.webserver import WebServer, pattern


@pytest.fixture
def source() -> Iterator[Source]:
    content = pattern(300_000)
    with WebServer() as server:
        slow, let = server.slow("slow/file.bin", content)
        yield Source(
            urls=(server.put("file.bin", content),),
            content=content,
            slow_urls=(slow,),
            let=let,
            broken_urls=(server.url("nothing/file.bin"),),
        )


class TestConfiguredAria2(DownloaderConformance):
    """The fixture `downloader` is that of conftest: both versions."""


class TestManagedAria2(DownloaderConformance):
    @pytest.fixture
    def downloader(self, one_command: Path, tmp_path: Path) -> Iterator[Aria2Downloader]:
        made = opened(Aria2Config(command=one_command, dht=False), tmp_path / "control")
        yield made
        made.close()


class TestAria2Selects(SelectionConformance):
    @pytest.fixture
    def album(self) -> Iterator[Album]:
        with WebServer() as server:
            yield album(server)


class TestAria2IsHeldAgainst(HostileConformance):
    @pytest.fixture
    def connected(self, tmp_path: Path) -> Iterator[Callable[[str], Downloader]]:
        made: list[Downloader] = []

        def connect(url: str) -> Downloader:
            made.append(opened(Aria2Config(url=f"{url}/jsonrpc", secret="s"), tmp_path / str(len(made)), lambda: 1.0))
            return made[-1]

        yield connect
        for downloader in made:
            downloader.close()
