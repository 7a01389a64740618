"""The plug-in: keeps its transfers in its private folder, and a process for each that runs."""

from __future__ import annotations

import importlib.metadata
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import msgspec

from dlqueue.sdk import (
    Context,
    Downloader,
    Handle,
    NotFound,
    Rejected,
    Request,
    TransferFile,
    TransferStatus,
    Unavailable,
)
from dlqueue_ytdlp.jobs import check_format, make_job
from dlqueue_ytdlp.transfer import Note, Tools, Transfer


@dataclass(frozen=True, slots=True)
class YtdlpConfig:
    """The keys of a ``[downloaders.NAME]`` section with ``kind = "ytdlp"``."""

    format: str | None = None
    """Which formats, for downloads that do not say so themselves; None = yt-dlp's own choice."""

    def __post_init__(self) -> None:
        if self.format is not None:
            check_format(self.format)


class YtdlpDownloader(Downloader):
    """Fetches what yt-dlp finds at a URL. A handle is the creation key."""

    kind: ClassVar[str] = "ytdlp"
    schemes: ClassVar[frozenset[str]] = frozenset({"http", "https"})
    config_type: ClassVar[type[YtdlpConfig]] = YtdlpConfig

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._transfers: dict[str, Transfer] = {}
        self._changes = 0
        self._changed = threading.Condition()
        self._closed = False

    def open(self, config: YtdlpConfig, context: Context) -> None:
        self._config = config
        folder = Path(context.folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._tools = Tools(folder, context.logger, context.check_address, self._wake)
        for path in folder.glob("*.json"):
            try:
                self._transfers[path.stem] = Transfer.stored(path, self._tools)
            except (msgspec.DecodeError, OSError):
                context.logger.warning("what is written about transfer %s cannot be read; it is forgotten", path.stem)
                path.unlink(missing_ok=True)
        for transfer in self._transfers.values():
            transfer.go_on()

    def test(self) -> str:
        return f"yt-dlp {importlib.metadata.version('yt-dlp')}"

    def create(self, request: Request, key: str) -> Handle:
        job = make_job(request, key, self._config.format)
        with self._lock:
            if self._closed:
                raise Unavailable("the plug-in of yt-dlp is closed")
            transfer = self._transfers.get(key) or Transfer(key, Note(job), self._tools)
            try:
                transfer.begin(job)
            except OSError as error:
                raise Rejected(f"yt-dlp cannot be started: {error.strerror or error}", kind="file") from error
            self._transfers[key] = transfer
        return Handle(key)

    def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, TransferStatus]:
        found = ((handle, self._transfers.get(handle.id)) for handle in handles)
        return {handle: transfer.status() for handle, transfer in found if transfer is not None}

    def files(self, handle: Handle) -> Sequence[TransferFile]:
        return self._find(handle).files()

    def pause(self, handle: Handle) -> None:
        self._find(handle).pause()

    def resume(self, handle: Handle) -> None:
        self._find(handle).resume()

    def remove(self, handle: Handle, delete_data: bool) -> None:
        # Under the lock, so that a `create` with this key cannot meet half of it.
        with self._lock:
            transfer = self._transfers.get(handle.id)
            if transfer is None:
                return
            try:
                transfer.discard(delete_data)
            except OSError as error:
                raise Rejected(f"cannot remove the transfer: {error.strerror}", kind="file") from error
            del self._transfers[handle.id]

    def events(self) -> Iterator[None]:
        seen = 0
        while True:
            with self._changed:
                while not self._closed and self._changes == seen:
                    self._changed.wait()
                if self._closed:
                    return
                seen = self._changes
            yield

    def close(self) -> None:
        with self._lock, self._changed:
            self._closed = True
            self._changed.notify_all()
            transfers = list(self._transfers.values())
        for transfer in transfers:
            transfer.halt()

    def _find(self, handle: Handle) -> Transfer:
        transfer = self._transfers.get(handle.id)
        if transfer is None:
            raise NotFound(f"yt-dlp has no transfer {handle.id}")
        return transfer

    def _wake(self) -> None:
        with self._changed:
            self._changes += 1
            self._changed.notify_all()
