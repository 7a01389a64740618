"""The verbs that know of downloads: their files, which of them are wanted, another URL, and what a submit would do."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from dlqueue.downloads.coordinator import Coordinator
from dlqueue.downloads.endpoints import Endpoints
from dlqueue.downloads.recovery import read_state
from dlqueue.downloads.request import DownloadParams, selection
from dlqueue.downloads.routing import Route
from dlqueue.downloads.selecting import matching, may_have_files, wanted
from dlqueue.downloads.state import DownloadState
from dlqueue.downloads.task import RemoteDownload
from dlqueue.downloads.torrent import list_files
from dlqueue.protocol import messages
from dlqueue.protocol.errors import Conflict, DownloaderFailed, InvalidParams
from dlqueue.queue import InvalidTask, Queue, Status, Submitter, TaskRecord
from dlqueue.sdk import NotFound, Rejected, TransferFile, Unavailable
from dlqueue.service import views

_LISTED = 10_000
"""Files of a delivered folder that are listed at most."""


class Downloads:
    """:param task: the class that all downloads share."""

    def __init__(self, queue: Queue, endpoints: Endpoints, task: RemoteDownload) -> None:
        self._queue = queue
        self._endpoints = endpoints
        self._task = task

    # -- before it is one ---------------------------------------------------------------------------------------------

    def dry_run(
        self, params: dict[str, Any], submitter: Submitter, labels: Mapping[str, Sequence[str]]
    ) -> messages.DryRun:
        """:raises InvalidTask: as a submit would."""
        made, _ = self._task.examined(params, submitter)
        route = self._endpoints.route(made, submitter.owner, labels)
        choice = self._endpoints.choice(route.names, route.shares, 0)
        # One that is full takes it too, only later; what is down or paused may not.
        chosen = choice.name or (choice.names[0] if choice.waits == "slot" else None)
        order = [*route.names, *(name for name in self._endpoints.names() if name not in route.names)]
        return {
            "dry_run": True,
            "downloader": chosen,
            "route": [self._choice(name, made, route, chosen) for name in order],
            "params": views.params_view(msgspec.to_builtins(made)),
        }

    def _choice(self, name: str, params: DownloadParams, route: Route, chosen: str | None) -> messages.RouteChoice:
        coordinator, config = self._endpoints[name], self._endpoints.configs[name]
        if name in route.left_out:
            reason = route.left_out[name]
        elif coordinator.down:
            reason = coordinator.ailment
        elif coordinator.paused is not None:
            reason = f"{coordinator.paused.by} has paused it"
        elif name == chosen and params.downloader == name:
            reason = "was asked for by name"
        elif name == chosen:
            first = "the first that can fetch it"
            reason = first if route.rule is None else f"the first of route {route.rule} that can fetch it"
        elif route.shares and route.names.index(name) < route.names.index(chosen or name):
            reason = f"all its {config.max_active} slots are taken"
        else:
            reason = f"number {route.names.index(name) + 1} in {'the order' if route.rule is None else route.title}"
        return {"downloader": name, "kind": config.kind.kind, "chosen": name == chosen, "reason": reason}

    # -- files --------------------------------------------------------------------------------------------------------

    async def files(self, record: TaskRecord) -> messages.Files:
        params, state = _download(record)
        return {
            "items": [
                {"index": file.index, "path": file.path, "size": file.size, "progress": file.progress,
                 "selected": file.selected}
                for file in await self._files(params, state)
            ]
        }  # fmt: skip

    async def _files(self, params: DownloadParams, state: DownloadState) -> Sequence[TransferFile]:
        coordinator = self._coordinator(state)
        if coordinator is not None and state.handle is not None:
            try:
                return await coordinator.call(coordinator.downloader.files, state.handle)
            except NotFound:
                pass
            except (Unavailable, Rejected) as error:
                if state.location is None and (state.phase != "" or params.torrent is None):
                    raise DownloaderFailed(f"{coordinator.name}: {error}", kind="unavailable") from error
        if state.location is not None:
            targets = [Path(entry.target) for entry in state.manifest] or [Path(state.location)]
            return await asyncio.to_thread(_delivered, targets, state.numbers)
        if params.torrent is None:
            return ()
        try:
            listed = list_files(await asyncio.to_thread(self._task.uploads.read, params.torrent))
        except FileNotFoundError:
            return ()
        return [
            TransferFile(index, path, size, 0.0, (chosen := wanted(params, state)) is None or index in chosen)
            for index, (path, size) in enumerate(listed, 1)
        ]

    def _coordinator(self, state: DownloadState) -> Coordinator | None:
        """Where it has a transfer that can be asked: also one that has failed."""
        there = state.handle is not None and state.phase != "deliver" and (state.downloader or "") in self._endpoints
        return self._endpoints[state.downloader or ""] if there else None

    async def select(self, record: TaskRecord, wanted: messages.SelectFiles) -> messages.Files:
        """A glob whose files are not known yet is kept, and applied when they are.

        :raises Conflict: too late, or not ours to change.
        """
        params, state = _download(record)
        if record.status is Status.COMPLETED or state.location is not None or state.phase == "deliver":
            raise Conflict(f"task {record.id} is fetched already: too late to choose files", task_id=record.id)
        if state.attached:
            raise Conflict(f"task {record.id} watches a transfer that is not its own", task_id=record.id)
        files = await self._files(params, state)
        if wanted.match is not None and not files:
            return await self._select_later(record, params, wanted.match)
        indexes = self._indexes(files, wanted)
        coordinator, handle = self._coordinator(state), state.handle
        if coordinator is not None and handle is not None:
            try:
                await coordinator.call(coordinator.downloader.select, handle, indexes)
            except NotFound:
                pass  # it will be created with the new selection, or is gone
            except (Unavailable, Rejected) as error:
                # One that has failed and can not be changed any more is begun anew by a retry.
                if isinstance(error, Unavailable) or state.phase != "":
                    raise DownloaderFailed(f"{coordinator.name}: {error}", kind="unavailable") from error
        choose = partial(_with, select=indexes, match=None)
        return await self.files(await self._queue.reword(record.id, choose, f"{len(indexes)} files selected"))

    async def _select_later(self, record: TaskRecord, params: DownloadParams, match: str) -> messages.Files:
        if not may_have_files(params):
            raise Conflict(f"task {record.id} is no torrent: there are no files to choose from", task_id=record.id)
        keep = partial(_with, select=None, match=match)
        told = f"files to be selected by {match!r} when they are known"
        return await self.files(await self._queue.reword(record.id, keep, told))

    @staticmethod
    def _indexes(files: Sequence[TransferFile], wanted: messages.SelectFiles) -> tuple[int, ...]:
        if wanted.match is not None:
            found = matching(files, wanted.match)
            if not found:
                raise InvalidParams("match", f"matches none of its {len(files)} files")
            return found
        try:
            return selection(wanted.indexes or [], len(files) or None)
        except InvalidTask as error:
            raise InvalidParams("indexes", error.message) from None

    # -- another URL --------------------------------------------------------------------------------------------------

    async def refresh_url(self, record: TaskRecord, url: str) -> TaskRecord:
        """:raises InvalidTask: no URL, or not allowed; `Conflict`: it has none."""
        params, state = _download(record)
        if state.location is not None:
            raise Conflict(f"task {record.id} is fetched already", task_id=record.id)
        if not params.urls or params.schemes == {"magnet"}:
            raise Conflict(f"task {record.id} is a torrent and has no URL", task_id=record.id)
        self._task.check_url(url)
        return await self._queue.reword(record.id, partial(_with, urls=(url,)), "another URL")


def _download(record: TaskRecord) -> tuple[DownloadParams, DownloadState]:
    if record.type != RemoteDownload.type:
        raise Conflict(f"task {record.id} is no download", task_id=record.id)
    return msgspec.convert(record.params, DownloadParams), read_state(record)


def _with(params: Any, **changed: Any) -> Any:
    return msgspec.to_builtins(msgspec.structs.replace(msgspec.convert(params, DownloadParams), **changed))


def _delivered(targets: Sequence[Path], numbers: Sequence[int]) -> list[TransferFile]:
    found: list[tuple[str, int]] = []
    for target in targets:
        inner = [Path(where, name) for where, _, names in os.walk(target) for name in names]
        for path in inner or [target]:
            if len(found) < _LISTED and path.is_file():
                found.append((str(PurePosixPath(path.relative_to(target.parent))), path.stat().st_size))
    found.sort()
    # Fewer, if somebody has taken one of them away since: which one, nobody knows.
    indexes = numbers if len(numbers) == len(found) else range(1, len(found) + 1)
    return [TransferFile(index, path, size, 100.0) for index, (path, size) in sorted(zip(indexes, found, strict=True))]
