"""`notify` of a submit, `notify.test`, and what a history tells of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from dlqueue.notify.plan import Hook, Plan
from dlqueue.protocol.caller import ROLES
from dlqueue.queue import Completed
from tests.downloads.house import Builder, House
from tests.notify.receiver import Receiver, Reply
from tests.queue.rig import task
from tests.service.asking import ROOT, Asking

pytestmark = pytest.mark.anyio

PLAN = Plan(targets={"phone": "json://127.0.0.1:1/tokentoken"}, hooks={"ok": Hook(("true",)), "bad": Hook(("false",))})


@pytest.fixture
async def house(build: Builder) -> AsyncIterator[House]:
    made = await build.puppets(tasks=(task(lambda ctx: Completed(), type="probe"),))
    made.postman.configure(PLAN)
    made.postman.start()
    yield made
    await made.postman.stop()


@pytest.mark.parametrize(
    ("notify", "code", "field"),
    [
        ({}, -32602, "notify.webhook"),
        ({"on": ["delivered"]}, -32602, "notify.webhook"),
        ({"hook": "ok", "on": []}, -32602, "notify.on"),
        ({"hook": "ok", "on": ["done"]}, -32602, "notify.on.0"),
        ({"hook": "no"}, -32602, "notify.hook"),
        ({"hook": "../ok"}, -32602, "notify.hook"),
        ({"to": ["nobody"]}, -32602, "notify.to"),
        ({"to": ["phone"] * 17}, -32602, "notify.to"),
        ({"to": ["json://127.0.0.1/x"]}, -32006, "notify.to"),
        ({"webhook": "http://127.0.0.1/x"}, -32006, "notify.webhook"),
        ({"webhook": "http://[::ffff:7f00:1]/x"}, -32006, "notify.webhook"),
        ({"webhook": "file:///etc/passwd"}, -32006, "notify.webhook"),
        ({"webhook": "no url"}, -32602, "notify.webhook"),
        ({"webhok": "http://h/x"}, -32602, "notify.webhok"),
        ({"hook": 7}, -32602, "notify.hook"),
        ("phone", -32602, "notify"),
    ],
)
async def test_what_is_refused(house: House, notify: Any, code: int, field: str) -> None:
    ask = Asking(house)
    for method, params in (
        ("tasks.submit", {"type": "probe", "params": {}}),
        ("downloads.add", {"url": "http://host.invalid/x"}),
        ("downloads.add", {"url": "http://host.invalid/x", "dry_run": True}),
    ):
        error = await ask.refused(method, **params, notify=notify)
        assert (error.code, error.field) == (code, field), error.message
    many = [{"type": "probe", "params": {}, "notify": notify}]
    assert (await ask.refused("tasks.submit_many", tasks=many)).code == code
    assert await ask("tasks.count") == 0


async def test_an_admin_may_name_a_url(house: House) -> None:
    notify = {"to": ["json://127.0.0.1:1/x"]}
    made = await Asking(house, ROOT)("tasks.submit", type="probe", params={}, notify=notify, paused=True)
    assert "notify" not in made


async def test_what_has_not_arrived_is_in_the_history(house: House) -> None:
    ask = Asking(house)
    made = await ask("tasks.submit", type="probe", params={}, notify={"hook": "bad", "to": ["phone"]})
    await ask("tasks.wait", id=made["id"])
    while not await house.postman.idle(0):
        await asyncio.sleep(0.002)
    notices = (await ask("tasks.history", id=made["id"]))["notices"]
    assert [(n["target"], n["event"], n["attempts"]) for n in notices] == [
        ("hook bad", "completed", 1),
        ("target phone", "completed", 1),
    ]
    assert notices[0]["error"] == "it ended with exit code 1" and notices[0]["id"].startswith("msg_")
    assert "tokentoken" not in str(notices)


async def test_a_trial(house: House) -> None:
    root = Asking(house, ROOT)
    assert await root("notify.test", name="ok") == {"ok": True, "target": "hook ok", "message": "it has arrived"}
    assert (await root("notify.test", name="bad"))["message"] == "it ended with exit code 1"
    assert (await root("notify.test", name="phone"))["ok"] is False
    house.postman.configure(Plan(allow_private=True))
    with Receiver() as receiver:
        assert (await root("notify.test", name=receiver.url()))["ok"] is True
        assert b'"type": "task.completed"' in receiver.got[0].body
    with Receiver(lambda got: Reply(404)) as receiver:
        answer = await root("notify.test", name=receiver.url("tokentoken"))
    assert answer["ok"] is False and "HTTP 404" in answer["message"] and "tokentoken" not in str(answer)
    assert (await root.refused("notify.test", name="phone")).code == -32003
    assert (await Asking(house).refused("notify.test", name="ok")).code == -32002


async def test_a_token_with_a_small_role_tries_no_url(house: House) -> None:
    house.postman.configure(replace(PLAN, allow_private=True))
    with Receiver() as receiver:
        for role in ROLES[ROLES.index("operate") :]:
            ask = Asking(house, replace(ROOT, role=role, token="mine"))
            assert (await ask("notify.test", name="ok"))["ok"] is True
            for name in (receiver.url(), receiver.url().replace("http:", "json:")):
                if role == "admin":
                    assert (await ask("notify.test", name=name))["ok"] is True
                else:
                    assert (await ask.refused("notify.test", name=name)).kind == "role"
                    assert receiver.got == []


async def test_private_webhooks_are_not_tried(house: House) -> None:
    with Receiver() as receiver:
        answer = await Asking(house, ROOT)("notify.test", name=receiver.url())
        assert answer["ok"] is False and "allow_private" in answer["message"]
        assert receiver.got == []
