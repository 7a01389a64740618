"""The downloader against the promises of the SDK."""

from collections.abc import Iterator
from pathlib import Path

import dlqueue_copy
import pytest

from dlqueue.sdk import Rejected
from dlqueue.sdk.testing import DownloaderConformance, Source, context

CONTENT = bytes(range(256)) * 200


class TestCopyDownloader(DownloaderConformance):
    @pytest.fixture
    def downloader(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dlqueue_copy.CopyDownloader]:
        monkeypatch.setattr(dlqueue_copy, "BLOCK", 1024)
        (tmp_path / "share").mkdir(exist_ok=True)
        made = dlqueue_copy.CopyDownloader()
        made.open(dlqueue_copy.CopyConfig(root=tmp_path / "share", pace=0.005), context(tmp_path / "private"))
        yield made
        made.close()

    @pytest.fixture
    def source(self, tmp_path: Path) -> Source:
        (tmp_path / "share").mkdir(exist_ok=True)
        (tmp_path / "share" / "a film.mkv").write_bytes(CONTENT)
        url = "copy:/a%20film.mkv"
        return Source(urls=(url,), content=CONTENT, slow_urls=(url,), broken_urls=("copy:/nothing",))

    def test_nothing_outside_of_the_folder_is_read(
        self, downloader: dlqueue_copy.CopyDownloader, source: Source, tmp_path: Path
    ) -> None:
        with pytest.raises(Rejected, match="out of the folder"):
            downloader.create(self.request(source, tmp_path, ("copy:/../private",)), self.key)
