"""One transfer: what is written down of it, and the process that works on it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from logging import Logger, LoggerAdapter
from pathlib import Path
from typing import IO, Any

import msgspec

from dlqueue.sdk import Final, Rejected, TransferFile, TransferState, TransferStatus
from dlqueue_ytdlp.child import PARTS
from dlqueue_ytdlp.jobs import Job
from dlqueue_ytdlp.messages import Address, Done, Failed, Progress, Said, State, Verdict

LINE_MAX = 1 << 20
"""Bytes of one message of the process."""
_KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


class Note(msgspec.Struct):
    """What outlives this process."""

    job: Job
    state: State = "running"
    downloaded: int = 0
    total: int | None = None
    name: str | None = None
    paths: list[str] = []
    message: str = ""
    final: Final | None = None
    kind: str = ""


@dataclass(frozen=True)
class Tools:
    folder: Path
    """Private."""
    logger: Logger | LoggerAdapter[Any]
    check_address: Callable[[str], None]
    changed: Callable[[], None]


class Transfer:
    """All methods may be called from any thread; those that start and end the process block for a moment."""

    def __init__(self, key: str, note: Note, tools: Tools) -> None:
        self._key = key
        self._tools = tools
        self._path = tools.folder / f"{key}.json"
        self._steering = threading.Lock()
        self._lock = threading.Lock()
        self._note = note
        self._speed = 0.0
        self._working: str | None = None
        self._moving = False
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    @classmethod
    def stored(cls, path: Path, tools: Tools) -> Transfer:
        """:raises msgspec.DecodeError: it was not written whole. :raises OSError: it cannot be read."""
        return cls(path.stem, msgspec.json.decode(path.read_bytes(), type=Note), tools)

    # -- steering -----------------------------------------------------------------------------------------------------

    def begin(self, job: Job) -> None:
        """Start it, unless it is paused, or running, or there."""
        with self._steering:
            note = self._note
            there = note.paths and all(os.path.lexists(path) for path in note.paths)
            if note.state == "error" or (note.state == "completed" and not there):
                self._stop()  # it has told what became of it, and may not have ended yet
                self._note = note = Note(job, downloaded=note.downloaded)
            # Not in the process: what goes on after a start of ours must make no folder where a disk is missing.
            Path(job.directory).mkdir(parents=True, exist_ok=True)
            self._write()
            if note.state == "running":
                self._start()

    def go_on(self) -> None:
        """After a start of ours."""
        with self._steering:
            if self._note.state == "running":
                self._start()

    def pause(self) -> None:
        with self._steering:
            self._stop()
            with self._lock:
                if self._note.state == "running":
                    self._note.state = "paused"
                    self._write()

    def resume(self) -> None:
        with self._steering:
            if self._note.state == "paused":
                self._note.state = "running"
                self._write()
                self._start()

    def halt(self) -> None:
        """End the process; what is written down says that it goes on."""
        with self._steering:
            self._stop()

    def discard(self, delete_data: bool) -> None:
        """:raises OSError: something cannot be removed."""
        with self._steering:
            self._stop()
            if delete_data:
                folder = Path(self._note.job.directory)
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(folder / PARTS)
                for path in map(Path, self._note.paths):
                    if path.parent == folder:
                        path.unlink(missing_ok=True)
            self._path.unlink(missing_ok=True)
            self._lock_file.unlink(missing_ok=True)

    # -- looking ------------------------------------------------------------------------------------------------------

    def status(self) -> TransferStatus:
        with self._lock:
            note = msgspec.structs.replace(self._note)
            speed, working, moving = self._speed, self._working, self._moving
        error = Rejected(note.message, note.final, kind=note.kind) if note.state == "error" else None
        state = {
            "running": TransferState.DOWNLOADING if moving else TransferState.METADATA,
            "paused": TransferState.PAUSED,
            "completed": TransferState.COMPLETED,
            "error": TransferState.ERROR,
        }[note.state]
        return TransferStatus(
            state=state,
            name=note.name,
            total=note.total,
            downloaded=note.downloaded,
            download_speed=speed if state is TransferState.DOWNLOADING else 0.0,
            content=tuple(note.paths),
            error=error,
            message=working if state is TransferState.DOWNLOADING else None,
        )

    def files(self) -> list[TransferFile]:
        with self._lock:
            note = msgspec.structs.replace(self._note)
        if note.state == "completed":
            sizes = [(Path(path).name, _size(path)) for path in note.paths]
            return [TransferFile(index, name, size, 100.0) for index, (name, size) in enumerate(sizes, 1)]
        if note.name is None or note.total is None:
            return []
        return [TransferFile(1, note.name, note.total, 100.0 * note.downloaded / note.total if note.total else 0.0)]

    # -- the process --------------------------------------------------------------------------------------------------

    @property
    def _lock_file(self) -> Path:
        return self._tools.folder / f"{self._key}.lock"

    def _start(self) -> None:
        if self._process is not None:
            return
        environ = {name: value for name, value in os.environ.items() if name in _KEPT or name.lower() in _PROXIES}
        home = str(self._tools.folder)
        environ |= {"HOME": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home, "YTDLP_NO_PLUGINS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "dlqueue_ytdlp.child", str(self._lock_file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environ,
            cwd=self._tools.folder,
            start_new_session=True,
        )
        self._process, self._moving, self._working = process, False, None
        _send(process, self._note.job)
        self._reader = threading.Thread(target=self._read, args=(process,), name=f"ytdlp-{self._key}", daemon=True)
        self._reader.start()

    def _stop(self) -> None:
        """When this returns nothing writes any more."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # ffmpeg too
            process.wait()
        if self._reader is not None and self._reader is not threading.current_thread():
            self._reader.join()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        stream = process.stdout
        assert stream is not None
        try:
            with contextlib.suppress(msgspec.DecodeError, OSError, ValueError):
                while line := stream.readline(LINE_MAX):
                    said: Said = msgspec.json.decode(line, type=Said)
                    self._hear(process, said)
                    if isinstance(said, Done | Failed):
                        break
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
            for end in (process.stdin, process.stdout):
                _close(end)
            with self._lock:
                if self._process is process:
                    self._process = None
                    if self._note.state == "running":
                        self._fail(Failed(f"the process of yt-dlp has ended too early ({code})", kind="crash"))
            self._tools.changed()

    def _hear(self, process: subprocess.Popen[bytes], said: Said) -> None:
        if isinstance(said, Address):
            _send(process, Verdict(said.address, self._refused(said.address)))
            return
        with self._lock:
            if self._process is not process:
                return
            if isinstance(said, Progress):
                first, self._moving = not self._moving, True
                self._note.downloaded, self._speed, self._working = said.downloaded, said.speed, said.message
                self._note.total = said.total if said.message is None else self._note.total
                self._note.name = said.name or self._note.name
                if not first:
                    return
            elif isinstance(said, Done):
                self._note.paths, self._note.state = said.paths, "completed"
                self._note.name = Path(said.paths[0]).name if said.paths else None
                self._note.downloaded = self._note.total = sum(map(_size, said.paths))
                self._write()
            else:
                self._fail(said)
        self._tools.changed()

    def _fail(self, said: Failed) -> None:
        self._note.state = "error"
        self._note.message, self._note.final, self._note.kind = said.message, said.final, said.kind
        try:
            self._write()
        except OSError as error:
            self._tools.logger.warning("what became of %s cannot be written down: %s", self._key, error.strerror)

    def _refused(self, address: str) -> str | None:
        try:
            self._tools.check_address(address)
        except Rejected as error:
            return error.message
        return None

    def _write(self) -> None:
        half = self._path.with_suffix(".new")
        with open(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(msgspec.json.encode(self._note))
        half.replace(self._path)


def _send(process: subprocess.Popen[bytes], what: Job | Verdict) -> None:
    with contextlib.suppress(OSError, ValueError):  # it has ended, and whoever reads will see that
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(what) + b"\n")
        process.stdin.flush()


def _close(end: IO[bytes] | None) -> None:
    with contextlib.suppress(OSError):
        if end is not None:
            end.close()


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0
