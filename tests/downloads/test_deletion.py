"""Deleting what was delivered: that, and nothing else whatever has been done to it since."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dlqueue.downloads import delivery
from dlqueue.downloads.deletion import delete, in_words
from dlqueue.downloads.request import DownloadParams
from dlqueue.downloads.state import Entry
from dlqueue.downloads.uses import Uses

FILES = {"a.txt": b"a", "sub/b.txt": b"b", "sub/deep/c.txt": b"c"}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def delivered(out: Path, keep: bool = False, **files: bytes) -> Entry:
    """A folder ``album`` in its place, from a staging folder beside it."""
    source = out.parent / "staging" / "album"
    for name, content in (files or FILES).items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    params = DownloadParams(urls=("http://a/",), directory=str(out), root=str(out))
    entry = delivery.plan(source, params, keep)
    if keep:
        entry = delivery.bring_over(entry, out)
    delivery.move(entry, overwrite=False, root=out)
    return entry


def delivered_file(out: Path, name: str = "one.bin", content: bytes = b"content") -> Entry:
    source = out.parent / "staging" / name
    source.parent.mkdir(exist_ok=True)
    source.write_bytes(content)
    entry = delivery.plan(source, DownloadParams(urls=("http://a/",), directory=str(out), root=str(out)))
    delivery.move(entry, overwrite=False, root=out)
    return entry


def nobody(_: Path) -> str | None:
    return None


def there(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("keep", [False, True])
def test_a_folder_goes_whole_if_it_is_as_it_was(out: Path, keep: bool) -> None:
    assert delete(delivered(out, keep), out, nobody) == []
    assert there(out) == []
    if keep:
        assert there(out.parent / "staging" / "album") == ["a.txt", "sub", "sub/b.txt", "sub/deep", "sub/deep/c.txt"]


def test_what_was_added_since_stays_with_the_folders_that_it_is_in(out: Path) -> None:
    entry = delivered(out)
    (out / "album" / "sub" / "mine.txt").write_bytes(b"mine")
    (out / "album" / "new").mkdir()
    kept = delete(entry, out, nobody)
    assert there(out) == ["album", "album/new", "album/sub", "album/sub/mine.txt"]
    assert kept == [f"in {out / 'album'} what was added or changed since: new/, sub/mine.txt"]
    (out / "album" / "sub" / "mine.txt").unlink()
    (out / "album" / "new").rmdir()
    assert delete(entry, out, nobody) == []
    assert there(out) == []


@pytest.mark.parametrize("how", ["longer", "same size", "replaced", "moved"])
def test_what_was_changed_since_stays(out: Path, how: str) -> None:
    entry = delivered(out)
    file = out / "album" / "a.txt"
    if how == "longer":
        file.write_bytes(b"a longer one")
    elif how == "same size":
        file.write_bytes(b"A")
        os.utime(file, ns=(1, 1))
    elif how == "replaced":
        seen = file.stat()
        (out / "album" / "other").write_bytes(b"A")
        (out / "album" / "other").replace(file)
        os.utime(file, ns=(seen.st_mtime_ns, seen.st_mtime_ns))
    else:
        file.rename(out / "album" / "b.txt")
    (kept,) = delete(entry, out, nobody)
    assert ("b.txt" if how == "moved" else "a.txt") in kept
    assert len(there(out)) == 2


def test_a_folder_of_another_makes_no_difference(out: Path) -> None:
    entry = delivered(out)
    (out / "album").rename(out / "renamed")
    (out / "album").mkdir()
    (out / "album" / "a.txt").write_bytes(b"a")
    delete(entry, out, nobody)
    assert (out / "album" / "a.txt").read_bytes() == b"a"
    assert (out / "renamed" / "sub" / "deep" / "c.txt").read_bytes() == b"c"


def test_a_file_and_only_the_very_one(out: Path) -> None:
    entry = delivered_file(out)
    (out / "one.bin").rename(out / "renamed")
    assert delete(entry, out, nobody) == []
    (out / "one.bin").write_bytes(b"content")
    assert "not the file that was delivered" in delete(entry, out, nobody)[0]
    (out / "renamed").replace(out / "one.bin")
    assert delete(entry, out, nobody) == []
    assert there(out) == []


def test_many_that_are_kept_are_told_shortly(out: Path) -> None:
    entry = delivered(out)
    for number in range(9):
        (out / "album" / f"mine{number}").write_bytes(b"")
    kept = delete(entry, out, nobody)
    assert in_words(kept) == (
        f"kept: in {out / 'album'} what was added or changed since: mine0, mine1, mine2 and 6 more"
    )
    assert in_words([]) is None


# -- links -------------------------------------------------------------------------------------------------------------


def outside(out: Path) -> Path:
    """A folder that has all that the delivered one has, with the same inodes, outside of the destination."""
    folder = out.parent / "outside"
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(out / "album" / name, folder / name)
    return folder


@pytest.mark.parametrize("where", ["album", "album/sub", "album/sub/deep"])
def test_a_link_in_place_of_a_folder_leads_nowhere(out: Path, where: str) -> None:
    entry = delivered(out)
    other = outside(out)
    before = there(other)
    link = out / where
    link.rename(out / "away")
    link.symlink_to(other / Path(where).relative_to("album"))
    kept = delete(entry, out, nobody)
    assert there(other) == before
    assert link.is_symlink()
    assert kept != []


@pytest.mark.parametrize("where", ["album", "album/sub"])
def test_a_folder_that_is_swapped_for_a_link_at_the_last_moment(out: Path, where: str) -> None:
    """Between the look at it and the moment when it is opened."""
    entry = delivered(out)
    other = outside(out)
    before = there(other)

    def swap(place: Path) -> str | None:
        if place == out / where and not place.is_symlink():
            place.rename(out / "away")
            place.symlink_to(other / Path(where).relative_to("album"))
        return None

    delete(entry, out, swap)
    assert there(other) == before


def test_a_link_in_place_of_a_file_stays(out: Path) -> None:
    entry = delivered_file(out)
    (out / "one.bin").rename(out.parent / "elsewhere")
    (out / "one.bin").symlink_to(out.parent / "elsewhere")
    delete(entry, out, nobody)
    assert (out.parent / "elsewhere").exists()
    assert (out / "one.bin").is_symlink()


def test_a_destination_that_leads_outside_by_now_is_left_alone(out: Path) -> None:
    inside = out / "films"
    inside.mkdir()
    source = out.parent / "staging" / "one.bin"
    source.parent.mkdir()
    source.write_bytes(b"content")
    entry = delivery.plan(source, DownloadParams(urls=("http://a/",), directory=str(inside), root=str(out)))
    delivery.move(entry, overwrite=False, root=out)
    inside.rename(out.parent / "elsewhere")
    inside.symlink_to(out.parent / "elsewhere")
    assert "leads outside the allowed destination" in delete(entry, out, nobody)[0]
    assert (out.parent / "elsewhere" / "one.bin").exists()


def test_a_root_that_is_a_link_itself_is_what_it_is(out: Path) -> None:
    entry = delivered_file(out)
    real = out.parent / "real"
    out.rename(real)
    out.symlink_to(real)
    assert delete(entry, out, nobody) == []
    assert there(real) == []


# -- others -----------------------------------------------------------------------------------------------------------


def test_what_another_task_needs_stays(out: Path, tmp_path: Path) -> None:
    uses = Uses(tmp_path / "uses")
    entry = delivered(out)
    uses.note(out / "album" / "sub" / "b.txt", 7)
    kept = delete(entry, out, lambda place: uses.others(place, 1))
    assert there(out) == ["album", "album/sub", "album/sub/b.txt"]
    assert kept == [f"{out / 'album' / 'sub' / 'b.txt'} (task 7 uses it)"]
    uses.note(out / "album", 8)
    assert delete(entry, out, lambda place: uses.others(place, 1)) == [f"{out / 'album'}: task 8 uses it"]
    uses.forget(out / "album", 8)
    uses.sweep({1})
    assert delete(entry, out, lambda place: uses.others(place, 1)) == []
    assert there(out) == []
    assert list((tmp_path / "uses").iterdir()) == []


def test_users_are_told_and_forgotten(tmp_path: Path) -> None:
    uses = Uses(tmp_path / "uses")
    place = tmp_path / "file"
    assert uses.others(place, 1) is None
    assert uses.tasks() == set()
    for task_id in (1, 2, 3):
        uses.note(place, task_id)
    assert uses.others(place, 1) == "tasks 2, 3 use it"
    assert uses.tasks() == {1, 2, 3}
    uses.forget(place, 2)
    assert uses.others(place, 3) == "task 1 uses it"
