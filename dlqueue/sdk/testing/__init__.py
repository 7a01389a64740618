"""For authors of plug-ins: suites that prove what `dlqueue.sdk.downloader` promises, and a downloader that does what a
test tells it to.

    class TestMine(DownloaderConformance):
        @pytest.fixture
        def downloader(self, tmp_path): ...     # opened; closed by the fixture afterwards
        @pytest.fixture
        def source(self): ...                   # a `Source` that it can fetch

    class TestMineSelects(SelectionConformance): ...        # if what it fetches may have several files
    class TestMineIsHeldAgainst(HostileConformance): ...    # if it asks another program over HTTP

The suites wait for events with a deadline and need nothing but pytest.
"""

from dlqueue.sdk.testing.conformance import PATIENCE, DownloaderConformance, Source, context
from dlqueue.sdk.testing.fake import FakeConfig, FakeDownloader, fake_content
from dlqueue.sdk.testing.hostile import HostileConformance, HostileServer
from dlqueue.sdk.testing.selection import Album, SelectionConformance

__all__ = [
    "PATIENCE",
    "Album",
    "DownloaderConformance",
    "FakeConfig",
    "FakeDownloader",
    "HostileConformance",
    "HostileServer",
    "SelectionConformance",
    "Source",
    "context",
    "fake_content",
]
