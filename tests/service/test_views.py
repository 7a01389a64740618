"""Shapes exactly as the contract prints them, and no secret in any of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dlqueue.protocol.events import Subscribe
from dlqueue.queue import Status
from dlqueue.sdk import Rejected, TransferState, Unavailable
from dlqueue.service.views import name_from, shown_url
from tests.downloads.house import ME, Builder, House
from tests.service.asking import Asking

pytestmark = pytest.mark.anyio

TASK: dict[str, Any] = {
    "id": int,
    "type": str,
    "status": str,
    "want": str,
    "hold": (str, type(None)),
    "queue": str,
    "priority": int,
    "owner": str,
    "labels": dict,
    "correlation_id": (str, type(None)),
    "unique_key": (str, type(None)),
    "created": bool,
    "params": dict,
    "result": object,
    "progress": (dict, type(None)),
    "error": (dict, type(None)),
    "retries": int,
    "max_retry": int,
    "crashes": int,
    "executed_seconds": (int, float),
    "timeout": (int, float, type(None)),
    "max_execution": (int, float, type(None)),
    "created_at": str,
    "started_at": (str, type(None)),
    "finished_at": (str, type(None)),
    "resume_at": (str, type(None)),
    "parent_id": (int, type(None)),
    "depends_on": list,
    "revision": int,
    "download": dict,
}
DOWNLOAD: dict[str, Any] = {
    "url": str,
    "name": (str, type(None)),
    "downloader": (str, type(None)),
    "handle": (dict, type(None)),
    "phase": str,
    "state": (str, type(None)),
    "destination": str,
    "location": (str, type(None)),
    "delivered_at": (str, type(None)),
    "files": (list, type(None)),
    "attempts": list,
}
ATTEMPT = {"downloader", "kind", "key", "started_at", "ended_at", "bytes", "error_class", "message", "next"}
TIMES = ("created_at", "started_at", "finished_at", "resume_at")


def check_shape(task: dict[str, Any]) -> None:
    assert set(task) == set(TASK)
    for name, kind in TASK.items():
        assert isinstance(task[name], kind), (name, task[name])
    download = task["download"]
    assert set(download) == set(DOWNLOAD)
    for name, kind in DOWNLOAD.items():
        assert isinstance(download[name], kind), (name, download[name])
    assert download["phase"] in ("", "monitor", "deliver", "seeding")
    for attempt in download["attempts"]:
        assert set(attempt) == ATTEMPT
    if download["handle"] is not None:
        assert set(download["handle"]) == {"id", "hash"}
    if task["error"] is not None:
        assert set(task["error"]) == {"kind", "message", "at"}
    if task["progress"] is not None:
        assert set(task["progress"]) == {"percent", "message", "step", "counters"}
    for name in TIMES:
        assert task[name] is None or task[name].endswith("Z")


async def test_the_shape_of_a_task_all_its_life_long(build: Builder) -> None:
    house = await build.puppets()
    ask = Asking(house)
    new = await ask("downloads.add", url="http://host.invalid/a%20b.bin?x=1", correlation_id="c", max_retry=4)
    check_shape(new)
    task_id = new["id"]
    assert (new["max_retry"], new["timeout"], new["max_execution"], new["correlation_id"]) == (4, None, None, "c")
    assert new["download"]["name"] == "a b.bin"
    assert new["params"] == {
        "url": "http://host.invalid/a%20b.bin?x=1",
        "directory": str(house.destination),
    }
    key = await house.runs(task_id)
    running = await ask("tasks.get", id=task_id)
    check_shape(running)
    assert (running["status"], running["hold"]) == ("suspending", f"transfer:{key}")
    assert running["download"]["phase"] == "monitor"
    assert running["download"]["handle"] == {"id": key, "hash": None}
    assert running["started_at"] is not None
    house.puppet().show(key, state=TransferState.CHECKING, name="real.bin", downloaded=1, total=4)
    await house.when(task_id, lambda r: (r.progress and r.progress.percent) == 25)
    checking = (await ask("tasks.get", id=task_id))["download"]
    assert (checking["state"], checking["name"]) == ("checking", "real.bin")
    house.puppet().fail(key, Rejected("busy", kind="busy"))
    house.pass_time_until(await house.waits_for_retry(task_id))
    check_shape(await ask("tasks.get", id=task_id))
    await house.holds(task_id, "transfer:")
    house.puppet().finish(key)
    await house.reaches(task_id, Status.COMPLETED)
    done = await ask("tasks.get", id=task_id)
    check_shape(done)
    assert done["created"] is True
    assert done["retries"] == 1
    assert done["finished_at"] is not None
    download = done["download"]
    assert download["location"] == done["result"]["location"] == str(house.destination / "file.bin")
    assert download["delivered_at"] is not None
    assert download["files"] == [{"index": 1, "path": "file.bin", "size": 11, "progress": 100.0, "selected": True}]
    assert [attempt["error_class"] for attempt in download["attempts"]] == ["passing", None]
    assert done["progress"]["percent"] == 100.0


async def test_revisions_count_every_change_by_one(build: Builder) -> None:
    house = await build.puppets()
    seen: list[int] = []
    subscription = house.queue.bus.subscribe()
    task_id = await house.add()
    house.puppet().finish(await house.runs(task_id))
    await house.reaches(task_id, Status.COMPLETED)
    subscription.close()
    async for notice in subscription:
        record = getattr(notice, "record", None)
        if record is not None:
            seen.append(record.revision)
    assert seen[0] == 1
    assert seen == sorted(set(seen))


# -- secrets ----------------------------------------------------------------------------------------------------------

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://host/path?a=1", "http://host/path?a=1"),
        (f"http://user:{SECRET}@host/", "http://***@host/"),
        (f"http://{SECRET}@host/", "http://***@host/"),
        (f"http://u:{SECRET}@{SECRET}@host/", "http://***@host/"),
        (f"http://host/?token={SECRET}&a=1", "http://host/?token=***&a=1"),
        (f"http://host/?a=1&X-Amz-Signature={SECRET}#f", "http://host/?a=1&X-Amz-Signature=***#f"),
        (f"http://host/?ACCESS_TOKEN={SECRET}", "http://host/?ACCESS_TOKEN=***"),
        (f"http://host/?a=1;apikey={SECRET}", "http://host/?a=1;apikey=***"),
        (f"http://host/#access_token={SECRET}&x=1", "http://host/#access_token=***&x=1"),
        (f"http://host/?password={SECRET}={SECRET}", "http://host/?password=***"),
        (f"http://host/?%74oken={SECRET}", "http://host/?%74oken=***"),
        ("http://host/a@b?c=d@e", "http://host/a@b?c=d@e"),
    ],
)
def test_urls_are_shown_without_secrets(url: str, shown: str) -> None:
    assert shown_url(url) == shown


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://h/a/b.bin?x#y", "b.bin"),
        ("http://h/a/", "a"),
        ("http://h/", None),
        ("http://h", None),
        ("http://h/a%2Fb.bin", "b.bin"),
        ("http://h/%C3%BC.bin", "ü.bin"),
    ],
)
def test_the_name_that_a_url_suggests(url: str, name: str | None) -> None:
    assert name_from(url) == name


async def test_no_secret_in_any_answer_event_or_log(build: Builder, caplog: pytest.LogCaptureFixture) -> None:
    house: House = await build.puppets()
    ask = Asking(house)
    stream = await house.service.events_subscribe(ME, Subscribe(since=0))
    caplog.set_level("DEBUG", "dlqueue")
    added = await ask(
        "downloads.add",
        urls=[f"http://user:{SECRET}@host.invalid/f?token={SECRET}", f"https://mirror.invalid/f?sig={SECRET}"],
        headers={"Authorization": f"Bearer {SECRET}", "Cookie": SECRET},
    )
    task_id = added["id"]
    key = await house.runs(task_id)
    request = house.puppet().requests[key]
    assert SECRET in request.urls[0], "the downloader needs it"
    assert request.headers["Authorization"] == f"Bearer {SECRET}"
    answers = [added]
    house.puppet().fail(key, Rejected("busy", kind="busy"))
    house.pass_time_until(await house.waits_for_retry(task_id))
    await house.holds(task_id, "transfer:")
    for method in ("tasks.get", "tasks.history", "tasks.why", "tasks.progress", "tasks.result"):
        answers.append(await ask(method, id=task_id))
    answers.append(await ask("tasks.list"))
    house.puppet().fail(key, Rejected("gone", "request", kind="http_404"))
    await house.reaches(task_id, Status.ERROR)
    answers.append(await ask("tasks.get", id=task_id))
    answers.append(await ask("tasks.remove", id=task_id))
    stream.close()
    answers += [message async for message in stream]
    told = json.dumps(answers)
    assert SECRET not in told
    assert '"headers": {"Authorization": "***", "Cookie": "***"}' in told
    assert SECRET not in caplog.text


async def test_a_refusal_repeats_no_secret(build: Builder) -> None:
    ask = Asking(await build.puppets())
    for url in (f"ftp://user:{SECRET}@h/ x", f"gopher://user:{SECRET}@h/", f"http://user:{SECRET}@ex\u2100mple/"):
        error = await ask.refused("downloads.add", url=url)
        assert SECRET not in json.dumps(error.error())
    await ask("downloads.add", url=f"http://u:{SECRET}@h/", unique_key="k", paused=True)
    error = await ask.refused("downloads.add", url=f"http://u:{SECRET}@other/", unique_key="k")
    assert SECRET not in json.dumps(error.error())


async def test_what_cannot_be_asked_does_not_move(build: Builder) -> None:
    house = await build.puppets()
    task_id = await house.add()
    key = await house.runs(task_id)
    house.puppet().show(key, state=TransferState.DOWNLOADING, downloaded=3, total=9, download_speed=2.0)
    await house.when(task_id, lambda r: (r.progress and (r.progress.counters or {}).get("downloaded")) == 3)
    asking = Asking(house)
    before = await asking("tasks.get", id=task_id)
    assert (before["download"]["state"], before["progress"]["counters"]["download_speed"]) == ("downloading", 2)
    house.puppet().goes("all", Unavailable("connection refused"))
    await house.holds(await house.add(name="another"), "downloader:")
    after = await asking("tasks.get", id=task_id)
    assert after["download"]["state"] == "unknown"
    assert after["progress"]["counters"] == {**before["progress"]["counters"], "download_speed": 0}
    check_shape(after)


async def test_a_canceled_download_has_no_speed(build: Builder) -> None:
    house = await build.puppets()
    task_id = await house.add()
    key = await house.runs(task_id)
    house.puppet().show(key, state=TransferState.DOWNLOADING, downloaded=3, total=9, download_speed=2.0)
    await house.when(task_id, lambda r: (r.progress and (r.progress.counters or {}).get("download_speed")) == 2)
    canceled = await Asking(house)("tasks.cancel", id=task_id)
    assert canceled["status"] == "canceled"
    assert canceled["progress"]["counters"]["downloaded"] == 3
    assert canceled["progress"]["counters"]["download_speed"] == 0
