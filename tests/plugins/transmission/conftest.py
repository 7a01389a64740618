"""A real transmission-daemon, and a plug-in on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dlqueue_transmission import TransmissionDownloader
from tests.plugins.transmission.live import Transmission, opened


@pytest.fixture
def transmission(tmp_path: Path) -> Iterator[Transmission]:
    with Transmission(tmp_path / "transmission") as running:
        yield running


@pytest.fixture
def open_again(transmission: Transmission, tmp_path: Path) -> Iterator[Callable[[], TransmissionDownloader]]:
    """A plug-in of another daemon process on the same Transmission."""
    made: list[TransmissionDownloader] = []

    def again() -> TransmissionDownloader:
        made.append(opened(transmission.config, tmp_path / "control"))
        return made[-1]

    yield again
    for downloader in made:
        downloader.close()


@pytest.fixture
def downloader(open_again: Callable[[], TransmissionDownloader]) -> TransmissionDownloader:
    return open_again()
