"""Folders that were made on the way to a destination go with what was put there; nobody else's folder does."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlqueue.downloads import task as download_task
from dlqueue.downloads.folders import make_folders, remove_made
from dlqueue.downloads.state import MadeFolder
from dlqueue.queue import Status
from tests.downloads.house import Builder, House
from tests.service.asking import Asking

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_task, "LINGER", 0.0)


def there(house: House) -> list[str]:
    return sorted(str(path.relative_to(house.destination)) for path in house.destination.rglob("*"))


async def delivered(house: House, directory: Path, name: str = "file.bin") -> int:
    task_id = await house.add(f"http://host.invalid/{name}", directory=str(directory))
    house.puppet().finish(await house.runs(task_id), name=name)
    await house.reaches(task_id, Status.COMPLETED)
    return task_id


async def drop(house: House, verb: str, task_id: int) -> None:
    await Asking(house)(verb, id=task_id, delete_data=True)
    await house.settled()


@pytest.mark.parametrize("running", [True, False])
async def test_they_go_with_the_download_that_made_them(build: Builder, running: bool) -> None:
    house = await build.puppets()
    (house.destination / "there").mkdir()
    directory = house.destination / "there" / "new" / "deeper"
    if running:
        task_id = await house.add(directory=str(directory))
        await house.runs(task_id)
        assert directory.is_dir()
        await drop(house, "tasks.cancel", task_id)
    else:
        await drop(house, "tasks.remove", await delivered(house, directory))
    assert there(house) == ["there"]


async def test_they_stay_without_delete_data(build: Builder) -> None:
    house = await build.puppets()
    task_id = await delivered(house, house.destination / "new")
    await Asking(house)("tasks.remove", id=task_id)
    await house.settled()
    assert there(house) == ["new", "new/file.bin"]


async def test_what_somebody_has_put_there_stays(build: Builder) -> None:
    house = await build.puppets()
    first = await delivered(house, house.destination / "new")
    second = await delivered(house, house.destination / "new", "other.bin")
    await drop(house, "tasks.remove", first)
    assert there(house) == ["new", "new/other.bin"]
    # The second found the folder: it is not its own.
    await drop(house, "tasks.remove", second)
    assert there(house) == ["new"]


def test_only_the_ones_that_were_made(tmp_path: Path) -> None:
    root = tmp_path / "root"
    made: list[MadeFolder] = []
    make_folders(root / "a" / "b", root, made)
    assert [Path(one.path).name for one in made] == ["root", "a", "b"]
    make_folders(root / "a" / "b", root, made)
    assert len(made) == 3, "they were there"
    # Another one of the same name: as long as the first is there, it has another number.
    (root / "a" / "b").rename(tmp_path / "kept")
    (root / "a" / "b").mkdir()
    remove_made(made, root)
    assert (root / "a" / "b").is_dir()
    (root / "a" / "b").rmdir()
    (tmp_path / "kept").rename(root / "a" / "b")
    remove_made(made, root)
    assert list(root.iterdir()) == [], "the root stays"
    remove_made(made, root)


def test_a_link_leads_nowhere(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    made: list[MadeFolder] = []
    make_folders(root / "a" / "b", root, made)
    outside.mkdir()
    (root / "a" / "b").rename(outside / "b")
    (root / "a").rmdir()
    (root / "a").symlink_to(outside)
    remove_made(made, root)
    assert (outside / "b").is_dir() and (root / "a").is_symlink()
