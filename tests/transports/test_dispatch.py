"""Params are checked by the table, errors become answers, defects stay inside."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from typing import Any

import pytest

from dlqueue.protocol.caller import Caller
from dlqueue.protocol.errors import Code, LimitExceeded, RpcError
from dlqueue.protocol.jsonrpc import Call
from dlqueue.protocol.methods import METHODS
from dlqueue.transports import dispatch
from dlqueue.transports.dispatch import Dispatcher
from tests.transports.stub_service import StubService

pytestmark = pytest.mark.anyio

CALLER = Caller(uid=1000, gid=1000, name="tester")


@pytest.fixture
async def service() -> StubService:
    return StubService()


async def ask(service: StubService, method: str, **params: Any) -> dict[str, Any]:
    line = await Dispatcher(service).answer(CALLER, Call(1, method, params))
    answer: dict[str, Any] = json.loads(line)
    assert answer["id"] == 1
    return answer


async def refused(service: StubService, method: str, **params: Any) -> dict[str, Any]:
    error: dict[str, Any] = (await ask(service, method, **params))["error"]
    return error


async def test_result(service: StubService) -> None:
    task = service.make(status="paused")
    assert (await ask(service, "tasks.get", id=task["id"]))["result"]["status"] == "paused"
    name, caller, params = service.calls[-1]
    assert (name, caller, params.id) == ("tasks.get", CALLER, task["id"])


async def test_nested_params_become_dataclasses(service: StubService) -> None:
    tasks = [{"type": "a", "params": {"x": 1}}, {"type": "b", "params": {}, "labels": {"tag": "t"}}]
    assert [task["type"] for task in (await ask(service, "tasks.submit_many", tasks=tasks))["result"]] == ["a", "b"]


@pytest.mark.parametrize(
    "name", ["nope", "", "__init__", "tasks.__class__", "tasks_get", "tasks.get.x", "_rows", "Tasks.Get"]
)
async def test_unknown_method(service: StubService, name: str) -> None:
    assert (await refused(service, name))["code"] == Code.NO_METHOD


async def test_unknown_method_names_the_nearest(service: StubService) -> None:
    assert '"tasks.cancel"' in (await refused(service, "tasks.cancle"))["message"]
    assert len((await refused(service, "x" * 100_000))["message"]) < 200


@pytest.mark.parametrize(
    ("method", "params", "field", "said"),
    [
        ("tasks.get", {"idd": 1}, "idd", '"id"'),
        ("tasks.get", {"x": 1}, "x", "there is id, correlation_id"),
        ("tasks.get", {"id": "1"}, "id", "whole number"),
        ("tasks.get", {"id": True}, "id", "whole number"),
        ("tasks.get", {"id": 1.0}, "id", "whole number"),
        ("tasks.get", {"id": [1]}, "id", "whole number"),
        ("tasks.why", {}, "id", "required"),
        ("tasks.why", {"id": None}, "id", "whole number"),
        ("tasks.submit", {"type": "a"}, "params", "required"),
        ("tasks.submit", {"type": "a", "params": []}, "params", "an object"),
        ("tasks.submit", {"type": "a", "params": {}, "delay": "5"}, "delay", "a number"),
        ("tasks.submit", {"type": "a", "params": {}, "prioritty": 5}, "prioritty", '"priority"'),
        ("tasks.submit", {"typ": "a", "params": {}}, "typ", '"type"'),
        ("tasks.submit", {"type": "a", "params": {}, "labels": {"tag": 3}}, "labels.tag", "a string"),
        ("tasks.submit", {"type": "a", "params": {}, "labels": {"tag": ["a", 3]}}, "labels.tag", "a string"),
        ("tasks.submit", {"type": "a", "params": {}, "paused": "yes"}, "paused", "true or false"),
        ("tasks.submit_many", {"tasks": [{"type": "a", "params": {}, "dela": 1}]}, "tasks.0.dela", '"delay"'),
        ("tasks.submit_many", {"tasks": [{"type": "a", "params": {}, "delay": -1}]}, "tasks.0.delay", "between"),
        ("tasks.list", {"status": "eror"}, "status", '"error"'),
        ("tasks.list", {"status": ["queued", 3]}, "status", "'queued'"),
        ("tasks.wait", {"id": 1, "until": "finally"}, "until", '"final"'),
        ("tasks.cancel", {}, "id", "all: true"),
        ("tasks.pause", {"id": 1, "delete_data": True}, "delete_data", "no such param"),
        ("downloads.add", {"url": "http://a", "headers": ["a: b"]}, "headers", "an object"),
        ("downloads.add", {"url": "http://a", "on_exists": "renam"}, "on_exists", '"rename"'),
        ("events.subscribe", {"topics": ["tasks"]}, "topics", '"task"'),
        ("daemon.info", {"verbose": True}, "verbose", "no such param"),
        ("rpc.discover", {"x": 1}, "x", "no such param"),
    ],
)
async def test_wrong_params(service: StubService, method: str, params: dict[str, Any], field: str, said: str) -> None:
    error = await refused(service, method, **params)
    assert error["code"] == Code.INVALID_PARAMS
    assert error["data"]["field"].startswith(field)
    assert error["message"].startswith(field) and said in error["message"]
    assert not service.calls


async def test_error_of_the_service(service: StubService) -> None:
    error = await refused(service, "tasks.get", id=99)
    assert error["code"] == Code.NOT_FOUND and error["data"] == {"kind": "not_found", "field": "id", "task_id": 99}


async def test_defect_is_logged_and_not_told(service: StubService, caplog: pytest.LogCaptureFixture) -> None:
    service.fail["daemon.info"] = RuntimeError("the inside story")
    with caplog.at_level(logging.ERROR):
        error = await refused(service, "daemon.info")
    assert error["code"] == Code.INTERNAL and "story" not in json.dumps(error)
    assert "the inside story" in caplog.text


async def test_result_that_is_not_json_is_a_defect(service: StubService, caplog: pytest.LogCaptureFixture) -> None:
    for result in (object(), {"a": [object()]}, {"a": 1j}):
        task = service.make(result=result)
        assert (await refused(service, "tasks.result", id=task["id"]))["code"] == Code.INTERNAL
    assert "defect while answering tasks.result" in caplog.text


async def test_what_comes_near_to_json_is_made_json(service: StubService) -> None:
    """As the store does it: no number is null. And what the fast way cannot say is said in the slow one."""
    for result, said in ((float("nan"), b"null"), (2**80, b"%d" % 2**80), ("a\udcff", b'"a?"'), (1.0, b"1.0")):
        task = service.make(result=result)
        line = await Dispatcher(service).answer(CALLER, Call(1, "tasks.result", {"id": task["id"]}))
        assert line == b'{"jsonrpc":"2.0","id":1,"result":' + said + b"}\n"


async def test_one_user_waits_for_so_many_at_once(service: StubService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "MOST_WAITING", 2)
    dispatcher, number = Dispatcher(service), service.make(status="paused")["id"]

    def wait(caller: Caller = CALLER) -> asyncio.Task[Any]:
        return asyncio.create_task(dispatcher.result(caller, Call(1, "tasks.wait", {"id": number})))

    waiting = [wait(), wait(), wait(replace(CALLER, uid=1001))]
    async with asyncio.timeout(10):
        while service.waiting < 3:
            await asyncio.sleep(0)
        with pytest.raises(LimitExceeded, match="2 calls of yours"):
            await wait()
        waiting[0].cancel()
        await asyncio.wait(waiting[:1])
        again = wait()
        while service.waiting < 3:
            await asyncio.sleep(0)
    for task in (*waiting, again):
        task.cancel()
    await asyncio.gather(*waiting, again, return_exceptions=True)
    assert not any(dispatcher._waiting.values())


async def test_stopping(service: StubService) -> None:
    dispatcher = Dispatcher(service)
    dispatcher.stopping = True
    with pytest.raises(RpcError) as caught:
        await dispatcher.result(CALLER, Call(1, "daemon.info", {}))
    assert caught.value.code == Code.STOPPING


async def test_service_must_have_every_verb() -> None:
    class Half:
        async def events_subscribe(self, caller: Caller, params: Any) -> Any: ...

    with pytest.raises(TypeError, match="daemon_info"):
        Dispatcher(Half())


async def test_discover(service: StubService) -> None:
    document = (await ask(service, "rpc.discover"))["result"]
    assert document["openrpc"].startswith("1.")
    listed = {row["name"]: row for row in document["methods"]}
    assert set(listed) == set(METHODS)
    required = {param["name"]: param["required"] for param in listed["tasks.submit"]["params"]}
    assert required["type"] and required["params"] and not required["delay"]
    text = json.dumps(document)
    for part in text.split('"#/components/schemas/')[1:]:
        assert part.split('"')[0] in document["components"]["schemas"]
    assert listed["tasks.get"]["result"]["schema"]["properties"]["download"]["$ref"].endswith("/Download")
