"""An engine on a temporary folder, and what tests do with it all the time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dlqueue.sdk import Context, Handle, Rejected, Request, TransferState, TransferStatus
from dlqueue_http import HttpConfig, HttpDownloader
from tests.webserver import WebServer

KEY = "0123456789abcdef"
PATIENCE = 20.0


class Bench:
    """One engine at a time on one folder; `reopen` is what a restart of the daemon does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.control = folder / "control"
        self.refused_urls: set[str] = set()
        self.refused_addresses: set[str] = set()
        self.asked_urls: list[str] = []
        self.asked_addresses: list[str] = []
        self.engine: HttpDownloader | None = None

    def open(self, **config: Any) -> HttpDownloader:
        assert self.engine is None
        self.engine = HttpDownloader()
        context = Context(
            name="http",
            folder=self.control,
            logger=logging.getLogger("test"),
            deadline=lambda: 10.0,
            check_url=self._check_url,
            check_address=self._check_address,
        )
        self.engine.open(HttpConfig(**config), context)
        return self.engine

    def close(self) -> None:
        if self.engine is not None:
            self.engine.close()
            self.engine = None

    def reopen(self, **config: Any) -> HttpDownloader:
        self.close()
        return self.open(**config)

    def request(self, *urls: str, **more: Any) -> Request:
        return Request(urls=urls, directory=self.folder / "transfer", **more)

    def fetch(self, *urls: str, config: dict[str, Any] | None = None, **more: Any) -> TransferStatus:
        """Create it and wait for its end, whichever."""
        engine = self.engine or self.open(**(config or {}))
        return self.end(engine.create(self.request(*urls, **more), KEY))

    def error(self, *urls: str, config: dict[str, Any] | None = None, **more: Any) -> Rejected:
        status = self.fetch(*urls, config=config, **more)
        assert status.state is TransferState.ERROR, status
        assert status.error is not None
        return status.error

    def end(self, handle: Handle | None = None) -> TransferStatus:
        return self.until(
            lambda status: status.state in (TransferState.COMPLETED, TransferState.ERROR), handle or Handle(KEY)
        )

    def until(self, reached: Callable[[TransferStatus], bool], handle: Handle | None = None) -> TransferStatus:
        handle = handle or Handle(KEY)
        assert self.engine is not None
        limit = time.monotonic() + PATIENCE
        status = None
        while time.monotonic() < limit:
            status = self.engine.poll([handle]).get(handle)
            if status is not None and reached(status):
                return status
            time.sleep(0.005)
        raise AssertionError(f"not reached: {status}")

    def content(self, status: TransferStatus) -> bytes:
        assert status.state is TransferState.COMPLETED, status.error
        return Path(status.content[0]).read_bytes()

    def _check_url(self, url: str) -> None:
        self.asked_urls.append(url)
        if url in self.refused_urls:
            raise Rejected("refused by policy", "request", kind="policy")

    def _check_address(self, address: str) -> None:
        self.asked_addresses.append(address)
        if address in self.refused_addresses:
            raise Rejected("refused by policy", "request", kind="policy")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server
