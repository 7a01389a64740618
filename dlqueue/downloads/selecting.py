"""Which files of a torrent are wanted: by their numbers, or by a glob, which waits until their names are known."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from dlqueue.downloads.coordinator import Coordinator
from dlqueue.downloads.request import DownloadParams
from dlqueue.downloads.state import DownloadState
from dlqueue.queue import Context
from dlqueue.sdk import Rejected, TransferFile, TransferState, TransferStatus


def may_have_files(params: DownloadParams) -> bool:
    """Is it something of which the names of several files may become known later?"""
    return bool(params.schemes & {"magnet", "torrent", "metalink"}) or params.names_torrent


def matching(files: Sequence[TransferFile], glob: str) -> tuple[int, ...]:
    """The numbers of the files whose path the glob matches."""
    return tuple(file.index for file in files if fnmatch.fnmatchcase(file.path, glob))


def wanted(params: DownloadParams, state: DownloadState) -> tuple[int, ...] | None:
    """The numbers of the files that are wanted, as far as that is known; None = all."""
    if params.match is None:
        return params.select
    return state.matched.get(params.match)


async def apply_match(ctx: Context, coordinator: Coordinator, status: TransferStatus) -> bool:
    """Choose by the glob, if it still has to be done and the names are known by now. True if what was known of the
    transfer counts no more.

    :raises Rejected: it matches none; or the downloader refuses it. `NotFound` and `Unavailable` as any call.
    """
    params: DownloadParams = ctx.params
    state: DownloadState = ctx.state
    if params.match is None or params.match in state.matched or status.state is TransferState.METADATA:
        return False
    handle = state.handle
    if handle is None:
        return False
    files = await coordinator.call(coordinator.downloader.files, handle)
    if not files:
        return False
    indexes = matching(files, params.match)
    if not indexes:
        cure = f"choose others, then go on: dlqueue files {ctx.task_id}; dlqueue retry {ctx.task_id}"
        message = f"{params.match!r} matches none of its {len(files)} files: {cure}"
        raise Rejected(message, "request", kind="bad_select")
    if not state.attached:
        await coordinator.call(coordinator.downloader.select, handle, indexes)
    state.matched = {params.match: indexes}
    return not state.attached
