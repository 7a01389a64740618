"""A small service in memory, for transports, client and command line: real messages, no downloads."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dlqueue import __version__
from dlqueue.protocol import (
    downloaders,
    events,
    messages,
    notify,
    queues,
    schedules,
    statistics,
    status,
    submissions,
    tokens,
)
from dlqueue.protocol.caller import Caller
from dlqueue.protocol.errors import Conflict, NotFound, RpcError, TimedOut
from dlqueue.transports.dispatch import Dispatcher
from dlqueue.transports.unix import UnixServer

WHEN = "2026-01-31T12:00:00.000Z"


DOWNLOADER: dict[str, Any] = {
    "kind": "http", "health": "up", "version": "1", "active": 0, "max_active": 5, "download_speed": 0,
    "upload_speed": 0, "breaker": {"state": "closed", "until": None}, "last_error": None, "node": "stub",
    "paused": False,
}  # fmt: skip


def a_queue(name: str, **fields: Any) -> dict[str, Any]:
    """One as `queues.get` answers it."""
    return {
        "name": name, "pending": 0, "running": 0, "completed": 0, "failed": 0, "size": 0, "capacity": None,
        "concurrency": 8, "rate": None, "ageing": 0.0, "max_retry": 0, "retry_delay": 0.0, "backoff_factor": 2.0,
        "backoff_max": 60.0, "paused": False, "changed": [], **fields,
    }  # fmt: skip


SCHEDULE: dict[str, Any] = {
    "type": "remote_download", "params": {}, "queue": None, "cron": None, "every": None, "timezone": "UTC",
    "missed": "skip", "overlap": "allow", "owner": "me", "active": True, "previous_run": None, "next_run": WHEN,
    "last_status": None, "last_task_id": None, "runs": 0, "created_at": WHEN,
}  # fmt: skip


class StubStream:
    """Events that a test puts in."""

    def __init__(self, name: str) -> None:
        self.id = name
        self.queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.closed = False

    def put(self, topic: str, sequence: int | None, task_id: int | None, data: dict[str, Any]) -> None:
        event: dict[str, Any] = {
            "subscription": self.id,
            "sequence": sequence,
            "topic": topic,
            "at": WHEN,
            "data": data,
        }
        if task_id is not None:
            event["task_id"] = task_id
        self.queue.put_nowait(event)

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        while (event := await self.queue.get()) is not None:
            yield event

    def close(self) -> None:
        self.closed = True
        self.queue.put_nowait(None)


class StubService:
    """Every verb of the table. ``fail`` makes the next calls of a method raise; ``changed`` wakes who waits."""

    def __init__(self) -> None:
        self.tasks: dict[int, dict[str, Any]] = {}
        self.ids = itertools.count(1)
        self.fail: dict[str, BaseException] = {}
        self.calls: list[tuple[str, Caller, Any]] = []
        self.streams: list[StubStream] = []
        self.changed = asyncio.Condition()
        self.on_add: Callable[[dict[str, Any]], None] = lambda task: None
        self.waiting = 0
        self.downloaders: dict[str, dict[str, Any]] = {}
        self.tested: dict[str, Any] = {"ok": True, "version": "1", "checks": []}
        self.kinds: list[dict[str, Any]] = []
        self.queues: dict[str, dict[str, Any]] = {}
        self.page = 1000
        """Queues in a page at most."""
        self.schedules: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, dict[str, Any]] = {}
        self.url: str | None = None
        self.schedule_log: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.why = {"reason": "due", "message": "waits for a free worker"}

    def _enter(self, name: str, caller: Caller, params: Any) -> None:
        self.calls.append((name, caller, params))
        if name in self.fail:
            raise self.fail[name]

    def make(self, **fields: Any) -> dict[str, Any]:
        number = next(self.ids)
        task: dict[str, Any] = {
            "id": number, "type": "remote_download", "status": "queued", "want": "run", "hold": None,
            "queue": "downloads", "priority": 0, "owner": "tester", "labels": {}, "correlation_id": None,
            "unique_key": None, "created": True, "params": {}, "result": None, "progress": None, "error": None,
            "retries": 0, "max_retry": 10, "crashes": 0, "executed_seconds": 0.0, "timeout": None,
            "max_execution": None, "created_at": WHEN, "started_at": None, "finished_at": None, "resume_at": None,
            "parent_id": None, "depends_on": [], "revision": 1,
        }  # fmt: skip
        task.update(fields)
        self.tasks[number] = task
        return task

    def make_download(self, url: str = "http://127.0.0.1/file", **fields: Any) -> dict[str, Any]:
        task = self.make(**fields)
        task["download"] = {
            "url": url, "name": url.rpartition("/")[2], "downloader": None, "handle": None, "phase": "",
            "state": None, "destination": "/tmp", "location": None, "delivered_at": None, "files": None, "attempts": [],
        }  # fmt: skip
        return task

    async def update(self, number: int, **fields: Any) -> None:
        self.tasks[number].update(fields)
        self.tasks[number]["revision"] += 1
        for stream in self.streams:
            stream.put("task", self.tasks[number]["revision"], number, {"status": self.tasks[number]["status"]})
        async with self.changed:
            self.changed.notify_all()

    def _task(self, number: int) -> dict[str, Any]:
        if number not in self.tasks:
            raise NotFound(f"there is no task {number}", field="id", task_id=number)
        return self.tasks[number]

    def _matching(self, params: messages.Filter) -> list[dict[str, Any]]:
        statuses = params.statuses()
        found = [task for task in self.tasks.values() if statuses is None or task["status"] in statuses]
        for key, value in params.labels().items():
            found = [task for task in found if value in task["labels"].get(key, [])]
        if params.queue is not None:
            found = [task for task in found if task["queue"] == params.queue]
        return found

    async def daemon_info(self, caller: Caller, params: Any) -> dict[str, Any]:
        self._enter("daemon.info", caller, params)
        counters = dict.fromkeys(("busy_workers", "submitted", "completed", "failed", "canceled", "suspending"), 0)
        return {"version": __version__, "node": "stub", "uptime": 1.0, "store": "memory", "counters": counters}

    async def daemon_overview(self, caller: Caller, params: Any) -> dict[str, Any]:
        self._enter("daemon.overview", caller, params)
        return {
            "at": "2026-01-01T00:00:00Z",
            "version": __version__,
            "verdict": "All is well: 0 running, 0 waiting",
            "you": {"name": caller.name, "role": caller.role or "operate", "admin": False},
            "counts": {"status": {}, "whole": True, "running": 0, "waiting": 0, "seeding": 0},
            "running": [],
            "rates": {"download_speed": 0, "upload_speed": 0, "history": []},
            "limit": {"kind": "none", "name": None, "message": "nothing waits"},
            "disks": [],
            "errors": [],
            "needs": [],
        }

    async def daemon_config(self, caller: Caller, params: Any) -> dict[str, Any]:
        return {"daemon": {"workers": 8}}

    async def daemon_reload(self, caller: Caller, params: Any) -> messages.Reloaded:
        return {"changed": [], "warnings": []}

    async def daemon_doctor(self, caller: Caller, params: Any) -> dict[str, Any]:
        return {"findings": []}

    async def daemon_shutdown(self, caller: Caller, params: Any) -> dict[str, Any]:
        return {"stopping": True}

    async def tasks_submit(self, caller: Caller, params: submissions.Submit) -> dict[str, Any]:
        self._enter("tasks.submit", caller, params)
        await asyncio.sleep(0)
        if params.type != "remote_download":
            return self.make(type=params.type, params=params.params, labels=params.all_labels())
        given = params.params
        task = self.make_download((given.get("urls") or [given.get("url", "")])[0], labels=params.all_labels())
        self.on_add(task)
        return task

    async def tasks_submit_many(self, caller: Caller, params: submissions.SubmitMany) -> list[dict[str, Any]]:
        self._enter("tasks.submit_many", caller, params)
        return [await self.tasks_submit(caller, one) for one in params.tasks]

    async def downloads_add(self, caller: Caller, params: submissions.AddDownload) -> dict[str, Any]:
        self._enter("downloads.add", caller, params)
        begin = "paused" if params.paused else "queued"
        task = self.make_download(
            params.url or (params.urls or [""])[0], labels=params.all_labels(), status=begin, owner=caller.name
        )
        self.on_add(task)
        return task

    async def downloads_files(self, caller: Caller, params: messages.TaskId) -> dict[str, Any]:
        self._enter("downloads.files", caller, params)
        return {"items": []}

    async def downloads_select(self, caller: Caller, params: messages.SelectFiles) -> dict[str, Any]:
        self._enter("downloads.select", caller, params)
        return {"items": []}

    async def downloads_refresh_url(self, caller: Caller, params: messages.RefreshUrl) -> dict[str, Any]:
        self._enter("downloads.refresh_url", caller, params)
        return self._task(params.id)

    async def tasks_get(self, caller: Caller, params: messages.GetTask) -> dict[str, Any]:
        self._enter("tasks.get", caller, params)
        return self._task(params.id or 0)

    async def tasks_list(self, caller: Caller, params: messages.ListTasks) -> dict[str, Any]:
        self._enter("tasks.list", caller, params)
        found = self._matching(params)
        found.sort(key=lambda task: int(task["id"]), reverse=params.order != "id")
        start = int(params.cursor or 0)
        end = start + (params.limit or 100)
        total = len(found) if params.count else None
        return {"items": found[start:end], "next_cursor": str(end) if end < len(found) else None, "total": total}

    async def tasks_count(self, caller: Caller, params: messages.Filter) -> int:
        return len(self._matching(params))

    async def _steer(self, name: str, caller: Caller, params: messages.Steer, status: str) -> dict[str, Any]:
        self._enter(name, caller, params)
        if params.id is None:
            found = self._matching(params)
            for task in found:
                await self.update(task["id"], status=status)
            return {"count": len(found)}
        await self.update(self._task(params.id)["id"], status=status)
        return self._task(params.id)

    async def tasks_cancel(self, caller: Caller, params: messages.SteerData) -> dict[str, Any]:
        return await self._steer("tasks.cancel", caller, params, "canceled")

    async def tasks_pause(self, caller: Caller, params: messages.Steer) -> dict[str, Any]:
        if params.id is not None and self._task(params.id)["status"] == "completed":
            raise Conflict("a completed task cannot be paused", task_id=params.id)
        return await self._steer("tasks.pause", caller, params, "paused")

    async def tasks_resume(self, caller: Caller, params: messages.Steer) -> dict[str, Any]:
        return await self._steer("tasks.resume", caller, params, "queued")

    async def tasks_retry(self, caller: Caller, params: messages.Steer) -> dict[str, Any]:
        return await self._steer("tasks.retry", caller, params, "queued")

    async def tasks_remove(self, caller: Caller, params: messages.SteerData) -> dict[str, Any]:
        answer = await self._steer("tasks.remove", caller, params, "canceled")
        for number in [params.id] if params.id else [task["id"] for task in self._matching(params)]:
            del self.tasks[number]
        return answer

    async def tasks_update(self, caller: Caller, params: messages.UpdateTask) -> dict[str, Any]:
        self._enter("tasks.update", caller, params)
        task = self._task(params.id)
        if params.if_revision is not None and task["revision"] != params.if_revision:
            raise Conflict(f"task {params.id} has changed", task_id=params.id)
        changes = params.changes()
        changes.pop("if_revision", None)
        await self.update(params.id, **changes)
        return self._task(params.id)

    async def tasks_wait(self, caller: Caller, params: messages.Wait) -> dict[str, Any]:
        self._enter("tasks.wait", caller, params)

        def over() -> bool:
            task = self._task(params.id)
            delivered = params.until == "delivered" and task.get("download", {}).get("delivered_at")
            return bool(delivered) or task["status"] in status.FINAL

        self.waiting += 1
        try:
            async with asyncio.timeout(params.timeout), self.changed:
                await self.changed.wait_for(over)
        except TimeoutError:
            raise TimedOut(f"task {params.id} is not over yet", task_id=params.id) from None
        finally:
            self.waiting -= 1
        return self._task(params.id)

    async def tasks_stats(self, caller: Caller, params: statistics.Stats) -> dict[str, Any]:
        self._enter("tasks.stats", caller, params)
        seconds = dict.fromkeys(("avg", "p50", "p95", "p99"))
        counts = dict.fromkeys(("total", "completed", "failed", "canceled"), 0)
        return {"since": params.since, "until": WHEN, **counts, "success_rate": None, "seconds": seconds, "groups": []}

    async def tasks_purge(self, caller: Caller, params: statistics.Purge) -> dict[str, Any]:
        self._enter("tasks.purge", caller, params)
        return {"count": 0}

    async def tasks_progress(self, caller: Caller, params: messages.TaskId) -> Any:
        return self._task(params.id)["progress"]

    async def tasks_result(self, caller: Caller, params: messages.TaskId) -> Any:
        return self._task(params.id)["result"]

    async def tasks_history(self, caller: Caller, params: messages.TaskId) -> dict[str, Any]:
        self._task(params.id)
        items = [{"sequence": 1, "at": WHEN, "kind": "status", "to": "queued"}]
        return {"items": items, "attempts": [], "executions": []}

    async def tasks_why(self, caller: Caller, params: messages.TaskId) -> dict[str, Any]:
        self._enter("tasks.why", caller, params)
        status = self._task(params.id)["status"]
        return {"id": params.id, "status": status, **self.why, "since": WHEN, "next_check_at": None, "blocking": None}

    async def downloaders_list(self, caller: Caller, params: Any) -> dict[str, Any]:
        return {"items": list(self.downloaders.values()), "next_cursor": None, "total": len(self.downloaders)}

    def downloader(self, name: str) -> dict[str, Any]:
        if name not in self.downloaders:
            raise NotFound(f"no downloader {name!r}", kind="downloader", field="name")
        return self.downloaders[name]

    async def downloaders_get(self, caller: Caller, params: downloaders.DownloaderName) -> dict[str, Any]:
        return self.downloader(params.name)

    async def downloaders_test(self, caller: Caller, params: downloaders.DownloaderName) -> dict[str, Any]:
        self._enter("downloaders.test", caller, params)
        self.downloader(params.name)
        return self.tested

    async def downloaders_pause(self, caller: Caller, params: downloaders.DownloaderName) -> dict[str, Any]:
        self.downloader(params.name)["paused"] = True
        return self.downloader(params.name)

    async def downloaders_resume(self, caller: Caller, params: downloaders.DownloaderName) -> dict[str, Any]:
        self.downloader(params.name)["paused"] = False
        return self.downloader(params.name)

    async def downloaders_kinds(self, caller: Caller, params: Any) -> dict[str, Any]:
        return {"items": self.kinds, "next_cursor": None, "total": len(self.kinds)}

    def queue(self, name: str) -> dict[str, Any]:
        if name not in self.queues:
            raise NotFound(f"no queue {name!r}", kind="queue", field="name")
        return self.queues[name]

    async def queues_list(self, caller: Caller, params: queues.ListQueues) -> dict[str, Any]:
        names = sorted(name for name in self.queues if params.cursor is None or name > params.cursor)
        page = names[: min(params.limit or 100, self.page)]
        following = page[-1] if len(page) < len(names) else None
        items = [self.queues[name] for name in page]
        return {"items": items, "next_cursor": following, "total": len(self.queues)}

    async def queues_get(self, caller: Caller, params: queues.QueueName) -> dict[str, Any]:
        return self.queue(params.name)

    async def queues_stats(self, caller: Caller, params: queues.QueueName) -> dict[str, Any]:
        return self.queue(params.name)

    async def queues_create(self, caller: Caller, params: queues.CreateQueue) -> dict[str, Any]:
        self._enter("queues.create", caller, params)
        if params.name in self.queues:
            raise Conflict(f"there is a queue {params.name!r} already")
        self.queues[params.name] = a_queue(params.name, **params.settings(), changed=sorted(params.settings()))
        return self.queues[params.name]

    async def queues_update(self, caller: Caller, params: queues.UpdateQueue) -> dict[str, Any]:
        self._enter("queues.update", caller, params)
        self.queue(params.name).update(params.settings())
        return self.queue(params.name)

    async def queues_pause(self, caller: Caller, params: queues.QueueName) -> dict[str, Any]:
        self.queue(params.name)["paused"] = True
        return self.queue(params.name)

    async def queues_resume(self, caller: Caller, params: queues.QueueName) -> dict[str, Any]:
        self.queue(params.name)["paused"] = False
        return self.queue(params.name)

    def schedule(self, name: str) -> dict[str, Any]:
        if name not in self.schedules:
            raise NotFound(f"no schedule {name!r}", kind="schedule", field="name")
        return self.schedules[name]

    async def schedules_list(self, caller: Caller, params: schedules.ListSchedules) -> dict[str, Any]:
        self._enter("schedules.list", caller, params)
        found = [self.schedules[name] for name in sorted(self.schedules) if name > (params.cursor or "")]
        page = found[: params.limit]
        more = page[-1]["name"] if len(page) < len(found) else None
        return {"items": page, "next_cursor": more, "total": len(self.schedules)}

    async def schedules_get(self, caller: Caller, params: schedules.ScheduleName) -> dict[str, Any]:
        return self.schedule(params.name)

    async def schedules_create(self, caller: Caller, params: schedules.CreateSchedule) -> dict[str, Any]:
        self._enter("schedules.create", caller, params)
        self.schedules[params.name] = {**SCHEDULE, "name": params.name, **params.changes()}
        return self.schedule(params.name)

    async def schedules_update(self, caller: Caller, params: schedules.UpdateSchedule) -> dict[str, Any]:
        self._enter("schedules.update", caller, params)
        self.schedule(params.name).update(params.changes())
        return self.schedule(params.name)

    async def schedules_pause(self, caller: Caller, params: schedules.ScheduleName) -> dict[str, Any]:
        self.schedule(params.name)["active"] = False
        return self.schedule(params.name)

    async def schedules_resume(self, caller: Caller, params: schedules.ScheduleName) -> dict[str, Any]:
        self.schedule(params.name)["active"] = True
        return self.schedule(params.name)

    async def schedules_run(self, caller: Caller, params: schedules.ScheduleName) -> dict[str, Any]:
        self._enter("schedules.run", caller, params)
        return self.schedule(params.name) | {"last_task_id": 7}

    async def schedules_delete(self, caller: Caller, params: schedules.ScheduleName) -> dict[str, Any]:
        self.schedule(params.name)
        return self.schedules.pop(params.name)

    async def schedules_stats(self, caller: Caller, params: schedules.ScheduleLog) -> dict[str, Any]:
        self._enter("schedules.stats", caller, params)
        counts = dict.fromkeys(
            ("active", "paused", "runs", "running", "completed", "failed", "canceled", "skipped", "refused"), 2
        )
        return {**counts, "items": self.schedule_log, "next_cursor": None, "total": None}

    async def tokens_list(self, caller: Caller, params: messages.NoParams) -> dict[str, Any]:
        self._enter("tokens.list", caller, params)
        return {"items": list(self.tokens.values()), "next_cursor": None, "total": len(self.tokens)}

    async def tokens_create(self, caller: Caller, params: tokens.CreateToken) -> dict[str, Any]:
        self._enter("tokens.create", caller, params)
        made = {"name": params.name, "role": params.role, "owner": caller.name, "created_at": WHEN, "last_used": None}
        self.tokens[params.name] = made
        return {**made, "token": "dlq_secret", "url": self.url}

    async def tokens_revoke(self, caller: Caller, params: tokens.TokenName) -> dict[str, Any]:
        self._enter("tokens.revoke", caller, params)
        if params.name not in self.tokens:
            raise NotFound(f"no token {params.name!r}", kind="token", field="name")
        return self.tokens.pop(params.name)

    async def notify_test(self, caller: Caller, params: notify.TestNotify) -> dict[str, Any]:
        self._enter("notify.test", caller, params)
        ok = params.name != "broken"
        return {"ok": ok, "target": f"target {params.name}", "message": "it has arrived" if ok else "no answer"}

    async def events_list(self, caller: Caller, params: events.ListEvents) -> dict[str, Any]:
        self._enter("events.list", caller, params)
        found = [event for event in self.events if event["sequence"] > params.after()]
        page = found[: params.limit or 100]
        more = len(page) < len(found)
        return {"items": page, "next_cursor": str(page[-1]["sequence"]) if more else None, "total": None}

    async def events_subscribe(self, caller: Caller, params: events.Subscribe) -> StubStream:
        stream = StubStream(f"s{len(self.streams) + 1}")
        self.streams.append(stream)
        return stream


class StubDaemon:
    """The stub behind a real Unix socket, on a thread of its own, for clients that block."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.service: StubService
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop: asyncio.Event
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._main(),))

    async def _main(self) -> None:
        self.service = StubService()
        self._prepare(self.service)
        self._stop = asyncio.Event()
        server = UnixServer(Dispatcher(self.service), self.socket)
        await server.start()
        self._ready.set()
        await self._stop.wait()
        await server.stop(grace=1)

    def run(self, work: Any) -> Any:
        """Run a coroutine in the daemon's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def fail(self, method: str, error: RpcError) -> None:
        self.service.fail[method] = error

    def start(self, prepare: Callable[[StubService], object] = lambda service: None) -> None:
        """Run it; ``prepare`` fills the service before anybody can ask it."""
        self._prepare = prepare
        self._thread.start()
        assert self._ready.wait(30)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        self._loop.close()


@contextmanager
def stub_daemon(socket: Path) -> Iterator[StubDaemon]:
    daemon = StubDaemon(socket)
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()
