"""One method per row of the method table. No bytes in here: params and results are plain values."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import dlqueue
from dlqueue.downloads.endpoints import Endpoints
from dlqueue.downloads.recovery import read_state
from dlqueue.downloads.task import RemoteDownload
from dlqueue.notify.postman import Postman
from dlqueue.protocol import doctor as diagnosis
from dlqueue.protocol import (
    downloaders,
    events,
    messages,
    notify,
    overview,
    queues,
    schedules,
    statistics,
    submissions,
    times,
    tokens,
)
from dlqueue.protocol.caller import Caller
from dlqueue.protocol.errors import NotFound, StorageError
from dlqueue.queue import Conflict, Filter, Queue, Status, Submitter, TaskNotFound, TaskRecord
from dlqueue.queue.status import UNFINISHED
from dlqueue.service import views
from dlqueue.service.access import Access
from dlqueue.service.downloaders import downloader_view, kinds_view, known, test_view
from dlqueue.service.downloads import Downloads
from dlqueue.service.faults import verb
from dlqueue.service.notify import NotifyVerbs
from dlqueue.service.overview import Overview
from dlqueue.service.queues import QueueVerbs
from dlqueue.service.reasons import why
from dlqueue.service.schedules import ScheduleVerbs
from dlqueue.service.statistics import Statistics
from dlqueue.service.streams import EventStream, past_events
from dlqueue.service.submits import Submits
from dlqueue.service.tokens import Tokens

CLEANING = 3.0
"""Seconds that the cancelling of one task with its data waits for the data to go."""
STEERED_AT_ONCE = 32
"""Of many tasks, so many are cancelled (paused, …) at a time: they share commits, and one that takes long holds up
few. Not all: others want to write too."""
LARGE = 100
"""Tasks of a page that takes long to make; and the default."""
SLICE = 20
"""Tasks that are shown in one go before others get their turn."""
_FAILED = frozenset({Status.ERROR, Status.CANCELED})
_DEAD = frozenset({Status.ERROR})


class Service:
    """The verbs of the program.

    :param shown_config: what `daemon.config` answers.
    :param stop: asks the daemon to stop; returns at once.
    :param reload: reads the configuration anew.
    :param doctor: looks for what is wrong.
    :param believes_cwd: may a client of the daemon's own user write to the folder it stands in? (A user's instance.)
    """

    def __init__(
        self,
        queue: Queue,
        endpoints: Endpoints,
        downloads: RemoteDownload,
        access: Access,
        store: str,
        shown_config: Callable[[], dict[str, Any]],
        stop: Callable[[], None],
        reload: Callable[[], Awaitable[messages.Reloaded]],
        postman: Postman,
        believes_cwd: bool = True,
        *,
        tokens: Tokens,
        doctor: Callable[[], Awaitable[diagnosis.Diagnosis]] | None = None,
    ) -> None:
        self._queue = queue
        self._endpoints = endpoints
        self._downloads = Downloads(queue, endpoints, downloads)
        self._statistics = Statistics(queue)
        self._notify = NotifyVerbs(postman, access)
        self._submits = Submits(queue, access, self._notify, believes_cwd)
        self._schedules = ScheduleVerbs(queue, access, self._submits.place)
        self._access = access
        self._tokens = tokens
        self._doctor = doctor
        self._queues = QueueVerbs(queue, access)
        self._overview = Overview(queue, endpoints, access, downloads.destinations)
        self._store = store
        self._shown_config = shown_config
        self._stop = stop
        self._reload = reload
        self._started = queue.clock.time()
        self._large = asyncio.Semaphore(1)

    # -- daemon -------------------------------------------------------------------------------------------------------

    @verb
    async def daemon_info(self, caller: Caller, params: messages.NoParams) -> messages.DaemonInfo:
        counters = self._queue.counters
        return {
            "version": dlqueue.__version__,
            "node": self._queue.node,
            "uptime": round(self._queue.clock.time() - self._started, 3),
            "store": self._store,
            "counters": {
                "busy_workers": counters.busy_workers,
                "submitted": counters.submitted,
                "completed": counters.completed,
                "failed": counters.failed,
                "canceled": counters.canceled,
                "suspending": counters.suspending,
            },
        }

    @verb
    async def daemon_overview(self, caller: Caller, params: messages.NoParams) -> overview.Overview:
        return await self._overview.overview(caller)

    @verb
    async def daemon_config(self, caller: Caller, params: messages.NoParams) -> dict[str, Any]:
        self._access.require_admin(caller, "daemon.config")
        return self._shown_config()

    @verb
    async def daemon_reload(self, caller: Caller, params: messages.NoParams) -> messages.Reloaded:
        self._access.require_admin(caller, "daemon.reload")
        return await self._reload()

    @verb
    async def daemon_doctor(self, caller: Caller, params: messages.NoParams) -> diagnosis.Diagnosis:
        self._access.require_admin(caller, "daemon.doctor")
        return {"findings": []} if self._doctor is None else await self._doctor()

    @verb
    async def daemon_shutdown(self, caller: Caller, params: messages.NoParams) -> messages.ShuttingDown:
        self._access.require_admin(caller, "daemon.shutdown")
        self._stop()
        return {"stopping": True}

    # -- submit -------------------------------------------------------------------------------------------------------

    @verb
    async def tasks_submit(self, caller: Caller, params: submissions.Submit) -> messages.Task:
        made = await self._submits.submit(caller, params)
        return self._view(made.record, made.created)

    @verb
    async def tasks_submit_many(self, caller: Caller, params: submissions.SubmitMany) -> list[messages.Task]:
        return [self._view(made.record, made.created) for made in await self._submits.submit_many(caller, params)]

    @verb
    async def downloads_add(self, caller: Caller, params: submissions.AddDownload) -> messages.Task | messages.DryRun:
        if params.dry_run:
            request, cwd = self._submits.place(caller, params.request())
            if params.notify is not None:
                self._notify.wish(caller, params.notify)
            return self._downloads.dry_run(request, Submitter(caller.name, cwd), params.all_labels())
        made = await self._submits.add(caller, params)
        return self._view(made.record, made.created)

    # -- look ---------------------------------------------------------------------------------------------------------

    @verb
    async def tasks_get(self, caller: Caller, params: messages.GetTask) -> messages.Task:
        if params.id is not None:
            return self._view(await self._record(caller, params.id))
        owner = self._access.owner_condition(caller, None)
        page = await self._queue.find(Filter(correlation_id=params.correlation_id, owner=owner), limit=1)
        if not page.items:
            raise NotFound(f"no task has the correlation id {params.correlation_id!r}")
        return self._view(page.items[0])

    @verb
    async def tasks_list(self, caller: Caller, params: messages.ListTasks) -> messages.TaskPage:
        wanted = self._filter(caller, params)
        if wanted is None:
            return {"items": [], "next_cursor": None, "total": 0 if params.count else None}
        limit = params.limit or LARGE
        # Large pages are made one at a time, so that who asks for little is not held up by many who ask for much.
        async with self._large if limit > LARGE else contextlib.nullcontext():
            page = await self._queue.find(wanted, params.order or "-id", limit, params.cursor, count=bool(params.count))
            items = []
            for record in page.items:
                items.append(self._view(record))
                if len(items) % SLICE == 0:
                    await asyncio.sleep(0)
        return {"items": items, "next_cursor": page.next_cursor, "total": page.total}

    @verb
    async def tasks_count(self, caller: Caller, params: messages.Filter) -> int:
        wanted = self._filter(caller, params)
        return 0 if wanted is None else await self._queue.count_matching(wanted)

    @verb
    async def tasks_stats(self, caller: Caller, params: statistics.Stats) -> statistics.Statistics:
        return await self._statistics.stats(self._filter(caller, params), params)

    @verb
    async def tasks_progress(self, caller: Caller, params: messages.TaskId) -> messages.Progress | None:
        return self._view(await self._record(caller, params.id))["progress"]

    @verb
    async def tasks_result(self, caller: Caller, params: messages.TaskId) -> Any:
        return (await self._record(caller, params.id)).result

    @verb
    async def tasks_history(self, caller: Caller, params: messages.TaskId) -> messages.History:
        record = await self._record(caller, params.id)
        events = await self._queue.history(record.id)
        attempts = read_state(record).attempts if record.type == RemoteDownload.type else []
        running = record if record.status is Status.PROCESSING else None
        return views.history_view(events, attempts, running, await self._notify.pending(record.id))

    @verb
    async def tasks_why(self, caller: Caller, params: messages.TaskId) -> messages.Why:
        return await why(self._queue, self._endpoints, await self._record(caller, params.id))

    @verb
    async def tasks_wait(self, caller: Caller, params: messages.Wait) -> messages.Task:
        await self._record(caller, params.id)
        return self._view(await self._queue.wait(params.id, params.timeout, params.until or "final"))

    # -- steer --------------------------------------------------------------------------------------------------------

    @verb
    async def tasks_cancel(self, caller: Caller, params: messages.SteerData) -> messages.Task | messages.Count:
        intent = {"delete_data": True} if params.delete_data else None
        answer = await self._steer(caller, params, UNFINISHED, lambda i: self._queue.cancel(i, intent))
        if params.id is not None and intent is not None:
            # Who asks for the data to go looks next whether it has gone. A downloader that hangs is not waited for.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLEANING):
                    await self._queue.cleaned(params.id)
            with contextlib.suppress(TaskNotFound):  # removed meanwhile
                return self._view(await self._queue.get(params.id))
        return answer

    @verb
    async def tasks_pause(self, caller: Caller, params: messages.Steer) -> messages.Task | messages.Count:
        return await self._steer(caller, params, UNFINISHED - {Status.PAUSED}, self._queue.pause)

    @verb
    async def tasks_resume(self, caller: Caller, params: messages.Steer) -> messages.Task | messages.Count:
        return await self._steer(caller, params, frozenset({Status.PAUSED}), self._queue.resume)

    @verb
    async def tasks_retry(self, caller: Caller, params: messages.Steer) -> messages.Task | messages.Count:
        return await self._steer(caller, params, _FAILED, self._queue.retry)

    @verb
    async def tasks_remove(self, caller: Caller, params: messages.SteerData) -> messages.Task | messages.Count:
        intent = {"delete_data": True} if params.delete_data else None
        return await self._steer(caller, params, frozenset(Status), lambda i: self._queue.remove(i, intent))

    @verb
    async def tasks_purge(self, caller: Caller, params: statistics.Purge) -> messages.Count:
        return await self._statistics.purge(self._access.owner_condition(caller, None), params)

    @verb
    async def tasks_update(self, caller: Caller, params: messages.UpdateTask) -> messages.Task:
        await self._record(caller, params.id)
        return self._view(await self._queue.update(params.id, **params.changes()))

    async def _steer(
        self,
        caller: Caller,
        params: messages.Steer,
        fitting: frozenset[Status],
        act: Callable[[int], Awaitable[TaskRecord]],
    ) -> messages.Task | messages.Count:
        """One task, or all that match and are in a status that fits; those that have just changed are passed over."""
        if params.id is not None:
            await self._record(caller, params.id)
            return self._view(await act(params.id))
        wanted = self._filter(caller, params, fitting)
        rest = iter(() if wanted is None else await self._queue.ids(wanted))
        count = 0

        async def one_by_one() -> None:
            nonlocal count
            for task_id in rest:
                with contextlib.suppress(Conflict, TaskNotFound):
                    await act(task_id)
                    count += 1

        try:
            async with asyncio.TaskGroup() as several:
                for _ in range(STEERED_AT_ONCE):
                    several.create_task(one_by_one())
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return {"count": count}

    # -- downloads ----------------------------------------------------------------------------------------------------

    @verb
    async def downloads_files(self, caller: Caller, params: messages.TaskId) -> messages.Files:
        return await self._downloads.files(await self._record(caller, params.id))

    @verb
    async def downloads_select(self, caller: Caller, params: messages.SelectFiles) -> messages.Files:
        return await self._downloads.select(await self._record(caller, params.id), params)

    @verb
    async def downloads_refresh_url(self, caller: Caller, params: messages.RefreshUrl) -> messages.Task:
        return self._view(await self._downloads.refresh_url(await self._record(caller, params.id), params.url))

    # -- downloaders --------------------------------------------------------------------------------------------------

    @verb
    async def downloaders_list(self, caller: Caller, params: messages.NoParams) -> downloaders.DownloaderPage:
        items = [downloader_view(self._endpoints, name, self._queue.node) for name in self._endpoints.names()]
        return {"items": items, "next_cursor": None, "total": len(items)}

    @verb
    async def downloaders_get(self, caller: Caller, params: downloaders.DownloaderName) -> downloaders.Downloader:
        return downloader_view(self._endpoints, known(self._endpoints, params.name), self._queue.node)

    @verb
    async def downloaders_test(self, caller: Caller, params: downloaders.DownloaderName) -> downloaders.DownloaderTest:
        self._access.require_admin(caller, "downloaders.test")
        remote = self._queue.types[RemoteDownload.type]
        folders = remote.staging_folders() if isinstance(remote, RemoteDownload) else []
        return await test_view(self._endpoints, known(self._endpoints, params.name), folders)

    @verb
    async def downloaders_pause(self, caller: Caller, params: downloaders.DownloaderName) -> downloaders.Downloader:
        self._access.require_admin(caller, "downloaders.pause")
        return await self._steer_downloader(params, lambda name: self._endpoints.pause(name, caller.name))

    @verb
    async def downloaders_resume(self, caller: Caller, params: downloaders.DownloaderName) -> downloaders.Downloader:
        self._access.require_admin(caller, "downloaders.resume")
        return await self._steer_downloader(params, self._endpoints.resume)

    async def _steer_downloader(
        self, params: downloaders.DownloaderName, act: Callable[[str], Awaitable[None]]
    ) -> downloaders.Downloader:
        name = known(self._endpoints, params.name)
        try:
            await act(name)
        except OSError as error:
            raise StorageError(f"this cannot be remembered: {error.filename}: {error.strerror}") from error
        return downloader_view(self._endpoints, name, self._queue.node)

    @verb
    async def downloaders_kinds(self, caller: Caller, params: messages.NoParams) -> downloaders.KindPage:
        return await kinds_view(self._endpoints)

    # -- queues -------------------------------------------------------------------------------------------------------

    @verb
    async def queues_list(self, caller: Caller, params: queues.ListQueues) -> queues.QueuePage:
        return await self._queues.list(params)

    @verb
    async def queues_get(self, caller: Caller, params: queues.QueueName) -> queues.Queue:
        return await self._queues.get(params)

    @verb
    async def queues_create(self, caller: Caller, params: queues.CreateQueue) -> queues.Queue:
        return await self._queues.create(caller, params)

    @verb
    async def queues_update(self, caller: Caller, params: queues.UpdateQueue) -> queues.Queue:
        return await self._queues.update(caller, params)

    @verb
    async def queues_pause(self, caller: Caller, params: queues.QueueName) -> queues.Queue:
        return await self._queues.pause(caller, params)

    @verb
    async def queues_resume(self, caller: Caller, params: queues.QueueName) -> queues.Queue:
        return await self._queues.resume(caller, params)

    @verb
    async def queues_stats(self, caller: Caller, params: queues.QueueName) -> queues.QueueStats:
        return await self._queues.stats(params)

    # -- notices ------------------------------------------------------------------------------------------------------

    @verb
    async def notify_test(self, caller: Caller, params: notify.TestNotify) -> notify.NotifyTest:
        return await self._notify.test(caller, params)

    # -- events -------------------------------------------------------------------------------------------------------

    @verb
    async def events_list(self, caller: Caller, params: events.ListEvents) -> events.EventPage:
        return await past_events(self._queue, params, lambda owner: self._access.sees(caller, owner))

    @verb
    async def events_subscribe(self, caller: Caller, params: events.Subscribe) -> EventStream:
        return EventStream(self._queue, self._endpoints.bus, params, lambda owner: self._access.sees(caller, owner))

    # -- schedules ----------------------------------------------------------------------------------------------------

    @verb
    async def schedules_list(self, caller: Caller, params: schedules.ListSchedules) -> schedules.SchedulePage:
        return await self._schedules.list(caller, params)

    @verb
    async def schedules_get(self, caller: Caller, params: schedules.ScheduleName) -> schedules.Schedule:
        return await self._schedules.get(caller, params.name)

    @verb
    async def schedules_create(self, caller: Caller, params: schedules.CreateSchedule) -> schedules.Schedule:
        return await self._schedules.create(caller, params)

    @verb
    async def schedules_update(self, caller: Caller, params: schedules.UpdateSchedule) -> schedules.Schedule:
        return await self._schedules.update(caller, params)

    @verb
    async def schedules_pause(self, caller: Caller, params: schedules.ScheduleName) -> schedules.Schedule:
        return await self._schedules.pause(caller, params.name)

    @verb
    async def schedules_resume(self, caller: Caller, params: schedules.ScheduleName) -> schedules.Schedule:
        return await self._schedules.resume(caller, params.name)

    @verb
    async def schedules_run(self, caller: Caller, params: schedules.ScheduleName) -> schedules.Schedule:
        return await self._schedules.run(caller, params.name)

    @verb
    async def schedules_delete(self, caller: Caller, params: schedules.ScheduleName) -> schedules.Schedule:
        return await self._schedules.delete(caller, params.name)

    @verb
    async def schedules_stats(self, caller: Caller, params: schedules.ScheduleLog) -> schedules.ScheduleStats:
        return await self._schedules.stats(caller, params)

    # -- tokens -------------------------------------------------------------------------------------------------------

    @verb
    async def tokens_list(self, caller: Caller, params: messages.NoParams) -> tokens.TokenPage:
        return await self._tokens.list(caller)

    @verb
    async def tokens_create(self, caller: Caller, params: tokens.CreateToken) -> tokens.NewToken:
        return await self._tokens.create(caller, params)

    @verb
    async def tokens_revoke(self, caller: Caller, params: tokens.TokenName) -> tokens.Token:
        return await self._tokens.revoke(caller, params)

    # -- helpers of all -----------------------------------------------------------------------------------------------

    async def _record(self, caller: Caller, task_id: int) -> TaskRecord:
        return self._access.require(caller, await self._queue.get(task_id))

    def _view(self, record: TaskRecord, created: bool = True) -> messages.Task:
        return views.task_view(record, self._endpoints, self._queue.progress_of(record), created)

    def _filter(
        self, caller: Caller, params: messages.Filter, fitting: frozenset[Status] | None = None
    ) -> Filter | None:
        """None = nothing can match."""
        owner = self._access.owner_condition(caller, params.owner)
        given = params.statuses()
        statuses = None if given is None else {Status(name) for name in given}
        for condition in (fitting, _either(_FAILED, params.retryable), _either(_DEAD, params.dead)):
            if condition is not None:
                statuses = set(condition) if statuses is None else statuses & condition
        if statuses is not None and not statuses:
            return None
        return Filter(
            status=tuple(sorted(statuses or ())),
            type=params.type,
            queue=params.queue,
            owner=owner,
            labels=tuple(params.labels().items()),
            text=params.text,
            since=None if params.since is None else times.instant(params.since),
            until=None if params.until is None else times.instant(params.until),
        )


def _either(statuses: frozenset[Status], wanted: bool | None) -> frozenset[Status] | None:
    """These, or all others; None = not asked."""
    return None if wanted is None else statuses if wanted else frozenset(Status) - statuses
