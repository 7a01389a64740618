"""What is submitted, on its way to the queue: whose it is, where it may go, what it depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import msgspec

from dlqueue.downloads.request import DownloadParams, join_key
from dlqueue.downloads.task import RemoteDownload
from dlqueue.protocol import checks, submissions, times
from dlqueue.protocol.caller import Caller
from dlqueue.protocol.errors import InvalidParams, LimitExceeded, NotFound, RpcError
from dlqueue.queue import Queue, QueueError, TaskNotFound
from dlqueue.queue.record import NewTask, Submission
from dlqueue.service.access import Access
from dlqueue.service.faults import as_rpc_error
from dlqueue.service.notify import NotifyVerbs


class Submits:
    """What `Service` has as ``tasks_submit``, ``tasks_submit_many`` and ``downloads_add``.

    :param believes_cwd: may a client of the daemon's own user write to the folder it stands in? (A user's instance.)
    """

    def __init__(self, queue: Queue, access: Access, notify: NotifyVerbs, believes_cwd: bool) -> None:
        self._queue = queue
        self._access = access
        self._notify = notify
        self._believes_cwd = believes_cwd

    async def submit(self, caller: Caller, params: submissions.Submit) -> Submission:
        (made,) = await self._queue.submit_all([await self._prepared(caller, params)], params.on_full or "refuse")
        return made

    async def submit_many(self, caller: Caller, params: submissions.SubmitMany) -> Sequence[Submission]:
        new = []
        for number, task in enumerate(params.tasks):
            try:
                new.append(await self._prepared(caller, task))
            except (QueueError, RpcError) as error:
                wrong = as_rpc_error(error) if isinstance(error, QueueError) else error
                raise wrong.within(f"tasks.{number}") from error
        waits = any(task.on_full == "wait" for task in params.tasks)  # all together, as they are all or nothing
        return await self._queue.submit_all(new, "wait" if waits else "refuse")

    async def add(self, caller: Caller, params: submissions.AddDownload) -> Submission:
        new = await self._new(caller, RemoteDownload.type, params.request(), params)
        (made,) = await self._queue.submit_all([new], params.on_full or "refuse")
        return made

    def place(self, caller: Caller, params: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
        """The params of a download, and where the client stands: that is believed only when it is the daemon's own user
        who says so."""
        stated = params.get("cwd")
        if not isinstance(stated, str):
            return params, None
        cwd = stated if caller.trusted_cwd and self._believes_cwd else None
        return {key: value for key, value in params.items() if key != "cwd"}, cwd

    async def _prepared(self, caller: Caller, submit: submissions.Submit) -> NewTask:
        return await self._new(caller, submit.type, submit.params, submit)

    async def _new(self, caller: Caller, type: str, params: dict[str, Any], options: submissions.Submission) -> NewTask:
        params, cwd = self.place(caller, params) if type == RemoteDownload.type else (params, None)
        given = {field.name: getattr(options, field.name) for field in fields(submissions.Submission)}
        del given["on_full"], given["run_at"], given["delay"]
        if options.run_at is not None:
            given["run_at"] = times.instant(options.run_at)
        if options.estimate is not None:
            given["estimate"] = options.estimate.parts()
        if options.notify is not None:
            given["notify"] = self._notify.wish(caller, options.notify)
        given = {name: value for name, value in given.items() if value is not None}
        new = self._queue.prepare(type, params, owner=caller.name, cwd=cwd, delay=options.delay, **given)
        # Whatever is stored is sent again with every answer about the task.
        if len(msgspec.json.encode(new.params)) > checks.MAX_PARAMS:
            raise LimitExceeded(
                f"the params of a task have at most {checks.MAX_PARAMS} bytes", kind="size", field="params"
            )
        await self._check_relatives(caller, new)
        if type != RemoteDownload.type or new.unique_key is not None:
            return new
        stored = msgspec.convert(new.params, DownloadParams)
        return msgspec.structs.replace(new, join_key=join_key(stored, new.owner))

    async def _check_relatives(self, caller: Caller, new: NewTask) -> None:
        """What it depends on must exist and be the caller's to see."""
        parents = () if new.parent_id is None else (("parent_id", new.parent_id),)
        for field, task_id in (*(("depends_on", task_id) for task_id in new.depends_on), *parents):
            try:
                self._access.require(caller, await self._queue.get(task_id))
            except (TaskNotFound, NotFound):
                raise InvalidParams(field, f"task {task_id} not found") from None
