"""Tokens: who may make them, what is kept of them, and that they outlive a restart."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Container
from pathlib import Path

import pytest

from dlqueue.protocol.caller import Caller
from dlqueue.protocol.errors import Code, StorageError
from dlqueue.protocol.tokens import CreateToken, TokenName
from dlqueue.service import tokens as module
from dlqueue.service.access import Access
from dlqueue.service.tokens import Tokens
from tests.downloads.house import ME, Builder
from tests.service.asking import ROOT, YOU, Asking

pytestmark = pytest.mark.anyio


def tokens(folder: Path, now: float = 1000.0, gone: Container[tuple[int, str]] = ()) -> Tokens:
    return Tokens(folder / "tokens.json", Access(()), lambda: now, lambda uid, name: (uid, name) not in gone)


async def test_a_token_stands_for_its_maker_and_outlives_a_restart(tmp_path: Path) -> None:
    made = await tokens(tmp_path).create(ME, CreateToken(name="phone", role="submit"))
    assert made["token"].startswith("dlq_")
    assert len(made["token"]) >= 43
    again = tokens(tmp_path, now=2000.0)
    found = again.caller(made["token"])
    assert found == Caller(uid=ME.uid, gid=ME.gid, name=ME.name, trusted_cwd=False, role="submit", token="phone")
    assert again.caller(made["token"][:-1]) is None
    assert again.caller("") is None
    assert again.caller("\ud800") is None
    await again.close()
    listed = await tokens(tmp_path).list(ME)
    assert [(one["name"], one["last_used"]) for one in listed["items"]] == [("phone", "1970-01-01T00:33:20.000Z")]


async def test_a_token_ends_with_the_account_of_its_maker(tmp_path: Path) -> None:
    made = await tokens(tmp_path).create(ME, CreateToken(name="phone", role="submit"))
    assert tokens(tmp_path, gone=[(YOU.uid, YOU.name)]).caller(made["token"]) is not None
    assert tokens(tmp_path, gone=[(ME.uid, ME.name)]).caller(made["token"]) is None


async def test_only_a_hash_is_kept_and_for_the_owner_of_the_file(tmp_path: Path) -> None:
    os.umask(os.umask(0))
    made = await tokens(tmp_path).create(ME, CreateToken(name="phone", role="read"))
    file = tmp_path / "tokens.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert made["token"] not in file.read_text()
    assert made["token"].removeprefix("dlq_") not in file.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["tokens.json"]


async def test_verbs(build: Builder) -> None:
    house = await build.puppets()
    mine, yours, root = Asking(house), Asking(house, YOU), Asking(house, ROOT)
    made = await mine("tokens.create", name="phone", role="operate")
    assert made["url"] is None
    assert (await yours("tokens.create", name="tablet", role="admin"))["owner"] == "you"
    assert (await mine.refused("tokens.create", name="tablet", role="read")).code == Code.CONFLICT
    assert (await mine.refused("tokens.create", name="a b", role="read")).field == "name"
    assert (await mine.refused("tokens.create", name="x", role="root")).field == "role"
    assert [one["name"] for one in (await mine("tokens.list"))["items"]] == ["phone"]
    assert (await root("tokens.list"))["total"] == 2
    assert "token" not in (await root("tokens.list"))["items"][0]
    stranger = await mine.refused("tokens.revoke", name="tablet")
    assert stranger.code == Code.NOT_FOUND
    assert stranger.message == (await mine.refused("tokens.revoke", name="nobody")).message.replace("nobody", "tablet")
    assert (await root("tokens.revoke", name="tablet"))["name"] == "tablet"
    assert (await mine("tokens.revoke", name="phone"))["role"] == "operate"
    assert house.tokens.caller(made["token"]) is None


async def test_a_role_takes_rights_away_and_gives_none(build: Builder) -> None:
    house = await build.puppets()
    reader = Asking(house, Caller(0, 0, "root", role="read", token="t"))
    assert (await reader("daemon.info"))["version"]
    for name in ("tasks.pause", "downloads.add", "daemon.shutdown", "tokens.create"):
        assert (await reader.refused(name)).kind == "role"
    somebody = Asking(house, Caller(4001, 4001, "me", role="admin", token="t"))
    assert (await somebody.refused("daemon.shutdown")).code == Code.FORBIDDEN
    assert (await somebody.refused("queues.create", name="q")).code == Code.FORBIDDEN


async def test_there_is_a_limit_for_each_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    kept = tokens(tmp_path)
    made = await asyncio.gather(
        *(kept.create(ME, CreateToken(name=f"t{n}", role="read")) for n in range(5)), return_exceptions=True
    )
    assert [isinstance(one, dict) for one in made] == [True, True, False, False, False]
    await kept.create(YOU, CreateToken(name="other", role="read"))


async def test_what_cannot_be_kept_is_not_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tokens(tmp_path)
    made = await kept.create(ME, CreateToken(name="a", role="read"))

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(module, "write_whole", full)
    with pytest.raises(StorageError, match="No space left"):
        await kept.create(ME, CreateToken(name="b", role="read"))
    with pytest.raises(StorageError):
        await kept.revoke(ME, TokenName(name="a"))
    assert [one["name"] for one in (await kept.list(ME))["items"]] == ["a"]
    assert kept.caller(made["token"]) is not None


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"version": 2, "tokens": []}', '{"version": 1, "tokens": [{"name": "x"}]}']
)
async def test_a_file_that_is_not_understood_lets_nobody_in_and_is_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokens.json").write_text(text)
    with pytest.raises(OSError, match="restore it"):
        tokens(tmp_path)
    assert (tmp_path / "tokens.json").read_text() == text


async def test_what_a_crash_left_beside_it_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "tokens.json.1.new").write_text("half")
    await tokens(tmp_path).create(ME, CreateToken(name="a", role="read"))
    assert len(json.loads((tmp_path / "tokens.json").read_text())["tokens"]) == 1


async def test_a_pipe_in_its_place_is_told_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "tokens.json")
    with pytest.raises(OSError, match="a pipe, not a file"):
        tokens(tmp_path)
