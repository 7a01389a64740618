"""One transfer: its state, what is known about it, and the run that is bringing it on, if one is."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from logging import Logger, LoggerAdapter
from pathlib import Path
from typing import Any

from dlqueue.sdk import Rejected, Request, TransferFile, TransferState, TransferStatus
from dlqueue_http.answers import cannot_write
from dlqueue_http.control import Facts, Journal, Positions, Record, boot_id, from_record, to_record
from dlqueue_http.fetch import Run
from dlqueue_http.segments import Segments
from dlqueue_http.web import Web
from dlqueue_http.workers import Workers

SPEED_SPAN = 3.0
"""Seconds over which the reported speed is smoothed."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What all transfers of one engine share."""

    web: Web
    journal: Journal
    folder: Path
    workers: Workers
    logger: Logger | LoggerAdapter[Any]
    connections: int
    min_segment: int
    split_after: float
    changed: Callable[[], None]
    """Called whenever somebody may want to look at a transfer."""


class Transfer:
    """The face of one transfer. All methods may be called from any thread."""

    def __init__(self, key: str, request: Request, tools: Tools) -> None:
        self.key = key
        self.request = request
        self.tools = tools
        self.positions = Positions(tools.folder / f"{key}.pos")
        self.lock = threading.RLock()
        self.state = TransferState.DOWNLOADING
        self.error: Rejected | None = None
        self.facts = Facts()
        self.segments = Segments(None)
        self._run: Run | None = None
        self._kept = 0
        self._speed = 0.0
        self._seen_at = time.monotonic()
        self._seen_bytes = 0

    # -- life ---------------------------------------------------------------------------------------------------------

    @classmethod
    def new(cls, key: str, request: Request, tools: Tools) -> Transfer:
        """Write it down and start it. Raises `Rejected` when it cannot be written down."""
        transfer = cls(key, request, tools)
        try:
            tools.journal.put(key, {"request": to_record(request), "state": transfer.state.value, "boot": boot_id()})
        except OSError as error:
            raise cannot_write(error) from error
        transfer._start()
        return transfer

    @classmethod
    def stored(cls, key: str, record: Record, tools: Tools) -> Transfer:
        """As an earlier process left it; not started yet. Raises `KeyError`, `TypeError` or `ValueError` for a record
        that was never written whole."""
        transfer = cls(key, from_record(record["request"]), tools)
        transfer.state = TransferState(record["state"])
        transfer.facts = Facts(**record.get("facts", {}))
        if record.get("error"):
            transfer.error = Rejected(**record["error"])
        facts = transfer.facts
        same_boot = record.get("boot") == boot_id()
        if facts.name is not None:
            segments = transfer.positions.load(facts.total, same_boot=same_boot)
            transfer.segments = segments or Segments(facts.total)
        if transfer.state is TransferState.COMPLETED:
            if same_boot or not transfer.path.exists():
                transfer.segments = Segments(facts.total)
                for segment in transfer.segments:
                    segment.position = segment.end or 0
            else:
                # The machine went down before anybody synced the file: what is not proven is fetched again.
                transfer.state = TransferState.DOWNLOADING
        if not same_boot:
            with contextlib.suppress(OSError):
                if transfer.positions.exist:
                    transfer.positions.save(transfer.segments)
                tools.journal.put(key, {"state": transfer.state.value, "boot": boot_id()})
        transfer._seen_bytes = transfer.segments.downloaded
        return transfer

    def go_on(self) -> None:
        """Start it, if it was running when its process ended."""
        with self.lock:
            if self.state is TransferState.DOWNLOADING and self._run is None:
                self._start()

    def again(self, request: Request) -> None:
        """`create` was called for it once more: after an error, or with other URLs, it starts anew, with the bytes it
        has."""
        with self.lock:
            replaced = request.urls != self.request.urls and self.state is not TransferState.COMPLETED
            if self.state is not TransferState.ERROR and not replaced:
                return
            self.halt()
            if (request.directory, request.name) != (self.request.directory, self.request.name):
                self.facts, self.segments = Facts(), Segments(None)
            elif request.urls != self.request.urls:
                # A validator belongs to a server, but the same content may have moved: If-Range will tell.
                self.facts = replace(self.facts, mirror=0)
            self.request = request
            self.state, self.error = TransferState.DOWNLOADING, None
            self._note(
                {
                    "request": to_record(request),
                    "state": self.state.value,
                    "error": None,
                    "facts": self.facts.record(),
                }
            )
            self._start()

    def pause(self) -> None:
        with self.lock:
            if self.state is not TransferState.DOWNLOADING:
                return
            self._note({"state": TransferState.PAUSED.value})
            self.state = TransferState.PAUSED
            self.halt()
        self._settle()
        self.tools.changed()

    def resume(self) -> None:
        with self.lock:
            if self.state is not TransferState.PAUSED:
                return
            self._note({"state": TransferState.DOWNLOADING.value})
            self.state = TransferState.DOWNLOADING
            self._start()

    def halt(self) -> None:
        """Stop moving bytes, whatever the state: when this returns, nobody writes. The positions are saved."""
        # All of it under the lock: a run that is started next must not meet this one in the same segment.
        with self.lock:
            run, self._run = self._run, None
            if run is not None:
                run.stop()
                self.keep()
                self.positions.close()

    def discard(self, delete_data: bool) -> None:
        """Forget it. The journal comes last, so that a kill in between leaves something to go by. Raises `OSError`."""
        self.halt()
        with self.lock:
            if delete_data and self.facts.name is not None:
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    self.path.unlink()
            self.positions.remove()
            self.tools.journal.drop(self.key)

    # -- looks --------------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return self._run is not None

    @property
    def path(self) -> Path:
        """Where the file is or will be; only once the name is known."""
        return self.request.directory / (self.facts.name or "")

    def status(self) -> TransferStatus:
        with self.lock:
            downloaded = self.segments.downloaded
            named = self.facts.name is not None
            if self._run is not None and self._run.lasts and downloaded != self._kept:
                # A server that has fallen silent gives its worker no occasion to do this.
                self.keep()
            return TransferStatus(
                state=self.state,
                name=self.facts.name,
                total=self.facts.total,
                downloaded=downloaded,
                download_speed=self._measure(downloaded),
                content=(str(self.path),) if named else (),
                error=self.error,
            )

    def files(self) -> list[TransferFile]:
        with self.lock:
            if self.facts.name is None:
                return []
            downloaded, total = self.segments.downloaded, self.facts.total
            whole = self.state is TransferState.COMPLETED
            progress = 100.0 if whole else min(100.0 * downloaded / total, 100.0) if total else 0.0
            return [TransferFile(1, self.facts.name, total if total is not None else downloaded, progress)]

    def _measure(self, downloaded: int) -> float:
        if self.state is not TransferState.DOWNLOADING:
            self._speed, self._seen_at, self._seen_bytes = 0.0, time.monotonic(), downloaded
            return 0.0
        passed = time.monotonic() - self._seen_at
        if passed >= 0.1:
            now = max(downloaded - self._seen_bytes, 0) / passed
            share = min(passed / SPEED_SPAN, 1.0) if self._speed else 1.0
            self._speed += (now - self._speed) * share
            self._seen_at += passed
            self._seen_bytes = downloaded
        return self._speed

    # -- for the run --------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._run = Run(self)
        self._run.start()

    def know(self, facts: Facts, segments: Segments) -> None:
        """A new first answer: what was there before does not count any more. Raises `OSError`."""
        with self.lock:
            if self.positions.exist:
                # Before the old content is touched: a power cut must not find the old claims about it.
                self.positions.save(segments, durable=True)
            if facts != self.facts:
                self.tools.journal.put(self.key, {"facts": facts.record()})
            self.facts, self.segments = facts, segments

    def forget_content(self) -> None:
        """Of what was fetched nothing can be used; the name stays."""
        self.facts = Facts(name=self.facts.name, mirror=self.facts.mirror)
        self.segments = Segments(None)

    def keep(self) -> None:
        """Save the positions, so that a restart goes on from here; not for a file that can only be begun anew."""
        if self.facts.validator is None or not self.segments.downloaded:
            return
        self._kept = self.segments.downloaded
        try:
            self.positions.save(self.segments)
        except OSError as error:
            self.tools.logger.warning("cannot save the progress of %s: %s", self.key, error.strerror)

    def complete(self, run: Run) -> None:
        with self.lock:
            if not self._let_go(run):
                return
            facts = replace(self.facts, total=self.segments.downloaded)
            known = {} if facts == self.facts else {"facts": facts.record()}
            self.state, self.facts = TransferState.COMPLETED, facts
            self._note({"state": self.state.value} | known)
            self.positions.close()
        self.tools.changed()

    def fail(self, run: Run, error: Rejected) -> None:
        with self.lock:
            if not self._let_go(run):
                return
            self.state, self.error = TransferState.ERROR, error
            self._note({"state": self.state.value, "error": _to_record(error)})
            self.keep()
            self.positions.close()
        self._settle()
        self.tools.changed()

    def _let_go(self, run: Run) -> bool:
        if self._run is not run:
            return False
        self._run = None
        return True

    def _settle(self) -> None:
        """A transfer at rest is worth a sync: then it outlives a power cut with all its bytes."""
        with self.lock:
            segments = self.segments
            if self.running or self.facts.validator is None or not segments.downloaded:
                return
        with contextlib.suppress(OSError):
            file = os.open(self.path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fdatasync(file)
            finally:
                os.close(file)
            with self.lock:
                # Nothing is known about what a run has done that began meanwhile.
                if self.segments is segments and not self.running:
                    segments.trust()
                    self.keep()
                    self.positions.close()

    def _note(self, record: Record) -> None:
        try:
            self.tools.journal.put(self.key, record)
        except OSError as error:
            # What happened has happened; only a restart would see the older state, and find out again.
            self.tools.logger.warning("cannot note the state of %s: %s", self.key, error.strerror)


def _to_record(error: Rejected) -> Record:
    return {
        "message": error.message,
        "final": error.final,
        "kind": error.kind,
        "retry_after": error.retry_after,
    }
