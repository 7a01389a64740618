"""The plug-in: keeps its transfers in its private folder, and a process for each that runs."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import msgspec

from dlqueue.sdk import Context, Engine, Rejected, Request
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


class YtdlpDownloader(Engine[Transfer]):
    """Fetches what yt-dlp finds at a URL. A handle is the creation key."""

    kind: ClassVar[str] = "ytdlp"
    schemes: ClassVar[frozenset[str]] = frozenset({"http", "https"})
    config_type: ClassVar[type[YtdlpConfig]] = YtdlpConfig

    def open(self, config: YtdlpConfig, context: Context) -> None:
        self._config = config
        folder = Path(context.folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._tools = Tools(folder, context.logger, context.check_address, self.changed)
        for path in folder.glob("*.json"):
            try:
                self.transfers[path.stem] = Transfer.stored(path, self._tools)
            except (msgspec.DecodeError, OSError):
                context.logger.warning("what is written about transfer %s cannot be read; it is forgotten", path.stem)
                path.unlink(missing_ok=True)
        for transfer in self.transfers.values():
            transfer.go_on()

    def test(self) -> str:
        return f"yt-dlp {importlib.metadata.version('yt-dlp')}"

    def begin(self, there: Transfer | None, request: Request, key: str) -> Transfer:
        job = make_job(request, key, self._config.format)
        transfer = there or Transfer(key, Note(job), self._tools)
        try:
            transfer.begin(job)
        except OSError as error:
            raise Rejected(f"yt-dlp cannot be started: {error.strerror or error}", kind="file") from error
        return transfer
