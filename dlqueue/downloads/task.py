"""`remote_download`: one download, from a URL to a file in its place, in steps that may each be the last.

not started → monitor → deliver → (seeding →) done. Every step begins by looking at what is, so that it can be repeated
after a crash at any point: the creation key is committed before the downloader is asked, the manifest before any
rename.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from dlqueue.downloads import delivery
from dlqueue.downloads.coordinator import Coordinator
from dlqueue.downloads.endpoints import Endpoints, NotConfigured
from dlqueue.downloads.handover import LOOK_AGAIN, Forgotten, Handover, NotYet
from dlqueue.downloads.policy import Policy, PolicyRefused
from dlqueue.downloads.request import DownloadParams, normalised, source_mark
from dlqueue.downloads.seeding import Seeding, SeedRule
from dlqueue.downloads.state import FROM_TOP, DownloadState
from dlqueue.downloads.upload import Uploads
from dlqueue.queue import (
    Context,
    CriticalError,
    InvalidTask,
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
LOOK_SELDOM = 300.0
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
        self,
        endpoints: Endpoints,
        policy: Policy,
        default_directory: Path | None,
        staging: StagingRule,
        clock: Clock,
        uploads: Uploads,
        seeding: SeedRule | None = None,
    ) -> None:
        self._endpoints = endpoints
        self._policy = policy
        self.default_directory = default_directory
        self._staging = staging
        self._clock = clock
        self.uploads = uploads
        self._handover = Handover(endpoints, policy, clock)
        self.seed_rule = seeding or SeedRule()
        """Where a submit says nothing of it. May be set at any time."""
        self._seeding = Seeding(lambda: self.seed_rule, self._request, clock)

    def validate(self, params: Any, submitter: Submitter) -> Any:
        made, file = self.examined(params, submitter)
        if file is not None:
            self.uploads.keep(file)
        return made

    def examined(self, params: Any, submitter: Submitter) -> tuple[DownloadParams, bytes | None]:
        """What `validate` would store, and the file it would keep; nothing is written."""
        made, file = normalised(params, submitter, self._policy, self.default_directory)
        self._endpoints.check(made)
        return made, file

    def check_url(self, url: str) -> None:
        """:raises InvalidTask: it is no URL of a file; `PolicyRefused`: it is not allowed."""
        if self._policy.check_url(url).scheme == "magnet":
            raise InvalidTask("a magnet link cannot take the place of a URL", "url")

    async def run(self, ctx: Context) -> Outcome:
        try:
            return await self._step(ctx)
        except NotConfigured:  # taken away in the middle of the step
            return ResumeAfter(LOOK_AGAIN, hold="route", renew=False)

    async def _step(self, ctx: Context) -> Outcome:
        state: DownloadState = ctx.state
        if ctx.want is Want.PAUSE:
            return await self._prepare_pause(ctx)
        if state.location is not None:
            return await self._seed(ctx)
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
            return ResumeAfter(_seldom(ctx), hold=f"downloader:{name}", renew=False)
        if coordinator.paused:
            return ResumeAfter(None, hold=f"paused:{name}", renew=False)
        if not self._endpoints.slots.acquire(name, ctx.task_id):
            return ResumeAfter(None, hold=f"slot:{name}", renew=False)
        now = self._clock.time()
        # Bytes of one URL must not be continued with those of another, unless they are proven to be the same content.
        replaced = state.source not in (None, source_mark(ctx.params)) and not coordinator.downloader.proves_bytes
        if state.key is None or state.downloader != name or replaced:
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
            handle, instance = await coordinator.create(request, key, partial(self._prepare, ctx.params, staging))
        except Unavailable as error:
            return await self._wait_for(ctx, name, error)
        except Rejected as error:
            return await self._failed(ctx, error)
        except OSError as error:
            return await self._failed(ctx, _from_os(error, "the staging folder cannot be made"))
        reach("created")
        state.handle, state.instance, state.source = handle, instance, source_mark(ctx.params)
        state.phase = "monitor"
        coordinator.watch(ctx.task_id, ctx.owner, key, handle, instance)
        if await coordinator.settled(key, LINGER):
            return await self._monitor(ctx)
        _show(ctx, None)
        return ResumeAfter(_seldom(ctx), hold=f"transfer:{key}", renew=False)

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
        names = [n for n in self._endpoints.route(params) if n not in state.tried]
        if state.downloader in names and state.key is not None:
            return state.downloader
        up = [name for name in names if self._endpoints[name].takes_new]
        return next(iter(up or names), None)

    def _request(self, params: DownloadParams, staging: Path) -> Request:
        """:raises Rejected: the file that was sent is not kept any more."""
        files: dict[str, bytes] = {}
        for field in ("torrent", "metalink"):
            if (kept := getattr(params, field)) is not None:
                try:
                    files[field] = self.uploads.read(kept)
                except FileNotFoundError:
                    message = f"its .{field} file is not kept any more: add it again"
                    raise Rejected(message, "request", kind="upload_gone") from None
        return Request(
            urls=params.urls,
            torrent=files.get("torrent"),
            metalink=files.get("metalink"),
            select=params.select,
            seed=self._seeding.rule(params).wanted,
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
            if state.source not in (None, source_mark(ctx.params)):
                return await self._begin_again(ctx, coordinator)
            seen = await coordinator.look(ctx.task_id, ctx.owner, key, handle, state.instance)
            if seen.status is None:
                return await self._gone(ctx, seen.restarted)
        except (Unavailable, Rejected) as error:
            return await self._wait_for(ctx, name, error, keep_slot=True)
        await self._handover.work_off(state, only_up=True)
        state.instance, status = seen.instance, seen.status
        # What a transfer that began anew fetches once more is not new.
        renew = status.downloaded > max(state.downloaded, state.bytes_at_failure)
        _note(state, status)
        _show(ctx, status)
        if status.whole:
            return await self._whole(ctx, status)
        if status.state is TransferState.ERROR:
            return await self._failed(ctx, status.error or Rejected("failed without saying why"))
        if status.state is TransferState.PAUSED and not state.attached:
            return await self._resume(ctx, name, handle)
        # It may have gone on without us: whatever runs has a slot.
        self._endpoints.slots.adopt(name, ctx.task_id)
        return ResumeAfter(_seldom(ctx), hold=f"transfer:{key}", renew=renew)

    async def _whole(self, ctx: Context, status: TransferStatus) -> Outcome:
        reach("whole")
        ctx.state.phase = "deliver"
        await self._endpoints.release(ctx.task_id)
        return await self._deliver(ctx, status)

    async def _begin_again(self, ctx: Context, coordinator: Coordinator) -> Outcome:
        """It has got another URL."""
        state: DownloadState = ctx.state
        handle, key = state.handle, state.key or ""
        state.end_attempt(self._clock.time(), "replaced", "it got another URL", "create anew")
        if handle is not None and not state.attached:
            await coordinator.remove(key, handle, False, lambda: None)
        state.phase, state.handle = "", None
        return ResumeAfter(0.0, renew=False)

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
            coordinator.unwatch(ctx.state.key or "")  # the next step asks anew, and learns why
            return ResumeAfter(0.0, renew=False)
        return ResumeAfter(_seldom(ctx), hold=f"transfer:{ctx.state.key}", renew=False)

    async def _prepare_pause(self, ctx: Context) -> Outcome:
        """Before the task is paused its transfer is. One that cannot be reached goes on by itself; the task is paused
        all the same, and looks again when it is resumed."""
        state: DownloadState = ctx.state
        name, handle, key = state.downloader or "", state.handle, state.key
        if handle is not None and key is not None and name in self._endpoints and state.phase in ("monitor", "seeding"):
            coordinator = self._endpoints[name]
            try:
                if not coordinator.down and not state.attached:
                    await coordinator.call(coordinator.downloader.pause, handle)
            except (Unavailable, Rejected, NotFound) as error:
                ctx.logger.warning("the transfer could not be paused in %s: %s", name, error)
            status = coordinator.latest(key)
            if status is not None:
                _note(state, status)
                _show(ctx, replace(status, download_speed=0.0))
            coordinator.unwatch(key)
        await self._endpoints.release(ctx.task_id)
        return ResumeAfter(0.0, renew=False)

    async def _gone(self, ctx: Context, restarted: bool) -> Outcome:
        """The downloader does not know the transfer any more. Is its content whole all the same? Has somebody removed
        it, or has a restart lost it?"""
        state: DownloadState = ctx.state
        coordinator = self._endpoints[state.downloader or ""]
        last = coordinator.latest(state.key or "")
        if last is not None:
            _note(state, last)
        content = await self._left_behind(ctx, coordinator, restarted)
        if content:
            coordinator.unwatch(state.key or "")
            size = state.total or state.downloaded
            done = TransferStatus(TransferState.COMPLETED, state.name, state.total, size, content=tuple(content))
            return await self._whole(ctx, done)
        if restarted or state.attached:
            return await self._lost(ctx, f"{state.downloader} has forgotten the transfer")
        message = f"somebody has removed it in {state.downloader}"
        await self._endpoints.release(ctx.task_id)
        self._unwatch(state)
        state.end_attempt(self._clock.time(), "removed", message, "error")
        state.phase, state.handle = "", None
        raise CriticalError(f"{message}; `dlqueue retry {ctx.task_id}` fetches it again", "removed_elsewhere")

    async def _left_behind(self, ctx: Context, coordinator: Coordinator, restarted: bool) -> Sequence[str]:
        state: DownloadState = ctx.state
        if state.attached or state.staging is None:
            return ()
        try:
            request = self._request(ctx.params, Path(state.staging))
            look = partial(coordinator.downloader.whole_content, total=state.total, restarted=restarted)
            return await coordinator.call(look, request, state.key or "")
        except Rejected:
            return ()

    async def _lost(self, ctx: Context, message: str, new_key: bool = False) -> Outcome:
        """It has to be created anew. With ``new_key`` the present one is of no use any more."""
        state: DownloadState = ctx.state
        state.lost += 1
        await self._endpoints.release(ctx.task_id)
        self._unwatch(state)
        end = state.lost > LOST_MAX
        state.end_attempt(self._clock.time(), "lost", message, "error" if end else "create anew")
        if new_key:
            state.abandon()
        # The same key: what is left in its folder is used again if the downloader can prove it.
        state.phase, state.handle = "", None
        if end:
            times, state.lost = state.lost, 0
            raise CriticalError(f"{message}, {times} times in all", "lost")
        return ResumeAfter(0.0, renew=False)

    def _unwatch(self, state: DownloadState) -> None:
        if state.key is not None and (state.downloader or "") in self._endpoints:
            self._endpoints[state.downloader or ""].unwatch(state.key)

    async def _wait_for(self, ctx: Context, name: str, error: Exception, keep_slot: bool = False) -> Outcome:
        """The downloader does not answer. That is no failure of the download: wait for it."""
        if not keep_slot:
            await self._endpoints.release(ctx.task_id)
        ctx.progress(message=f"waiting for {name}: {error}")
        return ResumeAfter(_seldom(ctx), hold=f"downloader:{name}", renew=False)

    async def _failed(self, ctx: Context, error: Rejected) -> Outcome:
        """What next, by the class of the error."""
        if error.kind == "gid_taken":
            return await self._lost(ctx, error.message, new_key=True)
        state: DownloadState = ctx.state
        now = self._clock.time()
        await self._endpoints.release(ctx.task_id)
        self._unwatch(state)
        renew = state.downloaded > state.bytes_at_failure
        state.bytes_at_failure = max(state.downloaded, state.bytes_at_failure)
        state.state = None
        if error.kind == "disk_full":
            state.end_attempt(now, "space", error.message, "wait")
            state.phase = "deliver" if state.manifest else ""
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
                    # After a crash: what it was is not known any more.
                    state.phase = "monitor"
                    return await self._monitor(ctx)
                self._unwatch(state)
                await self._handover.plan(ctx, status, self._seeding.rule(params).wanted)
            return await self._handover.move(ctx)
        except Unavailable as error:
            return await self._wait_for(ctx, state.downloader or "", error)
        except NotYet:
            state.phase = "monitor"
            return ResumeAfter(1.0, hold=f"transfer:{state.key}", renew=False)
        except Forgotten as error:
            # The same key: created anew, what is there is proven piece by piece.
            return await self._lost(ctx, str(error))
        except FileNotFoundError:
            # Neither at its place nor in staging: it has to be fetched anew. With this key the downloader would say
            # again that it is whole.
            return await self._lost(ctx, "its content is gone", new_key=True)
        except Rejected as error:
            return await self._failed(ctx, error)
        except PolicyRefused as error:
            return await self._failed(ctx, Rejected(error.message, "request", kind=error.kind))
        except OSError as error:
            return await self._failed(ctx, _from_os(error, f"cannot be put into {params.directory}"))

    async def _seed(self, ctx: Context) -> Outcome:
        """It is delivered; its transfer may go on seeding before everything is cleared up."""
        state: DownloadState = ctx.state
        name = state.downloader or ""
        if state.phase == "seeding" and state.key is not None:
            if name not in self._endpoints:
                return ResumeAfter(LOOK_AGAIN, hold="route", renew=False)
            outcome = await self._seeding.step(ctx, self._endpoints[name])
            if outcome is not None:
                return outcome
        return await self._handover.finish(ctx)

    def staging_folders(self) -> list[Path]:
        """Where unfinished bytes would go: on their way to the default destination, and to each that is allowed."""
        roots = self._policy.destinations
        places = {root: root for root in roots}
        if self.default_directory is not None:
            places[self.default_directory] = self._policy.check_destination(self.default_directory, None)
        made = (DownloadParams(urls=("",), directory=str(place), root=str(root)) for place, root in places.items())
        return list(dict.fromkeys(self._staging(params) for params in made))

    async def cleanup(self, ctx: Context) -> None:
        await self._handover.cleanup(ctx)


def _seldom(ctx: Context) -> float:
    """Seconds after which a step that will be woken looks by itself all the same; many of them not all at once."""
    return LOOK_SELDOM * (0.8 + ctx.task_id % 41 / 100)


def _note(state: DownloadState, status: TransferStatus) -> None:
    state.state = str(status.state)
    state.name = status.name or state.name
    state.total = status.total
    state.downloaded = status.downloaded
    state.handle_hash = state.handle_hash or status.hash


def _show(ctx: Context, status: TransferStatus | None) -> None:
    if status is None:
        ctx.progress(message="", step={"name": "start", "done": 0, "total": 3})
        return
    ctx.progress(**progress_of(status))


def progress_of(status: TransferStatus) -> dict[str, Any]:
    """A status in the words of `Context.progress`."""
    total = status.total
    seeding = status.state is TransferState.SEEDING
    return {
        "percent": 100.0 * status.downloaded / total if total else None,
        "message": status.message or "",
        "step": {"name": "seeding", "done": 2, "total": 3} if seeding else {"name": "monitor", "done": 1, "total": 3},
        "counters": {
            "downloaded": status.downloaded,
            **({} if total is None else {"total": total}),
            "download_speed": round(status.download_speed),
            **({"uploaded": status.uploaded, "upload_speed": round(status.upload_speed)} if status.uploaded else {}),
        },
    }


def _from_os(error: OSError, what: str) -> Rejected:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Rejected(f"{what}: {error.strerror}", kind="disk_full")
    return Rejected(f"{what}: {error.strerror or error}", kind="destination")
