"""Files, selection, another URL, uploads and dry runs, as a caller meets them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dlqueue.downloads.endpoints import EndpointConfig
from dlqueue.queue import Status
from dlqueue.queue.testing import PATIENCE
from dlqueue.sdk import Rejected, TransferFile, TransferState, Unavailable
from dlqueue.service import service
from tests.downloads.house import Builder, House
from tests.downloads.puppet import CONTENT, PuppetConfig, TorrentPuppet
from tests.downloads.test_torrent import METALINK, encoded, torrent
from tests.service.asking import YOU, Asking

pytestmark = pytest.mark.anyio

URL = "http://host.invalid/file.bin"
MAGNET = "magnet:?xt=urn:btih:" + "ab" * 20
LISTED = [TransferFile(1, "T/a", 4, 100.0), TransferFile(2, "T/sub/b", 2, 100.0)]


async def torrents(build: Builder, **more: Any) -> tuple[House, Asking]:
    config = {"box": EndpointConfig("box", TorrentPuppet, 5, 2.0, PuppetConfig())}
    house = await build.house(config, **more)
    return house, Asking(house)


async def started(house: House, ask: Asking, **params: Any) -> tuple[int, str]:
    task_id = (await ask("downloads.add", **(params or {"torrent": encoded(torrent())})))["id"]
    key = await house.runs(task_id)
    house.puppet().listed[key] = LISTED
    return task_id, key


async def test_a_torrent_reaches_its_downloader_and_no_answer(build: Builder) -> None:
    house, ask = await torrents(build)
    task_id, key = await started(house, ask, torrent=encoded(torrent()), select=[2], seed=0)
    request = house.puppet().requests[key]
    assert (request.torrent, request.urls, request.select, request.seed) == (torrent(), (), (2,), False)
    view = await ask("tasks.get", id=task_id)
    assert encoded(torrent()) not in str(view)
    assert view["params"]["select"] == [2]
    assert view["download"]["name"] == "T"
    assert view["download"]["url"].startswith("magnet:?xt=urn:btih:")


async def test_a_metalink_reaches_its_downloader(build: Builder) -> None:
    house, ask = await torrents(build)
    task_id = (await ask("downloads.add", metalink=encoded(METALINK)))["id"]
    key = await house.runs(task_id)
    assert house.puppet().requests[key].metalink == METALINK
    assert (await ask("tasks.get", id=task_id))["download"]["name"] == "m.bin"


async def test_an_upload_that_is_gone_is_said_plainly(build: Builder) -> None:
    house, ask = await torrents(build)
    task = await ask("downloads.add", torrent=encoded(torrent()), paused=True)
    for path in (house.folder / "uploads").iterdir():
        path.unlink()
    await ask("tasks.resume", id=task["id"])
    record = await house.reaches(task["id"], Status.ERROR)
    assert record.error is not None
    assert (record.error.kind, record.retries) == ("upload_gone", 0)
    assert "add it again" in record.error.message


async def test_files_of_a_running_torrent(build: Builder) -> None:
    house, ask = await torrents(build)
    task_id, _ = await started(house, ask)
    assert await ask("downloads.files", id=task_id) == {
        "items": [
            {"index": 1, "path": "T/a", "size": 4, "progress": 100.0, "selected": True},
            {"index": 2, "path": "T/sub/b", "size": 2, "progress": 100.0, "selected": True},
        ]
    }
    other = Asking(house, YOU)
    assert (await other.refused("downloads.files", id=task_id)).code == -32003
    assert (await other.refused("downloads.select", id=task_id, indexes=[1])).code == -32003
    assert (await other.refused("downloads.refresh_url", id=task_id, url=URL)).code == -32003


async def test_files_of_a_torrent_that_has_not_begun(build: Builder) -> None:
    _, ask = await torrents(build)
    task = await ask("downloads.add", torrent=encoded(torrent()), select=[2], paused=True)
    items = (await ask("downloads.files", id=task["id"]))["items"]
    seen = [(item["path"], item["size"], item["selected"]) for item in items]
    assert seen == [("T/a", 3, False), ("T/sub/b", 5, True)]
    assert await ask("downloads.files", id=(await ask("downloads.add", url=MAGNET, paused=True))["id"]) == {"items": []}


async def test_files_of_what_is_delivered(build: Builder) -> None:
    house, ask = await torrents(build)
    task_id, key = await started(house, ask)
    house.puppet().finish_folder(key, "T", {"a": b"aaaa", "sub/b": b"bb"})
    await house.reaches(task_id, Status.COMPLETED)
    items = (await ask("downloads.files", id=task_id))["items"]
    assert [(item["index"], item["path"], item["size"], item["progress"]) for item in items] == [
        (1, "T/a", 4, 100.0), (2, "T/sub/b", 2, 100.0)
    ]  # fmt: skip


async def test_files_of_a_downloader_that_is_down(build: Builder) -> None:
    house, ask = await torrents(build)
    task_id, _ = await started(house, ask)
    house.puppet().goes("files", Unavailable("gone"))
    error = await ask.refused("downloads.files", id=task_id)
    assert (error.code, "box: gone" in error.message) == (-32008, True)


async def test_only_the_selected_files_are_delivered(build: Builder) -> None:
    house, ask = await torrents(build)
    task_id, key = await started(house, ask)
    items = (await ask("downloads.select", id=task_id, match="T/sub/*"))["items"]
    assert [item["selected"] for item in items] == [False, True]
    assert f"select {key} 2" in house.puppet().log
    assert (await house.queue.get(task_id)).params["select"] == [2]
    house.puppet().finish_folder(key, "T", {"a": b"part", "sub/b": b"bb"})
    await house.reaches(task_id, Status.COMPLETED)
    assert house.files() == {"T/": b"", "T/sub/": b"", "T/sub/b": b"bb"}
    items = (await ask("downloads.files", id=task_id))["items"]
    assert [(item["index"], item["path"]) for item in items] == [(2, "T/sub/b")]


async def test_delivered_files_keep_the_numbers_of_their_torrent(build: Builder) -> None:
    house, ask = await torrents(build)
    task_id, key = await started(house, ask, url=MAGNET)
    house.puppet().listed[key] = [TransferFile(1, "T/sub/b", 2, 100.0), TransferFile(2, "T/a", 4, 100.0)]
    house.puppet().transfers[key] = TransferStatusWithHash(house, key)
    house.puppet().finish_folder(key, "T", {"a": b"aaaa", "sub/b": b"bb"})
    await house.reaches(task_id, Status.COMPLETED)
    items = (await ask("downloads.files", id=task_id))["items"]
    assert [(item["index"], item["path"]) for item in items] == [(1, "T/sub/b"), (2, "T/a")]


async def test_a_selection_made_over_there_counts_too(build: Builder) -> None:
    house, ask = await torrents(build)
    task_id, key = await started(house, ask, url=MAGNET)
    house.puppet().listed[key] = [LISTED[0], TransferFile(2, "T/sub/b", 2, 0.0, selected=False)]
    house.puppet().transfers[key] = TransferStatusWithHash(house, key)
    house.puppet().finish_folder(key, "T", {"a": b"aaaa", "sub/b": b"b"})
    await house.reaches(task_id, Status.COMPLETED)
    assert house.files() == {"T/": b"", "T/a": b"aaaa"}


def TransferStatusWithHash(house: House, key: str) -> Any:
    import dataclasses

    return dataclasses.replace(house.puppet().transfers[key], hash="ab" * 20)


async def test_a_wanted_file_that_is_not_there_is_no_success(build: Builder) -> None:
    house, ask = await torrents(build)
    task_id, key = await started(house, ask)
    await ask("downloads.select", id=task_id, indexes=[2])
    house.puppet().finish_folder(key, "T", {"a": b"part"})
    await house.eventually(lambda: len([line for line in house.puppet().log if line.startswith("create")]) > 1, "anew")
    assert "T/" not in house.files()


async def test_a_selection_before_it_begins_is_in_the_request(build: Builder) -> None:
    house, ask = await torrents(build)
    task = await ask("downloads.add", torrent=encoded(torrent()), paused=True)
    await ask("downloads.select", id=task["id"], indexes=[1])
    await ask("tasks.resume", id=task["id"])
    assert house.puppet().requests[await house.runs(task["id"])].select == (1,)


async def test_selections_that_are_refused(build: Builder) -> None:
    house, ask = await torrents(build)
    task_id, key = await started(house, ask)
    for params, code, field in (
        ({"indexes": []}, -32602, "indexes"),
        ({"indexes": [3]}, -32602, "indexes"),
        ({"indexes": [0]}, -32602, "indexes"),
        ({"match": "*.iso"}, -32602, "match"),
        ({}, -32602, "indexes"),
        ({"indexes": [1], "match": "*"}, -32602, "indexes"),
    ):
        error = await ask.refused("downloads.select", id=task_id, **params)
        assert (error.code, error.field) == (code, field), params
    house.puppet().finish(key)
    await house.reaches(task_id, Status.COMPLETED)
    assert (await ask.refused("downloads.select", id=task_id, indexes=[1])).code == -32004


# -- a glob, before the names are known -------------------------------------------------------------------------------


async def it_is(house: House, task_id: int, **facts: str) -> None:
    async def so() -> bool:
        state = await house.state(task_id)
        return all(getattr(state, name) == value for name, value in facts.items())

    await house.eventually(so, f"{task_id} is {facts}")


async def test_a_glob_is_applied_when_the_names_are_known(build: Builder) -> None:
    house, ask = await torrents(build)
    task = await ask("downloads.add", url=MAGNET, paused=True)
    assert await ask("downloads.select", id=task["id"], match="T/sub/*") == {"items": []}
    await ask("tasks.resume", id=task["id"])
    key = await house.runs(task["id"])
    assert house.puppet().requests[key].select is None
    house.puppet().show(key, state=TransferState.METADATA)
    await it_is(house, task["id"], state="metadata")
    house.puppet().listed[key] = list(LISTED)
    house.puppet().show(key, state=TransferState.DOWNLOADING, total=6)
    await house.eventually(lambda: f"select {key} 2" in house.puppet().log, "it is applied")
    assert [file["selected"] for file in (await ask("downloads.files", id=task["id"]))["items"]] == [False, True]
    house.puppet().finish_folder(key, "T", {"a": b"part", "sub/b": b"bb"}, total=2)
    await house.reaches(task["id"], Status.COMPLETED)
    assert house.files() == {"T/": b"", "T/sub/": b"", "T/sub/b": b"bb"}
    assert house.puppet().log.count(f"select {key} 2") == 1


async def test_a_glob_that_comes_while_the_metadata_is_looked_for(build: Builder) -> None:
    house, ask = await torrents(build)
    task_id, key = await started(house, ask, url=MAGNET)
    house.puppet().listed[key] = []
    house.puppet().show(key, state=TransferState.METADATA)
    await it_is(house, task_id, state="metadata")
    await ask("downloads.select", id=task_id, match="*.x")
    await ask("downloads.select", id=task_id, match="*/a")  # the last word counts
    house.puppet().listed[key] = list(LISTED)
    # All of it at once: nothing but what is wanted is delivered all the same.
    house.puppet().finish_folder(key, "T", {"a": b"aaaa", "sub/b": b"bb"})
    await house.reaches(task_id, Status.COMPLETED)
    assert house.files() == {"T/": b"", "T/a": b"aaaa"}


async def test_a_glob_that_matches_nothing_is_told_and_can_be_put_right(build: Builder) -> None:
    house, ask = await torrents(build)
    task = await ask("downloads.add", url=MAGNET, paused=True)
    await ask("downloads.select", id=task["id"], match="*.mkv")
    await ask("tasks.resume", id=task["id"])
    key = await house.runs(task["id"])
    house.puppet().listed[key] = list(LISTED)
    house.puppet().show(key, state=TransferState.DOWNLOADING, total=6, hash="ab" * 20)
    record = await house.reaches(task["id"], Status.ERROR)
    assert record.error is not None and (record.error.kind, record.retries) == ("bad_select", 0)
    assert "'*.mkv' matches none of its 2 files" in record.error.message and "dlqueue files" in record.error.message
    # What there is to choose from is told, though it has failed.
    assert [file["path"] for file in (await ask("downloads.files", id=task["id"]))["items"]] == ["T/a", "T/sub/b"]
    assert (await ask.refused("downloads.select", id=task["id"], match="*.avi")).code == -32602
    await ask("downloads.select", id=task["id"], match="*/b")
    await ask("tasks.retry", id=task["id"])
    assert await house.runs(task["id"]) == key
    house.puppet().finish_folder(key, "T", {"a": b"part", "sub/b": b"bb"}, total=2)
    await house.reaches(task["id"], Status.COMPLETED)
    assert house.files() == {"T/": b"", "T/sub/": b"", "T/sub/b": b"bb"}


async def test_numbers_take_the_place_of_a_glob(build: Builder) -> None:
    house, ask = await torrents(build)
    task = await ask("downloads.add", url=MAGNET, paused=True)
    await ask("downloads.select", id=task["id"], match="*.mkv")
    await ask("downloads.select", id=task["id"], indexes=[1])
    await ask("tasks.resume", id=task["id"])
    key = await house.runs(task["id"])
    assert house.puppet().requests[key].select == (1,)
    assert (await house.queue.get(task["id"])).params.get("match") is None


async def test_a_glob_for_what_has_no_files(build: Builder) -> None:
    _, ask = await torrents(build)
    task = await ask("downloads.add", url=URL, paused=True)
    assert "no torrent" in (await ask.refused("downloads.select", id=task["id"], match="*")).message


# -- another URL ------------------------------------------------------------------------------------------------------


async def test_another_url_begins_the_transfer_again_from_the_start(build: Builder) -> None:
    house = await build.puppets()
    ask = Asking(house)
    task_id = (await ask("downloads.add", url=URL))["id"]
    key = await house.runs(task_id)
    view = await ask("downloads.refresh_url", id=task_id, url="http://new.invalid/file.bin?token=secret")
    assert "secret" not in str(view)
    await house.eventually(lambda: len(house.puppet().transfers) == 1 and key not in house.puppet().transfers, "anew")
    again = await house.runs(task_id)
    assert house.puppet().log[:3] == [f"create {key}", f"remove {key}", f"create {again}"]
    assert house.puppet().requests[again].urls == ("http://new.invalid/file.bin?token=secret",)
    house.puppet().finish(again)
    record = await house.reaches(task_id, Status.COMPLETED)
    assert (record.retries, house.files()) == (0, {"file.bin": CONTENT})


async def test_another_url_in_the_middle_of_a_step_counts_when_it_ends(build: Builder) -> None:
    house = await build.puppets()
    ask = Asking(house)
    gate = house.puppet().gate("create")
    task_id = (await ask("downloads.add", url=URL))["id"]
    await asyncio.to_thread(gate.reached.wait, PATIENCE)
    await ask("downloads.refresh_url", id=task_id, url="http://new.invalid/file.bin")
    gate.open.set()
    await house.eventually(lambda: len(house.puppet().requests) == 2, "anew")
    old, new = house.puppet().requests
    assert house.puppet().requests[new].urls == ("http://new.invalid/file.bin",)
    await house.eventually(lambda: list(house.puppet().transfers) == [new], "that alone")
    assert house.puppet().log[:2] == [f"create {old}", f"remove {old}"]


async def test_another_url_for_one_that_waits_for_its_next_try_is_tried_at_once(build: Builder) -> None:
    house = await build.puppets()
    ask = Asking(house)
    task_id = (await ask("downloads.add", url=URL))["id"]
    house.puppet().fail(await house.runs(task_id), Rejected("HTTP 503", kind="http_503"))
    await house.waits_for_retry(task_id)
    await ask("downloads.refresh_url", id=task_id, url="http://new.invalid/file.bin")
    again = await house.runs(task_id)
    assert house.puppet().requests[again].urls == ("http://new.invalid/file.bin",)


async def test_another_url_for_one_that_has_failed_counts_at_the_retry(build: Builder) -> None:
    house = await build.puppets()
    ask = Asking(house)
    task_id = (await ask("downloads.add", url=URL))["id"]
    key = await house.runs(task_id)
    house.puppet().fail(key, Rejected("HTTP 403", "request", kind="http_403"))
    await house.reaches(task_id, Status.ERROR)
    await ask("downloads.refresh_url", id=task_id, url="http://new.invalid/file.bin")
    await ask("tasks.retry", id=task_id)
    again = await house.runs(task_id)
    assert again != key, "nobody has proven that it is the same content"
    assert house.puppet().requests[again].urls == ("http://new.invalid/file.bin",)


async def test_a_downloader_that_proves_its_bytes_goes_on_with_them(
    build: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TorrentPuppet, "proves_bytes", True)
    house, ask = await torrents(build)
    task_id = (await ask("downloads.add", url=URL))["id"]
    key = await house.runs(task_id)
    await ask("downloads.refresh_url", id=task_id, url="http://new.invalid/file.bin")
    await house.eventually(lambda: f"create {key} again" in house.puppet().log, "begun again")
    assert not [line for line in house.puppet().log if line.startswith("remove")], "it would forget what it can prove"
    assert house.puppet().requests[key].urls == ("http://new.invalid/file.bin",)


async def test_urls_that_are_refused(build: Builder) -> None:
    house, ask = await torrents(build)
    task_id = (await ask("downloads.add", url=URL))["id"]
    magnet = (await ask("downloads.add", url=MAGNET, paused=True))["id"]
    assert (await ask.refused("downloads.refresh_url", id=task_id, url="file:///etc/passwd")).code == -32006
    assert (await ask.refused("downloads.refresh_url", id=task_id, url="nonsense")).code == -32602
    assert (await ask.refused("downloads.refresh_url", id=task_id, url=MAGNET)).code == -32602
    assert (await ask.refused("downloads.refresh_url", id=magnet, url=URL)).code == -32004
    house.puppet().finish(await house.runs(task_id))
    await house.reaches(task_id, Status.COMPLETED)
    assert (await ask.refused("downloads.refresh_url", id=task_id, url=URL)).code == -32004


# -- dry run ----------------------------------------------------------------------------------------------------------


async def test_a_dry_run_tells_the_route_and_submits_nothing(build: Builder) -> None:
    house = await build.house(
        {
            "one": EndpointConfig("one", TorrentPuppet, 5, 2.0, PuppetConfig()),
            "two": EndpointConfig("two", TorrentPuppet, 5, 2.0, PuppetConfig()),
        }
    )
    ask = Asking(house)
    answer = await ask("downloads.add", url=MAGNET, dry_run=True)
    assert answer["dry_run"] is True
    assert answer["downloader"] == "one"
    assert [(choice["downloader"], choice["chosen"]) for choice in answer["route"]] == [("one", True), ("two", False)]
    assert all(choice["reason"] for choice in answer["route"])
    named = await ask("downloads.add", url=MAGNET, downloader="two", dry_run=True)
    assert named["downloader"] == "two"
    assert named["params"]["directory"] == str(house.destination)
    await ask("downloads.add", torrent=encoded(torrent()), dry_run=True)
    assert not (house.folder / "uploads").exists()
    assert (await ask.refused("downloads.add", url="ftp://h/x", dry_run=True)).code == -32006
    assert (await ask.refused("downloads.add", url=URL, directory="/etc", dry_run=True)).code == -32006
    assert await ask("tasks.count") == 0


@pytest.mark.parametrize(
    ("seed", "field"),
    [
        ({"ration": 1}, "seed.ration"),
        ({"ratio": -1}, "seed.ratio"),
        ({"time": "1h"}, "seed"),
        (1, "seed"),
        ("x", "seed"),
    ],
)
async def test_bad_seed_rules_are_named(build: Builder, seed: Any, field: str) -> None:
    ask = Asking(await build.puppets())
    error = await ask.refused("downloads.add", url=URL, seed=seed)
    assert error.code == -32602
    assert (error.field or "").startswith(field)


# -- cancel with the data ---------------------------------------------------------------------------------------------


async def test_who_cancels_with_the_data_finds_it_gone(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "CLEANING", PATIENCE)
    house = await build.puppets()
    ask = Asking(house)
    task_id = (await ask("downloads.add", url=URL))["id"]
    key = await house.runs(task_id)
    (house.puppet().requests[key].directory / "part").write_bytes(b"part")
    assert (await ask("tasks.cancel", id=task_id, delete_data=True))["status"] == "canceled"
    assert house.files() == {}


async def test_a_downloader_that_is_down_does_not_hold_up_a_cancel(build: Builder) -> None:
    house = await build.puppets()
    ask = Asking(house)
    task_id = (await ask("downloads.add", url=URL))["id"]
    await house.runs(task_id)
    house.puppet().goes("remove", Unavailable("gone"))
    assert (await ask("tasks.cancel", id=task_id, delete_data=True))["status"] == "canceled"
    assert house.files() != {}
