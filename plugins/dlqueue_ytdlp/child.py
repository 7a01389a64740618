"""The process: one transfer, told on standard input, reporting on standard output, ending with its parent.

It may not run programs but those that yt-dlp needs, and connects only where its parent lets it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import queue
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from dlqueue_ytdlp.faults import explain
from dlqueue_ytdlp.jobs import Job
from dlqueue_ytdlp.messages import Address, Done, Failed, Progress, Said, Verdict

PARTS = ".parts"
"""The folder of unfinished files, in that of the transfer."""
PROGRAMS = frozenset({"ffmpeg", "ffprobe", "deno", "node", "bun", "qjs"})
"""What yt-dlp may start: to join and repair files, and to run what YouTube's player wants."""
EVERY = 0.1
"""Seconds between two reports of progress."""


class Parent:
    """Talks to the one that has started us."""

    def __init__(self, source: BinaryIO, target: BinaryIO) -> None:
        self._source = source
        self._target = target
        self._writing = threading.Lock()
        self._asking = threading.Lock()
        self._verdicts: queue.SimpleQueue[Verdict] = queue.SimpleQueue()
        self._known: dict[str, str | None] = {}
        self.refused: str | None = None
        """Why a connection was not allowed, if one was not."""

    def job(self) -> Job:
        job = msgspec.json.decode(self._source.readline(), type=Job)
        threading.Thread(target=self._listen, daemon=True).start()
        return job

    def say(self, said: Said) -> None:
        with self._writing:
            self._target.write(msgspec.json.encode(said) + b"\n")
            self._target.flush()

    def check(self, address: str) -> None:
        """:raises PermissionError: no connection to there."""
        with self._asking:
            if address not in self._known:
                self.say(Address(address))
                self._known[address] = self._verdicts.get().refused
        if (refused := self._known[address]) is not None:
            self.refused = refused
            raise PermissionError(refused)

    def _listen(self) -> None:
        for line in self._source:
            self._verdicts.put(msgspec.json.decode(line, type=Verdict))
        # The parent is gone. What we have started goes with us: we lead a group.
        os.killpg(os.getpgrp(), signal.SIGKILL)


class Report:
    """Adds up what the files of one transfer have."""

    def __init__(self, parent: Parent) -> None:
        self._parent = parent
        self._files: dict[str, tuple[int, int | None]] = {}
        self._said = 0.0

    def progress(self, news: dict[str, Any]) -> None:
        """A progress hook of yt-dlp."""
        name = str(news.get("filename") or "")
        total = news.get("total_bytes")
        got = news.get("downloaded_bytes")
        if news.get("status") == "finished":
            got = total = got or total
        known = self._files.get(name, (0, None))
        self._files[name] = (known[0] if got is None else int(got), known[1] if total is None else int(total))
        now = time.monotonic()
        if now - self._said >= EVERY or news.get("status") == "finished":
            self._said = now
            speed = news.get("speed")
            totals = [total for _, total in self._files.values()]
            self._parent.say(
                Progress(
                    downloaded=sum(got for got, _ in self._files.values()),
                    total=None if None in totals else sum(filter(None, totals)),
                    speed=float(speed) if isinstance(speed, int | float) else 0.0,
                    name=Path(name).name or None,
                )
            )

    def working(self, news: dict[str, Any]) -> None:
        """A postprocessor hook of yt-dlp."""
        got = sum(got for got, _ in self._files.values())
        self._parent.say(Progress(got, None, message=f"yt-dlp is at {news.get('postprocessor', 'work')}"))


def guard(parent: Parent) -> None:
    """What this process may do, whatever yt-dlp or a page wants. (Events: Python's table of audit events.)"""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "socket.connect" and isinstance(args[1], tuple):
            parent.check(str(args[1][0]))
        elif event == "subprocess.Popen":
            program = os.fsdecode(args[0] or args[1][0])
            if Path(program).name not in PROGRAMS:
                raise PermissionError(f"yt-dlp may not start {program}")
        elif event in ("os.system", "os.exec", "os.posix_spawn", "os.startfile"):
            raise PermissionError("yt-dlp may not start a program")

    sys.addaudithook(hook)


def options_of(job: Job, report: Report) -> dict[str, Any]:
    """What yt-dlp is told. Nothing of it is left to its configuration: as a library it reads none."""
    silent = logging.Logger("yt-dlp", logging.CRITICAL + 1)
    silent.addHandler(logging.NullHandler())
    name = job.name.replace("%", "%%") if job.name else "%(playlist_index&{} - |)s%(title).150B.%(ext)s"
    given = job.options
    options: dict[str, Any] = {
        "logger": silent, "quiet": True, "noprogress": True, "cachedir": False, "updatetime": False,
        "paths": {"home": job.directory, "temp": str(Path(job.directory, PARTS))},
        "outtmpl": {"default": name},
        "noplaylist": given.get("playlist") != "true", "playlist_items": given.get("playlist-items"),
        "format": given.get("format"), "format_sort": [f for f in given.get("format-sort", "").split(",") if f.strip()],
        "ratelimit": int(given["limit-rate"]) if "limit-rate" in given else None,
        "http_headers": dict(job.headers),
        "socket_timeout": 30, "retries": 3, "fragment_retries": 10, "skip_unavailable_fragments": False,
        "continuedl": True, "external_downloader": {"default": "native"}, "hls_prefer_native": True,
        "usenetrc": False, "enable_file_urls": False, "ignoreerrors": False,
        "progress_hooks": [report.progress], "postprocessor_hooks": [report.working],
    }  # fmt: skip
    return {key: value for key, value in options.items() if value not in (None, [])}


def fetch(job: Job, parent: Parent) -> Done:
    """:raises Exception: whatever yt-dlp does."""
    import yt_dlp

    parts = Path(job.directory, PARTS)
    parts.mkdir(mode=0o700, exist_ok=True)
    with yt_dlp.YoutubeDL(options_of(job, Report(parent))) as ydl:
        info: Any = ydl.extract_info(job.url)
    entries = [info] if "entries" not in info else list(info["entries"])
    fetched = [made["filepath"] for entry in entries if entry for made in entry.get("requested_downloads") or ()]
    paths = list(dict.fromkeys(map(str, fetched)))
    if not paths:
        raise ValueError("yt-dlp has found nothing to fetch")
    shutil.rmtree(parts, ignore_errors=True)
    return Done(paths)


def main(lock: str) -> None:
    """:param lock: a file that only one process of this transfer holds: an orphaned one may not have ended yet."""
    target = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever is printed is no message
    parent = Parent(sys.stdin.buffer, target)
    job = parent.job()
    with open(lock, "wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        guard(parent)
        try:
            said: Said = fetch(job, parent)
        except Exception as error:  # noqa: BLE001 - an extractor may fail in any way
            fault = explain(error)
            if parent.refused is not None:
                said = Failed(parent.refused, "request", "policy")
            else:
                said = Failed(fault.message, fault.final, fault.kind)
        parent.say(said)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
