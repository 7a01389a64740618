"""The downloader against the promises of the SDK."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlqueue_copy
import pytest

from dlqueue.sdk import Rejected
from dlqueue.sdk.testing import DownloaderConformance, Source, context

CONTENT = bytes(range(256)) * 200


class TestCopyDownloader(DownloaderConformance):
    @pytest.fixture
    def downloader(self, tmp_path: Path) -> Iterator[dlqueue_copy.CopyDownloader]:
        (tmp_path / "share").mkdir(exist_ok=True)
        made = dlqueue_copy.CopyDownloader()
        made.open(dlqueue_copy.CopyConfig(root=tmp_path / "share", pace=0.005), context(tmp_path / "private"))
        yield made
        made.close()

    @pytest.fixture
    def source(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
        copy_block, blocks = dlqueue_copy._copy_block, {"share": 1024, "slow": 16}

        def paced(source: str, **noted: Any) -> dict[str, Any]:
            monkeypatch.setattr(dlqueue_copy, "BLOCK", blocks[Path(source).parent.name])
            return copy_block(source, **noted)

        monkeypatch.setattr(dlqueue_copy, "_copy_block", paced)
        (tmp_path / "share" / "slow").mkdir(parents=True, exist_ok=True)
        for folder in ("share", "share/slow"):
            (tmp_path / folder / "a film.mkv").write_bytes(CONTENT)
        return Source(
            urls=("copy:/a%20film.mkv",),
            content=CONTENT,
            slow_urls=("copy:/slow/a%20film.mkv",),  # 3200 blocks, or what is left of them in larger ones
            broken_urls=("copy:/nothing",),
            let=lambda: blocks.update(slow=1024),
        )

    def test_nothing_outside_of_the_folder_is_read(
        self, downloader: dlqueue_copy.CopyDownloader, source: Source, tmp_path: Path
    ) -> None:
        with pytest.raises(Rejected, match="out of the folder"):
            downloader.create(self.request(source, tmp_path, ("copy:/../private",)), self.key)
