"""`schedules.*`: what they answer, whose they are, and what they say no with."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dlqueue.protocol.events import Subscribe
from dlqueue.queue import Completed, Context, Outcome, Task
from dlqueue.queue.testing import PATIENCE
from tests.downloads.house import ME, Builder, House
from tests.service.asking import ROOT, YOU, Asking

pytestmark = pytest.mark.anyio

URL = "http://me:secret@host.invalid/file.bin?token=hidden"
NIGHTLY: dict[str, Any] = {"name": "nightly", "type": "no-op", "params": {"a": 1}, "cron": "0 3 * * *"}


class NoOp(Task):
    type = "no-op"

    async def run(self, ctx: Context) -> Outcome:
        return Completed(ctx.params)


async def house(build: Builder) -> tuple[House, Asking]:
    made = await build.puppets(tasks=(NoOp(),))
    return made, Asking(made)


async def test_create_shows_everything(build: Builder) -> None:
    _, ask = await house(build)
    made = await ask("schedules.create", **NIGHTLY, timezone="Europe/Berlin", missed="once", overlap="skip", queue="q")
    assert made == {
        "name": "nightly", "type": "no-op", "params": {"a": 1}, "queue": "q", "cron": "0 3 * * *", "every": None,
        "timezone": "Europe/Berlin", "missed": "once", "overlap": "skip", "owner": "me", "active": True,
        "previous_run": None, "next_run": "2023-11-15T02:00:00.000Z", "last_status": None, "last_task_id": None,
        "runs": 0, "created_at": "2023-11-14T22:13:20.000Z",
    }  # fmt: skip
    assert await ask("schedules.get", name="nightly") == made
    assert await ask("schedules.list") == {"items": [made], "next_cursor": None, "total": 1}


async def test_defaults(build: Builder) -> None:
    _, ask = await house(build)
    made = await ask("schedules.create", **NIGHTLY)
    assert (made["timezone"], made["missed"], made["overlap"], made["next_run"]) == (
        "UTC", "skip", "allow", "2023-11-15T03:00:00.000Z",
    )  # fmt: skip
    made = await ask("schedules.create", name="e", type="no-op", params={}, every=90)
    assert (made["every"], made["cron"], made["next_run"]) == (90, None, "2023-11-14T22:14:50.000Z")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"cron": "0 3 * *"}, "cron"),
        ({"cron": "0 3 * * * * *"}, "cron"),
        ({"cron": "99 3 * * *"}, "cron"),
        ({"cron": ""}, "cron"),
        ({"cron": "@sometimes"}, "cron"),
        ({"cron": "@every x"}, "cron"),
        ({"every": 5}, "cron"),
        ({"cron": None, "every": 0}, "every"),
        ({"cron": None, "every": -1}, "every"),
        ({"cron": None}, "cron"),
        ({"timezone": "Mars/City"}, "timezone"),
        ({"timezone": 5}, "timezone"),
        ({"missed": "never"}, "missed"),
        ({"overlap": "never"}, "overlap"),
        ({"type": "nope"}, "type"),
        ({"params": []}, "params"),
        ({"type": "remote_download", "params": {"url": "no url"}}, "url"),
        ({"type": "remote_download", "params": {"link": URL}}, "link"),
        ({"name": ""}, "name"),
        ({"name": "a/b"}, "name"),
        ({"name": "x" * 2000}, "name"),
        ({"nam": "x"}, "nam"),
        ({"priority": 5}, "priority"),
    ],
)
async def test_what_cannot_be_right_names_the_field(build: Builder, changes: dict[str, Any], field: str) -> None:
    _, ask = await house(build)
    given = {key: value for key, value in {**NIGHTLY, **changes}.items() if value is not None}
    error = await ask.refused("schedules.create", **given)
    assert (error.code, error.field) == (-32602, field), error.message
    assert field in error.message
    if "name" not in changes and "type" not in changes:
        await ask("schedules.create", **NIGHTLY)
        if given.keys() - {"name", "type"} and "cron" in given and field in ("cron", "timezone", "missed", "overlap"):
            change = {key: given[key] for key in changes if key in given}
            if change != {"every": 5}:
                error = await ask.refused("schedules.update", name="nightly", **change)
                assert (error.code, error.field) == (-32602, field), error.message


async def test_policy_is_asked_at_once(build: Builder) -> None:
    _, ask = await house(build)
    for params in ({"url": "file:///etc/passwd"}, {"url": URL, "directory": "/elsewhere"}):
        error = await ask.refused("schedules.create", **{**NIGHTLY, "type": "remote_download", "params": params})
        assert error.code == -32006


async def test_update_pause_resume_run_delete(build: Builder) -> None:
    made, ask = await house(build)
    await ask("schedules.create", **NIGHTLY)
    changed = await ask("schedules.update", name="nightly", every=60, params={"b": 2})
    assert (changed["cron"], changed["every"], changed["params"]) == (None, 60, {"b": 2})
    error = await ask.refused("schedules.update", name="nightly")
    assert "nothing to change" in error.message
    paused = await ask("schedules.pause", name="nightly")
    assert (paused["active"], paused["next_run"]) == (False, None)
    resumed = await ask("schedules.resume", name="nightly")
    assert resumed["active"] and resumed["next_run"]
    ran = await ask("schedules.run", name="nightly")
    assert (ran["next_run"], ran["runs"]) == (resumed["next_run"], 1)
    done = await ask("tasks.wait", id=ran["last_task_id"])
    assert (done["owner"], done["params"], done["labels"], done["unique_key"]) == (
        "me", {"b": 2}, {"schedule": ["nightly"]}, None,
    )  # fmt: skip
    found = await ask("schedules.get", name="nightly")
    assert (found["last_status"], found["last_task_id"]) == ("completed", done["id"])
    stats = await ask("schedules.stats", name="nightly")
    (line,) = stats.pop("items")
    assert stats == {
        "active": 1, "paused": 0, "runs": 1, "running": 0, "completed": 1, "failed": 0, "canceled": 0, "skipped": 0,
        "refused": 0, "next_cursor": None, "total": None,
    }  # fmt: skip
    assert line | {"id": 1} == {
        "id": 1, "schedule": "nightly", "kind": "manual", "due_at": "2023-11-14T22:13:20.000Z",
        "started_at": "2023-11-14T22:13:20.000Z", "task_id": done["id"], "status": "completed", "message": None,
        "finished_at": "2023-11-14T22:13:20.000Z", "seconds": 0,
    }  # fmt: skip
    assert (await ask("schedules.delete", name="nightly"))["runs"] == 1
    assert (await ask.refused("schedules.get", name="nightly")).code == -32003
    assert made.queue.counters.submitted == 1


async def test_pages(build: Builder) -> None:
    _, ask = await house(build)
    for n in range(5):
        await ask("schedules.create", **{**NIGHTLY, "name": f"s{n}"})
        await ask("schedules.run", name=f"s{n}")
    page = await ask("schedules.list", limit=2)
    names, pages = [one["name"] for one in page["items"]], 1
    while page["next_cursor"] is not None:
        page = await ask("schedules.list", limit=2, cursor=page["next_cursor"])
        names += [one["name"] for one in page["items"]]
        pages += 1
    assert (names, pages, page["total"]) == ([f"s{n}" for n in range(5)], 3, 5)
    first = await ask("schedules.stats", limit=3)
    rest = await ask("schedules.stats", limit=3, cursor=first["next_cursor"])
    assert [run["schedule"] for run in first["items"] + rest["items"]] == ["s4", "s3", "s2", "s1", "s0"]
    assert rest["next_cursor"] is None
    assert (await ask.refused("schedules.stats", cursor="x")).field == "cursor"


async def test_others_schedules_are_not_there(build: Builder) -> None:
    made, ask = await house(build)
    you, root = Asking(made, YOU), Asking(made, ROOT)
    await ask("schedules.create", **NIGHTLY)
    await ask("schedules.run", name="nightly")
    for verb in ("get", "pause", "resume", "run", "delete", "stats"):
        error = await you.refused(f"schedules.{verb}", name="nightly")
        assert (error.code, error.kind) == (-32003, "schedule"), verb
        nobody = await you.refused(f"schedules.{verb}", name="nobody")
        assert error.message.replace("nightly", "nobody") == nobody.message, "that it exists is not told"
    assert (await you.refused("schedules.update", name="nightly", every=60)).code == -32003
    assert (await you("schedules.list"))["items"] == []
    assert (await you("schedules.stats"))["items"] == []
    assert (await you.refused("schedules.list", owner="me")).code == -32002
    assert (await you.refused("schedules.create", **NIGHTLY)).code == -32004
    await you("schedules.create", **{**NIGHTLY, "name": "yours"})
    assert [one["name"] for one in (await root("schedules.list"))["items"]] == ["nightly", "yours"]
    assert [one["name"] for one in (await root("schedules.list", owner="you"))["items"]] == ["yours"]
    changed = await root("schedules.update", name="yours", missed="all")
    assert changed["owner"] == "you"
    ran = await root("schedules.run", name="yours")
    assert (await root("tasks.get", id=ran["last_task_id"]))["owner"] == "you", "tasks belong to the schedule's owner"


async def test_downloads(build: Builder) -> None:
    made, ask = await house(build)
    params = {"url": URL, "directory": "sub", "cwd": str(made.destination), "headers": {"Cookie": "secret"}}
    shown = await ask("schedules.create", **{**NIGHTLY, "type": "remote_download", "params": params})
    assert shown["params"].keys() == {"url", "directory", "headers"}
    assert "***" in shown["params"]["url"] and shown["params"]["headers"] == {"Cookie": "***"}
    assert "secret" not in str(shown)
    assert "hidden" not in str(shown)
    first, second = [(await ask("schedules.run", name="nightly"))["last_task_id"] for _ in range(2)]
    assert first != second, "never joined"
    task = await ask("tasks.get", id=first)
    assert task["download"]["destination"] == str(made.destination / "sub")
    assert task["queue"] == (await ask("tasks.get", id=await made.add()))["queue"]
    record = await made.queue.get(first)
    assert (record.join_key, record.unique_key) == (None, None)
    assert record.params["urls"] == [URL] and record.params["headers"] == {"Cookie": "secret"}
    added = await ask("downloads.add", url=URL, directory=str(made.destination / "sub"), paused=True)
    assert added["created"], "what is added by hand is not joined with a run either"


async def test_cwd_of_a_stranger_is_not_believed(build: Builder) -> None:
    made, _ = await house(build)
    you = Asking(made, YOU)
    params = {"url": URL, "directory": "sub", "cwd": str(made.destination)}
    error = await you.refused("schedules.create", **{**NIGHTLY, "type": "remote_download", "params": params})
    assert error.field == "directory"


async def test_events_of_the_topic_schedule(build: Builder) -> None:
    made, ask = await house(build)
    mine = await made.service.events_subscribe(ME, Subscribe(topics=["schedule"]))
    yours = await made.service.events_subscribe(YOU, Subscribe(topics=["schedule"]))
    await ask("schedules.create", **NIGHTLY)
    ran = await ask("schedules.run", name="nightly")
    await Asking(made, YOU)("schedules.create", **{**NIGHTLY, "name": "yours"})
    async with asyncio.timeout(PATIENCE):
        stream = aiter(mine)
        created, fired = await anext(stream), await anext(stream)
        other = await anext(aiter(yours))
    assert (created["topic"], created["sequence"], created["data"]["kind"]) == ("schedule", None, "created")
    assert (fired["task_id"], fired["data"]["kind"], fired["data"]["name"]) == (ran["last_task_id"], "fired", "nightly")
    assert fired["data"]["run"]["kind"] == "manual"
    assert other["data"]["name"] == "yours", "of others nothing is heard"
