"""For plug-ins whose transfers may have several files: only the wanted ones are fetched, and only they count."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dlqueue.sdk.downloader import Downloader
from dlqueue.sdk.errors import NotFound
from dlqueue.sdk.model import Handle, Request, TransferStatus
from dlqueue.sdk.testing.conformance import wait


@dataclass(frozen=True)
class Album:
    """Something with several files."""

    request: Callable[[Path, tuple[int, ...] | None], Request]
    """Is given the folder of the transfer (its name ends with the creation key) and a selection; None = all."""
    files: Mapping[str, bytes]
    """Content by path, as `TransferFile.path` tells it, in the order of the indexes. No two are of the same size,
    and each is of whole pieces: programs count, and fetch, the pieces that a wanted file has a part in."""
    let: Callable[[], None]
    """Until this is called, the last file does not get whole."""


class SelectionConformance:
    """Subclass it, and give the fixtures ``downloader`` and ``album`` (`Album`)."""

    key = "00c0ffee00c0ffee"

    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / f"transfer-{self.key}"

    def whole(self, downloader: Downloader, handle: Handle) -> TransferStatus:
        return wait(downloader, handle, lambda status: status.whole, "whole")

    def assert_is(self, downloader: Downloader, handle: Handle, album: Album, wanted: set[int], folder: Path) -> None:
        """It is whole, with these files and no others, and no others count."""
        names = list(album.files)
        status = self.whole(downloader, handle)
        size = sum(len(album.files[names[index - 1]]) for index in wanted)
        assert (status.downloaded, status.total) == (size, size)
        files = {file.index: file for file in downloader.files(handle)}
        assert [files[index].path for index in sorted(files)] == names
        assert {index for index, file in files.items() if file.selected} == wanted
        for index in wanted:
            assert files[index].progress == 100.0
            assert (folder / names[index - 1]).read_bytes() == album.files[names[index - 1]]
        for index in set(files) - wanted:
            path = folder / names[index - 1]
            assert not path.exists() or path.read_bytes() != album.files[names[index - 1]], "nobody wanted it"

    def test_only_what_was_selected_is_fetched_and_counts(
        self, downloader: Downloader, album: Album, tmp_path: Path
    ) -> None:
        folder = self.folder(tmp_path)
        handle = downloader.create(album.request(folder, (2,)), self.key)
        self.assert_is(downloader, handle, album, {2}, folder)

    def test_less_is_wanted_while_it_runs(self, downloader: Downloader, album: Album, tmp_path: Path) -> None:
        folder, last = self.folder(tmp_path), len(album.files)
        handle = downloader.create(album.request(folder, None), self.key)
        wait(downloader, handle, lambda status: status.total is not None and status.downloaded > 0, "moving")
        wanted = set(range(1, last))
        for _ in range(2):
            downloader.select(handle, sorted(wanted))
        self.assert_is(downloader, handle, album, wanted, folder)

    def test_more_is_wanted_while_it_runs(self, downloader: Downloader, album: Album, tmp_path: Path) -> None:
        folder, last = self.folder(tmp_path), len(album.files)
        handle = downloader.create(album.request(folder, (2, last)), self.key)
        wait(downloader, handle, lambda status: status.total is not None and status.downloaded > 0, "moving")
        downloader.select(handle, (1, 2, last))
        album.let()
        self.assert_is(downloader, handle, album, {1, 2, last}, folder)

    def test_a_selection_of_what_nobody_knows(self, downloader: Downloader) -> None:
        try:
            downloader.select(Handle("feedfeedfeedfeed"), (1,))
        except NotFound:
            return
        raise AssertionError("select did not raise NotFound")
