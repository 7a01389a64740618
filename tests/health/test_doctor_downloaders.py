"""What doctor finds of the downloaders."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

from dlqueue.daemon.doctor import downloaders
from dlqueue.daemon.doctor.finding import Finding
from dlqueue.downloads.debts import Debts
from dlqueue.downloads.state import Obligation
from dlqueue.sdk import AuthFailed, Rejected, Unavailable
from tests.downloads.house import Builder, House
from tests.downloads.puppet import Puppet

pytestmark = pytest.mark.anyio

KEY, OTHER = "00c0ffee00c0ffee", "00c0ffee00c0ff00"


def nobody(keys: Collection[str]) -> Collection[str]:
    """No task knows anything."""
    return ()


async def found_in(house: House, known: downloaders.Known = nobody) -> list[Finding]:
    folders = house.downloads.staging_folders()
    found = await downloaders.each(house.endpoints, folders, known)
    return [one for one in found if one.severity != "ok"]


def one(found: list[Finding], severity: str, says: str) -> Finding:
    assert [finding.severity for finding in found] == [severity], found
    assert says in found[0].explanation
    return found[0]


async def test_a_good_one_is_ok(build: Builder) -> None:
    house = await build.puppets("box")
    found = await downloaders.each(house.endpoints, house.downloads.staging_folders(), nobody)
    assert [(finding.check, finding.severity) for finding in found] == [("box", "ok")]
    assert "version puppet 1" in found[0].explanation and "box writes where dlqueue looks" in found[0].explanation


async def test_one_that_does_not_answer(build: Builder) -> None:
    house = await build.puppets("box")
    house.puppet().goes("test", Unavailable("connection refused"))
    found = await found_in(house)
    assert [finding.severity for finding in found] == ["error", "error"]  # nor are the credentials known
    assert "connection refused" in found[0].explanation
    assert found[0].cure == "start it, or correct its address in [downloaders.box]"


async def test_one_that_refuses_our_credentials(build: Builder) -> None:
    house = await build.puppets("box")
    house.puppet().goes("test", AuthFailed("wrong password"))
    found = one(await found_in(house), "error", "wrong password")
    assert found.cure is not None and found.cure.startswith("correct the user name, password or secret")


async def test_one_that_writes_elsewhere(build: Builder) -> None:
    house = await build.puppets("box")
    house.puppet().goes("create", Rejected("no such folder", "downloader"))
    found = one(await found_in(house), "error", "box cannot write into")
    assert found.cure is not None and "say in [downloaders.box] with directory and paths" in found.cure


async def test_one_that_is_paused(build: Builder) -> None:
    house = await build.puppets("box")
    await house.endpoints.pause("box", "anna")
    assert one(await found_in(house), "info", "anna has paused box").cure == "dlqueue downloader resume box"


async def test_none_and_one_that_is_disabled(build: Builder) -> None:
    house = await build.house({})
    house.endpoints.disabled = frozenset({"box"})
    found = await found_in(house)
    assert [finding.severity for finding in found] == ["error", "info"]
    assert "dlqueue downloader kinds" in (found[0].cure or "")
    assert "box is disabled" in found[1].explanation


@pytest.mark.parametrize(
    ("told", "severity", "says", "cure"),
    [
        ("puppet 1.9.9", "warning", "the oldest version that was tried is 2.0", "update it to 2.0 or newer"),
        ("puppet v2.0", None, "", ""),
        ("puppet 2.10.7 (abc)", None, "", ""),
        ("puppet 2.11", "info", "newer than what was tried (2.10)", "look for a newer dlqueue"),
        ("puppet 3.0.1", "info", "newer than what was tried (2.10)", "look for a newer dlqueue"),
        ("puppet of today", None, "", ""),
    ],
)
async def test_versions(
    build: Builder, monkeypatch: pytest.MonkeyPatch, told: str, severity: str | None, says: str, cure: str
) -> None:
    house = await build.puppets("box")
    monkeypatch.setattr(Puppet, "test", lambda self: told)
    monkeypatch.setattr(Puppet, "tried_versions", ("2.0", "2.10"))
    found = await found_in(house)
    if severity is None:
        assert found == []
    else:
        assert cure in (one(found, severity, says).cure or "")


async def test_transfers_that_nobody_knows(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    house = await build.puppets("box")
    owned = [{KEY: "film", OTHER: ""}, {KEY: "film", "0" * 16: "one that came meanwhile"}]

    def answer(self: Puppet) -> Mapping[str, str] | None:
        return owned.pop(0)

    monkeypatch.setattr(Puppet, "owned", answer)
    monkeypatch.setattr(downloaders, "AGAIN", 0.0)
    warning = one(await found_in(house), "warning", "box has a transfer that dlqueue has begun and no task")
    assert f"film ({KEY})" in warning.explanation and OTHER not in warning.explanation
    assert warning.cure == "if nobody needs them, remove them in box"


async def test_transfers_that_somebody_knows(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    house = await build.puppets("box")
    monkeypatch.setattr(Puppet, "owned", lambda self: {KEY: "film"})
    assert await found_in(house, lambda keys: keys) == []
    monkeypatch.setattr(Puppet, "owned", lambda self: None)
    assert await found_in(house) == []


async def test_one_that_does_not_tell_what_it_has(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    house = await build.puppets("box")

    def refuse(self: Puppet) -> None:
        raise Rejected("too many")

    monkeypatch.setattr(Puppet, "owned", refuse)
    one(await found_in(house), "warning", "box does not tell what it has of ours: too many")


# -- what is owed -----------------------------------------------------------------------------------------------------


def owed(folder: Path, name: str = "box") -> Debts:
    debts = Debts(folder)
    debts.write(Obligation(name, KEY, KEY, ""))
    return debts


def test_a_debt_to_one_that_is_gone(tmp_path: Path) -> None:
    found = one(downloaders.debts(owed(tmp_path), ["web"], None), "warning", "box is not configured any more")
    assert found.cure is not None and f"rm -r {tmp_path}/box.owed" in found.cure


def test_a_debt_that_is_not_worked_off(tmp_path: Path) -> None:
    debts = owed(tmp_path)
    one(downloaders.debts(debts, ["box"], []), "info", "a transfer in box will be removed when it answers")
    one(downloaders.debts(debts, ["box"], ["box"]), "info", "will be removed")
    two_hours_ago = time.time() - 7200
    os.utime(tmp_path / "box.owed" / KEY, (two_hours_ago, two_hours_ago))
    found = one(
        downloaders.debts(debts, ["box"], ["box"]), "warning", "box answers, and has not removed a transfer for 2h"
    )
    assert found.cure is not None and found.cure.startswith("remove them in box")


def test_no_debts(tmp_path: Path) -> None:
    assert downloaders.debts(Debts(tmp_path / "none"), [], None) == []
