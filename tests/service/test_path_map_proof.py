"""`downloaders.test`: the check `path map`, proven by what the downloader itself writes."""

from __future__ import annotations

import asyncio
import shutil
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import bencode2
import pytest

from dlqueue.downloads import proof
from dlqueue.downloads.debts import Debts
from dlqueue.downloads.endpoints import EndpointConfig
from dlqueue.downloads.pathmap import PathMap
from dlqueue.downloads.probe import offered
from dlqueue.downloads.search import search
from dlqueue.sdk import Rejected, TransferState, Unavailable
from tests.daemon.instance import everything
from tests.downloads.house import Builder, House, puppet_config
from tests.downloads.puppet import Puppet
from tests.service.asking import ROOT, Asking

pytestmark = pytest.mark.anyio


async def path_map(house: House) -> dict[str, Any]:
    answer = await Asking(house, ROOT)("downloaders.test", name="box")
    (found,) = [check for check in answer["checks"] if check["name"] == "path map"]
    assert answer["ok"] is found["ok"]
    return dict(found)


def left(house: House) -> list[str]:
    """What the test has left behind: here, in the downloader, and written down."""
    debts = [owed.key for owed in Debts(house.folder / "downloaders").of("box")]
    files = [str(path) for path in everything(house.folder) if "proof" in path.name]
    return [*house.puppet().transfers, *debts, *files]


def mapped(folder: Path, remote: str, local: str, directory: str | None = None) -> EndpointConfig:
    pairs = ((Path(remote), folder / local),)
    (folder / local).mkdir(parents=True, exist_ok=True)
    return replace(puppet_config("box"), paths=PathMap("box", pairs, Path(directory or remote)))


class Boxed(Puppet):
    """What it calls /downloads, it keeps in a folder that dlqueue has to find."""

    real = Path()

    def finish(self, key: str, content: bytes = b"proof", name: str = "file.bin") -> Path:
        directory = self.requests[key].directory
        file = self.requests[key].urls[0].rpartition("/")[2]
        path = self.real / directory.relative_to("/downloads") / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.show(key, state=TransferState.COMPLETED, content=(str(directory / file),))
        return path


def boxed(folder: Path, local: str) -> EndpointConfig:
    Boxed.real = folder / "mounts" / "box"
    Boxed.real.mkdir(parents=True)
    return replace(mapped(folder, "/downloads", local), kind=Boxed)


async def test_the_right_map_is_proven(build: Builder, tmp_path: Path) -> None:
    house = await build.house({"box": boxed(tmp_path, "mounts/box")})
    found = await path_map(house)
    assert found["ok"] is True and "which it calls /downloads" in found["message"]
    assert left(house) == []


async def test_a_folder_that_we_know_by_a_link_is_proven(build: Builder, tmp_path: Path) -> None:
    config = boxed(tmp_path, "mounts/box")
    (tmp_path / "link").symlink_to(tmp_path / "mounts" / "box")
    pairs = ((Path("/downloads"), tmp_path / "link"),)
    house = await build.house({"box": replace(config, paths=PathMap("box", pairs, Path("/downloads")))})
    found = await path_map(house)
    assert found["ok"] is True, found
    assert left(house) == []


async def test_a_wrong_map_is_found_out_and_another_proposed(build: Builder, tmp_path: Path) -> None:
    house = await build.house({"box": boxed(tmp_path, "mounts/other")})
    found = await path_map(house)
    assert found["ok"] is False and "dlqueue does not find it in" in found["message"]
    assert f'paths = [{{ remote = "/downloads", local = "{tmp_path}/mounts/box" }}]' in found["cure"]
    assert left(house) == [] and (tmp_path / "mounts" / "box").is_dir()


async def test_a_name_that_is_in_no_map(build: Builder, tmp_path: Path) -> None:
    house = await build.house({"box": boxed(tmp_path, "mounts/other")})
    house.endpoints["box"].paths = PathMap("box", ((Path("/data"), tmp_path / "mounts"),), Path("/downloads"))
    found = await path_map(house)
    assert found["ok"] is False and "/downloads" in found["message"] and found["cure"]
    assert left(house) == []


async def test_a_folder_that_is_not_there(build: Builder, tmp_path: Path) -> None:
    config = mapped(tmp_path, "/downloads", "mnt")
    shutil.rmtree(tmp_path / "mnt")
    house = await build.house({"box": config})
    found = await path_map(house)
    assert (
        found["ok"] is False
        and f"there is no folder {tmp_path}/mnt" in found["message"]
        and "mount it" in found["cure"]
    )
    assert not (tmp_path / "mnt").exists()


async def test_one_that_does_nothing(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "PROOF_TIMEOUT", 0.05)
    house = await build.puppets()
    house.puppet().proves = False
    found = await path_map(house)
    assert found["ok"] is False and "has written nothing into" in found["message"] and found["cure"]
    assert left(house) == [] and house.files() == {}


async def test_one_that_refuses(build: Builder) -> None:
    house = await build.puppets()
    house.puppet().goes("create", Rejected("permission denied", "downloader"))
    found = await path_map(house)
    assert (
        found["ok"] is False
        and found["message"].endswith("permission denied")
        and "directory and paths" in found["cure"]
    )
    assert left(house) == [] and house.files() == {}


async def test_one_whose_policy_forbids_it_is_not_blamed(build: Builder) -> None:
    house = await build.puppets()
    house.puppet().goes("create", Rejected("address 127.0.0.1 is not public", "request", kind="policy"))
    found = await path_map(house)
    assert found["ok"] is True and "cannot be tried" in found["message"]
    house.puppet().before.clear()
    house.puppet().proves = False
    asked = asyncio.ensure_future(path_map(house))
    await house.eventually(lambda: house.puppet().transfers, "it is created")
    (key,) = house.puppet().transfers
    house.puppet().fail(key, Rejected("address 127.0.0.1 is not public", "request", kind="policy"))
    assert (await asked)["ok"] is True


async def test_what_it_goes_away_with_is_removed_when_it_is_back(build: Builder) -> None:
    house = await build.puppets()
    puppet = house.puppet()
    puppet.proves = False
    puppet.goes("poll", Unavailable("connection refused"))
    puppet.goes("remove", Unavailable("connection refused"))
    found = await path_map(house)
    assert found["ok"] is False and "connection refused" in found["message"]
    assert len(puppet.transfers) == 1 and house.files() == {}
    puppet.before.clear()
    await house.endpoints["box"].ask()
    await house.eventually(lambda: left(house) == [], "it is removed")


async def test_who_gives_up_asking_leaves_nothing(build: Builder) -> None:
    house = await build.puppets()
    house.puppet().proves = False
    asked = asyncio.ensure_future(Asking(house, ROOT)("downloaders.test", name="box"))
    await house.eventually(lambda: house.puppet().transfers, "it is created")
    asked.cancel()
    await house.eventually(lambda: left(house) == [], "it is removed")


# -- its parts --------------------------------------------------------------------------------------------------------


async def test_what_is_offered_is_there_for_a_moment() -> None:
    def get(url: str, **headers: str) -> tuple[int, bytes]:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return answer.status, answer.read()

    async with offered(None, "5" * 16, torrent=False) as offer:
        (url,) = offer.urls
        status, body = await asyncio.to_thread(get, url)
        assert (status, body) == (200, b"dlqueue 5555555555555555\n")
        assert await asyncio.to_thread(lambda: get(url, Range="bytes=2-4")) == (206, body[2:5])
        with pytest.raises(OSError, match="404"):
            await asyncio.to_thread(get, url.replace("5" * 16 + "/", "4" * 16 + "/"))
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(get, url)
    async with offered(None, "5" * 16, torrent=True) as offer:
        torrent: Any = bencode2.bdecode(offer.torrent or b"")
        assert torrent[b"info"][b"private"] == 1 and b"announce" not in torrent and offer.urls == ()
        base, name = torrent[b"url-list"][0].decode(), torrent[b"info"][b"name"].decode()
        assert (await asyncio.to_thread(get, f"{base}{name}/full"))[1] == body


def test_search(tmp_path: Path) -> None:
    there = tmp_path / "a" / "b" / "dl" / "proof-1" / "file"
    there.parent.mkdir(parents=True)
    there.write_text("")
    found = search(Path("/data/dl/proof-1/file"), [tmp_path])
    assert found is not None
    assert (found.remote, found.local, found.place) == (Path("/data"), tmp_path / "a" / "b", there)
    assert search(Path("/data/dl/proof-2/file"), [tmp_path]) is None
    assert search(Path("/file"), [there.parent]) is None, "one name alone could be anybody's"
