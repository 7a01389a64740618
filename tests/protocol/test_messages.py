"""What params mean, and the table that lists them."""

from __future__ import annotations

from typing import Any

import pytest

from dlqueue.protocol import envelope, times
from dlqueue.protocol.errors import Code, InvalidParams, NotFound, RpcError, from_error, nearest
from dlqueue.protocol.messages import (
    AddDownload,
    DownloaderName,
    Filter,
    GetTask,
    ListEvents,
    ListTasks,
    Steer,
    Submit,
    SubmitMany,
    Subscribe,
    UpdateTask,
    Wait,
)
from dlqueue.protocol.methods import METHODS


@pytest.mark.parametrize(
    ("make", "params", "field"),
    [
        (Submit, {"priority": 1001}, "priority"),
        (Submit, {"priority": -1001}, "priority"),
        (Submit, {"delay": -1}, "delay"),
        (Submit, {"delay": float("inf")}, "delay"),
        (Submit, {"timeout": float("nan")}, "timeout"),
        (Submit, {"max_retry": -1}, "max_retry"),
        (Submit, {"run_at": "tomorrow"}, "run_at"),
        (Submit, {"run_at": "2026-02-30T00:00:00Z"}, "run_at"),
        (Submit, {"run_at": "2026-01-01T00:00:00"}, "run_at"),
        (Submit, {"run_at": "2026-01-01T00:00:00Z", "delay": 1}, "run_at"),
        (Submit, {"depends_on": [0]}, "depends_on"),
        (Submit, {"parent_id": -1}, "parent_id"),
        (Submit, {"unique_key": ""}, "unique_key"),
        (Submit, {"correlation_id": "x" * 2000}, "correlation_id"),
        (Submit, {"labels": {"": "x"}}, "labels"),
        (SubmitMany, {"tasks": []}, "tasks"),
        (AddDownload, {}, "url"),
        (AddDownload, {"url": "http://a", "urls": ["http://b"]}, "url"),
        (AddDownload, {"urls": []}, "urls"),
        (GetTask, {}, "id"),
        (GetTask, {"id": 1, "correlation_id": "a"}, "id"),
        (GetTask, {"id": 0}, "id"),
        (Steer, {}, "id"),
        (Steer, {"all": False}, "id"),
        (Steer, {"id": 1, "all": True}, "id"),
        (Steer, {"id": 1, "status": "error"}, "id"),
        (ListTasks, {"limit": 0}, "limit"),
        (ListTasks, {"limit": 1001}, "limit"),
        (ListTasks, {"label": "=x"}, "label"),
        (ListTasks, {"since": "yesterday"}, "since"),
        (UpdateTask, {"id": 0, "priority": 1}, "id"),
        (UpdateTask, {"id": 1}, "id"),
        (UpdateTask, {"id": 1, "priority": 1001}, "priority"),
        (UpdateTask, {"id": 1, "labels": {"": "x"}}, "labels"),
        (UpdateTask, {"id": 1, "labels": {"x": ["y"] * 65}}, "labels"),
        (UpdateTask, {"id": 1, "run_at": "soon"}, "run_at"),
        (DownloaderName, {"name": ""}, "name"),
        (ListEvents, {"task_ids": [0]}, "task_ids"),
        (ListEvents, {"since": -1}, "since"),
        (ListEvents, {"limit": 0}, "limit"),
        (ListEvents, {"cursor": "x"}, "cursor"),
        (Wait, {"id": 1, "timeout": -1}, "timeout"),
        (Subscribe, {"since": -1}, "since"),
        (Subscribe, {"task_ids": [0]}, "task_ids"),
    ],
)
def test_refused_by_name(make: Any, params: dict[str, Any], field: str) -> None:
    if make is Submit:
        params = {"type": "probe", "params": {}, **params}
    with pytest.raises(InvalidParams) as caught:
        make(**params)
    assert caught.value.field == field
    assert caught.value.message.startswith(f"{field}: ")
    assert caught.value.error()["data"]["field"] == field


def test_labels_are_lists() -> None:
    task = Submit(type="probe", params={}, labels={"tag": "a", "more": ["b", "c"]})
    assert task.all_labels() == {"tag": ["a"], "more": ["b", "c"]}


def test_due() -> None:
    assert Submit(type="probe", params={}).due(100.0) is None
    assert Submit(type="probe", params={}, delay=5).due(100.0) == 105.0
    assert Submit(type="probe", params={}, run_at="1970-01-01T01:01:40+01:00").due(0.0) == 100.0


def test_request_is_what_a_submission_does_not_have() -> None:
    given = AddDownload(url="http://a/b", directory="/srv", priority=3, cwd="/home")
    assert given.request() == {"url": "http://a/b", "directory": "/srv", "cwd": "/home"}


def test_filters() -> None:
    assert Filter().is_empty() and Filter().statuses() is None
    assert Filter(status="error").statuses() == ("error",)
    assert Filter(status=[]).statuses() == () and not Filter(status=[]).is_empty()
    assert Filter(label="tag=linux").labels() == {"tag": "linux"}
    assert Filter(label="tag").labels() == {"tag": None}
    assert Filter(label={"tag": "linux"}).labels() == {"tag": "linux"}
    assert Steer(all=True).is_empty() and Steer(status=[]) is not None
    assert ListTasks(limit=5, cursor="x").is_empty(), "paging is no condition"


def test_instants() -> None:
    assert times.instant_text(0.1234) == "1970-01-01T00:00:00.123Z"
    assert times.instant("1970-01-01t00:00:10.5z") == 10.5
    for bad in (
        "",
        "1970-01-01",
        "1970-01-01T00:00:00",
        "1970-13-01T00:00:00Z",
        "1970-01-01T00:00:00+0100",
        "١970-01-01T00:00:00Z",
    ):
        with pytest.raises(ValueError):
            times.instant(bad)


def test_errors_cross_the_wire() -> None:
    sent = NotFound("there is no task 7", task_id=7)
    assert sent.error() == {
        "code": -32003, "message": "there is no task 7", "data": {"kind": "not_found", "task_id": 7},
    }  # fmt: skip
    received = from_error(sent.error())
    assert isinstance(received, NotFound) and received.task_id == 7
    field = from_error(InvalidParams("x", "is wrong", kind="odd").error())
    assert isinstance(field, InvalidParams) and (field.field, field.kind, field.message) == ("x", "odd", "x: is wrong")
    strange = from_error({"code": -1, "message": "?"})
    assert type(strange) is RpcError and strange.code == -1


def test_every_code_has_its_class() -> None:
    assert {raised.default_code for raised in RpcError.__subclasses__()} == set(Code)


def test_nearest() -> None:
    assert nearest("prioritty", ["priority", "queue"]) == "priority"
    assert nearest("xyz", ["priority", "queue"]) is None
    assert nearest("q" * 1_000_000, ["priority"]) is None


def test_table() -> None:
    expected = {
        "daemon.info", "daemon.overview", "daemon.config", "daemon.reload", "daemon.shutdown", "daemon.doctor",
        "tasks.submit", "tasks.submit_many", "tasks.get",
        "tasks.list", "tasks.count", "tasks.cancel", "tasks.pause", "tasks.resume", "tasks.retry", "tasks.remove",
        "tasks.update", "tasks.wait", "tasks.progress", "tasks.result", "tasks.history", "tasks.why", "downloads.add",
        "downloads.files", "downloads.select", "downloads.refresh_url",
        "downloaders.list", "downloaders.get", "downloaders.test", "downloaders.pause", "downloaders.resume",
        "downloaders.kinds", "tasks.stats", "tasks.purge",
        "queues.list", "queues.get", "queues.create", "queues.update", "queues.pause", "queues.resume", "queues.stats",
        "schedules.list", "schedules.get", "schedules.create", "schedules.update", "schedules.pause",
        "schedules.resume", "schedules.run", "schedules.delete", "schedules.stats",
        "tokens.list", "tokens.create", "tokens.revoke", "notify.test",
        "events.list", "events.subscribe", "events.unsubscribe", "rpc.discover",
    }  # fmt: skip
    assert set(METHODS) == expected
    assert expected >= envelope.WAITING
    for name, row in METHODS.items():
        assert row.name == name and row.doc.endswith(".")
