"""The plug-in on the real yt-dlp, and a web server."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dlqueue.sdk import Context
from dlqueue_ytdlp import YtdlpConfig, YtdlpDownloader
from tests.webserver import WebServer


def opened(
    folder: Path, config: YtdlpConfig | None = None, check_address: Callable[[str], None] = lambda address: None
) -> YtdlpDownloader:
    made = YtdlpDownloader()
    context = Context(
        name="tube",
        folder=folder,
        logger=logging.getLogger("test"),
        deadline=lambda: 20.0,
        check_url=lambda url: None,
        check_address=check_address,
    )
    made.open(config or YtdlpConfig(), context)
    return made


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer() as running:
        yield running


@pytest.fixture
def downloader(tmp_path: Path) -> Iterator[YtdlpDownloader]:
    made = opened(tmp_path / "control")
    yield made
    made.close()
