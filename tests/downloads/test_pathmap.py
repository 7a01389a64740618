"""Names that a downloader has for what we see: pure, and with a downloader that sees our folders under other names."""

from __future__ import annotations

import errno
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dlqueue.downloads import delivery
from dlqueue.downloads.endpoints import EndpointConfig
from dlqueue.downloads.pathmap import PathMap
from dlqueue.downloads.seeding import LOOK_AGAIN
from dlqueue.queue import Status
from dlqueue.sdk import Handle, Rejected, Request, TransferState, TransferStatus
from tests.downloads.house import Builder, House
from tests.downloads.puppet import CONTENT, Puppet, PuppetConfig

MAP = PathMap(
    "box",
    (
        (Path("/downloads"), Path("/mnt/box")),
        (Path("/downloads/fast"), Path("/ssd")),
        (Path("/"), Path("/mnt/all")),
    ),
)


@pytest.mark.parametrize(
    ("remote", "local"),
    [
        ("/downloads", "/mnt/box"),
        ("/downloads/a/b", "/mnt/box/a/b"),
        ("//downloads/./a//b/", "/mnt/box/a/b"),
        ("/downloads/fast/a", "/ssd/a"),
        ("/downloads/faster/a", "/mnt/box/faster/a"),
        ("/downloadsx/a", "/mnt/all/downloadsx/a"),
    ],
)
def test_to_local(remote: str, local: str) -> None:
    assert MAP.to_local(remote) == Path(local)


@pytest.mark.parametrize(
    ("local", "remote"),
    [("/mnt/box/a", "/downloads/a"), ("/ssd/a", "/downloads/fast/a"), ("/mnt/all/x", "/x")],
)
def test_to_remote_leads_back(local: str, remote: str) -> None:
    assert MAP.to_remote(Path(local)) == Path(remote)
    assert MAP.to_local(remote) == Path(local)


def test_to_remote_takes_no_name_that_leads_elsewhere() -> None:
    with pytest.raises(Rejected, match="box cannot write into /mnt/box/fast/a"):
        replace(MAP, pairs=MAP.pairs[:2]).to_remote(Path("/mnt/box/fast/a"))
    assert MAP.to_remote(Path("/mnt/all/downloads/x").parent.parent / "d") == Path("/d")


@pytest.mark.parametrize(
    "path", ["/downloads/../etc/passwd", "/downloads/a/..", "downloads/a", "", "..", "/elsewhere/a"]
)
def test_what_is_not_seen(path: str) -> None:
    with pytest.raises(Rejected) as caught:
        replace(MAP, pairs=MAP.pairs[:2]).to_local(path)
    assert (caught.value.final, caught.value.kind) == ("downloader", "path_map")
    assert "box" in caught.value.message and path in caught.value.message
    assert "\n" not in caught.value.message


def test_a_path_with_a_line_break_is_one_line() -> None:
    with pytest.raises(Rejected) as caught:
        replace(MAP, pairs=MAP.pairs[:1]).to_local("/x\ny\x1b" + "z" * 1000)
    assert caught.value.message.isprintable() and len(caught.value.message) < 600


def test_without_a_map_nothing_changes() -> None:
    request = Request(("http://h/",), Path("/a"))
    status = TransferStatus(TransferState.COMPLETED, content=("/a/b",))
    assert PathMap().sent(request) is request and PathMap().seen(status) is status
    assert PathMap().to_local("/x/../y") == Path("/x/../y")


def test_a_status() -> None:
    status = TransferStatus(TransferState.SEEDING, content=("/downloads/1/a", "/downloads/1/b"))
    assert MAP.seen(status).content == ("/mnt/box/1/a", "/mnt/box/1/b")
    lost = replace(MAP, pairs=MAP.pairs[:2]).seen(replace(status, content=("/downloads/1/a", "/else/b")))
    assert (lost.state, lost.content) == (TransferState.ERROR, ())
    assert lost.error is not None and "/else/b" in lost.error.message


def test_is_inside(tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "box" / "link").symlink_to(tmp_path / "out")
    paths = PathMap("box", ((Path("/d"), tmp_path / "box"),))
    assert paths.is_inside(tmp_path / "box" / "a")
    assert not paths.is_inside(paths.to_local("/d/link/a"))


# -- with a downloader that says FOLDER/named where we say FOLDER/seen -----------------------------------------------


def config(folder: Path, **more: Any) -> EndpointConfig:
    for name in ("seen", "named"):
        (folder / name).mkdir(exist_ok=True)
    pairs = ((folder / "named", folder / "seen"),)
    paths = PathMap("box", pairs, folder / "named" / "dl", **more)
    (folder / "seen" / "dl").mkdir(exist_ok=True)
    return EndpointConfig("box", Puppet, 5, 2.0, PuppetConfig(), paths=paths)


async def begun(build: Builder, folder: Path, **more: Any) -> tuple[House, int, str]:
    house = await build.house({"box": config(folder, **more)})
    task_id = await house.add()
    return house, task_id, await house.runs(task_id)


def fetched(house: House, key: str, content: bytes = CONTENT) -> Path:
    """It is whole: what the puppet has written under its name for the folder is what we see under ours."""
    path = house.puppet().finish(key, content)
    there = house.folder / "seen" / path.relative_to(house.folder / "named")
    path.rename(there)
    return there


pytestmark = pytest.mark.anyio


async def test_it_is_asked_in_its_terms_and_delivered_from_ours(build: Builder, tmp_path: Path) -> None:
    house, task_id, key = await begun(build, tmp_path)
    directory = house.puppet().requests[key].directory
    assert directory == tmp_path / "named" / "dl" / f"{task_id}-{key}", "named after task and key"
    ours = tmp_path / "seen" / "dl" / directory.name
    assert ours.is_dir() and ours.stat().st_mode & 0o777 == 0o770
    directory.mkdir(parents=True)
    fetched(house, key)
    await house.reaches(task_id, Status.COMPLETED)
    assert house.files() == {"file.bin": CONTENT}
    assert list((tmp_path / "seen" / "dl").iterdir()) == [], "nothing is left behind"


async def test_content_outside_of_the_map_fails_and_says_so(build: Builder, tmp_path: Path) -> None:
    house, task_id, key = await begun(build, tmp_path)
    house.puppet().show(key, state=TransferState.COMPLETED, content=("/elsewhere/file.bin",))
    error = (await house.reaches(task_id, Status.ERROR)).error
    assert error is not None and error.kind == "path_map"
    assert "box names /elsewhere/file.bin" in error.message and "[downloaders.box]" in error.message


async def test_content_that_is_not_found_is_not_fetched_again(build: Builder, tmp_path: Path) -> None:
    house, task_id, key = await begun(build, tmp_path)
    house.puppet().finish(key)  # under its name; there is nothing under ours
    error = (await house.reaches(task_id, Status.ERROR)).error
    assert error is not None and error.kind == "path_map"
    assert "file.bin" in error.message and "dlqueue downloader test box" in error.message
    assert house.puppet().log.count(f"create {key}") == 1
    # The map is corrected: what is there is delivered.
    right = replace(config(tmp_path).paths, pairs=((tmp_path / "named", tmp_path / "named"),))
    await house.endpoints.reconfigure({"box": replace(config(tmp_path), paths=right)}, ())
    await house.queue.retry(task_id)
    await house.reaches(task_id, Status.COMPLETED)
    assert house.files() == {"file.bin": CONTENT}
    assert house.puppet().log.count(f"create {key}") == 1, "it was fetched once"


async def test_a_folder_that_is_not_mounted_is_not_made(build: Builder, tmp_path: Path) -> None:
    made = config(tmp_path)
    shutil.rmtree(tmp_path / "seen")
    house = await build.house({"box": made})
    task_id = await house.add()
    attempts = (await house.waits_for_retry(task_id)).error
    assert attempts is not None and "mounted" in attempts.message and str(tmp_path / "seen" / "dl") in attempts.message
    assert not (tmp_path / "seen").exists()


async def test_a_staging_folder_that_it_does_not_see(build: Builder, tmp_path: Path) -> None:
    made = config(tmp_path)
    house = await build.house({"box": replace(made, paths=replace(made.paths, directory=None))})
    task_id = await house.add()
    error = (await house.reaches(task_id, Status.ERROR)).error
    assert error is not None and error.kind == "path_map" and "box cannot write into" in error.message
    assert str(house.destination) in error.message and house.files() == {}


@pytest.mark.parametrize("hostile", ["named/dl/../../secret", "named/dl/KEY/../../../secret", "named/link/secret"])
async def test_nothing_leads_out_of_the_map(build: Builder, tmp_path: Path, hostile: str) -> None:
    house, task_id, key = await begun(build, tmp_path)
    (tmp_path / "secret").write_text("not yours")
    (tmp_path / "seen" / "link").symlink_to(tmp_path)
    folder = house.puppet().requests[key].directory.name
    house.puppet().show(key, state=TransferState.COMPLETED, content=(f"{tmp_path}/{hostile.replace('KEY', folder)}",))
    await house.reaches(task_id, Status.ERROR)
    assert (tmp_path / "secret").read_text() == "not yours" and b"not yours" not in house.files().values()


async def test_a_link_in_place_of_the_folder_leads_nowhere(build: Builder, tmp_path: Path) -> None:
    house, task_id, key = await begun(build, tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("not yours")
    folder = tmp_path / "seen" / "dl" / f"{task_id}-{key}"
    folder.rmdir()
    folder.symlink_to(outside)
    content = (str(tmp_path / "named" / "dl" / folder.name / "secret"),)
    house.puppet().show(key, state=TransferState.COMPLETED, content=content)
    assert (await house.reaches(task_id, Status.ERROR)).error is not None
    assert (outside / "secret").read_text() == "not yours" and house.files() == {}


async def test_what_is_attached_to_stays_inside_too(build: Builder, tmp_path: Path) -> None:
    made = config(tmp_path)
    house = await build.house({"box": made})
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("not yours")
    (tmp_path / "seen" / "link").symlink_to(tmp_path / "outside")
    puppet = house.puppet()
    puppet.theirs = Handle("theirs", attached=True)
    content = (f"{tmp_path}/named/link/secret",)
    puppet.transfers["theirs"] = TransferStatus(TransferState.COMPLETED, content=content)
    task_id = await house.add()
    assert (await house.reaches(task_id, Status.ERROR)).error is not None
    assert house.files() == {}


# -- delivery = "none" -------------------------------------------------------------------------------------------------


async def in_place(build: Builder, folder: Path) -> tuple[House, int, Path]:
    house, task_id, key = await begun(build, folder, in_place=True)
    house.puppet().requests[key].directory.mkdir(parents=True)
    there = fetched(house, key)
    return house, task_id, there


async def test_it_stays_where_it_is(build: Builder, tmp_path: Path) -> None:
    house, task_id, there = await in_place(build, tmp_path)
    record = await house.reaches(task_id, Status.COMPLETED)
    assert record.result is not None and record.result["location"] == str(there)
    assert (record.result["size"], there.read_bytes(), house.files()) == (len(CONTENT), CONTENT, {})
    assert house.puppet().transfers == {}, "its transfer is removed, as ever"
    await house.queue.remove(task_id)
    await house.settled()
    assert there.read_bytes() == CONTENT


async def test_deleting_takes_what_is_ours_and_no_more(build: Builder, tmp_path: Path) -> None:
    house, task_id, there = await in_place(build, tmp_path)
    await house.reaches(task_id, Status.COMPLETED)
    await house.queue.remove(task_id, {"delete_data": True})
    await house.eventually(lambda: not there.parent.exists(), "it is deleted, and its folder")
    assert (tmp_path / "seen" / "dl").is_dir()


async def test_somebody_elses_file_of_its_name_stays(build: Builder, tmp_path: Path) -> None:
    house, task_id, there = await in_place(build, tmp_path)
    await house.reaches(task_id, Status.COMPLETED)
    other = there.with_name("other")
    other.write_text("somebody's")
    other.replace(there)
    await house.queue.remove(task_id, {"delete_data": True})
    await house.settled()
    assert there.read_text() == "somebody's"


async def test_it_seeds_where_it_is(build: Builder, tmp_path: Path) -> None:
    house, task_id, key = await begun(build, tmp_path, in_place=True)
    house.puppet().requests[key].directory.mkdir(parents=True)
    there = tmp_path / "seen" / "dl" / f"{task_id}-{key}" / "file.bin"
    there.write_bytes(CONTENT)
    content = (str(house.puppet().requests[key].directory / "file.bin"),)
    house.puppet().show(key, state=TransferState.SEEDING, content=content, total=len(CONTENT), downloaded=len(CONTENT))
    record = await house.when(task_id, lambda r: r.delivered_at is not None and r.hold)
    assert record.status is Status.SUSPENDING and (await house.state(task_id)).phase == "seeding"
    await house.queue.cancel(task_id)
    await house.cleaned(task_id)
    assert house.puppet().transfers == {} and there.read_bytes() == CONTENT, "what is delivered stays"


async def test_it_is_seeded_on_after_a_restart_that_forgot_it(build: Builder, tmp_path: Path) -> None:
    house, task_id, key = await begun(build, tmp_path, in_place=True)
    there = tmp_path / "seen" / "dl" / f"{task_id}-{key}" / "file.bin"
    there.write_bytes(CONTENT)
    content = (str(house.puppet().requests[key].directory / "file.bin"),)
    house.puppet().program = "first"
    house.puppet().show(key, state=TransferState.SEEDING, content=content, total=len(CONTENT), downloaded=len(CONTENT))
    await house.when(task_id, lambda r: r.delivered_at is not None and r.hold)
    house.clock.advance(LOOK_AGAIN)
    await house.settled()
    house.puppet().restart("second", key)
    await house.eventually(lambda: house.puppet().log.count(f"create {key}") == 2, "begun anew")
    assert house.puppet().requests[key].directory == tmp_path / "named" / "dl" / there.parent.name
    assert there.read_bytes() == CONTENT


async def test_what_is_attached_to_is_never_deleted(build: Builder, tmp_path: Path) -> None:
    house = await build.house({"box": config(tmp_path, in_place=True)})
    theirs = tmp_path / "seen" / "theirs.bin"
    theirs.write_bytes(CONTENT)
    puppet = house.puppet()
    puppet.theirs = Handle("theirs", attached=True)
    content = (f"{tmp_path}/named/theirs.bin",)
    puppet.transfers["theirs"] = TransferStatus(TransferState.COMPLETED, content=content)
    task_id = await house.add()
    await house.reaches(task_id, Status.COMPLETED)
    assert (await house.state(task_id)).location == str(theirs)
    await house.queue.remove(task_id, {"delete_data": True})
    await house.settled()
    assert theirs.read_bytes() == CONTENT


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EXDEV])
async def test_what_may_not_be_moved_is_copied(
    build: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A folder that belongs to the user of the downloader, or another file system."""
    house, task_id, key = await begun(build, tmp_path)
    rename = delivery._rename

    def refused(source: Path, target: Path, overwrite: bool) -> None:
        if source.is_relative_to(tmp_path / "seen"):
            raise OSError(number, "no")
        rename(source, target, overwrite)

    monkeypatch.setattr(delivery, "_rename", refused)
    house.puppet().requests[key].directory.mkdir(parents=True)
    fetched(house, key)
    await house.reaches(task_id, Status.COMPLETED)
    assert house.files() == {"file.bin": CONTENT} and list((tmp_path / "seen" / "dl").iterdir()) == []


async def test_a_destination_that_may_not_be_written_is_an_error(
    build: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house, task_id, key = await begun(build, tmp_path)

    def refused(source: Path, target: Path, overwrite: bool) -> None:
        raise OSError(errno.EACCES, "no")

    monkeypatch.setattr(delivery, "_rename", refused)
    house.puppet().requests[key].directory.mkdir(parents=True)
    fetched(house, key)
    failed = await house.waits_for_retry(task_id)
    assert failed.error is not None and failed.error.kind == "destination"
