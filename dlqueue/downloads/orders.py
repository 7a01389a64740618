"""What a downloader is asked for: the request, with the files that were sent with the submit or are fetched for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

from dlqueue.downloads.coordinator import Coordinator
from dlqueue.downloads.fetch import fetch_torrent
from dlqueue.downloads.policy import Policy
from dlqueue.downloads.request import DownloadParams, source_mark
from dlqueue.downloads.selecting import wanted
from dlqueue.downloads.setbacks import from_os
from dlqueue.downloads.state import DownloadState
from dlqueue.downloads.upload import Uploads, name_of
from dlqueue.queue import Context
from dlqueue.runtime.threads import Threads
from dlqueue.sdk import Rejected, Request


class Orders:
    """
    :param seeds: is a download to be given away when it is whole?
    """

    def __init__(self, uploads: Uploads, policy: Policy, seeds: Callable[[DownloadParams], bool]) -> None:
        self._uploads = uploads
        self._policy = policy
        self._seeds = seeds
        self._threads = Threads(4, "dlqueue-torrents")

    def request(self, params: DownloadParams, state: DownloadState) -> Request:
        """:raises Rejected: the file that was sent is not kept any more."""
        files: dict[str, bytes] = {}
        for field in ("torrent", "metalink"):
            fetched = state.torrent if field == "torrent" else None
            if (kept := getattr(params, field) or fetched) is not None:
                try:
                    files[field] = self._uploads.read(kept)
                except FileNotFoundError:
                    message = f"its .{field} file is not kept any more: add it again"
                    raise Rejected(message, "request", kind="upload_gone") from None
        return Request(
            urls=() if state.torrent is not None else params.urls,
            torrent=files.get("torrent"),
            metalink=files.get("metalink"),
            select=wanted(params, state),
            seed=self._seeds(params),
            directory=Path(state.staging or ""),
            name=params.name,
            headers=params.headers,
            checksum=params.checksum,
            options=params.options,
        )

    async def fetch_torrent(self, ctx: Context, coordinator: Coordinator) -> None:
        """For a downloader that takes .torrent files and no URLs of them. What was fetched is kept: a key never stands
        for two torrents. :raises Rejected: it cannot be fetched, or is none."""
        state: DownloadState = ctx.state
        params: DownloadParams = ctx.params
        source = source_mark(params)
        needed = params.names_torrent and not params.schemes <= coordinator.downloader.schemes
        if state.torrent is not None and not (needed and state.source in (None, source)):
            state.torrent = None
        if not needed or (state.torrent is not None and await asyncio.to_thread(self._uploads.has, state.torrent)):
            return
        if "magnet" not in self._policy.schemes:
            raise Rejected("BitTorrent is not allowed (policy.schemes has no magnet)", "request", kind="policy")
        ctx.progress(message="fetching the .torrent file")
        content = await self._threads.run(partial(fetch_torrent, params.urls, params.headers, self._policy))
        try:
            await asyncio.to_thread(self._uploads.keep, content)
        except OSError as error:
            raise from_os(error, "the .torrent file cannot be kept") from error
        state.torrent, state.source = name_of(content), source
        await ctx.checkpoint()
