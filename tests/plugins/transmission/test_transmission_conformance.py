"""The plug-in against the promises of the SDK, on a real transmission-daemon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dlqueue.sdk import Request
from dlqueue.sdk.testing import DownloaderConformance, Source
from tests.plugins.transmission.live import web_seeded
from tests.webserver import WebServer, pattern


class TestTransmission(DownloaderConformance):
    """A source's "URL" names one of the torrents: one that comes at once, or the same with a slow web seed."""

    @pytest.fixture
    def source(self) -> Iterator[Source]:
        content = pattern(300_000)
        with WebServer() as server:
            self.torrents = {
                "fast": web_seeded(server, "file.bin", content).content,
                "slow": web_seeded(server, "slow.bin", content, rate=150_000).content,
            }
            yield Source(urls=("fast",), content=content, slow_urls=("slow",))

    def request(self, source: Source, folder: Path, urls: tuple[str, ...] | None = None) -> Request:
        (name,) = urls or source.urls
        # As the core does it: the name of the folder ends with the key.
        return Request(urls=(), torrent=self.torrents[name], directory=folder / f"transfer-{self.key}")
