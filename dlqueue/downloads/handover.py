"""From a whole transfer to a file in its place, and what is cleared up behind it: the second half of a download.

The manifest is committed before anything is renamed, so that each of these steps can be repeated after a crash.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from dlqueue.downloads import deletion, delivery, selecting
from dlqueue.downloads.endpoints import Endpoints
from dlqueue.downloads.folders import remove_made
from dlqueue.downloads.pathmap import PathMap
from dlqueue.downloads.policy import Policy
from dlqueue.downloads.request import DownloadParams
from dlqueue.downloads.settling import is_settled
from dlqueue.downloads.space import NotMounted
from dlqueue.downloads.state import DownloadState, Entry, MadeFolder, Obligation
from dlqueue.queue import Completed, Context, CriticalError, Outcome, ResumeAfter, Status
from dlqueue.runtime.clock import Clock
from dlqueue.runtime.failpoint import reach
from dlqueue.runtime.threads import Threads
from dlqueue.sdk import Handle, NotFound, Rejected, TransferFile, TransferState, TransferStatus, Unavailable

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

LOOK_AGAIN = 60.0
"""Seconds after which a waiting step looks even if nobody woke it."""


class NotYet(Exception):
    """It was whole, and more files have been selected since; or its size is another than it is said to be."""


class Forgotten(Exception):
    """The downloader does not know the transfer any more that was whole a moment ago, nor which files were wanted."""


_OTHER_SELECTION = "the torrent is in this downloader already, for somebody who has not selected the same files"


class Handover:
    """The steps of `remote_download` from *whole* on."""

    def __init__(self, endpoints: Endpoints, policy: Policy, clock: Clock) -> None:
        self._endpoints = endpoints
        self._policy = policy
        self._clock = clock
        self._threads = Threads(4, "dlqueue-delivery")

    async def _blocking(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """In a thread: what touches a disk may take its time."""
        return await self._threads.run(partial(function, *args, **kwargs))

    async def exists_already(self, ctx: Context) -> Outcome | None:
        """With a name given, `skip` and `fail` need not fetch what they will not use."""
        params: DownloadParams = ctx.params
        if params.name is None or params.on_exists not in ("skip", "fail") or ctx.state.key is not None:
            return None
        target = Path(params.directory) / params.name
        if not await self._blocking(target.exists):
            return None
        return await self._exists(ctx, target)

    async def _exists(self, ctx: Context, target: Path) -> Outcome:
        params: DownloadParams = ctx.params
        if params.on_exists == "skip":
            ctx.state.location = str(target)
            ctx.state.name = target.name
            ctx.state.manifest = []  # nothing of it is ours
            await self._blocking(self._endpoints.uses.note, target, ctx.task_id)
            return ResumeAfter(0.0, renew=False)
        message = f"{target} exists already (on_exists is {params.on_exists})"
        self._endpoints.end_attempt(ctx.state, "request", message, "error")
        raise CriticalError(message, "exists")

    async def plan(self, ctx: Context, status: TransferStatus, seed: bool) -> None:
        """What is to go where. Raises `FileNotFoundError`, `PolicyRefused`, `OSError`, `CriticalError`, `Rejected`,
        `Unavailable`.

        :param seed: what seeds is to go on seeding.
        """
        state: DownloadState = ctx.state
        params: DownloadParams = ctx.params
        wanted = await self._wanted(ctx)
        seed = seed and status.state is TransferState.SEEDING and not state.attached
        paths = self._endpoints[state.downloader or ""].paths
        folder = None if state.attached else paths.own(Path(state.staging or ""), status.content)
        if folder is not None:
            state.staging = str(folder)
        if paths.in_place:
            manifest = await self._blocking(_in_place, paths, folder, status.content, wanted)
        else:
            manifest = await self._blocking(
                self._manifest, paths, folder, status.content, params, wanted, seed, state.key or ""
            )
        if not is_settled(state, manifest, status):
            raise NotYet
        if params.checksum is not None:
            await self._verify(ctx, manifest)
        state.manifest, state.kept = manifest, None
        state.seeding_since = self._clock.time() if seed else None
        state.total = state.total or sum(entry.size for entry in manifest)

    async def _wanted(self, ctx: Context) -> frozenset[str] | None:
        """The paths that were selected; None = all. The downloader is asked, since the selection may have been changed
        over there, too."""
        state: DownloadState = ctx.state
        params: DownloadParams = ctx.params
        numbers = selecting.wanted(params, state)
        state.numbers = ()
        if state.handle is None or (state.handle.hash is None and numbers is None):
            return None
        coordinator = self._endpoints[state.downloader or ""]
        try:
            files = await coordinator.call(coordinator.downloader.files, state.handle)
        except NotFound as error:
            raise Forgotten(f"{state.downloader} has forgotten the transfer") from error
        wanted = [file for file in files if file.selected]
        if state.attached and files:
            there = {file.index: file for file in wanted}
            indexes = [file.index for file in files] if numbers is None else numbers
            if any(index not in there or there[index].progress < 100 for index in indexes):
                raise Rejected(_OTHER_SELECTION, "downloader", kind="attached")
            # By name, even if all are wanted: its folder is not ours, and may hold what is no part of the torrent, or
            # vanish while it is cloned.
            state.numbers = _numbers([there[index] for index in indexes])
            return frozenset(there[index].path for index in indexes)
        if any(file.progress < 100 for file in wanted):
            raise NotYet
        state.numbers = _numbers(wanted)
        return None if len(wanted) == len(files) else frozenset(file.path for file in wanted)

    def _manifest(
        self,
        paths: PathMap,
        staging: Path | None,
        content: tuple[str, ...],
        params: DownloadParams,
        wanted: frozenset[str] | None,
        seed: bool,
        tag: str,
    ) -> list[Entry]:
        self._policy.check_destination(Path(params.directory), Path(params.root))
        keep = seed or staging is None
        entries = []
        for path, only in _found(paths, staging, content, wanted):
            entries.append(delivery.plan(path, params, keep, only, tag))
        if params.on_exists != "rename":
            return entries
        # Each name that is tried is committed: look first, so that the first try is likely to do.
        return [delivery.plan_again(entry) if delivery.is_taken(entry) else entry for entry in entries]

    async def _verify(self, ctx: Context, manifest: list[Entry]) -> None:
        params: DownloadParams = ctx.params
        state: DownloadState = ctx.state
        content = [Path(entry.source) for entry in manifest]
        if len(content) != 1 or content[0].is_dir():
            raise CriticalError("a checksum needs a download of one file", "checksum")
        ctx.progress(message="verifying the checksum")
        try:
            await self._blocking(delivery.verify, content[0], params.checksum or "")
        except CriticalError as error:
            self._endpoints.end_attempt(state, "request", str(error), "error")
            # These bytes are proven wrong: a retry by a person must not go on with them.
            state.abandon()
            raise

    async def move(self, ctx: Context) -> Outcome:
        """Everything on the manifest to its place. Each name that is tried is committed before."""
        state: DownloadState = ctx.state
        params: DownloadParams = ctx.params
        overwrite, root = params.on_exists == "overwrite", Path(params.root)
        mount = state.mounts[0] if state.mounts else None
        for entry in state.manifest:
            if entry.stays and entry.keep:
                await self._blocking(self._share, entry, ctx.task_id)
        for index in range(len(state.manifest)):
            while not state.manifest[index].stays:
                await ctx.checkpoint()
                reach("manifest")
                if overwrite or state.attached:
                    target = Path(state.manifest[index].target)
                    await self._blocking(self._endpoints.uses.note, target, ctx.task_id)
                try:
                    if state.manifest[index].keep:
                        raise delivery.OtherFileSystem
                    await self._blocking(self._move, mount, state.manifest[index], overwrite, root, state.made)
                    break
                except delivery.OtherFileSystem:
                    entry = state.manifest[index]
                    state.manifest[index] = await self._blocking(self._bring_over, mount, entry, root, state.made)
                except delivery.Exists:
                    if params.on_exists != "rename":
                        target = Path(state.manifest[index].target)
                        await self._blocking(delivery.drop_copies, state.manifest)
                        if index == 0:
                            state.manifest = []  # nothing of it has arrived; a retry plans anew
                        return await self._exists(ctx, target)
                    state.manifest[index] = await self._blocking(delivery.plan_again, state.manifest[index])
            reach("renamed")
        if state.stays:
            await ctx.checkpoint()
        state.location = state.manifest[0].target
        if state.seeding_since is None:
            return await self.finish(ctx)
        state.phase, state.lost = "seeding", 0
        await self._tell(ctx, self._result(state))
        return ResumeAfter(0.0, renew=False)

    def _share(self, entry: Entry, task_id: int) -> None:
        """It may be what another task has brought, and could delete. :raises FileNotFoundError: it has done so."""
        self._endpoints.uses.note(Path(entry.target), task_id)
        Path(entry.target).lstat()

    def _move(self, mount: str | None, entry: Entry, overwrite: bool, root: Path, made: list[MadeFolder]) -> None:
        self._endpoints.room.check(Path(entry.target).parent, mount)
        delivery.move(entry, overwrite, root, made)

    def _bring_over(self, mount: str | None, entry: Entry, root: Path, made: list[MadeFolder]) -> Entry:
        self._endpoints.room.check(Path(entry.target).parent, mount)
        return delivery.bring_over(entry, root, made)

    async def finish(self, ctx: Context) -> Outcome:
        """It is where it belongs: clear up behind it, and say so. The manifest, committed before, proves it meanwhile.
        Only if the clearing up has to wait is the result given out before."""
        state: DownloadState = ctx.state
        if state.key is not None and state.downloader is not None:
            self._endpoints.end_attempt(state, None, None, None)
            state.owe()
            state.key = None
        result = self._result(state)
        waiting = await self.work_off(state)
        if waiting is not None:
            if ctx.record.delivered_at is None:
                await self._tell(ctx, result)
            return ResumeAfter(LOOK_AGAIN, hold=f"downloader:{waiting}", renew=False)
        await self._endpoints.release(ctx.task_id)
        reach("cleaned")
        if ctx.record.delivered_at is None:
            _log_delivered(result)
        # Programs count a selection in whole pieces; what has arrived is known now.
        sizes = {} if result["size"] is None else {"downloaded": result["size"], "total": result["size"]}
        step = {"name": "deliver", "done": 3, "total": 3}
        ctx.progress(message="", step=step, counters={"download_speed": 0, **sizes})
        return Completed(result)

    async def _tell(self, ctx: Context, result: dict[str, Any]) -> None:
        await ctx.deliver(result)
        _log_delivered(result)

    def _result(self, state: DownloadState) -> dict[str, Any]:
        size = sum(entry.size for entry in state.manifest) if state.manifest else None
        last = state.attempts[-1].downloader if state.attempts else None
        return {"location": state.location, "name": Path(state.location or "").name, "size": size, "downloader": last}

    async def work_off(self, state: DownloadState, only_up: bool = False) -> str | None:
        """Remove the transfers that are owed; answers the downloader that has to be waited for, if any: only that of
        the present try. Others are seen to when they are back, whatever has become of the task by then.

        :param only_up: do not even ask a downloader that is down.
        """
        left: list[Obligation] = []
        for owed in state.obligations:
            if not self._endpoints.expects(owed.downloader):
                log.warning("%s is not configured any more; its transfer %s is given up", owed.downloader, owed.key)
                continue
            if only_up and (owed.downloader not in self._endpoints or self._endpoints[owed.downloader].down):
                await self._later(owed, left, state.downloader)
                continue
            drop = partial(delivery.drop_staging, Path(owed.staging)) if owed.staging else _nothing
            try:
                await self._endpoints[owed.downloader].remove(owed.key, Handle(owed.handle_id), False, drop)
            except (Unavailable, Rejected):
                await self._later(owed, left, state.downloader)
            except OSError as error:
                # The transfer is gone; what cannot be removed of its folder must not fail a task that is delivered.
                log.warning("%s cannot be removed: %s", owed.staging, error.strerror or error)
        state.obligations = left
        return left[0].downloader if left else None

    async def _later(self, owed: Obligation, left: list[Obligation], present: str | None) -> None:
        if owed.downloader == present:
            left.append(owed)
            return
        if owed.staging:
            # Nobody knows whether its downloader has begun; if it has not, nothing of it has to wait for that.
            await self._blocking(delivery.drop_empty, Path(owed.staging))
        try:
            await self._endpoints.owe(owed)
        except OSError as error:
            log.warning("%s: what is owed to %s stays with its task: %s", owed.key, owed.downloader, error)
            left.append(owed)

    # -- after the end ------------------------------------------------------------------------------------------------

    async def cleanup(self, ctx: Context) -> None:
        """Canceled: the transfer goes, and with ``delete_data`` its bytes. Failed: it stays, so that a retry can go on.
        Removed: the transfer and its unfinished bytes go, and with ``delete_data`` what was delivered."""
        state: DownloadState = ctx.state
        removed = ctx.record.cleanup > 1
        delete = bool((ctx.record.intent or {}).get("delete_data"))
        await self._endpoints.release(ctx.task_id)
        if ctx.status is Status.ERROR and not removed:
            if state.staging:
                await self._blocking(delivery.drop_empty, Path(state.staging))
            await self._quiet(state)
            await self._work_off_all(state)
            return
        name = state.downloader or ""
        if state.key is not None and not self._endpoints.expects(name):
            # Taken out of the configuration: its transfer is given up, and what it has left here is not.
            if (delete or removed) and state.staging and not state.stays:
                await self._blocking(delivery.drop_staging, Path(state.staging))
        elif state.key is not None:
            handle = state.handle if state.handle is not None and not state.attached else Handle(state.key)
            # What is left there of something delivered is only what was seeded.
            whole = delete or removed or state.location is not None
            drop = delivery.drop_staging if whole and not state.stays else delivery.drop_empty
            finish = partial(drop, Path(state.staging)) if state.staging else _nothing
            await self._endpoints[name].remove(state.key, handle, False, finish)
        await self._work_off_all(state)
        state.phase, state.handle = "", None
        if delete:
            # Before the copies go: one that is still there has not been delivered.
            kept = await self._blocking(self._delete, ctx)
            if kept is not None:
                ctx.logger.info("deleted, but %s", kept)
            # One that is removed before its end is cleaned up twice; the second time nothing is left to tell.
            state.kept = kept or state.kept
            for entry in state.manifest if state.stays else ():
                if not entry.keep:
                    await self._blocking(delivery.drop_empty, Path(entry.source).parent)
        if delete or removed:
            await self._blocking(self._forget_uses, ctx)
        if delete or removed:
            await self._blocking(delivery.drop_copies, state.manifest)
            state.key = state.staging = None
        if delete:
            await self._blocking(remove_made, state.made, Path(ctx.params.root))
            state.manifest, state.location, state.made = [], None, []

    def _delete(self, ctx: Context) -> str | None:
        state: DownloadState = ctx.state
        params: DownloadParams = ctx.params
        kept: list[str] = []
        if not state.manifest and state.location is not None:
            kept.append(f"{state.location}: it was there before")
        for entry in state.manifest:
            try:
                self._endpoints.room.check(Path(entry.target).parent, state.mounts[0] if state.mounts else None)
            except NotMounted as error:
                kept.append(f"{entry.target}: {error.strerror}")
                continue
            if delivery.was_delivered(entry):
                users = partial(self._endpoints.uses.others, task_id=ctx.task_id)
                root = Path(entry.source).parent if entry.stays else Path(params.root)
                kept += deletion.delete(entry, root, users)
        return deletion.in_words(kept)

    def _forget_uses(self, ctx: Context) -> None:
        state: DownloadState = ctx.state
        for target in {state.location, *(entry.target for entry in state.manifest)} - {None}:
            self._endpoints.uses.forget(Path(target or ""), ctx.task_id)

    async def _quiet(self, state: DownloadState) -> None:
        """A torrent that has failed here may be whole over there, and would seed by no rule."""
        name = state.downloader or ""
        if state.handle is None or state.handle_hash is None or state.attached or name not in self._endpoints:
            return
        with contextlib.suppress(NotFound, Rejected):
            await self._endpoints[name].call(self._endpoints[name].downloader.pause, state.handle)

    async def _work_off_all(self, state: DownloadState) -> None:
        waiting = await self.work_off(state)
        if waiting is not None:
            raise Unavailable(f"{waiting} does not answer; its transfer is still to be removed")


def _found(
    paths: PathMap, staging: Path | None, content: tuple[str, ...], wanted: frozenset[str] | None
) -> Iterator[tuple[Path, tuple[str, ...] | None]]:
    """What was fetched, and which files of it are wanted; None = all."""
    there = False
    for path in delivery.find_content(staging, content):
        if not paths.is_inside(path):
            raise CriticalError("the downloader names content that a link leads to, out of its folders", "unsafe_path")
        only = None if wanted is None else delivery.wanted_in(path, wanted)
        if only != ():
            there = True
            yield path, only
    if not there:
        raise CriticalError("the downloader says it is complete but has none of the wanted files", "no_content")


def _numbers(files: Sequence[TransferFile]) -> tuple[int, ...]:
    """As in `DownloadState.numbers`."""
    ordered = tuple(file.index for file in sorted(files, key=lambda file: file.path))
    return () if ordered == tuple(range(1, len(ordered) + 1)) else ordered


def _in_place(
    paths: PathMap, staging: Path | None, content: tuple[str, ...], wanted: frozenset[str] | None
) -> list[Entry]:
    found = _found(paths, staging, content, wanted)
    return [delivery.stay(path, staging is not None, only) for path, only in found]


def _nothing() -> None:
    return None


def _log_delivered(result: dict[str, Any]) -> None:
    log.info("delivered %s (%s bytes, by %s)", result["location"], result["size"], result["downloader"])
