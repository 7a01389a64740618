"""The verbs about downloaders: looking, testing, pausing; and the events that are kept."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from dlqueue.downloads import examine
from dlqueue.downloads.delivery import STAGING
from dlqueue.downloads.pauses import Pause, Pauses
from dlqueue.queue import Status
from dlqueue.queue.sql import SqlStore
from dlqueue.queue.testing import PATIENCE
from dlqueue.sdk import AuthFailed, TransferState, Unavailable
from tests.downloads.house import Builder, puppet_config
from tests.service.asking import ROOT, YOU, Asking

pytestmark = pytest.mark.anyio

URL = "http://host.invalid/file.bin"


def checks(answer: dict[str, Any]) -> dict[str, bool]:
    return {check["name"]: check["ok"] for check in answer["checks"]}


def check(answer: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [check for check in answer["checks"] if check["name"] == name]
    return dict(found)


# -- looking ----------------------------------------------------------------------------------------------------------


async def test_get(build: Builder) -> None:
    house = await build.puppets("one", "two")
    ask = Asking(house)
    await house.eventually(lambda: house.endpoints["two"].version, "the version")
    assert (await ask("downloaders.get", name="two")) == (await ask("downloaders.list"))["items"][1]
    for method in ("get", "test", "pause", "resume"):
        error = await Asking(house, ROOT).refused(f"downloaders.{method}", name="onee")
        assert (error.code, error.kind) == (-32003, "downloader")
        assert "configured: one, two" in error.message and 'did you mean "one"' in error.message


async def test_kinds(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    from dlqueue.downloads.registry import Kinds
    from tests.downloads.puppet import Puppet

    found = Kinds({"puppet": Puppet}, {"aria9": "needs the Python module aria9p: install dlqueue[aria9]"})
    monkeypatch.setattr("dlqueue.service.downloaders.find_kinds", lambda: found)
    page = await Asking(await build.puppets("one", "two"))("downloaders.kinds")
    assert (page["total"], page["next_cursor"]) == (2, None)
    broken, usable = page["items"]
    assert usable == {
        "kind": "puppet", "usable": True, "schemes": ["http", "https"], "downloaders": ["one", "two"], "problem": None,
    }  # fmt: skip
    assert (broken["kind"], broken["usable"], broken["schemes"]) == ("aria9", False, [])
    assert "install dlqueue[aria9]" in broken["problem"]


# -- testing ----------------------------------------------------------------------------------------------------------


async def test_test(build: Builder) -> None:
    house = await build.puppets()
    answer = await Asking(house, ROOT)("downloaders.test", name="box")
    assert answer["ok"] is True and answer["version"] == "puppet 1"
    assert checks(answer) == {"reach": True, "credentials": True, "path map": True}
    assert str(house.destination / STAGING) in check(answer, "path map")["message"]
    assert list(house.destination.iterdir()) == [], "nothing is left behind"


async def test_test_of_one_that_does_not_answer(build: Builder) -> None:
    house = await build.puppets()
    house.puppet().goes("test", Unavailable("connection refused"))
    answer = await Asking(house, ROOT)("downloaders.test", name="box")
    assert answer["ok"] is False
    assert checks(answer) == {"reach": False, "credentials": False, "path map": True}
    assert "connection refused" in check(answer, "reach")["message"]
    assert "[downloaders.box]" in check(answer, "reach")["cure"]


async def test_test_after_the_credentials_were_corrected_over_there(build: Builder) -> None:
    """It is never asked again by itself; a person may, and then its tasks go on."""
    house = await build.puppets()
    puppet, ask = house.puppet(), Asking(house, ROOT)
    await house.eventually(lambda: house.endpoints["box"].version, "the version")
    puppet.goes("poll", AuthFailed("wrong secret"))
    puppet.goes("test", AuthFailed("wrong secret"))
    puppet.goes("create", AuthFailed("wrong secret"))
    task_id = await house.add()
    await house.holds(task_id, "downloader:box")
    answer = await ask("downloaders.test", name="box")
    assert checks(answer) == {"reach": True, "credentials": False, "path map": True}
    assert "wrong secret" in check(answer, "credentials")["message"]
    assert "secret in [downloaders.box]" in check(answer, "credentials")["cure"]
    tests = puppet.tests
    house.clock.advance(600)
    await house.settled()
    assert puppet.tests == tests, "it is not asked by itself"
    puppet.before.clear()
    assert (await ask("downloaders.test", name="box"))["ok"] is True
    key = await house.runs(task_id)
    puppet.finish(key)
    await house.reaches(task_id, Status.COMPLETED)


async def test_test_of_one_that_could_not_be_opened(build: Builder) -> None:
    config = puppet_config("box")
    house = await build.house({"box": config})
    coordinator = house.endpoints["box"]
    coordinator.opened, coordinator.last_error = False, "no such option"
    answer = await Asking(house, ROOT)("downloaders.test", name="box")
    assert answer["ok"] is False and check(answer, "reach")["message"] == "no such option"


async def test_path_map_names_the_folder_that_cannot_be_written(build: Builder) -> None:
    house = await build.puppets()
    (house.destination / STAGING).write_text("a file is in the way")
    answer = await Asking(house, ROOT)("downloaders.test", name="box")
    found = check(answer, "path map")
    assert found["ok"] is False and str(house.destination / STAGING) in found["message"] and found["cure"]
    (house.destination / STAGING).unlink()
    (house.destination / STAGING).symlink_to("/tmp")
    assert "symbolic link" in check(await Asking(house, ROOT)("downloaders.test", name="box"), "path map")["message"]


def test_looking_makes_no_folder_that_another_look_would_take_away(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Path, "mkdir", lambda self, *_, **__: pytest.fail(f"{self} is made"))
    assert examine._prove(tmp_path / "downloads" / STAGING) is None
    assert list(tmp_path.iterdir()) == []


async def test_a_file_system_that_hangs_does_not_hang_the_test(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    house = await build.puppets()
    let_go = threading.Event()
    monkeypatch.setattr(examine, "FOLDER_TIMEOUT", 0.05)
    monkeypatch.setattr(examine, "_prove", lambda folder: let_go.wait(PATIENCE))
    answer = await Asking(house, ROOT)("downloaders.test", name="box")
    assert "did not answer" in check(answer, "path map")["message"]
    let_go.set()


# -- pausing ----------------------------------------------------------------------------------------------------------


async def test_pause_lets_nothing_new_begin(build: Builder) -> None:
    house = await build.puppets(max_active=2)
    mine, root = Asking(house), Asking(house, ROOT)
    running = await house.add()
    key = await house.runs(running)
    assert (await root("downloaders.pause", name="box"))["paused"] is True
    assert (await root("downloaders.pause", name="box"))["paused"] is True, "again is no error"
    waits = await house.add("http://host.invalid/other.bin")
    await house.holds(waits, "paused:box")
    why = await mine("tasks.why", id=waits)
    assert (why["reason"], why["blocking"]) == ("paused", "box")
    assert "root has paused" in why["message"] and "dlqueue downloader resume box" in why["message"]
    house.puppet().finish(key)
    await house.reaches(running, Status.COMPLETED)
    await house.settled()
    assert len(house.puppet().requests) == 1
    assert (await root("downloaders.resume", name="box"))["paused"] is False
    house.puppet().finish(await house.runs(waits))
    await house.reaches(waits, Status.COMPLETED)


async def test_who_waits_for_a_slot_of_a_paused_downloader_is_told_so(build: Builder) -> None:
    house = await build.puppets(max_active=1)
    first, second = await house.add(), await house.add("http://host.invalid/other.bin")
    key = await house.runs(first)
    await house.holds(second, "slot:box")
    await house.endpoints.pause("box", "me")
    assert (await Asking(house)("tasks.why", id=second))["reason"] == "paused"
    house.puppet().finish(key)
    await house.holds(second, "paused:box")
    await house.endpoints.resume("box")
    await house.runs(second)


async def test_what_could_go_elsewhere_does(build: Builder) -> None:
    house = await build.puppets("one", "two")
    await house.endpoints.pause("one", "me")
    elsewhere = await house.add()
    await house.runs(elsewhere)
    assert (await house.state(elsewhere)).downloader == "two"
    named = await house.add(downloader="one")
    await house.holds(named, "paused:one")


async def test_who_waits_for_another_begins_in_the_one_that_is_resumed(build: Builder) -> None:
    house = await build.puppets("one", "two")
    await house.endpoints.pause("one", "me")
    house.puppet("two").goes("all", Unavailable("connection refused"))
    with pytest.raises(Unavailable):
        await house.endpoints["two"].ask()  # one that has nothing to do is not polled
    waits = await house.add()
    await house.holds(waits, "downloader:two")
    await house.endpoints.resume("one")
    await house.runs(waits)
    assert (await house.state(waits)).downloader == "one"


async def test_a_paused_task_that_is_resumed_waits_too(build: Builder) -> None:
    house = await build.puppets()
    task_id = await house.add()
    key = await house.runs(task_id)
    house.puppet().show(key, state=TransferState.DOWNLOADING, downloaded=5)
    await house.queue.pause(task_id)
    await house.reaches(task_id, Status.PAUSED)
    await house.endpoints.pause("box", "me")
    await house.queue.resume(task_id)
    await house.holds(task_id, "paused:box")
    assert house.puppet().transfers[key].state is TransferState.PAUSED
    await house.endpoints.resume("box")
    await house.runs(task_id)
    assert house.puppet().transfers[key].state is TransferState.DOWNLOADING


async def test_pause_survives_a_restart(build: Builder) -> None:
    url = f"sqlite:///{build._folder}/q.db"
    house = await build.puppets(store=SqlStore(url, "process"))
    await house.endpoints.pause("box", "alice")
    waits = await house.add()
    await house.holds(waits, "paused:box")
    await build.close(house)
    house = await build.puppets(store=SqlStore(url, "process"))
    ask = Asking(house, ROOT)
    assert (await ask("downloaders.get", name="box"))["paused"] is True
    await house.settled()
    assert "alice has paused" in (await ask("tasks.why", id=waits))["message"]
    await ask("downloaders.resume", name="box")
    await house.runs(waits)
    await build.close(house)
    house = await build.puppets(store=SqlStore(url, "process"))
    assert house.endpoints["box"].paused is None


async def test_who_waits_for_a_paused_one_that_is_taken_away_goes_elsewhere(build: Builder) -> None:
    house = await build.puppets("one")
    await house.endpoints.pause("one", "me")
    waits = await house.add()
    await house.holds(waits, "paused:one")
    await house.endpoints.reconfigure({"two": puppet_config("two")}, ())
    await house.runs(waits)
    assert (await house.state(waits)).downloader == "two"


async def test_pause_survives_a_reload(build: Builder) -> None:
    house = await build.puppets("one")
    await house.endpoints.pause("one", "me")
    house.endpoints["one"].auth_failed = True  # so that it is opened anew
    await house.endpoints.reconfigure({"one": puppet_config("one")}, ())
    assert house.endpoints["one"].paused is not None


async def test_pausing_and_testing_are_not_for_everybody(build: Builder) -> None:
    house = await build.puppets()
    for method in ("pause", "resume", "test"):
        assert (await Asking(house, YOU).refused(f"downloaders.{method}", name="box")).code == -32002
    assert (await Asking(house, YOU)("downloaders.get", name="box"))["paused"] is False


async def test_pause_that_cannot_be_remembered_is_refused(build: Builder) -> None:
    house = await build.puppets()
    (house.folder / "downloaders" / "box.paused").mkdir()
    error = await Asking(house, ROOT).refused("downloaders.pause", name="box")
    assert error.code == -32007 and "box.paused" in error.message
    assert house.endpoints["box"].paused is None


def test_a_pause_that_cannot_be_read_is_a_pause(tmp_path: Path) -> None:
    pauses = Pauses(tmp_path)
    assert pauses.read("box") is None
    pauses.write("box", Pause("me", 5.0))
    assert Pauses(tmp_path).read("box") == Pause("me", 5.0)
    (tmp_path / "box.paused").write_text("junk")
    assert pauses.read("box") is not None
    pauses.forget("box")
    pauses.forget("box")
    assert pauses.read("box") is None and list(tmp_path.iterdir()) == []


# -- events -----------------------------------------------------------------------------------------------------------


async def test_kept_events_page_by_page(build: Builder) -> None:
    house = await build.puppets()
    ask = Asking(house)
    first = (await ask("downloads.add", url=URL, paused=True))["id"]
    second = (await ask("downloads.add", url=URL + "2", paused=True))["id"]
    await ask("tasks.cancel", id=first)
    page = await ask("events.list")
    assert [(event["task_id"], event["data"]["kind"]) for event in page["items"]] == [
        (first, "submitted"), (second, "submitted"), (first, "canceled"),
    ]  # fmt: skip
    assert (page["next_cursor"], page["total"]) == (None, None)
    assert {event["topic"] for event in page["items"]} == {"task"}
    sequences = [event["sequence"] for event in page["items"]]
    two = await ask("events.list", limit=2)
    rest = await ask("events.list", limit=2, cursor=two["next_cursor"])
    assert [event["sequence"] for event in two["items"] + rest["items"]] == sequences
    assert rest["next_cursor"] is None
    assert len((await ask("events.list", since=sequences[1]))["items"]) == 1
    assert len((await ask("events.list", task_ids=[second]))["items"]) == 1
    assert (await Asking(house, YOU)("events.list"))["items"] == []
    assert len((await Asking(house, ROOT)("events.list"))["items"]) == 3
