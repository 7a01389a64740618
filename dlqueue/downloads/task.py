"""`remote_download`: one download, from a URL to a file in its place, in steps that may each be the last.

not started → monitor → deliver → done. Every step begins by looking at what is, so that it can be repeated after a
crash at any point: the creation key is committed before the downloader is asked, the manifest before any rename.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from dlqueue.downloads import delivery
from dlqueue.downloads.endpoints import Endpoints
from dlqueue.downloads.handover import LOOK_AGAIN, Handover
from dlqueue.downloads.policy import Policy, PolicyRefused
from dlqueue.downloads.request import DownloadParams, normalised
from dlqueue.downloads.state import FROM_TOP, DownloadState
from dlqueue.queue import (
    Context,
    CriticalError,
    Outcome,
    ResumeAfter,
    Submitter,
    Task,
    Want,
)
from dlqueue.runtime.clock import Clock
from dlqueue.runtime.failpoint import reach
from dlqueue.sdk import Handle, NotFound, Rejected, Request, TransferState, TransferStatus, Unavailable

LOST_MAX = 3
"""How often a transfer that its downloader has forgotten is created anew."""
LINGER = 0.1
"""Seconds that a step waits for a transfer that it has begun: what a small file takes."""
SPACE_AGAIN = 30.0

StagingRule = Callable[[DownloadParams], Path]
"""Where the unfinished bytes of a download go: a folder on the file system of its destination."""


class TransferFailed(Exception):
    """A passing error of a transfer: the same downloader is tried again by the retry policy of the queue."""

    def __init__(self, message: str, kind: str, retry_after: float | None, renew: bool) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after
        self.renew = renew
        """New bytes came since the last failure: the retry budget starts anew."""


class RemoteDownload(Task):
    """See the module. The params are `DownloadParams`, the private state is `DownloadState`."""

    type: ClassVar[str] = "remote_download"
    queue: ClassVar[str | None] = "downloads"
    state_type: ClassVar[Any] = DownloadState
    params_type: ClassVar[Any] = DownloadParams
    pause_runs_step: ClassVar[bool] = True
    limited: ClassVar[bool] = False

    def __init__(
        self, endpoints: Endpoints, policy: Policy, default_directory: Path | None, staging: StagingRule, clock: Clock
    ) -> None:
        self._endpoints = endpoints
        self._policy = policy
        self._default_directory = default_directory
        self._staging = staging
        self._clock = clock
        self._handover = Handover(endpoints, policy, clock)

    def validate(self, params: Any, submitter: Submitter) -> Any:
        made = normalised(params, submitter, self._policy, self._default_directory)
        self._endpoints.check(made.urls, made.downloader)
        return made

    async def run(self, ctx: Context) -> Outcome:
        state: DownloadState = ctx.state
        if ctx.want is Want.PAUSE:
            return await self._prepare_pause(ctx)
        if state.location is not None:
            return await self._handover.finish(ctx)
        if state.phase == "deliver":
            return await self._deliver(ctx)
        if state.phase == "":
            return await self._start(ctx)
        return await self._monitor(ctx)

    # -- not started --------------------------------------------------------------------------------------------------

    async def _start(self, ctx: Context) -> Outcome:
        state: DownloadState = ctx.state
        early = await self._handover.exists_already(ctx)
        if early is not None:
            return early
        name = self._choose(ctx)
        if name is None:
            return ResumeAfter(LOOK_AGAIN, hold="route", renew=False)
        coordinator = self._endpoints[name]
        if coordinator.down:
            return ResumeAfter(LOOK_AGAIN, hold=f"downloader:{name}", renew=False)
        if coordinator.paused:
            return ResumeAfter(None, hold=f"paused:{name}", renew=False)
        if not self._endpoints.slots.acquire(name, ctx.task_id):
            return ResumeAfter(None, hold=f"slot:{name}", renew=False)
        now = self._clock.time()
        if state.key is None or state.downloader != name:
            if state.key is not None:
                state.abandon()
            kind = self._endpoints.configs[name].kind.kind
            state.begin_attempt(name, kind, self._staging(ctx.params), ctx.task_id, now)
        elif state.attempts and state.attempts[-1].ended_at is not None:
            state.note_attempt(now)
        await ctx.checkpoint()
        reach("keyed")
        return await self._create(ctx, name)

    async def _create(self, ctx: Context, name: str) -> Outcome:
        state: DownloadState = ctx.state
        coordinator = self._endpoints[name]
        staging, key = Path(state.staging or ""), state.key or ""
        try:
            request = self._request(ctx.params, staging)
            handle = await coordinator.create(request, key, partial(self._prepare, ctx.params, staging))
        except Unavailable as error:
            return await self._wait_for(ctx, name, error)
        except Rejected as error:
            return await self._failed(ctx, error)
        except OSError as error:
            return await self._failed(ctx, _from_os(error, "the staging folder cannot be made"))
        reach("created")
        state.handle_id, state.handle_hash = handle.id, handle.hash
        state.phase = "monitor"
        coordinator.watch(ctx.task_id, ctx.owner, key, handle)
        if await coordinator.settled(handle, LINGER):
            return await self._monitor(ctx)
        _show(ctx, None)
        return ResumeAfter(LOOK_AGAIN, hold=f"transfer:{key}", renew=False)

    def _prepare(self, params: DownloadParams, staging: Path) -> None:
        """The staging folder, in a destination that is still where it may be."""
        try:
            self._policy.check_destination(Path(params.directory), Path(params.root))
        except PolicyRefused as error:
            raise Rejected(error.message, "request", kind=error.kind) from error
        delivery.make_staging(staging)

    def _choose(self, ctx: Context) -> str | None:
        """The downloader to use: the present one as long as it may do, else the first that is up, else the first."""
        state: DownloadState = ctx.state
        params: DownloadParams = ctx.params
        names = [n for n in self._endpoints.route(params.urls, params.downloader) if n not in state.tried]
        if state.downloader in names and state.key is not None:
            return state.downloader
        up = [name for name in names if self._endpoints[name].takes_new]
        return next(iter(up or names), None)

    def _request(self, params: DownloadParams, staging: Path) -> Request:
        return Request(
            urls=params.urls,
            directory=staging,
            name=params.name,
            headers=params.headers,
            checksum=params.checksum,
            options=params.options,
        )

    # -- monitor ------------------------------------------------------------------------------------------------------

    async def _monitor(self, ctx: Context) -> Outcome:
        state: DownloadState = ctx.state
        name, key, handle = state.downloader or "", state.key or "", state.handle
        if name not in self._endpoints or handle is None:
            return ResumeAfter(LOOK_AGAIN, hold="route", renew=False)
        reach("handled")
        coordinator = self._endpoints[name]
        try:
            status = await coordinator.status(ctx.task_id, ctx.owner, key, handle)
        except (Unavailable, Rejected) as error:
            return await self._wait_for(ctx, name, error, keep_slot=True)
        if status is None:
            return await self._gone(ctx)
        # What a transfer that began anew fetches once more is not new.
        renew = status.downloaded > max(state.downloaded, state.bytes_at_failure)
        _note(state, status)
        _show(ctx, status)
        if status.whole:
            reach("whole")
            state.phase = "deliver"
            await self._endpoints.release(ctx.task_id)
            return await self._deliver(ctx, status)
        if status.state is TransferState.ERROR:
            return await self._failed(ctx, status.error or Rejected("failed without saying why"))
        if status.state is TransferState.PAUSED:
            return await self._resume(ctx, name, handle)
        # It may have gone on without us: whatever runs has a slot.
        self._endpoints.slots.adopt(name, ctx.task_id)
        return ResumeAfter(LOOK_AGAIN, hold=f"transfer:{key}", renew=renew)

    async def _resume(self, ctx: Context, name: str, handle: Handle) -> Outcome:
        coordinator = self._endpoints[name]
        if coordinator.paused:
            return ResumeAfter(None, hold=f"paused:{name}", renew=False)
        if not self._endpoints.slots.acquire(name, ctx.task_id):
            return ResumeAfter(None, hold=f"slot:{name}", renew=False)
        try:
            await coordinator.call(coordinator.downloader.resume, handle)
        except (Unavailable, Rejected) as error:
            return await self._wait_for(ctx, name, error)
        except NotFound:
            return await self._gone(ctx)
        return ResumeAfter(LOOK_AGAIN, hold=f"transfer:{ctx.state.key}", renew=False)

    async def _prepare_pause(self, ctx: Context) -> Outcome:
        """Before the task is paused its transfer is. One that cannot be reached goes on by itself; the task is paused
        all the same, and looks again when it is resumed."""
        state: DownloadState = ctx.state
        name, handle = state.downloader or "", state.handle
        if handle is not None and name in self._endpoints and state.phase == "monitor":
            coordinator = self._endpoints[name]
            try:
                if not coordinator.down:
                    await coordinator.call(coordinator.downloader.pause, handle)
            except (Unavailable, Rejected, NotFound) as error:
                ctx.logger.warning("the transfer could not be paused in %s: %s", name, error)
            status = coordinator.latest(handle)
            if status is not None:
                _note(state, status)
                _show(ctx, replace(status, download_speed=0.0))
            coordinator.unwatch(handle)
        await self._endpoints.release(ctx.task_id)
        return ResumeAfter(0.0, renew=False)

    async def _gone(self, ctx: Context, content: bool = False) -> Outcome:
        """The downloader does not know the transfer any more; or (``content``) what it has fetched is not there."""
        state: DownloadState = ctx.state
        state.lost += 1
        message = "its content is gone" if content else f"{state.downloader} has forgotten the transfer"
        await self._endpoints.release(ctx.task_id)
        self._unwatch(state)
        end = state.lost > LOST_MAX
        state.end_attempt(self._clock.time(), "lost", message, "error" if end else "create anew")
        if content:
            # The downloader believes that it is whole: with this key it would say so again.
            state.abandon()
        # The same key: what is left in its folder is used again if the downloader can prove it.
        state.phase, state.handle_id, state.handle_hash = "", None, None
        if end:
            times, state.lost = state.lost, 0
            raise CriticalError(f"{message}, {times} times in all", "lost")
        return ResumeAfter(0.0, renew=False)

    def _unwatch(self, state: DownloadState) -> None:
        if state.handle is not None and (state.downloader or "") in self._endpoints:
            self._endpoints[state.downloader or ""].unwatch(state.handle)

    async def _wait_for(self, ctx: Context, name: str, error: Exception, keep_slot: bool = False) -> Outcome:
        """The downloader does not answer. That is no failure of the download: wait for it."""
        if not keep_slot:
            await self._endpoints.release(ctx.task_id)
        ctx.progress(message=f"waiting for {name}: {error}")
        return ResumeAfter(LOOK_AGAIN, hold=f"downloader:{name}", renew=False)

    async def _failed(self, ctx: Context, error: Rejected) -> Outcome:
        """What next, by the class of the error."""
        state: DownloadState = ctx.state
        now = self._clock.time()
        await self._endpoints.release(ctx.task_id)
        self._unwatch(state)
        renew = state.downloaded > state.bytes_at_failure
        state.bytes_at_failure = max(state.downloaded, state.bytes_at_failure)
        state.state = None
        if error.kind == "disk_full":
            state.end_attempt(now, "space", error.message, "wait")
            state.phase = ""
            ctx.progress(message=error.message)
            return ResumeAfter(SPACE_AGAIN, hold="space", renew=False)
        if error.final == "request":
            state.end_attempt(now, "request", error.message, "error")
            state.phase, state.tried = "", []
            raise CriticalError(error.message, error.kind)
        if error.final == "downloader":
            state.tried.append(state.downloader or "")
            if self._choose(ctx) is not None:
                state.end_attempt(now, "downloader", error.message, "next downloader")
                state.abandon()
                return ResumeAfter(0.0, renew=False)
            state.phase, state.tried = "", []
            if state.passing_since_top():
                state.end_attempt(now, "downloader", error.message, FROM_TOP)
                state.abandon()
                raise TransferFailed(error.message, error.kind, error.retry_after, renew=False)
            state.end_attempt(now, "downloader", error.message, "error")
            raise CriticalError(error.message, error.kind)
        left = ctx.record.max_retry - (0 if renew else ctx.record.attempt)
        state.end_attempt(now, "passing", error.message, "retry" if left > 0 else "error")
        state.phase = ""  # and the key stays: the next try goes on with the bytes that are there
        raise TransferFailed(error.message, error.kind, error.retry_after, renew)

    # -- deliver ------------------------------------------------------------------------------------------------------

    async def _deliver(self, ctx: Context, status: TransferStatus | None = None) -> Outcome:
        state: DownloadState = ctx.state
        params: DownloadParams = ctx.params
        try:
            if not state.manifest:
                if status is None:
                    status = await self._endpoints[state.downloader or ""].status(
                        ctx.task_id, ctx.owner, state.key or "", state.handle or Handle("")
                    )
                if status is None:
                    return await self._gone(ctx)
                self._unwatch(state)
                await self._handover.plan(ctx, status.content)
            return await self._handover.move(ctx)
        except Unavailable as error:
            return await self._wait_for(ctx, state.downloader or "", error)
        except FileNotFoundError:
            # Neither at its place nor in staging: it has to be fetched anew.
            return await self._gone(ctx, content=True)
        except PolicyRefused as error:
            return await self._failed(ctx, Rejected(error.message, "request", kind=error.kind))
        except OSError as error:
            return await self._failed(ctx, _from_os(error, f"cannot be put into {params.directory}"))

    def staging_folders(self) -> list[Path]:
        """Where unfinished bytes would go: on their way to the default destination, and to each that is allowed."""
        roots = self._policy.destinations
        places = {root: root for root in roots}
        if self._default_directory is not None:
            places[self._default_directory] = self._policy.check_destination(self._default_directory, None)
        made = (DownloadParams(urls=("",), directory=str(place), root=str(root)) for place, root in places.items())
        return list(dict.fromkeys(self._staging(params) for params in made))

    async def cleanup(self, ctx: Context) -> None:
        await self._handover.cleanup(ctx)


def _note(state: DownloadState, status: TransferStatus) -> None:
    state.state = str(status.state)
    state.name = status.name or state.name
    state.total = status.total
    state.downloaded = status.downloaded


def _show(ctx: Context, status: TransferStatus | None) -> None:
    if status is None:
        ctx.progress(message="", step={"name": "start", "done": 0, "total": 3})
        return
    ctx.progress(**progress_of(status))


def progress_of(status: TransferStatus) -> dict[str, Any]:
    """A status in the words of `Context.progress`."""
    total = status.total
    return {
        "percent": 100.0 * status.downloaded / total if total else None,
        "message": status.message or "",
        "step": {"name": "monitor", "done": 1, "total": 3},
        "counters": {
            "downloaded": status.downloaded,
            **({} if total is None else {"total": total}),
            "download_speed": round(status.download_speed),
        },
    }


def _from_os(error: OSError, what: str) -> Rejected:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Rejected(f"{what}: {error.strerror}", kind="disk_full")
    return Rejected(f"{what}: {error.strerror or error}", kind="destination")
