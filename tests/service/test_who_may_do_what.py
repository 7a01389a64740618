"""Every verb × (owner, stranger, admin), made from the method table: a new method is asked too, or this test says that
it cannot be."""

from __future__ import annotations

import asyncio
import grp
import json
from dataclasses import fields, replace
from typing import Any

import pytest

from dlqueue.notify.plan import Hook, Plan
from dlqueue.protocol import events
from dlqueue.protocol.caller import Caller
from dlqueue.protocol.envelope import DISCOVER, SUBSCRIBE, UNSUBSCRIBE
from dlqueue.protocol.errors import RpcError
from dlqueue.protocol.methods import METHODS, Method
from dlqueue.queue import Completed, Context, Outcome, Task
from dlqueue.queue.testing import PATIENCE
from dlqueue.service.access import KNOWN, Access
from tests.downloads.house import ME, Builder, House
from tests.service.asking import ROOT, YOU, Asking

pytestmark = pytest.mark.anyio

CANARY = "kanarie"
"""In everything that is mine: what strangers are answered never has it."""
FORBIDDEN, NOT_FOUND = -32002, -32003
URL = f"http://host.invalid/{CANARY}.bin"

ADMINS_ONLY = frozenset(
    f"{space}.{verb}"
    for space, verbs in {
        "daemon": "config reload shutdown",
        "downloaders": "test pause resume",
        "queues": "create update pause resume",
        "notify": "test",
    }.items()
    for verb in verbs.split()
)
"""Beside those whose role in the table is ``admin``."""
UNASKED = frozenset({SUBSCRIBE, UNSUBSCRIBE, DISCOVER})
"""Of the connection; the first is looked at below."""
SAMPLES: dict[str, dict[str, Any]] = {
    "tasks.submit": {"type": "no-op", "params": {}},
    "tasks.submit_many": {"tasks": [{"type": "no-op", "params": {}}]},
    "tasks.purge": {"older_than": 0},
    "tasks.update": {"priority": 1},
    "tasks.wait": {"timeout": 0},
    "downloads.add": {"url": "http://host.invalid/other.bin"},
    "downloads.select": {"indexes": [1]},
    "downloads.refresh_url": {"url": URL},
    "downloaders.get": {"name": "box"},
    "downloaders.test": {"name": "box"},
    "downloaders.pause": {"name": "box"},
    "downloaders.resume": {"name": "box"},
    "queues.create": {"name": "new"},
    "queues.update": {"name": "downloads", "concurrency": 3},
    "schedules.create": {"name": "another", "type": "no-op", "params": {}, "every": 60},
    "schedules.update": {"every": 90},
    "events.list": {"since": 0},
    "tokens.create": {"name": "new", "role": "read"},
    "notify.test": {"name": "ok"},
}
"""What a method needs beside the task or schedule that it is about."""


class NoOp(Task):
    type = "no-op"

    async def run(self, ctx: Context) -> Outcome:
        return Completed(ctx.params)


def takes(method: Method, name: str) -> bool:
    return name in {field.name for field in fields(method.params)}


def is_about_a_task(method: Method) -> bool:
    return takes(method, "id") and method.name.partition(".")[0] in ("tasks", "downloads")


def is_about_something_named(method: Method) -> bool:
    """A schedule or a token."""
    space, _, verb = method.name.partition(".")
    return space in ("schedules", "tokens") and takes(method, "name") and verb != "create"


def is_for_admins(method: Method) -> bool:
    # Whoever is here himself may make tokens for himself; over the gateway that takes a role.
    return method.name in ADMINS_ONLY or (method.role == "admin" and not method.name.startswith("tokens."))


def params_of(method: Method, task_id: int) -> dict[str, Any]:
    sample = dict(SAMPLES.get(method.name, {}))
    if is_about_a_task(method):
        sample["id"] = task_id
    elif is_about_something_named(method):
        sample["name"] = CANARY
    elif takes(method, "name") and "name" not in sample:
        sample["name"] = "downloads"
    return sample


async def world(build: Builder) -> tuple[House, int]:
    """A house in which everything is mine: a download that runs, a paused task, a schedule that has run."""
    house = await build.puppets(tasks=(NoOp(),))
    mine = Asking(house)
    made = await mine(
        "downloads.add",
        url=URL,
        labels={"tag": [CANARY]},
        unique_key=CANARY,
        correlation_id=CANARY,
        priority=3,
    )
    await house.runs(made["id"])
    await mine("schedules.create", name=CANARY, type="no-op", params={"say": CANARY}, every=3600)
    await mine("schedules.run", name=CANARY)
    await mine("tokens.create", name=CANARY, role="submit")
    house.postman.configure(Plan(hooks={"ok": Hook(("true",))}))
    await house.settled()
    return house, made["id"]


async def answer(house: House, caller: Caller, method: str, params: dict[str, Any]) -> tuple[int, str]:
    """The code (0 = it went well), and all that was said."""
    try:
        async with asyncio.timeout(PATIENCE):
            said = await Asking(house, caller)(method, **params)
    except RpcError as error:
        return error.code, json.dumps([error.message, error.data])
    return 0, json.dumps(said)


@pytest.mark.parametrize("name", sorted(METHODS.keys() - UNASKED))
async def test_a_stranger(build: Builder, name: str) -> None:
    house, task_id = await world(build)
    method = METHODS[name]
    params = params_of(method, task_id)
    code, said = await answer(house, YOU, name, params)
    if is_for_admins(method):
        assert code == FORBIDDEN, said
    elif is_about_a_task(method):
        # Word for word what is said of one that was never there.
        nobody = await answer(house, YOU, name, {**params, "id": task_id + 1000})
        assert code == NOT_FOUND
        assert (code, said.replace(str(task_id), "N")) == (nobody[0], nobody[1].replace(str(task_id + 1000), "N"))
    elif is_about_something_named(method):
        nobody = await answer(house, YOU, name, {**params, "name": "nobodys"})
        assert code == NOT_FOUND
        assert (code, said.replace(CANARY, "N")) == (nobody[0], nobody[1].replace("nobodys", "N"))
        said = ""
    else:
        assert code == 0, f"{said}: is there a sample for {name}?"
    assert CANARY not in said
    # And nothing of mine has changed.
    record = await house.queue.get(task_id)
    assert (record.priority, record.want, record.final, record.owner) == (3, "run", False, "me")
    assert (await house.queue.schedules.get(CANARY)).every == 3600
    assert await house.queue.count(owner="me") == 2


@pytest.mark.parametrize("who", ["owner", "admin"])
@pytest.mark.parametrize("name", sorted(METHODS.keys() - UNASKED))
async def test_the_owner_and_an_admin(build: Builder, name: str, who: str) -> None:
    house, task_id = await world(build)
    method = METHODS[name]
    code, said = await answer(house, ME if who == "owner" else ROOT, name, params_of(method, task_id))
    if who == "owner" and is_for_admins(method):
        assert code == FORBIDDEN, said
    else:
        # Whether it can be done now is another question.
        assert code not in (FORBIDDEN, NOT_FOUND, -32601, -32602, -32603), said


FILTERED = sorted(
    name for name, method in METHODS.items() if takes(method, "owner") and not name.startswith("schedules.")
)


@pytest.mark.parametrize("name", FILTERED)
async def test_filters_reach_only_what_is_ones_own(build: Builder, name: str) -> None:
    house, task_id = await world(build)
    more = {"all": True} if takes(METHODS[name], "all") else {}
    for filter in ({"text": CANARY}, {"label": f"tag={CANARY}"}, {"status": ["suspending"]}, more):
        if not filter and more != filter:
            continue
        code, said = await answer(house, YOU, name, filter)
        assert code in (0, -32602), said
        assert CANARY not in said
        if code == 0 and filter:
            empty = json.loads(said)
            assert (empty if isinstance(empty, int) else empty.get("count", empty.get("total") or 0)) == 0
    assert (await answer(house, YOU, name, {"owner": "me"}))[0] == FORBIDDEN
    record = await house.queue.get(task_id)
    assert (record.want, record.final) == ("run", False)


async def test_relatives_keys_and_correlation_ids_of_others_are_not_there(build: Builder) -> None:
    house, task_id = await world(build)
    ask = Asking(house, YOU)
    submit = SAMPLES["tasks.submit"]
    for field, wrong in (("depends_on", [task_id]), ("parent_id", task_id)):
        error = await ask.refused("tasks.submit", **submit, **{field: wrong})
        unknown = task_id + 1000
        nobody = await ask.refused("tasks.submit", **submit, **{field: [unknown] if field == "depends_on" else unknown})
        assert error.message.replace(str(task_id), "N") == nobody.message.replace(str(unknown), "N")
    made = await ask("downloads.add", url=URL, unique_key=CANARY, correlation_id=CANARY)
    assert made["created"] and made["id"] != task_id and made["owner"] == "you"
    assert (await ask("tasks.get", correlation_id=CANARY))["id"] == made["id"]
    await ask("tasks.remove", id=made["id"])
    assert (await ask.refused("tasks.get", correlation_id=CANARY)).code == NOT_FOUND


async def test_events_are_ones_own_the_past_and_the_present(build: Builder) -> None:
    house, task_id = await world(build)
    heard: dict[str, list[str]] = {"you": [], "root": []}
    streams, listening = [], []
    for caller in (YOU, ROOT):
        stream = await house.service.events_subscribe(
            caller, events.Subscribe(topics=["task", "progress", "schedule"], since=0)
        )
        streams.append(stream)

        async def listen(stream: Any = stream, said: list[str] = heard[caller.name]) -> None:
            async for event in stream:
                said.append(json.dumps(event))

        listening.append(asyncio.create_task(listen()))
    await Asking(house)("schedules.run", name=CANARY)
    await Asking(house)("tasks.cancel", id=task_id)
    await house.eventually(lambda: any('"canceled"' in line for line in heard["root"]), "an admin hears of it")
    await house.eventually(lambda: any(CANARY in line for line in heard["root"]), "and of the schedule")
    for stream in streams:
        stream.close()
    await asyncio.gather(*listening)
    assert heard["you"] == []


async def test_what_is_said_in_a_message_about_the_owner_is_not_believed(build: Builder) -> None:
    house, _ = await world(build)
    ask = Asking(house, YOU)
    for method in ("tasks.submit", "downloads.add", "schedules.create"):
        error = await ask.refused(method, **SAMPLES[method], owner="me")
        assert (error.code, error.field) == (-32602, "owner")
    error = await ask.refused("tasks.submit", type="remote_download", params={"url": URL, "owner": "me"})
    assert (error.code, error.field) == (-32602, "owner")


def test_every_sample_is_of_a_method() -> None:
    assert SAMPLES.keys() <= METHODS.keys() and METHODS.keys() >= ADMINS_ONLY


def test_the_groups_of_the_process_count_like_those_of_the_account() -> None:
    (name,) = (group.gr_name for group in grp.getgrall() if group.gr_gid == 1)
    access = Access([name])
    assert not access.is_admin(YOU)
    assert access.is_admin(replace(YOU, groups=frozenset({1})))
    assert access.is_admin(replace(YOU, gid=1))


def test_the_groups_of_a_caller_are_looked_up_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    looked: list[str] = []
    groups = {"dl"}

    def look(caller: Caller) -> set[str]:
        looked.append(caller.name)
        return groups

    monkeypatch.setattr("dlqueue.service.access._groups", look)
    access = Access(["dl"], lambda: now[0])
    assert all(access.is_admin(YOU) for _ in range(100)) and len(looked) == 1
    groups = set()
    assert access.is_admin(YOU)
    now[0] = KNOWN
    assert not access.is_admin(YOU)
    groups = {"dl"}
    access.appoint(["dl"])  # a reload looks at once
    assert access.is_admin(YOU)
    assert not access.is_admin(replace(YOU, name="x")) or looked[-1] == "x"
