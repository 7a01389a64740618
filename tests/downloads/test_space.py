"""The ledger of space, with file systems that are numbers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dlqueue.downloads.space import Claim, FileSystem, Ledger, NotMounted, is_there, measure, mount_of

GIB = 1 << 30
DISK, OTHER = 7, 8


def disk(free: int, size: int = 100 * GIB, device: int = DISK) -> FileSystem:
    return FileSystem(device, size, free, "/disk")


def ledger(free: int, keep_free: int | None = 0) -> Ledger:
    made = Ledger(keep_free)
    made.note(disk(free))
    return made


def claim(need: int, other: int | None = None, copy: int = 0) -> Claim:
    return Claim("key", DISK, need, other, copy)


def test_as_many_are_promised_as_fit() -> None:
    book = ledger(10 * GIB)
    assert [book.ask(n, claim(GIB)) is None for n in range(100)] == [True] * 10 + [False] * 90
    assert book.promised(DISK) == 10 * GIB


def test_what_stays_free_is_not_promised() -> None:
    book = ledger(10 * GIB, keep_free=GIB // 2)
    assert sum(book.ask(n, claim(GIB)) is None for n in range(100)) == 9


def test_what_has_been_fetched_is_promised_no_more_and_free_no_more() -> None:
    book = ledger(10 * GIB)
    assert book.ask(1, claim(10 * GIB)) is None
    book.progress(1, 4 * GIB)
    book.note(disk(4 * GIB))
    assert book.promised(DISK) == 4 * GIB
    assert book.ask(2, claim(1)) is not None
    book.release(1)
    assert book.ask(2, claim(4 * GIB)) is None


def test_progress_never_promises_more() -> None:
    book = ledger(10 * GIB)
    book.ask(1, claim(GIB))
    book.progress(1, 5 * GIB)
    book.progress(2, 5 * GIB)
    assert book.promised(DISK) == GIB


def test_one_that_grows_is_asked_anew_and_keeps_what_it_has() -> None:
    book = ledger(10 * GIB)
    assert book.ask(1, claim(GIB)) is None
    assert book.ask(2, claim(8 * GIB)) is None
    lack = book.ask(1, claim(3 * GIB))
    assert lack is not None
    assert (lack.device, lack.need) == (DISK, 3 * GIB)
    assert book.promised(DISK) == 9 * GIB
    assert book.ask(1, claim(2 * GIB)) is None
    book.note(disk(GIB))  # somebody else has filled it: what was promised stays promised
    assert book.ask(1, claim(2 * GIB)) is None
    assert book.promised(DISK) == 10 * GIB


def test_a_copy_is_counted_where_it_goes() -> None:
    book = ledger(10 * GIB)
    book.note(disk(2 * GIB, device=OTHER))
    lack = book.ask(1, claim(GIB, OTHER, 3 * GIB))
    assert lack is not None
    assert lack.device == OTHER
    assert book.promised(DISK) == 0, "all or nothing"
    assert book.ask(1, claim(GIB, OTHER, 2 * GIB)) is None
    assert book.ask(2, Claim("key", OTHER, 1)) is not None
    assert book.devices() == {DISK, OTHER}
    assert [one.copy for one in book.on(OTHER)] == [2 * GIB]
    book.release(1)
    assert (book.promised(DISK), book.promised(OTHER)) == (0, 0)


def test_low_below_the_floor_until_twice_as_much_is_free() -> None:
    book = Ledger(GIB)
    turns = [book.note(disk(free)) for free in (GIB, GIB - 1, 0, 2 * GIB - 1, 2 * GIB, GIB, GIB - 1)]
    assert turns == [None, "low", None, None, "back", None, "low"]
    assert book.ask(1, claim(0)) is not None, "nothing begins, not even what needs nothing"


def test_while_it_is_low_nobody_keeps_a_promise() -> None:
    book = ledger(10 * GIB, keep_free=GIB)
    assert book.ask(1, claim(GIB)) is None
    book.note(disk(GIB - 1))
    assert book.ask(1, claim(GIB)) is not None


@pytest.mark.parametrize(
    ("size", "floor"),
    [(2 << 20, (2 << 20) // 50), (10 * GIB, 10 * GIB // 50), (50 * GIB, GIB), (1000 * GIB, GIB), (0, 0)],
)
def test_the_floor_by_default(size: int, floor: int) -> None:
    assert Ledger().floor(disk(0, size)) == floor
    assert Ledger().enough(disk(0, size)) <= max(size, 0)


def test_a_floor_that_the_file_system_has_not_twice() -> None:
    book = Ledger(6)
    assert book.note(disk(5, size=10)) == "low"
    assert book.note(disk(7, size=10)) is None
    assert book.note(disk(8, size=10)) == "back", "half-way between the floor and all of it"


def test_why_has_the_figures() -> None:
    book = ledger(10 * GIB, keep_free=GIB)
    book.ask(1, claim(8 * GIB))
    lack = book.ask(2, claim(3 * GIB))
    assert lack is not None
    assert lack.message == (
        "waits for space: the file system of /disk has 10.0 GiB free, 8.0 GiB of that for transfers that run, and this"
        " needs 3.0 GiB; 1.0 GiB stay free (keep_free)"
    )
    book.note(disk(0))
    assert "0 B free; it goes on when 2.0 GiB are" in book.why(DISK, None)
    assert Ledger().why(DISK, None).startswith("waits for space")


@pytest.mark.parametrize(
    ("mount", "now", "there"),
    [
        (None, "/", True),
        ("/mnt/disk", "/mnt/disk", True),
        ("/mnt/disk", "/mnt/disk/deeper", True),
        ("/mnt/disk", "/", False),
        ("/mnt/disk", "/mnt", False),
        ("/mnt/disk", "/mnt/disk2", False),
    ],
)
def test_is_it_on_the_file_system_that_it_was_on(mount: str | None, now: str, there: bool) -> None:
    assert is_there(FileSystem(1, 1, 1, now), mount) is there


def test_a_real_folder_is_measured(tmp_path: Path) -> None:
    seen = measure(tmp_path / "not" / "there" / "yet")
    assert seen.device == tmp_path.stat().st_dev
    assert 0 < seen.free <= seen.size
    assert os.path.ismount(seen.mount)
    assert tmp_path.is_relative_to(seen.mount)
    assert mount_of(tmp_path) in (None, seen.mount)
    assert mount_of(Path("/")) is None


def test_what_is_missing_is_named() -> None:
    error = NotMounted(Path("/mnt/disk/films"), "/mnt/disk")
    assert (error.filename, error.mount) == ("/mnt/disk/films", "/mnt/disk")
    assert "nothing is mounted on /mnt/disk" in str(error)
