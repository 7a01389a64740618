"""What doctor finds where downloads go."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import pytest

from dlqueue.daemon.doctor import disks
from dlqueue.daemon.doctor.finding import Finding
from dlqueue.downloads.space import Claim, FileSystem, Ledger

GIB = 1 << 30
KEY = "00c0ffee00c0ffee"


def only(found: list[Finding]) -> Finding:
    assert len(found) == 1, found
    return found[0]


# -- space ------------------------------------------------------------------------------------------------------------


def room(free: int, ledger: Ledger | None = None, keep_free: int | None = None) -> Finding:
    folders = [Path("/mnt/a"), Path("/mnt/a/b")]
    return only(disks.space(folders, keep_free, ledger, lambda _: FileSystem(9, 100 * GIB, free, "/mnt")))


def test_room_is_ok() -> None:
    assert room(50 * GIB) == Finding("space", "ok", "/mnt has 50.0 GiB free; 1.0 GiB stay free (keep_free)")


def test_less_than_the_floor_is_an_error_with_or_without_a_daemon() -> None:
    for found in (room(GIB // 2), room(GIB // 2, Ledger()), room(5 * GIB, keep_free=10 * GIB)):
        assert found.severity == "error" and "nothing begins until" in found.explanation
        assert found.cure == "make room on /mnt, or lower [daemon] keep_free"


def test_what_was_low_is_told_until_it_is_used_again() -> None:
    ledger = Ledger()
    ledger.note(FileSystem(9, 100 * GIB, GIB // 2, "/mnt"))
    assert "until 2.0 GiB are free" in room(GIB + GIB // 2, ledger).explanation


def test_what_is_promised_counts() -> None:
    ledger = Ledger()
    ledger.claim(1, Claim(KEY, 9, 4 * GIB))
    found = room(4 * GIB, ledger)
    assert found.severity == "warning" and "4.0 GiB of that for transfers that run" in found.explanation
    assert room(9 * GIB, ledger).severity == "ok"


def test_a_file_system_that_cannot_be_asked() -> None:
    def refuse(folder: Path) -> FileSystem:
        raise OSError(5, "Input/output error", str(folder))

    found = only(disks.space([Path("/mnt/a")], None, None, refuse))
    assert found.severity == "error" and "/mnt/a cannot be asked: Input/output error" in found.explanation
    assert found.cure is not None and found.cure.startswith("mount it")


def test_a_folder_that_goes_away_meanwhile_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [str(tmp_path / "gone"), str(tmp_path)]
    monkeypatch.setattr("dlqueue.downloads.space._existing", lambda _: answers.pop(0))
    assert only(disks.space([tmp_path / "gone"], 0, None)).severity == "ok"
    assert answers == []


# -- rename -----------------------------------------------------------------------------------------------------------


def test_a_rename_is_tried_and_leaves_nothing(tmp_path: Path) -> None:
    found = only(disks.renames({tmp_path: tmp_path / "a" / ".dlqueue"}))
    assert found.severity == "ok" and list(tmp_path.iterdir()) == []


def test_another_file_system_is_told(tmp_path: Path) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs two file systems")
    staging = other / f"dlqueue-{os.getpid()}"
    found = only(disks.renames({tmp_path: staging}))
    assert found.severity == "warning" and "copied, not renamed" in found.explanation
    assert found.cure is not None and "leave [daemon] staging unset" in found.cure
    assert not staging.exists() and list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    destination = tmp_path / "out"
    destination.mkdir()
    found = only(disks.renames({destination: tmp_path / "file" / ".dlqueue", tmp_path / "missing": tmp_path}))
    assert found.severity == "error" and f"nothing can be delivered to {destination}" in found.explanation
    assert found.cure == f"let the user that runs dlqueue write in {tmp_path}/file/.dlqueue and {destination}"


# -- mounts -----------------------------------------------------------------------------------------------------------


def test_a_mount_that_tasks_wait_for(tmp_path: Path) -> None:
    found = only(disks.mounts([], {str(tmp_path): 2, "/": 1}, tmp_path / "none"))
    assert found.severity == "error" and "2 tasks wait for it" in found.explanation
    assert found.cure is not None and found.cure.startswith(f"mount {tmp_path};")


def test_a_mount_of_fstab_that_is_not_there(tmp_path: Path) -> None:
    fstab = tmp_path / "fstab"
    where = str(tmp_path / "my disk").replace(" ", "\\040")
    fstab.write_text(
        f"# /dev/sdx1 {where}/comment ext4 defaults 0 0\n/dev/sda1 / ext4 defaults 0 1\n"
        f"/dev/sdb1 {where} ext4 defaults,nofail 0 2\n/dev/sdc1 {where}/extra ext4 noauto 0 2\nshort\n"
    )
    destination = tmp_path / "my disk" / "extra" / "out"
    found = only(disks.mounts([destination], {}, fstab))
    assert found.severity == "error" and "downloads would fill the disk below" in found.explanation
    assert found.cure == f"mount {tmp_path}/my disk"
    assert disks.mounts([tmp_path / "elsewhere"], {}, fstab) == []


# -- staging ----------------------------------------------------------------------------------------------------------


def test_folders_of_nobody_in_staging(tmp_path: Path) -> None:
    lost, mine, proof = tmp_path / f"7-{KEY}", tmp_path / f"8-{'1' * 16}", tmp_path / f"proof-{'2' * 16}"
    for folder in (lost, mine, proof, tmp_path / "something else", tmp_path / f"x-{'3' * 16}"):
        folder.mkdir()
        (folder / "part").write_bytes(b"x" * 2048)
    asked: list[Collection[str]] = []

    def known(keys: Collection[str]) -> Collection[str]:
        asked.append(keys)
        return {"1" * 16}

    found = only(disks.leftovers([tmp_path, tmp_path, tmp_path / "none"], known))
    assert (
        found.severity == "warning" and "2 folders in staging belong to no task any more (4.0 KiB)" in found.explanation
    )
    assert str(lost) in found.explanation and str(proof) in found.explanation and str(mine) not in found.explanation
    assert found.cure is not None and "rm -r" in found.cure
    assert asked == [{KEY, "1" * 16, "2" * 16}]
    assert disks.leftovers([tmp_path], lambda keys: keys) == []
