"""The scriptable fake keeps every promise that it is used to test others with."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dlqueue.sdk import Context, Handle, Rejected, Request, TransferState, Unavailable
from dlqueue.sdk.testing import DownloaderConformance, FakeConfig, FakeDownloader, Source, fake_content

KEY = "00000000000000aa"


def open_fake(folder: Path, deadline: float = 5.0) -> FakeDownloader:
    fake = FakeDownloader()
    context = Context(
        name="fake",
        folder=folder,
        logger=logging.getLogger("test"),
        deadline=lambda: deadline,
        check_url=lambda url: None,
        check_address=lambda address: None,
    )
    fake.open(FakeConfig(str(folder)), context)
    return fake


class TestFakeDownloader(DownloaderConformance):
    @pytest.fixture
    def downloader(self, tmp_path: Path) -> Iterator[FakeDownloader]:
        fake = open_fake(tmp_path / "fake")
        yield fake
        fake.close()

    @pytest.fixture
    def source(self) -> Source:
        return Source(
            urls=("fake://ok/file?size=5000",),
            content=fake_content(5000),
            slow_urls=("fake://ok/file?size=5000&steps=50",),
            broken_urls=("fake://ok/file?fail=passing&times=1",),
        )


def request(folder: Path, url: str) -> Request:
    return Request(urls=(url,), directory=folder / "transfer")


@pytest.mark.parametrize(("told", "final"), [("passing", None), ("downloader", "downloader"), ("request", "request")])
def test_fails_as_told(tmp_path: Path, told: str, final: str | None) -> None:
    fake = open_fake(tmp_path / "fake")
    handle = fake.create(request(tmp_path, f"fake://x/f?fail={told}&kind=odd&retry_after=7"), KEY)
    error = fake.poll([handle])[handle].error
    assert isinstance(error, Rejected)
    assert (error.final, error.kind, error.retry_after) == (final, "odd", 7.0)


def test_is_down_and_hangs_as_told(tmp_path: Path) -> None:
    fake = open_fake(tmp_path / "fake", deadline=0.1)
    (tmp_path / "fake" / "down").touch()
    with pytest.raises(Unavailable, match="down"):
        fake.test()
    (tmp_path / "fake" / "down").unlink()
    (tmp_path / "fake" / "hang").touch()
    began = time.monotonic()
    with pytest.raises(Unavailable, match="in time"):
        fake.poll([])
    assert time.monotonic() - began >= 0.1
    (tmp_path / "fake" / "hang").unlink()
    assert fake.test()


def test_a_manual_transfer_ends_when_told(tmp_path: Path) -> None:
    fake = open_fake(tmp_path / "fake")
    handle = fake.create(request(tmp_path, "fake://x/f?size=10&manual=1"), KEY)
    for _ in range(5):
        assert fake.poll([handle])[handle].state is TransferState.DOWNLOADING
    (tmp_path / "fake" / f"{KEY}.finish").touch()
    assert fake.poll([handle])[handle].state is TransferState.COMPLETED


def test_its_transfers_outlive_it_and_every_create_is_on_record(tmp_path: Path) -> None:
    first = open_fake(tmp_path / "fake")
    first.create(request(tmp_path, "fake://x/f?steps=4"), KEY)
    first.poll([Handle(KEY)])
    second = open_fake(tmp_path / "fake")
    second.create(request(tmp_path, "fake://x/f?steps=4"), KEY)
    assert second.poll([Handle(KEY)])[Handle(KEY)].downloaded == 500
    assert (tmp_path / "fake" / "creates.log").read_text().splitlines() == [f"{KEY} new", f"{KEY} again"]


def test_the_folder_of_a_transfer_is_there_as_the_core_makes_it(tmp_path: Path) -> None:
    source = Source(("fake://a",), b"")
    for _ in range(2):
        assert DownloaderConformance().request(source, tmp_path).directory.is_dir()
