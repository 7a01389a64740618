"""The verbs: what they answer, whom they let in, and what they say no with."""

from __future__ import annotations

import asyncio
import base64
import grp
from pathlib import Path
from typing import Any

import pytest

from dlqueue.downloads.endpoints import NoRoute
from dlqueue.downloads.policy import Policy, PolicyRefused
from dlqueue.protocol.caller import Caller
from dlqueue.queue import (
    Conflict,
    IllegalTransition,
    InvalidSetting,
    InvalidTask,
    Outcome,
    QueueClosed,
    QueueError,
    QueueFull,
    QueueNotFound,
    QueueSettings,
    QuotaExceeded,
    ResumeAfter,
    ScheduleNotFound,
    Status,
    StorageError,
    Task,
    TaskNotFound,
    TaskRecord,
    UnknownType,
    WaitTimeout,
)
from dlqueue.queue.sql import SqlStore
from dlqueue.queue.task import Context
from dlqueue.queue.testing import PATIENCE
from dlqueue.sdk import Rejected
from dlqueue.service.faults import as_rpc_error
from dlqueue.service.service import STEERED_AT_ONCE
from tests.downloads.house import ME, Builder, House
from tests.service.asking import ROOT, YOU, Asking

pytestmark = pytest.mark.anyio

URL = "http://host.invalid/file.bin"


class Sleeper(Task):
    """Does nothing, for ever."""

    type = "sleeper"

    async def run(self, ctx: Context) -> Outcome:
        return ResumeAfter(1000.0)


async def paused(ask: Asking, url: str = URL, **more: Any) -> int:
    task: dict[str, Any] = await ask("downloads.add", url=url, paused=True, **more)
    number: int = task["id"]
    return number


def ids(page: dict[str, Any]) -> list[int]:
    return [task["id"] for task in page["items"]]


# -- adding -----------------------------------------------------------------------------------------------------------


async def test_add_and_submit_are_two_doors_to_one_room(build: Builder) -> None:
    house = await build.puppets()
    ask = Asking(house)
    added = await ask("downloads.add", url=URL, name="a", paused=True, priority=3, labels={"tag": "x"})
    submitted = await ask(
        "tasks.submit",
        type="remote_download",
        params={"url": URL, "name": "b"},
        paused=True,
        priority=3,
        labels={"tag": ["x"]},
    )
    assert added["params"] | {"name": "b"} == submitted["params"]
    different = {key for key in added if added[key] != submitted[key]}
    assert different == {"id", "params", "download"}
    assert added["labels"] == {"tag": ["x"]}
    assert (added["owner"], added["queue"], added["created"]) == ("me", "downloads", True)


async def test_both_doors_refuse_the_same(build: Builder) -> None:
    ask = Asking(await build.puppets())
    for params, code, field in (
        ({"url": "file:///etc/passwd"}, -32006, "url"),
        ({"url": "http://h/\r\nX: y"}, -32602, "url"),
        ({"url": URL, "directory": "/etc"}, -32006, "directory"),
        ({"url": URL, "directory": "sub"}, -32602, "directory"),
        ({"url": URL, "name": "../x"}, -32602, "name"),
        ({"url": URL, "headers": {"A": "b\r\nC: d"}}, -32602, "headers"),
        ({"url": URL, "checksum": "sha-256=zz"}, -32602, "checksum"),
        ({"url": URL, "downloader": "none"}, -32602, "downloader"),
        ({"url": "magnet:?xt=urn:btih:" + "ab" * 20}, -32006, "url"),
        ({"url": URL, "nam": "x"}, -32602, "nam"),
        ({"url": URL, "cwd": "relative"}, -32602, "cwd"),
        ({"url": URL, "cwd": 5}, -32602, "cwd"),
        ({"url": URL, "urls": [URL]}, -32602, "url"),
        ({}, -32602, "url"),
    ):
        for error in (
            await ask.refused("downloads.add", **params),
            await ask.refused("tasks.submit", type="remote_download", params=params),
        ):
            assert (error.code, error.field) == (code, field), (params, error.message)
    assert (await ask("tasks.count")) == 0


async def test_the_folder_a_client_stands_in_is_believed_of_our_own_user_only(build: Builder, tmp_path: Path) -> None:
    house = await build.puppets()
    here = tmp_path / "here"
    here.mkdir()
    added = await Asking(house)("downloads.add", url=URL, directory="sub", cwd=str(here), paused=True)
    assert added["download"]["destination"] == str(here / "sub")
    assert "cwd" not in added["params"]
    for method, params in (
        ("downloads.add", {"url": URL, "directory": "sub", "cwd": str(here)}),
        ("tasks.submit", {"type": "remote_download", "params": {"url": URL, "directory": "sub", "cwd": str(here)}}),
    ):
        error = await Asking(house, YOU).refused(method, **params)
        assert (error.code, error.field) == (-32602, "directory")
    error = await Asking(house, YOU).refused("downloads.add", url=URL, directory=str(here), cwd=str(here))
    assert error.code == -32006


async def test_submit_many_is_all_or_nothing(build: Builder) -> None:
    ask = Asking(await build.puppets(tasks=(Sleeper(),)))
    good = {"type": "remote_download", "params": {"url": URL}, "paused": True}
    bad = {"type": "remote_download", "params": {"url": "file:///x"}}
    assert (await ask.refused("tasks.submit_many", tasks=[good, bad])).code == -32006
    assert (await ask.refused("tasks.submit_many", tasks=[good, {"type": "no", "params": {}}])).code == -32602
    assert await ask("tasks.count") == 0
    made = await ask("tasks.submit_many", tasks=[good, {"type": "sleeper", "params": {"x": 1}, "paused": True}])
    assert [task["type"] for task in made] == ["remote_download", "sleeper"]
    assert "download" not in made[1]
    assert made[1]["params"] == {"x": 1}


@pytest.mark.parametrize(
    ("wrong", "message", "field", "code"),
    [
        ({"delay": -1}, "tasks.1.delay: must be between", "tasks.1.delay", -32602),
        ({"params": {"url": "x://y"}}, "tasks.1.url: scheme 'x' is not allowed", "tasks.1.url", -32006),
        ({"type": "nope"}, "tasks.1.type: no task type 'nope'", "tasks.1.type", -32602),
        ({"depends_on": [99]}, "tasks.1.depends_on: task 99 not found", "tasks.1.depends_on", -32602),
    ],
)
async def test_submit_many_says_which_of_them_is_wrong(
    build: Builder, wrong: dict[str, Any], message: str, field: str, code: int
) -> None:
    ask = Asking(await build.puppets())
    right = {"type": "remote_download", "params": {"url": URL}}
    error = await ask.refused("tasks.submit_many", tasks=[right, {**right, **wrong}])
    assert error.message.startswith(message)
    assert (error.field, error.code) == (field, code)
    assert await ask("tasks.count") == 0


@pytest.mark.parametrize("durable", [False, True])
async def test_joining(build: Builder, tmp_path: Path, durable: bool) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/q.db", "process") if durable else None
    house = await build.puppets(store=store)
    ask = Asking(house)
    first = await ask("downloads.add", url=URL, paused=True)
    again = await ask("downloads.add", url=URL, priority=5)
    assert (first["created"], again["created"], again["id"]) == (True, False, first["id"])
    twice = await ask(
        "tasks.submit_many", tasks=[{"type": "remote_download", "params": {"url": URL + "2"}, "paused": True}] * 2
    )
    assert [task["created"] for task in twice] == [True, False]
    others = [
        await ask("downloads.add", url=URL, directory=str(house.destination / "sub"), paused=True),
        await Asking(house, YOU)("downloads.add", url=URL, paused=True),
        await ask("downloads.add", url=URL, unique_key="k", paused=True),
    ]
    assert all(task["created"] for task in others)
    await ask("tasks.cancel", id=first["id"])
    after = await ask("downloads.add", url=URL, paused=True)
    assert after["created"]
    assert after["id"] != first["id"]


async def test_unique_keys(build: Builder) -> None:
    house = await build.puppets()
    ask = Asking(house)
    first = await ask("downloads.add", url=URL, unique_key="k", paused=True)
    assert not (await ask("downloads.add", url=URL, unique_key="k"))["created"]
    error = await ask.refused("downloads.add", url=URL + "2", unique_key="k")
    assert (error.code, error.task_id) == (-32004, first["id"])
    assert (await Asking(house, YOU)("downloads.add", url=URL + "2", unique_key="k", paused=True))["created"]
    # In any status, as long as the row is there.
    await ask("tasks.cancel", id=first["id"])
    last = await ask("downloads.add", url=URL, unique_key="k")
    assert (last["id"], last["status"], last["created"]) == (first["id"], "canceled", False)
    await ask("tasks.remove", id=first["id"])
    assert (await ask("downloads.add", url=URL, unique_key="k", paused=True))["created"]


async def test_relatives_must_be_ones_own(build: Builder) -> None:
    house = await build.puppets()
    ask, other = Asking(house), Asking(house, YOU)
    mine, theirs = await paused(ask), await paused(other)
    made = await ask("downloads.add", url=URL, name="x", depends_on=[mine], parent_id=mine)
    assert (made["status"], made["depends_on"], made["parent_id"]) == ("blocked", [mine], mine)
    for field in ("depends_on", "parent_id"):
        for task_id in (theirs, 999):
            value = [task_id] if field == "depends_on" else task_id
            error = await ask.refused("downloads.add", url=URL, name="y", **{field: value})
            assert (error.code, error.field) == (-32602, field)
            assert "not found" in error.message


# -- looking ----------------------------------------------------------------------------------------------------------


async def test_get_by_id_and_by_correlation(build: Builder) -> None:
    house = await build.puppets()
    ask = Asking(house)
    task_id = await paused(ask, correlation_id="c-1")
    assert (await ask("tasks.get", id=task_id))["id"] == task_id
    assert (await ask("tasks.get", correlation_id="c-1"))["id"] == task_id
    assert (await ask.refused("tasks.get", correlation_id="c-2")).code == -32003
    assert (await ask.refused("tasks.get", id=999)).code == -32003
    assert (await Asking(house, YOU).refused("tasks.get", correlation_id="c-1")).code == -32003


async def test_filters(build: Builder) -> None:
    house = await build.puppets(tasks=(Sleeper(),), settings=QueueSettings(max_retry=0))
    ask, root = Asking(house), Asking(house, ROOT)
    plain = await paused(ask, labels={"tag": ["linux", "iso"], "x": "1"})
    house.clock.advance(100)
    canceled = await paused(ask, name="Ubuntu.iso")
    await ask("tasks.cancel", id=canceled)
    failed = (await ask("downloads.add", url=URL, name="f"))["id"]
    house.puppet().fail(await house.runs(failed), Rejected("x", "request", kind="http_404"))
    await house.reaches(failed, Status.ERROR)
    other = await paused(Asking(house, YOU))
    sleeper = (await ask("tasks.submit", type="sleeper", params={}, queue="side", paused=True))["id"]
    everything = [sleeper, other, failed, canceled, plain]

    async def found(by: Asking = ask, **conditions: Any) -> list[int]:
        page = await by("tasks.list", **conditions)
        assert await by("tasks.count", **conditions) == len(page["items"])
        return ids(page)

    assert await found() == [sleeper, failed, canceled, plain]
    assert await found(root) == everything
    assert await found(status="error") == [failed]
    assert await found(status=["error", "canceled"]) == [failed, canceled]
    assert await found(status=[]) == []
    assert await found(retryable=True) == [failed, canceled]
    assert await found(dead=True) == [failed]
    assert await found(dead=True, status="canceled") == []
    assert await found(type="sleeper") == [sleeper]
    assert await found(queue="downloads") == [failed, canceled, plain]
    assert await found(root, owner="you") == [other]
    assert await found(owner="me") == [sleeper, failed, canceled, plain]
    assert await found(label="tag") == await found(label="tag=iso") == await found(label={"tag": "linux"}) == [plain]
    assert await found(label={"tag": "linux", "x": "1"}) == [plain]
    assert await found(label={"tag": "linux", "x": "2"}) == await found(label="tag=") == []
    assert await found(text="ubuntu") == [canceled]
    assert await found(text="no such thing") == []
    since = (await ask("tasks.get", id=canceled))["created_at"]
    assert await found(since=since) == [sleeper, failed, canceled]
    assert await found(until=since) == [plain]
    for wrong in ({"status": "gone"}, {"since": "yesterday"}, {"label": "=x"}, {"limit": 0}, {"limit": 1001}):
        error = await ask.refused("tasks.list", **wrong)
        assert (error.code, error.field) == (-32602, next(iter(wrong)))


async def test_pages(build: Builder) -> None:
    ask = Asking(await build.puppets())
    made = [await paused(ask, f"{URL}{number}", priority=number % 2) for number in range(5)]
    seen: list[int] = []
    cursor = None
    for _ in range(3):
        page = await ask("tasks.list", limit=2, order="id", **({} if cursor is None else {"cursor": cursor}))
        assert page["total"] is None
        seen += ids(page)
        cursor = page["next_cursor"]
    assert (seen, cursor) == (made, None)
    page = await ask("tasks.list", limit=2, count=True)
    assert (page["total"], ids(page)) == (5, made[:-3:-1])
    assert [task["priority"] for task in (await ask("tasks.list", order="-priority"))["items"]] == [1, 1, 0, 0, 0]
    assert (await ask("tasks.list", status=[], count=True)) == {"items": [], "next_cursor": None, "total": 0}
    error = await ask.refused("tasks.list", cursor="nonsense")
    assert (error.code, error.field) == (-32602, "cursor")
    assert (await ask.refused("tasks.list", cursor=page["next_cursor"], order="id")).field == "cursor"


async def test_wait_progress_result_history(build: Builder) -> None:
    house = await build.puppets()
    ask = Asking(house)
    task_id = (await ask("downloads.add", url=URL))["id"]
    key = await house.runs(task_id)
    house.puppet().show(key, downloaded=5, total=20, download_speed=3.7)
    latest = house.endpoints["box"].latest

    def seen() -> bool:
        status = latest(key)
        return status is not None and status.downloaded == 5

    await house.eventually(seen, "the poll")
    progress = await ask("tasks.progress", id=task_id)
    assert progress["percent"] == 25.0
    assert progress["step"] == {"name": "monitor", "done": 1, "total": 3}
    assert progress["counters"] == {"downloaded": 5, "total": 20, "download_speed": 4}
    assert (await ask("downloaders.list"))["items"][0]["download_speed"] == 4
    assert await ask("tasks.result", id=task_id) is None
    house.puppet().finish(key)
    done = await ask("tasks.wait", id=task_id, timeout=PATIENCE)
    assert done["status"] == "completed"
    assert (await ask("tasks.wait", id=task_id, until="delivered"))["id"] == task_id
    assert await ask("tasks.result", id=task_id) == done["result"]
    assert (await ask("tasks.progress", id=task_id))["percent"] == 100.0
    history = await ask("tasks.history", id=task_id)
    assert set(history) == {"items", "attempts", "executions", "notices"}
    assert history["items"][0]["kind"] == "submitted"
    assert history["items"][-1]["kind"] == "completed"
    assert (history["items"][-1]["from"], history["items"][-1]["to"]) == ("processing", "completed")
    sequences = [item["sequence"] for item in history["items"]]
    assert sequences == sorted(set(sequences))
    assert [attempt["downloader"] for attempt in history["attempts"]] == ["box"]
    assert {execution["outcome"] for execution in history["executions"]} >= {"suspended", "completed"}
    assert all(execution["node"] == house.queue.node for execution in history["executions"])


async def test_waiting_too_long(build: Builder) -> None:
    house = await build.puppets()
    ask = Asking(house)
    task_id = await paused(ask)
    assert (await ask.refused("tasks.wait", id=task_id, timeout=0)).code == -32010


# -- steering ---------------------------------------------------------------------------------------------------------


async def test_steering_one(build: Builder) -> None:
    house = await build.puppets()
    ask = Asking(house)
    task_id = (await ask("downloads.add", url=URL))["id"]
    await house.runs(task_id)
    told = await ask("tasks.pause", id=task_id)
    assert "pause" in (told["want"], told["status"].removesuffix("d"))
    await house.reaches(task_id, Status.PAUSED)
    assert (await ask("tasks.pause", id=task_id))["status"] == "paused"
    assert (await ask("tasks.resume", id=task_id))["status"] == "queued"
    await house.holds(task_id, "transfer:")
    assert (await ask.refused("tasks.retry", id=task_id)).code == -32004
    canceled = await ask("tasks.cancel", id=task_id, delete_data=True)
    assert (canceled["status"], canceled["want"]) == ("canceled", "run")
    assert (await ask("tasks.cancel", id=task_id))["status"] == "canceled"
    await house.cleaned(task_id)
    for method in ("tasks.pause", "tasks.resume"):
        assert (await ask.refused(method, id=task_id)).code == -32004
    assert (await ask("tasks.retry", id=task_id))["status"] == "queued"
    gone = await ask("tasks.remove", id=task_id)
    assert (gone["id"], gone["status"]) == (task_id, "canceled")
    error = await ask.refused("tasks.get", id=task_id)
    assert (error.code, error.task_id) == (-32003, task_id)


async def test_steering_many(build: Builder) -> None:
    house = await build.puppets()
    ask, other = Asking(house), Asking(house, YOU)
    mine = [await paused(ask, f"{URL}{number}", labels={"n": str(number)}) for number in range(3)]
    theirs = await paused(other)
    assert await ask("tasks.cancel", label="n=0") == {"count": 1}
    assert await ask("tasks.cancel", all=True) == {"count": 2}
    assert await ask("tasks.cancel", all=True) == {"count": 0}
    assert (await other("tasks.get", id=theirs))["status"] == "paused"
    assert await ask("tasks.retry", status=[]) == {"count": 0}
    assert await ask("tasks.resume", all=True) == {"count": 0}
    assert await ask("tasks.remove", text="file.bin1") == {"count": 1}
    assert ids(await ask("tasks.list")) == [mine[2], mine[0]]
    assert await Asking(house, ROOT)("tasks.remove", all=True) == {"count": 3}
    assert await other("tasks.count") == 0


async def test_of_many_several_are_steered_at_once(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    house = await build.puppets()
    ask = Asking(house)
    for number in range(STEERED_AT_ONCE + 2):
        await paused(ask, f"{URL}{number}")
    cancel, begun, all_there = house.queue.cancel, 0, asyncio.Event()

    async def together(task_id: int, intent: dict[str, Any] | None = None) -> TaskRecord:
        nonlocal begun
        begun += 1
        if begun == STEERED_AT_ONCE:
            all_there.set()
        await all_there.wait()
        return await cancel(task_id, intent)

    monkeypatch.setattr(house.queue, "cancel", together)
    async with asyncio.timeout(PATIENCE):
        assert await ask("tasks.cancel", all=True) == {"count": STEERED_AT_ONCE + 2}
    assert await ask("tasks.count", status="canceled") == STEERED_AT_ONCE + 2


async def test_many_that_cannot_be_steered_give_the_reason_of_the_first(
    build: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = await build.puppets()
    ask = Asking(house)
    for number in range(3):
        await paused(ask, f"{URL}{number}")

    async def full(task_id: int) -> TaskRecord:
        raise StorageError("the disk is full")

    monkeypatch.setattr(house.queue, "resume", full)
    error = await ask.refused("tasks.resume", all=True)
    assert error.code == -32007 and "the disk is full" in error.message


@pytest.mark.parametrize("method", ["cancel", "remove", "pause", "resume", "retry"])
async def test_never_everything_by_accident(build: Builder, method: str) -> None:
    ask = Asking(await build.puppets())
    task_id = await paused(ask)
    for params in ({}, {"all": False}, {"id": task_id, "all": True}, {"id": task_id, "status": "paused"}, {"id": 0}):
        assert (await ask.refused(f"tasks.{method}", **params)).code == -32602
    assert (await ask("tasks.get", id=task_id))["revision"] == 1


# -- who may ----------------------------------------------------------------------------------------------------------


async def test_another_s_tasks_do_not_exist(build: Builder) -> None:
    house = await build.puppets()
    task_id = await paused(Asking(house))
    other = Asking(house, YOU)
    nobody = await other.refused("tasks.get", id=999)
    for method in [
        "tasks.get",
        "tasks.cancel",
        "tasks.remove",
        "tasks.pause",
        "tasks.resume",
        "tasks.retry",
        "tasks.wait",
        "tasks.progress",
        "tasks.result",
        "tasks.history",
        "tasks.why",
    ]:
        error = await other.refused(method, id=task_id)
        assert (error.code, error.kind) == (nobody.code, nobody.kind) == (-32003, "not_found")
        assert error.message == f"task {task_id} not found"
    assert await other("tasks.count") == 0
    assert (await other.refused("tasks.list", owner="me")).code in (-32002, -32003)
    assert (await Asking(house)("tasks.get", id=task_id))["revision"] == 1
    assert (await Asking(house, ROOT)("tasks.cancel", id=task_id))["status"] == "canceled"


async def test_admins_are_made_by_their_group(build: Builder) -> None:
    group = next(entry for entry in grp.getgrall() if entry.gr_gid != 0)
    house = await build.puppets(admins=(group.gr_name, "no-such-group-here"))
    task_id = await paused(Asking(house))
    admin = Asking(house, Caller(uid=4003, gid=group.gr_gid, name="no-such-user-here"))
    assert (await admin("tasks.get", id=task_id))["owner"] == "me"
    assert await admin("daemon.config") == {"shown": True}
    other = Asking(house, YOU)
    for method in ("daemon.config", "daemon.shutdown"):
        assert (await other.refused(method)).code == -32002
    assert house.stops == 0
    assert await admin("daemon.shutdown") == {"stopping": True}
    assert house.stops == 1


async def test_info_and_downloaders(build: Builder) -> None:
    house = await build.puppets("one", "two", max_active=3)
    ask = Asking(house)
    house.clock.advance(12.5)
    info = await ask("daemon.info")
    assert set(info) == {"version", "node", "uptime", "store", "counters"}
    assert set(info["counters"]) == {"busy_workers", "submitted", "completed", "failed", "canceled", "suspending"}
    assert info["uptime"] == 12.5
    await house.eventually(lambda: house.endpoints["two"].version, "the version")
    page = await ask("downloaders.list")
    assert (page["total"], page["next_cursor"]) == (2, None)
    assert page["items"][1] == {
        "name": "two",
        "kind": "puppet",
        "health": "up",
        "version": "puppet 1",
        "active": 0,
        "max_active": 3,
        "download_speed": 0,
        "upload_speed": 0,
        "breaker": {"state": "closed", "until": None},
        "last_error": None,
        "node": house.queue.node,
        "paused": False,
    }


# -- what no is said with -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (PolicyRefused("no", "url", "scheme"), -32006, "scheme"),
        (PolicyRefused("no", "directory", "destination"), -32006, "destination"),
        (NoRoute("no", "url"), -32006, "no_route"),
        (InvalidTask("no", "name"), -32602, "invalid_params"),
        (UnknownType("no", []), -32602, "unknown_type"),
        (InvalidSetting("no", "rate"), -32602, "invalid_params"),
        (QueueNotFound("no"), -32003, "queue"),
        (ScheduleNotFound("no"), -32003, "schedule"),
        (TaskNotFound(7), -32003, "not_found"),
        (Conflict("no", 7), -32004, "conflict"),
        (IllegalTransition("no", 7), -32004, "conflict"),
        (QueueFull("no"), -32005, "capacity"),
        (QuotaExceeded("no"), -32005, "quota"),
        (QueueClosed("no"), -32009, "stopping"),
        (StorageError("no"), -32007, "storage"),
        (WaitTimeout("no"), -32010, "timed_out"),
    ],
)
def test_error_codes(error: QueueError, code: int, kind: str) -> None:
    answer = as_rpc_error(error)
    assert (answer.code, answer.kind) == (code, kind)
    if isinstance(error, InvalidTask):
        assert answer.field == error.field
        assert answer.message.startswith(f"{error.field}: ")
    if isinstance(error, (TaskNotFound, Conflict)):
        assert answer.task_id == 7


def test_every_queue_error_has_its_code() -> None:
    def family(kind: type[QueueError]) -> set[type[QueueError]]:
        return {kind}.union(*(family(child) for child in kind.__subclasses__()))

    tested = {
        PolicyRefused,
        NoRoute,
        InvalidTask,
        UnknownType,
        InvalidSetting,
        QueueNotFound,
        ScheduleNotFound,
        TaskNotFound,
        Conflict,
        IllegalTransition,
        QueueFull,
        QuotaExceeded,
        QueueClosed,
        StorageError,
        WaitTimeout,
    }
    ours = {kind for kind in family(QueueError) if kind.__module__.startswith("dlqueue.")}
    # A trouble of the store is one, whatever it is called.
    assert {kind for kind in ours - tested if not issubclass(kind, StorageError)} == {QueueError}


async def test_a_full_queue_and_a_stopped_one(build: Builder) -> None:
    house = await build.puppets(settings=QueueSettings(capacity=1))
    ask = Asking(house)
    await paused(ask)
    error = await ask.refused("downloads.add", url=URL + "2")
    assert (error.code, error.kind) == (-32005, "capacity")
    await build.close(house)
    assert (await ask.refused("downloads.add", url=URL + "2")).code == -32009


async def test_a_shared_machine_refuses_private_addresses(build: Builder, tmp_path: Path) -> None:
    house: House = await build.puppets(policy=Policy(frozenset({"http"}), False, (tmp_path / "out",)))
    error = await Asking(house, ME).refused("downloads.add", url="http://0x7f.1/x")
    assert (error.code, error.kind, error.field) == (-32006, "address", "url")


@pytest.mark.parametrize(
    ("method", "params", "field"),
    [
        ("tasks.list", {"cursor": base64.urlsafe_b64encode(b'["-id",0.0,9223372036854775808]').decode()}, "cursor"),
        ("tasks.list", {"label": {str(number): "x" for number in range(17)}}, "label"),
        ("tasks.list", {"label": {"k": "x" * 1025}}, "label"),
        ("downloads.add", {"url": URL, "labels": {str(number): [] for number in range(65)}}, "labels"),
        ("downloads.add", {"url": URL, "queue": "x y"}, "queue"),
        ("tasks.submit", {"type": "remote_download", "params": {"url": URL}, "queue": ""}, "queue"),
        ("schedules.create", {"name": "s", "type": "x", "params": {}, "every": 9, "queue": "../x"}, "queue"),
        ("schedules.update", {"name": "s", "queue": "ä"}, "queue"),
    ],
)
async def test_what_is_too_much(
    build: Builder, tmp_path: Path, method: str, params: dict[str, Any], field: str
) -> None:
    ask = Asking(await build.puppets(store=SqlStore(f"sqlite:///{tmp_path}/queue.db")))
    error = await ask.refused(method, **params)
    assert (error.code, error.field) == (-32602, field)


async def test_params_that_are_too_long(build: Builder) -> None:
    ask = Asking(await build.puppets())
    error = await ask.refused("downloads.add", urls=[f"{URL}?{number}" for number in range(10_000)])
    assert (error.code, error.kind, error.field) == (-32005, "size", "params")


# -- editing ----------------------------------------------------------------------------------------------------------


async def test_update(build: Builder) -> None:
    house = await build.puppets(tasks=(Sleeper(),))
    ask = Asking(house)
    mine = await paused(ask, labels={"tag": ["a"], "k": "v"})
    updated = await ask("tasks.update", id=mine, priority=7, labels={"tag": "b"}, if_revision=1)
    assert (updated["priority"], updated["labels"], updated["revision"]) == (7, {"tag": ["b"]}, 2)
    assert ids(await ask("tasks.list", label="tag=b")) == [mine] and ids(await ask("tasks.list", label="k")) == []
    assert (await ask("tasks.update", id=mine, labels={}))["labels"] == {}
    at = "2030-01-01T00:00:00.000Z"
    assert (await ask("tasks.update", id=mine, run_at=at))["resume_at"] == at
    for params, code in (
        ({"id": mine, "priority": 1, "if_revision": 1}, -32004),
        ({"id": mine}, -32602),
        ({"id": mine, "params": {}}, -32602),
        ({"id": mine, "priority": 5000}, -32602),
        ({"id": 999, "priority": 1}, -32003),
        ({"id": mine, "run_at": "9999-01-01T00:00:00Z"}, -32602),
    ):
        assert (await ask.refused("tasks.update", **params)).code == code, params
    stale = await ask.refused("tasks.update", id=mine, priority=1, if_revision=1)
    assert "revision 4, not 1" in stale.message and stale.task_id == mine
    assert (await Asking(house, YOU).refused("tasks.update", id=mine, priority=1)).code == -32003
    await ask("tasks.cancel", id=mine)
    assert (await ask.refused("tasks.update", id=mine, priority=1)).code == -32004
    assert (await ask("tasks.update", id=mine, labels={"tag": "z"}))["labels"] == {"tag": ["z"]}
