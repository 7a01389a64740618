"""From staging to the destination: right name, right content, never over somebody's file."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlqueue.downloads import delivery
from dlqueue.downloads.delivery import STAGING, Exists
from dlqueue.downloads.policy import PolicyRefused, check_name
from dlqueue.downloads.request import DownloadParams
from dlqueue.downloads.state import Entry
from dlqueue.queue import CriticalError, InvalidTask, Status
from tests.downloads.house import Builder, House
from tests.downloads.puppet import CONTENT

pytestmark = pytest.mark.anyio


def params(folder: Path, name: str | None = None) -> DownloadParams:
    return DownloadParams(urls=("http://a/",), directory=str(folder), root=str(folder), name=name)


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    made = tmp_path / "out" / STAGING / "abcd"
    delivery.make_staging(made)
    return made


@pytest.fixture
def out(staging: Path, tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev or not os.access(shared, os.W_OK):
        pytest.skip("needs a second file system: /dev/shm is not one here")
    folder = Path(tempfile.mkdtemp(prefix="dlqueue-test-", dir=shared))
    yield folder
    shutil.rmtree(folder)


def put(staging: Path, name: str = "a.bin", content: bytes = CONTENT) -> Path:
    (staging / name).write_bytes(content)
    return staging / name


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "number", "folder", "wanted"),
    [
        ("a.tar", 0, False, "a.tar"),
        ("a.tar", 1, False, "a.1.tar"),
        ("a.tar.gz", 12, False, "a.tar.12.gz"),
        ("README", 1, False, "README.1"),
        (".profile", 1, False, ".profile.1"),
        ("a.", 1, False, "a.1."),
        ("v1.0", 1, True, "v1.0.1"),
        ("x" * 251 + ".bin", 1, False, "x" * 249 + ".1.bin"),
        ("ü" * 125 + ".bin", 1, False, "ü" * 124 + ".1.bin"),
        ("a." + "s" * 40, 1, False, "a." + "s" * 40 + ".1"),
        ("x" * 255, 10, True, "x" * 252 + ".10"),
    ],
)
def test_numbered_names(name: str, number: int, folder: bool, wanted: str) -> None:
    assert delivery.numbered(name, number, folder) == wanted


@given(st.text(max_size=300), st.integers(0, 10**9), st.booleans())
def test_numbered_names_are_names(name: str, number: int, folder: bool) -> None:
    try:
        check_name(name)
    except InvalidTask:
        return
    made = delivery.numbered(name, number, folder)
    check_name(made)
    assert len(made.encode()) <= 255
    if number == 0:
        assert made == name
    else:
        assert f".{number}" in made
        stem, dot, suffix = name.rpartition(".")
        if stem and not folder and len(suffix.encode()) <= 32:
            assert made.endswith(dot + suffix)


@given(st.text(min_size=1, max_size=80).filter(lambda name: "/" not in name and "\x00" not in name))
def test_names_of_strangers_become_harmless(name: str) -> None:
    from dlqueue.downloads.policy import harmless_name

    made = harmless_name(name)
    assert len(made) == len(name)
    if name not in (".", "..") and len(made.encode("utf-8", "surrogatepass")) <= 255 and made.isprintable():
        check_name(made)
    assert not any(ord(character) < 32 or ord(character) == 127 for character in made)
    assert not set(made) & set("\u2028\u2029\u202e\u2066\x85")


# -- what is delivered ------------------------------------------------------------------------------------------------


def test_content_inside_its_folder(staging: Path, tmp_path: Path) -> None:
    put(staging)
    (staging / "folder").mkdir()
    alias = tmp_path / "alias"
    alias.symlink_to(staging)
    for prefix in (staging, alias):
        found = delivery.find_content(staging, (f"{prefix}/a.bin", f"{prefix}/folder"))
        assert found == [staging / "a.bin", staging / "folder"]


def test_content_outside_its_folder(staging: Path, out: Path, tmp_path: Path) -> None:
    put(staging)
    (out / "mine").write_text("mine")
    (staging / "deep").mkdir()
    put(staging / "deep")
    (staging / "link").symlink_to(out / "mine")
    (staging / "dirlink").symlink_to(out)
    (staging / "dangling").symlink_to("nowhere")
    os.mkfifo(staging / "pipe")
    for name in (
        f"{out}/mine",
        "/etc/passwd",
        str(staging),
        f"{staging}/.",
        f"{staging}/..",
        f"{staging}/../../mine",
        f"{staging}/deep/a.bin",
        f"{staging}/dirlink/mine",
        f"{staging}/link",
        f"{staging}/dirlink",
        f"{staging}/dangling",
        f"{staging}/pipe",
        "a.bin",
        "/",
    ):
        with pytest.raises(CriticalError) as caught:
            delivery.find_content(staging, (f"{staging}/a.bin", name))
        assert caught.value.kind == "unsafe_path", name
        assert "mine" not in str(caught.value)


def test_content_that_is_none(staging: Path) -> None:
    with pytest.raises(CriticalError) as caught:
        delivery.find_content(staging, ())
    assert caught.value.kind == "no_content"
    with pytest.raises(FileNotFoundError):
        delivery.find_content(staging, (f"{staging}/a.bin",))


def test_content_whose_name_is_no_text(staging: Path) -> None:
    name = os.fsdecode(bytes(staging) + b"/a\xff.bin")
    Path(name).write_bytes(b"x")
    with pytest.raises(CriticalError) as caught:
        delivery.find_content(staging, (name,))
    assert caught.value.kind == "bad_name"
    str(caught.value).encode()


@pytest.mark.parametrize("algorithm", ["sha-256", "sha-1", "sha-512", "md5"])
def test_checksums(staging: Path, algorithm: str) -> None:
    content = b"x" * (delivery.BLOCK + 7)
    path = put(staging, content=content)
    right = hashlib.new(algorithm.replace("-", ""), content).hexdigest()
    delivery.verify(path, f"{algorithm}={right}")
    with pytest.raises(CriticalError, match=right) as caught:
        delivery.verify(path, f"{algorithm}={right[::-1]}")
    assert caught.value.kind == "checksum"


# -- moving -----------------------------------------------------------------------------------------------------------


def test_move_makes_missing_folders_and_writes_down_what_it_moves(staging: Path, out: Path) -> None:
    entry = delivery.plan(put(staging), params(out / "new" / "er"))
    assert (entry.target, entry.size, entry.name) == (str(out / "new" / "er" / "a.bin"), len(CONTENT), "a.bin")
    delivery.move(entry, overwrite=False)
    seen = (out / "new" / "er" / "a.bin").stat()
    assert (seen.st_dev, seen.st_ino) == (entry.device, entry.inode)
    assert list(staging.iterdir()) == []
    # Once more, as after a crash: it has arrived, and nothing happens.
    delivery.move(entry, overwrite=False)
    delivery.move(entry, overwrite=True)
    assert (out / "new" / "er" / "a.bin").read_bytes() == CONTENT


def test_a_destination_that_is_a_link_to_a_folder(staging: Path, out: Path) -> None:
    (out / "real").mkdir()
    (out / "link").symlink_to(out / "real")
    delivery.move(delivery.plan(put(staging), params(out / "link")), overwrite=False)
    delivery.move(delivery.plan(put(staging), params(out / "link" / "new")), overwrite=False)
    assert (out / "real" / "a.bin").read_bytes() == (out / "real" / "new" / "a.bin").read_bytes() == CONTENT


def no_renameat2(*arguments: object) -> int:
    ctypes.set_errno(errno.EINVAL)
    return -1


@pytest.mark.parametrize("strict", [True, False], ids=["renameat2", "without it"])
@pytest.mark.parametrize("there", ["file", "folder", "empty folder", "link", "dangling link"])
@pytest.mark.parametrize("what", ["file", "folder"])
def test_nothing_is_overwritten_unasked(
    staging: Path, out: Path, monkeypatch: pytest.MonkeyPatch, strict: bool, there: str, what: str
) -> None:
    if not strict:
        monkeypatch.setattr(delivery, "_renameat2", no_renameat2)
    source = put(staging)
    if what == "folder":
        source = staging / "folder"
        source.mkdir()
        put(source)
    target = out / "taken"
    match there:
        case "file":
            target.write_bytes(b"mine")
        case "folder":
            target.mkdir()
            (target / "mine").write_bytes(b"mine")
        case "empty folder":
            target.mkdir()
        case "link":
            (out / "pointed").write_bytes(b"mine")
            target.symlink_to(out / "pointed")
        case _:
            target.symlink_to(out / "nowhere")
    before = sorted((path.name, path.lstat().st_ino) for path in out.iterdir())
    entry = delivery.plan(source, params(out, "taken"))
    with pytest.raises(Exists):
        delivery.move(entry, overwrite=False)
    assert sorted((path.name, path.lstat().st_ino) for path in out.iterdir()) == before
    assert source.exists()
    again = delivery.plan_again(entry)
    assert again.target == str(out / "taken.1")
    delivery.move(again, overwrite=False)
    assert (out / "taken.1").lstat().st_ino == entry.inode


def test_overwriting_a_file_but_never_a_folder(staging: Path, out: Path) -> None:
    (out / "a.bin").write_bytes(b"old")
    delivery.move(delivery.plan(put(staging), params(out)), overwrite=True)
    assert (out / "a.bin").read_bytes() == CONTENT
    for empty in (True, False):
        folder = out / f"folder{empty}"
        folder.mkdir()
        if not empty:
            (folder / "mine").touch()
        with pytest.raises(Exists):
            delivery.move(delivery.plan(put(staging), params(out, folder.name)), overwrite=True)
        assert folder.is_dir()
    (staging / "album").mkdir()
    put(staging / "album")
    with pytest.raises(Exists):
        delivery.move(delivery.plan(staging / "album", params(out, "a.bin")), overwrite=True)
    assert (out / "a.bin").read_bytes() == CONTENT


def test_overwriting_a_link_replaces_the_link(staging: Path, out: Path) -> None:
    (out / "pointed").write_bytes(b"mine")
    (out / "a.bin").symlink_to(out / "pointed")
    delivery.move(delivery.plan(put(staging), params(out)), overwrite=True)
    assert not (out / "a.bin").is_symlink()
    assert (out / "pointed").read_bytes() == b"mine"


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_modes_are_those_of_ordinary_files(tmp_path: Path, umask: int) -> None:
    out = tmp_path / f"o{umask}"
    old = os.umask(umask)
    try:
        staging = out / STAGING / "abcd"
        delivery.make_staging(staging)
        source = put(staging)
        delivery.move(delivery.plan(source, params(out / "new")), overwrite=False)
    finally:
        os.umask(old)
    assert staging.stat().st_mode & 0o777 == 0o700
    assert (out / STAGING).stat().st_mode & 0o077 == 0
    assert (out / "new").stat().st_mode & 0o777 == 0o777 & ~umask
    assert (out / "new" / "a.bin").stat().st_mode & 0o777 == 0o666 & ~umask


def test_to_another_file_system(staging: Path, elsewhere: Path) -> None:
    source = put(staging)
    entry = delivery.plan(source, params(elsewhere))
    with pytest.raises(delivery.OtherFileSystem):
        delivery.move(entry, overwrite=False)
    assert source.exists()
    copied = delivery.bring_over(entry)
    assert delivery.bring_over(entry).target == entry.target  # as after a crash: over the half copy
    copied = delivery.bring_over(entry)
    delivery.move(copied, overwrite=False)
    assert [path.name for path in elsewhere.iterdir()] == ["a.bin"]
    assert (elsewhere / "a.bin").read_bytes() == CONTENT
    # A crash after the rename: by its inode it is known to have arrived.
    delivery.move(copied, overwrite=False)
    assert [path.name for path in elsewhere.iterdir()] == ["a.bin"]
    assert source.exists(), "the source stays until the staging folder goes"


def test_a_folder_to_another_file_system(staging: Path, elsewhere: Path) -> None:
    folder = staging / "album"
    (folder / "deep").mkdir(parents=True)
    put(folder / "deep")
    copied = delivery.bring_over(delivery.plan(folder, params(elsewhere)))
    (elsewhere / "album").mkdir()
    with pytest.raises(Exists):
        delivery.move(copied, overwrite=False)
    again = delivery.plan_again(copied)
    assert Path(again.target).name == "album.1"
    delivery.move(again, overwrite=False)
    assert (elsewhere / "album.1" / "deep" / "a.bin").read_bytes() == CONTENT
    assert sorted(path.name for path in elsewhere.iterdir()) == ["album", "album.1"]


def test_copies_that_are_not_wanted_any_more(staging: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / f"{STAGING}-mine").write_bytes(b"mine")
    entry = delivery.plan(put(staging), params(elsewhere))
    copied = delivery.bring_over(entry)
    delivery.drop_copies([entry, copied])
    assert [path.name for path in elsewhere.iterdir()] == [f"{STAGING}-mine"]
    assert Path(entry.source).exists()

    def full(source: object, target: Path, **more: object) -> None:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises(OSError, match="No space"):
        delivery.bring_over(entry)
    assert [path.name for path in elsewhere.iterdir()] == [f"{STAGING}-mine"]


# -- staging ----------------------------------------------------------------------------------------------------------


def test_dropping_staging_touches_nothing_else(staging: Path, out: Path) -> None:
    put(staging)
    other = staging.parent / "other"
    other.mkdir()
    put(other)
    (out / "mine").write_bytes(b"mine")
    delivery.drop_staging(staging)
    assert not staging.exists()
    assert (other / "a.bin").exists()
    delivery.drop_staging(staging)
    delivery.drop_staging(other)
    assert [path.name for path in out.iterdir()] == ["mine"]


def test_dropping_empty_folders_keeps_full_ones(staging: Path, out: Path) -> None:
    path = put(staging)
    delivery.drop_empty(staging)
    assert path.exists()
    path.unlink()
    (out / STAGING / "2").mkdir()
    delivery.drop_empty(staging)
    assert [path.name for path in (out / STAGING).iterdir()] == ["2"]
    (out / STAGING / "2").rmdir()
    delivery.drop_empty(staging)
    assert list(out.iterdir()) == []


def test_a_staging_folder_that_the_configuration_names_stays(tmp_path: Path) -> None:
    staging = tmp_path / "scratch" / "abcd"
    delivery.make_staging(staging)
    delivery.drop_staging(staging)
    assert [path.name for path in tmp_path.iterdir()] == ["scratch"]
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("depth", [0, 1])
def test_staging_is_never_behind_a_link(tmp_path: Path, depth: int) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    out = tmp_path / "out"
    out.mkdir()
    staging = out / STAGING / "abcd"
    link = (staging.parent, staging)[depth]
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside)
    with pytest.raises(OSError, match="link"):
        delivery.make_staging(staging)
    # Behind a link of the first level a folder of ours may have been made; nothing is ever put into it.
    assert all(path.is_dir() and not list(path.iterdir()) for path in outside.iterdir())


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_the_group_may_write_into_a_folder_that_is_shared(tmp_path: Path, umask: int) -> None:
    old = os.umask(umask)
    try:
        delivery.make_shared(tmp_path / "12-abcd")
    finally:
        os.umask(old)
    assert (tmp_path / "12-abcd").stat().st_mode & 0o777 == 0o770


def test_a_shared_folder_is_made_where_setgid_bits_may_not_be_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the system's service, whose umask is 002: it hands the group down and asks for no chmod."""

    def refused(self: Path, mode: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(self))

    tmp_path.chmod(0o2770)
    monkeypatch.setattr(Path, "chmod", refused)
    old = os.umask(0o002)
    try:
        delivery.make_shared(tmp_path / "12-abcd")
    finally:
        os.umask(old)
    assert (tmp_path / "12-abcd").stat().st_mode & 0o7777 == 0o2770


# -- in a whole download ----------------------------------------------------------------------------------------------


async def delivered(house: House, task_id: int) -> Path:
    record = await house.reaches(task_id, Status.COMPLETED, Status.ERROR)
    assert record.status is Status.COMPLETED, record.error
    return Path(record.result["location"])


async def failed(house: House, task_id: int) -> str:
    record = await house.reaches(task_id, Status.COMPLETED, Status.ERROR)
    assert record.error is not None
    assert record.retries == 0
    return record.error.kind


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("on_exists", ["rename", "skip", "overwrite", "fail"])
async def test_on_exists(build: Builder, on_exists: str, named: bool) -> None:
    house = await build.puppets()
    target = house.destination / "file.bin"
    target.write_bytes(b"old")
    task_id = await house.add(on_exists=on_exists, **({"name": "file.bin"} if named else {}))
    fetched = not (named and on_exists in ("skip", "fail"))
    if fetched:
        house.puppet().finish(await house.runs(task_id))
    if on_exists == "fail":
        assert await failed(house, task_id) == "exists"
        # Out of the way with it, and again: what was fetched already is used.
        await house.cleaned(task_id)
        target.unlink()
        await house.queue.retry(task_id)
        if not fetched:
            house.puppet().finish(await house.runs(task_id))
        assert await delivered(house, task_id) == target
        assert target.read_bytes() == CONTENT
        assert len([line for line in house.puppet().log if line.startswith("create")]) == 1
        return
    location = await delivered(house, task_id)
    assert (house.puppet().log != []) is fetched
    wanted = {
        "rename": {"file.bin": b"old", "file.1.bin": CONTENT},
        "skip": {"file.bin": b"old"},
        "overwrite": {"file.bin": CONTENT},
    }[on_exists]
    assert house.files() == wanted
    assert location.name == ("file.1.bin" if on_exists == "rename" else "file.bin")


async def test_names_are_counted_up_until_one_is_free(build: Builder) -> None:
    house = await build.puppets()
    for name in ("file.bin", "file.1.bin", "file.2.bin"):
        (house.destination / name).write_bytes(b"old")
    task_id = await house.add()
    house.puppet().finish(await house.runs(task_id))
    assert (await delivered(house, task_id)).name == "file.3.bin"


async def test_a_name_of_255_bytes_is_counted_up_too(build: Builder) -> None:
    house = await build.puppets()
    name = "x" * 251 + ".bin"
    (house.destination / name).write_bytes(b"old")
    task_id = await house.add(name=name)
    house.puppet().finish(await house.runs(task_id))
    assert (await delivered(house, task_id)).name == "x" * 249 + ".1.bin"


async def test_many_downloads_to_one_name_at_the_same_time(build: Builder) -> None:
    house = await build.puppets(max_active=20)
    ids = [await house.add(f"http://host.invalid/{number}") for number in range(12)]
    keys = [await house.runs(task_id) for task_id in ids]
    for number, key in enumerate(keys):
        house.puppet().finish(key, f"content {number}".encode())
    places = await asyncio.gather(*(delivered(house, task_id) for task_id in ids))
    assert {place.name for place in places} == {"file.bin", *(f"file.{number}.bin" for number in range(1, 12))}
    for number, place in enumerate(places):
        assert place.read_bytes() == f"content {number}".encode()


@pytest.mark.parametrize("on_exists", ["rename", "skip", "fail"])
async def test_a_file_that_appears_between_the_plan_and_the_move(
    build: Builder, monkeypatch: pytest.MonkeyPatch, on_exists: str
) -> None:
    house = await build.puppets()
    real_move = delivery.move

    def racing(entry: Entry, overwrite: bool, root: Path | None, *more: Any) -> None:
        Path(entry.target).parent.mkdir(exist_ok=True)
        if not (house.destination / "file.bin").exists():
            (house.destination / "file.bin").write_bytes(b"mine")
        real_move(entry, overwrite, root)

    monkeypatch.setattr(delivery, "move", racing)
    task_id = await house.add(on_exists=on_exists)
    house.puppet().finish(await house.runs(task_id))
    if on_exists == "fail":
        assert await failed(house, task_id) == "exists"
    else:
        location = await delivered(house, task_id)
        assert location.name == ("file.1.bin" if on_exists == "rename" else "file.bin")
    assert (house.destination / "file.bin").read_bytes() == b"mine"


async def test_a_wrong_checksum_is_an_error_and_its_bytes_are_not_used_again(build: Builder) -> None:
    house = await build.puppets()
    checksum = f"sha-256={hashlib.sha256(CONTENT).hexdigest()}"
    task_id = await house.add(checksum=checksum)
    first = await house.runs(task_id)
    house.puppet().finish(first, b"something else")
    assert await failed(house, task_id) == "checksum"
    await house.cleaned(task_id)
    assert house.files() == {}
    assert house.puppet().transfers == {}
    await house.queue.retry(task_id)
    second = await house.runs(task_id)
    assert second != first
    house.puppet().finish(second)
    await delivered(house, task_id)
    assert house.files() == {"file.bin": CONTENT}
    assert [attempt.error_class for attempt in (await house.state(task_id)).attempts] == ["request", None]


async def test_a_checksum_of_a_folder_stays_an_error(build: Builder) -> None:
    house = await build.puppets()
    task_id = await house.add(checksum="md5=" + "0" * 32)
    house.puppet().finish_folder(await house.runs(task_id), "album", {"a": b"a"})
    assert await failed(house, task_id) == "checksum"
    await house.cleaned(task_id)
    await house.queue.retry(task_id)
    record = await house.when(task_id, lambda r: r.final and r.retries == 1)
    assert record.status is Status.ERROR
    assert "album/" not in house.files()


async def test_content_outside_the_staging_folder_is_refused(build: Builder) -> None:
    house = await build.puppets()
    secret = house.folder / "secret"
    secret.write_bytes(b"secret")
    task_id = await house.add()
    key = await house.runs(task_id)
    from dlqueue.sdk import TransferState

    house.puppet().show(key, state=TransferState.COMPLETED, content=(str(secret),))
    assert await failed(house, task_id) == "unsafe_path"
    assert secret.read_bytes() == b"secret"


async def test_names_that_a_server_chose_are_made_harmless(build: Builder) -> None:
    house = await build.puppets()
    task_id = await house.add()
    house.puppet().finish(await house.runs(task_id), name="a\x1b[2J\nb\u202e.bin")
    assert (await delivered(house, task_id)).name == "a_[2J_b_.bin"


async def test_a_destination_that_has_moved_outside_is_refused_at_delivery(build: Builder, tmp_path: Path) -> None:
    house = await build.puppets(staging=tmp_path / "out" / "staging")
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = house.destination / "sub"
    folder.mkdir()
    task_id = await house.add(directory=str(folder))
    key = await house.runs(task_id)
    folder.rmdir()
    folder.symlink_to(outside)
    house.puppet().finish(key)
    assert await failed(house, task_id) == "destination"
    assert list(outside.iterdir()) == []
    assert (await house.state(task_id)).attempts[-1].error_class == "request"


async def test_a_staging_folder_on_another_file_system(build: Builder, elsewhere: Path) -> None:
    house = await build.puppets(staging=elsewhere)
    (house.destination / "file.bin").write_bytes(b"old")
    task_id = await house.add()
    house.puppet().finish(await house.runs(task_id))
    assert (await delivered(house, task_id)).name == "file.1.bin"
    assert house.files() == {"file.bin": b"old", "file.1.bin": CONTENT}
    assert list(elsewhere.iterdir()) == []


async def test_a_full_destination_is_waited_for(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    house = await build.puppets()
    real_move = delivery.move

    def full(entry: Entry, overwrite: bool, root: Path | None, *more: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(delivery, "move", full)
    task_id = await house.add()
    house.puppet().finish(await house.runs(task_id))
    record = await house.holds(task_id, "space")
    assert record.retries == 0
    monkeypatch.setattr(delivery, "move", real_move)
    house.pass_time_until(record)
    await delivered(house, task_id)
    assert house.files() == {"file.bin": CONTENT}


async def test_cancel_between_copy_and_rename_leaves_no_copy(
    build: Builder, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = await build.puppets(staging=elsewhere)

    def broken(entry: Entry, overwrite: bool, root: Path | None, *more: Any) -> None:
        if Path(entry.source).parent == house.destination:
            raise OSError(errno.EIO, "Input/output error")
        raise delivery.OtherFileSystem

    monkeypatch.setattr(delivery, "move", broken)
    task_id = await house.add()
    house.puppet().finish(await house.runs(task_id))
    await house.waits_for_retry(task_id)
    assert len(house.files()) == 1
    await house.queue.cancel(task_id, {"delete_data": True})
    await house.cleaned(task_id)
    assert house.files() == {}
    assert list(elsewhere.iterdir()) == []


def test_a_destination_that_became_a_link_elsewhere(staging: Path, out: Path, tmp_path: Path) -> None:
    """Between the plan and the move somebody swaps the folder for a link that leads out of the allowed destination."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (out / "sub").mkdir()
    entry = delivery.plan(put(staging), params(out / "sub"))
    (out / "sub").rmdir()
    (out / "sub").symlink_to(outside)
    for act in (lambda: delivery.move(entry, False, out), lambda: delivery.bring_over(entry, out)):
        with pytest.raises(PolicyRefused):
            act()
    below = delivery.plan(Path(entry.source), params(out / "sub" / "new"))
    with pytest.raises(PolicyRefused):
        delivery.move(below, False, out)
    assert list(outside.iterdir()) == []


async def test_a_waiting_download_whose_destination_became_a_link(build: Builder, tmp_path: Path) -> None:
    house = await build.puppets()
    folder = house.destination / "sub"
    outside = tmp_path / "outside"
    outside.mkdir()
    first = await house.add()
    await house.runs(first)
    await house.queue.pause(first)
    await house.reaches(first, Status.PAUSED)
    second = await house.add("http://host.invalid/other.bin", directory=str(folder), paused=True)
    folder.symlink_to(outside)
    await house.queue.resume(second)
    assert await failed(house, second) == "destination"
    assert list(outside.iterdir()) == []
