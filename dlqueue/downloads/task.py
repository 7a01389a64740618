"""`remote_download`: one download, from a URL to a file in its place, in steps that may each be the last.

not started → monitor → deliver → (seeding →) done. Every step begins by looking at what is, so that it can be repeated
after a crash at any point: the creation key is committed before the downloader is asked, the manifest before any
rename.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from dlqueue.downloads.coordinator import Coordinator
from dlqueue.downloads.delivery import STAGING, drop_empty
from dlqueue.downloads.endpoints import Endpoints, NotConfigured
from dlqueue.downloads.folders import make_folders
from dlqueue.downloads.handover import LOOK_AGAIN, Forgotten, Handover, NotYet
from dlqueue.downloads.orders import Orders
from dlqueue.downloads.pathmap import PathMap, make_folder
from dlqueue.downloads.policy import Policy, PolicyRefused
from dlqueue.downloads.progress import note, show
from dlqueue.downloads.request import DownloadParams, normalised, source_mark
from dlqueue.downloads.room import NoRoom, Places
from dlqueue.downloads.seeding import Seeding, SeedRule
from dlqueue.downloads.selecting import apply_match
from dlqueue.downloads.setbacks import Setbacks, from_os, seldom
from dlqueue.downloads.space import NotMounted
from dlqueue.downloads.state import DownloadState, MadeFolder
from dlqueue.downloads.upload import Uploads
from dlqueue.queue import (
    Context,
    InvalidTask,
    Outcome,
    Quotas,
    ResumeAfter,
    Submitter,
    Task,
    Want,
)
from dlqueue.runtime.clock import Clock
from dlqueue.runtime.failpoint import reach
from dlqueue.sdk import Handle, NotFound, Rejected, TransferState, TransferStatus, Unavailable

TOO_LARGE = "its owner has no room for so many bytes (max_bytes)"
LINGER = 0.1
"""Seconds that a step waits for a transfer that it has begun: what a small file takes."""

StagingRule = Callable[[DownloadParams], Path]
"""Where the unfinished bytes of a download go: a folder on the file system of its destination."""


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
        quotas: Quotas | None = None,
    ) -> None:
        self._endpoints = endpoints
        self._policy = policy
        self.default_directory = default_directory
        self._staging = staging
        self._clock = clock
        self.uploads = uploads
        self._quotas = quotas
        self._orders = Orders(uploads, policy, lambda params: self._seeding.rule(params).wanted)
        self._handover = Handover(endpoints, policy, clock)
        self._setbacks = Setbacks(endpoints, self._handover, clock)
        self.seed_rule = seeding or SeedRule()
        """Where a submit says nothing of it. May be set at any time."""
        self._seeding = Seeding(lambda: self.seed_rule, self._orders.request, clock)

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
        route = self._setbacks.route(ctx)
        if not set(route.names) - set(state.tried):
            state.tried = []  # the route has become another one since
        names = [name for name in route.names if name not in state.tried]
        begun = state.key is not None and (state.handle is not None or state.downloaded > 0)
        if begun and state.downloader in names:
            if self._endpoints[state.downloader].down:
                return await self._setbacks.out_of_reach(ctx, state.downloader)
            names = [state.downloader]
        if (hold := self._over_quota(ctx)) is not None:
            return await self._setbacks.over_quota(ctx, hold)
        choice = self._endpoints.choice(names, route.shares, ctx.task_id)
        name = choice.name
        if name is None or not self._endpoints.slots.acquire(name, ctx.task_id):
            await self._endpoints.shares.pass_on(ctx.owner)
            if choice.waits == "downloader":
                self._setbacks.show_wait(ctx, choice.names[0])
            elif ctx.latest_progress is not None and ctx.latest_progress.message:
                ctx.progress(message="")  # of what it waited for before
            after = {"downloader": seldom(ctx), "route": LOOK_AGAIN}.get(choice.waits or "")
            return ResumeAfter(after, hold=self._endpoints.hold(choice), renew=False)
        self._endpoints.shares.adopt(ctx.owner, ctx.task_id)
        coordinator = self._endpoints[name]
        now = self._clock.time()
        # Bytes of one URL must not be continued with those of another, unless they are proven to be the same content.
        try:
            folder = coordinator.paths.folder or self._staging(ctx.params)
        except Rejected as error:
            return await self._setbacks.failed(ctx, error)
        if (lack := await self._find_room(ctx, coordinator.paths, folder)) is not None:
            return await self._setbacks.no_room(ctx, lack)
        replaced = state.source not in (None, source_mark(ctx.params)) and not coordinator.downloader.proves_bytes
        if state.key is None or state.downloader != name or replaced:
            if state.key is not None:
                if state.downloader != name:
                    self._endpoints.end_attempt(state, "unavailable", self._setbacks.why_not(state), "next downloader")
                state.abandon()
            for former in names[: names.index(name)]:
                self._setbacks.note_skipped(state, former, now)
            kind = self._endpoints.configs[name].kind.kind
            state.begin_attempt(name, kind, folder, ctx.task_id, now)
            if any(owed.downloader != name for owed in state.obligations):
                await self._handover.work_off(state, only_up=True)
        elif state.attempts and state.attempts[-1].ended_at is not None:
            state.note_attempt(now)
            before = Path(state.staging or "")
            if coordinator.paths.given and before.parent != folder and await asyncio.to_thread(_is_empty, before):
                state.staging = str(folder / before.name)  # the map was wrong, and has been corrected
        await ctx.checkpoint()
        reach("keyed")
        return await self._create(ctx, name)

    def _over_quota(self, ctx: Context) -> str | None:
        """What it has to wait for before it may begin, or go on, as far as its owner is concerned."""
        state: DownloadState = ctx.state
        if (hold := self._too_large(ctx)) is not None:
            return hold
        if not state.attached and not self._endpoints.shares.free(ctx.owner, ctx.task_id):
            return self._endpoints.shares.hold(ctx.owner)
        return None

    def _too_large(self, ctx: Context) -> str | None:
        """The same for bytes alone."""
        if self._quotas is None or ctx.state.attached:
            return None
        return self._quotas.fits(ctx.owner, ctx.task_id, _known_size(ctx.params.size, ctx.state))

    async def _find_room(self, ctx: Context, paths: PathMap, folder: Path | None = None) -> NoRoom | None:
        """For what is still to come of it. None = it has it.

        :param folder: where its own folder is going to be, if it has none yet.
        """
        state: DownloadState = ctx.state
        places = self._places(ctx, paths, folder)
        total = ctx.params.size if state.total is None else state.total
        room = self._endpoints.room
        lack = await room.ask(ctx.task_id, state.key or "", places, total, state.downloaded)
        if lack is None:
            mounts = await room.mounts(places)
            state.mounts = mounts if any(mounts) else []
        return lack

    def _places(self, ctx: Context, paths: PathMap, folder: Path | None = None) -> Places:
        state: DownloadState = ctx.state
        params: DownloadParams = ctx.params
        staging = Path(state.staging).parent if state.staging is not None else folder or self._staging(params)
        if paths.in_place:
            return Places(staging, staging, state.mounts)
        return Places(staging, Path(params.directory), state.mounts or [params.mount])

    async def _create(self, ctx: Context, name: str) -> Outcome:
        state: DownloadState = ctx.state
        coordinator = self._endpoints[name]
        staging, key = Path(state.staging or ""), state.key or ""
        try:
            await self._orders.fetch_torrent(ctx, coordinator)
            request = self._orders.request(ctx.params, state)
            prepare = partial(
                self._prepare, ctx.params, coordinator.paths, staging, self._places(ctx, coordinator.paths), state.made
            )
            handle, instance = await coordinator.create(request, key, prepare)
        except Unavailable as error:
            return await self._setbacks.out_of_reach(ctx, name, error)
        except Rejected as error:
            return await self._setbacks.failed(ctx, error)
        except NotMounted as error:
            lack = self._endpoints.room.missing(Path(error.filename), error.mount)
            return await self._setbacks.no_room(ctx, lack)
        except OSError as error:
            return await self._setbacks.failed(ctx, from_os(error, "the staging folder cannot be made"))
        reach("created")
        state.handle, state.instance, state.source = handle, instance, source_mark(ctx.params)
        state.phase = "monitor"
        self._endpoints.room.ledger.name(ctx.task_id, key)
        coordinator.watch(ctx.task_id, ctx.owner, key, handle, instance)
        if await coordinator.settled(key, LINGER):
            return await self._monitor(ctx)
        show(ctx, None)
        return ResumeAfter(seldom(ctx), hold=f"transfer:{key}", renew=False)

    def _prepare(
        self, params: DownloadParams, paths: PathMap, staging: Path, places: Places, made: list[MadeFolder]
    ) -> None:
        """The staging folder, in a destination that is still where it may be, on the disk that it was on."""
        for folder, mount in zip((places.directory, places.staging), places.mounts, strict=False):
            self._endpoints.room.check(folder, mount)
        try:
            self._policy.check_destination(Path(params.directory), Path(params.root))
            if staging.parent.name == STAGING:  # beside what is delivered: the destination comes first
                make_folders(staging.parent.parent, Path(params.root), made)
        except PolicyRefused as error:
            raise Rejected(error.message, "request", kind=error.kind) from error
        make_folder(paths, staging)

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
                return await self._setbacks.replaced(ctx, coordinator)
            seen = await coordinator.look(ctx.task_id, ctx.owner, key, handle, state.instance)
            if seen.status is None:
                return await self._gone(ctx, coordinator, seen.restarted)
        except (Unavailable, Rejected) as error:
            return await self._setbacks.out_of_reach(ctx, name, error, keep_slot=True)
        await self._handover.work_off(state, only_up=True)
        state.instance, status = seen.instance, seen.status
        # What a transfer that began anew fetches once more is not new.
        renew = status.downloaded > max(state.downloaded, state.bytes_at_failure)
        note(state, status)
        if status.downloaded > state.lost_bytes:
            state.lost = 0
        show(ctx, status)
        try:
            if status.state is not TransferState.ERROR and await apply_match(ctx, coordinator, status):
                coordinator.watch(ctx.task_id, ctx.owner, key, handle, state.instance)  # and look anew
                return ResumeAfter(0.0, renew=renew)
        except NotFound:
            coordinator.unwatch(key)  # the next step asks anew, and learns why
            return ResumeAfter(0.0, renew=False)
        except Unavailable as error:
            return await self._setbacks.out_of_reach(ctx, name, error, keep_slot=True)
        except Rejected as error:
            return await self._setbacks.failed(ctx, error)
        if status.whole:
            return await self._whole(ctx, status)
        if coordinator.given_up:
            return await self._setbacks.out_of_reach(ctx, name, keep_slot=True)
        if status.state is TransferState.ERROR:
            return await self._setbacks.failed(ctx, status.error or Rejected("failed without saying why"))
        if not state.attached and (lack := await self._find_room(ctx, coordinator.paths)) is not None:
            return await self._setbacks.stopped(ctx, coordinator, handle, lack)
        if (hold := self._too_large(ctx)) is not None:
            return await self._setbacks.stopped(ctx, coordinator, handle, NoRoom(hold, TOO_LARGE), "quota")
        if status.state is TransferState.PAUSED and not state.attached:
            return await self._resume(ctx, name, handle)
        # It may have gone on without us: whatever runs has a slot.
        self._endpoints.slots.adopt(name, ctx.task_id)
        self._endpoints.shares.adopt(ctx.owner, ctx.task_id)
        after, stall = seldom(ctx), coordinator.stall
        if stall is not None and seen.still >= stall and not coordinator.down:
            outcome = await self._setbacks.stalled(ctx, seen.still)
            if outcome is not None:
                return outcome
            after = LOOK_AGAIN
        return ResumeAfter(after, hold=f"transfer:{key}", renew=renew)

    async def _whole(self, ctx: Context, status: TransferStatus) -> Outcome:
        reach("whole")
        ctx.state.phase = "deliver"
        await self._endpoints.release(ctx.task_id)
        return await self._deliver(ctx, status)

    async def _resume(self, ctx: Context, name: str, handle: Handle) -> Outcome:
        coordinator = self._endpoints[name]
        if coordinator.paused:
            return ResumeAfter(None, hold=f"paused:{name}", renew=False)
        if (hold := self._over_quota(ctx)) is not None:
            return await self._setbacks.over_quota(ctx, hold)
        if not self._endpoints.slots.acquire(name, ctx.task_id):
            return ResumeAfter(None, hold=f"slot:{name}", renew=False)
        self._endpoints.shares.adopt(ctx.owner, ctx.task_id)
        try:
            await coordinator.call(coordinator.downloader.resume, handle)
        except (Unavailable, Rejected) as error:
            return await self._setbacks.out_of_reach(ctx, name, error)
        except NotFound:
            coordinator.unwatch(ctx.state.key or "")  # the next step asks anew, and learns why
            return ResumeAfter(0.0, renew=False)
        return ResumeAfter(seldom(ctx), hold=f"transfer:{ctx.state.key}", renew=False)

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
                note(state, status)
                show(ctx, replace(status, download_speed=0.0))
            coordinator.unwatch(key)
        await self._endpoints.release(ctx.task_id)
        return ResumeAfter(0.0, renew=False)

    async def _gone(self, ctx: Context, coordinator: Coordinator, restarted: bool) -> Outcome:
        """The downloader does not know the transfer any more. Is its content whole all the same?"""
        state: DownloadState = ctx.state
        last = coordinator.latest(state.key or "")
        if last is not None:
            note(state, last)
        content: Sequence[str] = ()
        if state.staging is not None:
            with contextlib.suppress(Rejected):
                request = self._orders.request(ctx.params, state)
                content = await self._setbacks.left_behind(ctx, request, restarted)
        if not content:
            return await self._setbacks.gone(ctx, restarted)
        coordinator.unwatch(state.key or "")
        size = state.total or state.downloaded
        done = TransferStatus(TransferState.COMPLETED, state.name, state.total, size, content=tuple(content))
        return await self._whole(ctx, done)

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
                self._setbacks.unwatch(state)
                paths = self._endpoints[state.downloader or ""].paths
                try:
                    await self._handover.plan(ctx, status, self._seeding.rule(params).wanted)
                except FileNotFoundError:
                    if not paths.given:
                        raise
                    # Rather the names are wrong than the content gone, which another try would only fetch again.
                    return await self._setbacks.failed(ctx, paths.missing(status.content))
            room = self._endpoints.room
            copied = [] if state.stays else state.manifest
            lack = await room.ask_for_copy(ctx.task_id, state.key or "", Path(params.directory), copied)
            if lack is not None:
                return await self._setbacks.no_room(ctx, lack)
            try:
                return await self._handover.move(ctx)
            finally:
                room.release(ctx.task_id)
        except NotMounted as error:
            lack = self._endpoints.room.missing(Path(error.filename), error.mount)
            return await self._setbacks.no_room(ctx, lack)
        except Unavailable as error:
            return await self._setbacks.out_of_reach(ctx, state.downloader or "", error)
        except NotYet:
            state.phase = "monitor"
            return ResumeAfter(1.0, hold=f"transfer:{state.key}", renew=False)
        except Forgotten as error:
            # The same key: created anew, what is there is proven piece by piece.
            return await self._setbacks.lost(ctx, str(error))
        except FileNotFoundError:
            # Neither at its place nor in staging: it has to be fetched anew. With this key the downloader would say
            # again that it is whole.
            return await self._setbacks.lost(ctx, "its content is gone", new_key=True)
        except Rejected as error:
            return await self._setbacks.failed(ctx, error)
        except PolicyRefused as error:
            return await self._setbacks.failed(ctx, Rejected(error.message, "request", kind=error.kind))
        except OSError as error:
            return await self._setbacks.failed(ctx, from_os(error, f"cannot be put into {params.directory}"))

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

    def size(self, params: Any, state: bytes | None) -> int | None:
        known = None if state is None else self.read_state(state)
        return _known_size(params.get("size"), known)

    def staging_folders(self) -> list[Path]:
        """Where unfinished bytes would go: on their way to the default destination, and to each that is allowed."""
        roots = self._policy.destinations
        places = {root: root for root in roots}
        if self.default_directory is not None:
            places[self.default_directory] = self._policy.check_destination(self.default_directory, None)
        made = (DownloadParams(urls=("",), directory=str(place), root=str(root)) for place, root in places.items())
        return list(dict.fromkeys(self._staging(params) for params in made))

    def destinations(self) -> list[Path]:
        """Where downloads may be put: the default, and all that are allowed."""
        default = () if self.default_directory is None else (self.default_directory,)
        return list(dict.fromkeys((*default, *self._policy.destinations)))

    async def cleanup(self, ctx: Context) -> None:
        await self._handover.cleanup(ctx)


def _known_size(wanted: int | None, state: DownloadState | None) -> int | None:
    """
    :param wanted: bytes, as far as the submit tells.
    """
    if state is None:
        return wanted
    # One that does not say how large it is has at least what has come of it.
    return (wanted if state.total is None else state.total) or state.downloaded or None


def _is_empty(folder: Path) -> bool:
    """Is nothing in it? Then it is gone."""
    drop_empty(folder)
    return not folder.is_dir()
