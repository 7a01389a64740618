"""The built-in engine against the promises of the SDK."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from dlqueue.sdk import Context
from dlqueue.sdk.testing import DownloaderConformance, Source
from dlqueue_http import HttpConfig, HttpDownloader
from tests.webserver import WebServer, pattern


class TestHttpDownloader(DownloaderConformance):
    @pytest.fixture
    def downloader(self, tmp_path: Path) -> Iterator[HttpDownloader]:
        engine = HttpDownloader()
        context = Context(
            name="http",
            folder=tmp_path / "control",
            logger=logging.getLogger("test"),
            deadline=lambda: 10.0,
            check_url=lambda url: None,
            check_address=lambda address: None,
        )
        engine.open(HttpConfig(), context)
        yield engine
        engine.close()

    @pytest.fixture
    def source(self) -> Iterator[Source]:
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
