"""The plug-in against the promises of the SDK, on the real library."""

from __future__ import annotations

import pytest

from dlqueue.sdk.testing import DownloaderConformance, Source
from tests.webserver import WebServer, pattern


class TestYtdlp(DownloaderConformance):
    @pytest.fixture
    def source(self, server: WebServer) -> Source:
        content = pattern(300_000)
        slow, let = server.slow("slow/file.mp4", content)
        return Source(
            urls=(server.put("file.mp4", content),),
            content=content,
            slow_urls=(slow,),
            let=let,
            broken_urls=(server.url("nothing/file.mp4"),),
        )
