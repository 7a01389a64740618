"""The plug-in against the promises of the SDK, on the real library."""

from __future__ import annotations

import pytest

from dlqueue.sdk.testing import DownloaderConformance, Source
from tests.webserver import WebServer, pattern


class TestYtdlp(DownloaderConformance):
    @pytest.fixture
    def source(self, server: WebServer) -> Source:
        content = pattern(300_000)
        return Source(
            urls=(server.put("file.mp4", content),),
            content=content,
            slow_urls=(server.put("slow/file.mp4", content, rate=150_000),),
            broken_urls=(server.url("nothing/file.mp4"),),
        )
