"""While it seeds: the content is delivered already, and the transfer goes on giving it away until a rule is met."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from msgspec import UNSET

from dlqueue.downloads.coordinator import Coordinator
from dlqueue.downloads.pathmap import make_folder
from dlqueue.downloads.request import DownloadParams, SeedWish
from dlqueue.downloads.state import DownloadState
from dlqueue.queue import Context, Outcome, ResumeAfter
from dlqueue.runtime.clock import Clock
from dlqueue.sdk import DownloaderError, NotFound, Rejected, Request, TransferState, TransferStatus, Unavailable

log = logging.getLogger(__name__)

LOOK_AGAIN = 60.0
"""Seconds between two looks at most: bytes that go out wake nobody."""
LOST_MAX = 3
"""How often in a row a transfer that was lost while it seeded is begun anew."""
STEADY = 600.0
"""Seconds of seeding after a loss that end the row, if no byte went out before."""


@dataclass(frozen=True, slots=True)
class SeedRule:
    """The first rule that is met ends the seeding; None = no rule on that measure, 0 = do not seed."""

    ratio: float | None = 1.0
    """Bytes given away by bytes of content."""
    time: float | None = 86400.0
    """Seconds."""
    idle: float | None = None
    """Seconds without a byte going out."""

    def adapted(self, wish: SeedWish | None) -> SeedRule:
        """With what the submitter says of it."""
        if wish is None:
            return self
        return SeedRule(
            ratio=self.ratio if wish.ratio is UNSET else wish.ratio,
            time=self.time if wish.time is UNSET else wish.time,
            idle=self.idle if wish.idle is UNSET else wish.idle,
        )

    @property
    def wanted(self) -> bool:
        """Is anything to be seeded at all?"""
        return 0 not in (self.ratio, self.time, self.idle)

    def left(self, state: DownloadState, now: float, speed: float) -> float | None:
        """Seconds until the next look is worth while; 0 = a rule is met.

        :param speed: bytes per second that go out now.
        """
        begun = now if state.seeding_since is None else state.seeding_since
        waits = [LOOK_AGAIN]
        if self.time is not None:
            waits.append(begun + self.time - now)
        if self.idle is not None:
            waits.append((begun if state.uploaded_at is None else state.uploaded_at) + self.idle - now)
        if self.ratio is not None and state.total:
            missing = self.ratio * state.total - state.uploaded - state.uploaded_before
            if missing <= 0 or speed > 0:
                waits.append(max(missing / speed, 1.0) if missing > 0 else 0.0)
        return max(min(waits), 0.0)


class Seeding:
    """The steps of `remote_download` in this phase."""

    def __init__(
        self, rule: Callable[[], SeedRule], request: Callable[[DownloadParams, DownloadState], Request], clock: Clock
    ) -> None:
        """
        :param rule: the configured one.
        :param request: what a transfer is asked for, to begin anew one that was lost.
        """
        self._rule = rule
        self._request = request
        self._clock = clock

    def rule(self, params: DownloadParams) -> SeedRule:
        return self._rule().adapted(params.seed)

    async def step(self, ctx: Context, coordinator: Coordinator) -> Outcome | None:
        """None = the seeding is over."""
        state: DownloadState = ctx.state
        key, handle, name = state.key or "", state.handle, coordinator.name
        if handle is None:
            return await self._again(ctx, coordinator)
        try:
            seen = await coordinator.look(ctx.task_id, ctx.owner, key, handle, state.instance)
            if seen.status is None:
                return await self._gone(ctx, coordinator, seen.restarted)
            if seen.status.state is TransferState.PAUSED:
                await coordinator.call(coordinator.downloader.resume, handle)
        except (Unavailable, Rejected):
            return ResumeAfter(LOOK_AGAIN, hold=f"downloader:{name}", renew=False)
        except NotFound:
            return await self._gone(ctx, coordinator, restarted=False)
        state.instance = seen.instance
        return self._look(ctx, seen.status)

    def _look(self, ctx: Context, status: TransferStatus) -> Outcome | None:
        state: DownloadState = ctx.state
        now = self._clock.time()
        state.state = str(status.state)
        _recount(state, status)
        gave = status.uploaded > state.uploaded
        if gave:
            state.uploaded, state.uploaded_at = status.uploaded, now
        if status.state is TransferState.SEEDING and (gave or now - (state.lost_at or now) >= STEADY):
            state.lost = 0
        if status.state is TransferState.COMPLETED:
            return None
        if status.state is TransferState.ERROR:
            reason = status.error.message if status.error is not None else "it does not say why"
            log.warning("it does not seed any more: %s", reason, extra={"task_id": ctx.task_id})
            return None
        wait = self.rule(ctx.params).left(state, now, status.upload_speed)
        if wait == 0:
            return None
        return ResumeAfter(wait, hold=f"transfer:{state.key}", renew=False)

    async def _gone(self, ctx: Context, coordinator: Coordinator, restarted: bool) -> Outcome | None:
        """Somebody has removed it: so be it, it is delivered. A restart has forgotten it: it goes on."""
        state: DownloadState = ctx.state
        coordinator.unwatch(state.key or "")
        if not restarted or state.lost >= LOST_MAX:
            return None
        state.lost += 1
        state.lost_at = self._clock.time()
        state.recount = True
        state.handle = None
        return await self._again(ctx, coordinator)

    async def _again(self, ctx: Context, coordinator: Coordinator) -> Outcome | None:
        state: DownloadState = ctx.state
        key, staging = state.key or "", Path(state.staging or "")
        await ctx.checkpoint()
        try:
            request = self._request(ctx.params, state)
            handle, instance = await coordinator.create(request, key, partial(make_folder, coordinator.paths, staging))
        except Unavailable:
            return ResumeAfter(LOOK_AGAIN, hold=f"downloader:{coordinator.name}", renew=False)
        except (DownloaderError, OSError) as error:
            log.warning("it cannot be seeded any more: %s", error, extra={"task_id": ctx.task_id})
            return None
        state.handle, state.instance = handle, instance
        coordinator.watch(ctx.task_id, ctx.owner, key, handle, instance)
        with contextlib.suppress(Unavailable, Rejected):
            # At once: a counter that begins anew has not counted anything yet.
            seen = await coordinator.look(ctx.task_id, ctx.owner, key, handle, instance)
            if seen.status is not None:
                _recount(state, seen.status)
        return ResumeAfter(LOOK_AGAIN, hold=f"transfer:{key}", renew=False)


def _recount(state: DownloadState, status: TransferStatus) -> None:
    """After it was begun anew: does its counter begin anew too? That of a transfer that was there all the same goes on,
    and a crash may have set it back a little."""
    if state.recount and status.uploaded < state.uploaded / 2:
        state.uploaded_before += state.uploaded
        state.uploaded = 0
    state.recount = False
