"""What a step does when its transfer has failed, is gone, stands still or is out of reach: write down why, and what is
next. The rules are in `dlqueue.downloads.failover`."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from dlqueue.downloads.coordinator import Coordinator
from dlqueue.downloads.endpoints import Endpoints
from dlqueue.downloads.failover import ErrorClass, decide, may_begin_again
from dlqueue.downloads.handover import LOOK_AGAIN, Handover
from dlqueue.downloads.room import NoRoom
from dlqueue.downloads.routing import Choice, Route
from dlqueue.downloads.state import DownloadState
from dlqueue.queue import Context, CriticalError, Outcome, ResumeAfter
from dlqueue.runtime.clock import Clock
from dlqueue.runtime.failpoint import reach
from dlqueue.sdk import Handle, NotFound, Rejected, Request, Unavailable
from dlqueue.units import format_duration

LOST_MAX = 3
"""How often a transfer that its downloader has forgotten is created anew without having got further in between."""
LOOK_SELDOM = 300.0
SPACE_AGAIN = 30.0
"""Seconds until a downloader that says that its disk is full is asked again, though we see room."""


class TransferFailed(Exception):
    """A passing error of a transfer: tried again by the retry policy of the queue."""

    def __init__(self, message: str, kind: str, retry_after: float | None, renew: bool) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after
        self.renew = renew
        """New bytes came since the last failure: the retry budget starts anew."""


def seldom(ctx: Context) -> float:
    """Seconds after which a step that will be woken looks by itself all the same; many of them not all at once."""
    return LOOK_SELDOM * (0.8 + ctx.task_id % 41 / 100)


class Setbacks:
    def __init__(self, endpoints: Endpoints, handover: Handover, clock: Clock) -> None:
        self._endpoints = endpoints
        self._handover = handover
        self._clock = clock

    # -- its route ----------------------------------------------------------------------------------------------------

    def route(self, ctx: Context) -> Route:
        return self._endpoints.route(ctx.params, ctx.owner, ctx.labels)

    def untried(self, ctx: Context) -> list[str]:
        """Of its route, in order."""
        return [name for name in self.route(ctx).names if name not in ctx.state.tried]

    def others(self, ctx: Context) -> list[str]:
        return [name for name in self.untried(ctx) if name != ctx.state.downloader]

    async def next_downloader(self, ctx: Context, error: str, message: str) -> Outcome:
        """Give it up here: the next step chooses another."""
        state: DownloadState = ctx.state
        self.unwatch(state)
        await self._endpoints.release(ctx.task_id)
        self._endpoints.end_attempt(state, error, message, "next downloader")
        state.abandon()
        ctx.logger.info("%s; the next downloader is tried", message)
        ctx.progress(message=message)
        await ctx.checkpoint()
        reach("abandoned")
        await self._handover.work_off(state, only_up=True)
        return ResumeAfter(0.0, renew=False)

    # -- failed -------------------------------------------------------------------------------------------------------

    async def failed(self, ctx: Context, error: Rejected) -> Outcome:
        """What next, by the class of the error."""
        if error.kind == "gid_taken":
            return await self.lost(ctx, error.message, new_key=True)
        if error.kind == "disk_full":
            return await self._end(ctx, "space", error)
        return await self._end(ctx, error.final or "passing", error)

    async def stalled(self, ctx: Context, still: float) -> Outcome | None:
        """No byte has come for `EndpointConfig.stall`. None = it stays: those that have not been tried yet cannot take
        it now."""
        state: DownloadState = ctx.state
        others = self.others(ctx)
        if others and not self._endpoints.ready(others):
            return None
        what = "metadata" if state.state == "metadata" else "byte"
        message = f"{state.downloader}: no {what} came for {format_duration(still)}"
        return await self._end(ctx, "stalled", Rejected(message, kind="stalled"))

    async def _end(self, ctx: Context, error: ErrorClass, said: Rejected) -> Outcome:
        state: DownloadState = ctx.state
        await self._endpoints.release(ctx.task_id)
        self.unwatch(state)
        renew = state.downloaded > state.bytes_at_failure
        left = ctx.record.max_retry - (0 if renew else ctx.record.attempt)
        others = self.others(ctx)
        following = decide(error, state.attempts, state.downloaded, bool(others), left)
        if following == "next downloader":
            state.tried.append(state.downloader or "")
            return await self.next_downloader(ctx, error, said.message)
        state.bytes_at_failure = max(state.downloaded, state.bytes_at_failure)
        if following == "from the top":
            raise await self._from_the_top(ctx, error, said)
        state.state = None
        self._endpoints.end_attempt(state, error, said.message, following)
        state.phase = ""  # and the key stays: the next try goes on with the bytes that are there
        if following == "wait":
            state.phase = "deliver" if state.manifest else ""
            ctx.progress(message=said.message)
            lack = None if state.staging is None else await self._endpoints.room.full(Path(state.staging))
            if lack is not None:
                return ResumeAfter(seldom(ctx), hold=lack.hold, renew=False)
            return ResumeAfter(SPACE_AGAIN, hold="space", renew=False)
        if following == "error":
            state.tried = []
        # The budget of a passing error may be at its end all the same: then the queue says so.
        if following == "error" and error != "passing":
            raise CriticalError(said.message, said.kind)
        raise TransferFailed(said.message, said.kind, said.retry_after, renew)

    # -- no room ------------------------------------------------------------------------------------------------------

    async def no_room(self, ctx: Context, lack: NoRoom) -> Outcome:
        """It cannot begin, or go to its destination, now."""
        await self._endpoints.release(ctx.task_id)
        ctx.progress(message=lack.message)
        return ResumeAfter(seldom(ctx), hold=lack.hold, renew=False)

    async def over_quota(self, ctx: Context, hold: str) -> Outcome:
        """Its owner has as much as he may have. A slot that it was woken for is the next one's."""
        await self._endpoints.release(ctx.task_id)
        return ResumeAfter(None, hold=hold, renew=False)

    async def stopped(
        self,
        ctx: Context,
        coordinator: Coordinator,
        handle: Handle,
        lack: NoRoom,
        error: Literal["space", "quota"] = "space",
    ) -> Outcome:
        """Its disk runs low, or it is larger than was known: it is paused, and keeps what it has."""
        state: DownloadState = ctx.state
        try:
            await coordinator.call(coordinator.downloader.pause, handle)
        except (Unavailable, Rejected) as refused:
            ctx.logger.warning("the transfer could not be paused in %s: %s", coordinator.name, refused)
            return ResumeAfter(SPACE_AGAIN, hold=f"transfer:{state.key}", renew=False)
        except NotFound:
            self.unwatch(state)  # the next step asks anew, and learns why
            return ResumeAfter(0.0, renew=False)
        self.unwatch(state)
        self._endpoints.end_attempt(state, error, lack.message, "wait")
        state.phase, state.state = "", None
        return await self.no_room(ctx, lack)

    # -- out of reach -------------------------------------------------------------------------------------------------

    async def out_of_reach(
        self, ctx: Context, name: str, error: Exception | None = None, keep_slot: bool = False
    ) -> Outcome:
        """It does not answer. That is no failure of the download: wait for it, or go on elsewhere if that has taken too
        long, or if nothing was begun there."""
        state: DownloadState = ctx.state
        coordinator = self._endpoints[name]
        begun = state.handle is not None or state.downloaded > 0
        others = self.others(ctx)
        if (coordinator.given_up or not begun) and state.key is not None and self._endpoints.ready(others):
            return await self.next_downloader(ctx, "unavailable", self.why_not(state, error))
        if coordinator.given_up and not others and self._may_go_back(ctx, name):
            raise await self._from_the_top(ctx, "unavailable", Rejected(self.why_not(state, error), kind="unavailable"))
        if not keep_slot:
            await self._endpoints.release(ctx.task_id)
        self.show_wait(ctx, name, error)
        # One that is given up is left as soon as another can take over, of which nobody would tell.
        after = LOOK_AGAIN if coordinator.given_up and others else seldom(ctx)
        waits = Choice(None, "downloader", (name,) if begun else (name, *others))
        return ResumeAfter(after, hold=self._endpoints.hold(waits), renew=False)

    def show_wait(self, ctx: Context, name: str, error: Exception | None = None) -> None:
        """To whoever watches: it waits for this one, which is down."""
        said = error or self._endpoints[name].last_error or "it does not answer"
        ctx.progress(message=f"waiting for {name}: {said}")

    def _may_go_back(self, ctx: Context, name: str) -> bool:
        """To one that has been tried already: rather once more from the top than waiting for ever."""
        state: DownloadState = ctx.state
        before = [other for other in self.route(ctx).names if other != name]
        may = may_begin_again("unavailable", state.attempts, state.downloaded)
        return may and ctx.record.max_retry > ctx.record.attempt and self._endpoints.ready(before)

    async def _from_the_top(self, ctx: Context, error: str, said: Rejected) -> TransferFailed:
        state: DownloadState = ctx.state
        await self._endpoints.release(ctx.task_id)
        self.unwatch(state)
        self._endpoints.end_attempt(state, error, said.message, "from the top")
        state.tried = []
        if not (error == "stalled" and self.route(ctx).names == (state.downloader,)):
            state.abandon()
            await ctx.checkpoint()
            await self._handover.work_off(state, only_up=True)
        # The key of the only one stays: the next try goes on with the bytes that are there.
        state.phase, state.state = "", None
        return TransferFailed(said.message, said.kind, said.retry_after, renew=False)

    def why_not(self, state: DownloadState, error: Exception | None = None) -> str:
        """Why the present downloader is left."""
        name = state.downloader or ""
        if name not in self._endpoints:
            return f"{name} {self._endpoints.absence(name)}"
        coordinator = self._endpoints[name]
        if not coordinator.down:
            return f"it goes elsewhere now than to {name}"
        if coordinator.auth_failed:
            return f"{name} {coordinator.ailment}"
        away = f" for {format_duration(coordinator.failover_after or 0)}" if coordinator.given_up else ""
        return f"{name} does not answer{away}: {error or coordinator.last_error}"

    def note_skipped(self, state: DownloadState, name: str, now: float) -> None:
        """Write down that it was passed over, if it was because it is down."""
        coordinator = self._endpoints[name]
        if coordinator.down:
            state.note_skipped(name, coordinator.downloader.kind, f"{name} {coordinator.ailment}", now)

    # -- gone ---------------------------------------------------------------------------------------------------------

    async def left_behind(self, ctx: Context, request: Request, restarted: bool) -> Sequence[str]:
        """Its content, if that is whole though the downloader does not know the transfer any more."""
        state: DownloadState = ctx.state
        if state.attached:
            return ()
        coordinator = self._endpoints[state.downloader or ""]
        try:
            return await coordinator.whole_content(request, state.key or "", state.total, restarted)
        except Rejected:
            return ()

    async def gone(self, ctx: Context, restarted: bool) -> Outcome:
        """Has somebody removed it, or has a restart lost it?"""
        state: DownloadState = ctx.state
        if restarted or state.attached:
            return await self.lost(ctx, f"{state.downloader} has forgotten the transfer")
        message = f"somebody has removed it in {state.downloader}"
        await self._endpoints.release(ctx.task_id)
        self.unwatch(state)
        self._endpoints.end_attempt(state, "removed", message, "error")
        state.phase, state.handle = "", None
        raise CriticalError(f"{message}; `dlqueue retry {ctx.task_id}` fetches it again", "removed_elsewhere")

    async def lost(self, ctx: Context, message: str, new_key: bool = False) -> Outcome:
        """It has to be created anew. With ``new_key`` the present one is of no use any more."""
        state: DownloadState = ctx.state
        state.lost += 1
        state.lost_bytes = max(state.lost_bytes, state.downloaded)
        await self._endpoints.release(ctx.task_id)
        self.unwatch(state)
        end = state.lost > LOST_MAX
        self._endpoints.end_attempt(state, "lost", message, "error" if end else "create anew")
        if new_key:
            state.abandon()
        # The same key: what is left in its folder is used again if the downloader can prove it.
        state.phase, state.handle = "", None
        if end:
            times, state.lost = state.lost, 0
            raise CriticalError(f"{message}, {times} times without a new byte in between", "lost")
        return ResumeAfter(0.0, renew=False)

    async def replaced(self, ctx: Context, coordinator: Coordinator) -> Outcome:
        """It has got another URL."""
        state: DownloadState = ctx.state
        handle, key = state.handle, state.key or ""
        if (latest := coordinator.latest(key)) is not None:
            state.downloaded = latest.downloaded
        self._endpoints.end_attempt(state, "replaced", "it got another URL", "create anew")
        # One that proves its bytes is given the new URL for the transfer that it has: removed, it would know of none.
        if handle is not None and not state.attached and not coordinator.downloader.proves_bytes:
            await coordinator.remove(key, handle, False, lambda: None)
        state.phase, state.handle = "", None
        return ResumeAfter(0.0, renew=False)

    def unwatch(self, state: DownloadState) -> None:
        if state.key is not None and (state.downloader or "") in self._endpoints:
            self._endpoints[state.downloader or ""].unwatch(state.key)


def from_os(error: OSError, what: str) -> Rejected:
    """An error of our own disk, as one of the downloader is told; a full one is waited for."""
    where = f" ({error.filename})" if error.errno == errno.ENOENT and error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Rejected(f"{what}: {error.strerror}", kind="disk_full")
    return Rejected(f"{what}: {error.strerror or error}{where}", kind="destination")
