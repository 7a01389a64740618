"""Small files: whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from dlqueue.runtime.files import read_whole, write_whole


def test_written_and_read(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "file"
    write_whole(file, b"first")
    write_whole(file, b"second")
    assert read_whole(file, 6) == b"second"
    assert read_whole(file, 3) == b"seco", "one byte more tells that there is more"
    assert os.listdir(file.parent) == ["file"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_nothing_half_written_is_seen_or_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    write_whole(file, b"first")

    def full(_descriptor: int) -> None:
        assert file.read_bytes() == b"first"
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(file, b"second")
    assert file.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["file"]


def test_a_link_that_was_laid_beside_it_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / f"file.{threading.get_native_id()}.new").symlink_to(tmp_path / "elsewhere")
    write_whole(tmp_path / "file", b"ours")
    assert not (tmp_path / "elsewhere").exists()
    assert (tmp_path / "file").read_bytes() == b"ours"


def test_two_threads_that_write_the_same(tmp_path: Path) -> None:
    contents = [bytes([number]) * 100_000 for number in range(8)]
    threads = [threading.Thread(target=write_whole, args=(tmp_path / "file", content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file").read_bytes() in contents
    assert os.listdir(tmp_path) == ["file"]


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_whole(tmp_path / "none", 1)
    with pytest.raises(IsADirectoryError):
        read_whole(tmp_path, 1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="pipe"):
        read_whole(tmp_path / "pipe", 1)
    assert read_whole(Path("/dev/null"), 1) == b""
