"""A downloader that does what a test tells it to, for tests of everything but downloaders."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from dlqueue.sdk.downloader import Context, Downloader
from dlqueue.sdk.errors import Final, NotFound, Rejected, Unavailable
from dlqueue.sdk.model import Handle, Request, TransferFile, TransferState, TransferStatus


@dataclass(frozen=True)
class FakeConfig:
    """Where the fake keeps its transfers: outside of the daemon, so that they outlive it as another program's do."""

    folder: str


class FakeDownloader(Downloader):
    """Does what the URL and a few files in its folder say. It has no threads: every `poll` moves a transfer one step.

    In the query of the URL: ``size`` (bytes, 1000), ``steps`` (polls until it is whole, 1), ``fail`` (passing,
    downloader or request: ends in that error), ``times`` (fails only so often), ``kind`` and ``retry_after`` of the
    error, ``name``, ``manual=1`` (does not end before the file ``KEY.finish`` exists).

    In the folder: ``down`` (exists: `Unavailable`), ``hang`` (exists: every call blocks until its deadline),
    ``creates.log`` and ``removes.log`` (a line per call: the key, then ``new`` or ``again``; ``data`` or ``kept``).
    """

    kind: ClassVar[str] = "fake"
    schemes: ClassVar[frozenset[str]] = frozenset({"fake", "http", "https"})
    config_type: ClassVar[type[FakeConfig]] = FakeConfig

    def open(self, config: FakeConfig, context: Context) -> None:
        self._folder = Path(config.folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._deadline = context.deadline
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def test(self) -> str:
        self._reach()
        return "fake 1"

    def create(self, request: Request, key: str) -> Handle:
        if request.options:
            raise Rejected(f"the fake has no option {', '.join(request.options)}", "request", kind="bad_option")
        self._reach()
        with self._lock:
            transfer = self._read(key)
            self._log("creates.log", f"{key} {'again' if transfer else 'new'}")
            if transfer is None or transfer["state"] == TransferState.ERROR:
                failed = transfer["failed"] if transfer else 0
                self._write(key, _script(request) | {"failed": failed})
        return Handle(key)

    def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, TransferStatus]:
        self._reach()
        found: dict[Handle, TransferStatus] = {}
        with self._lock:
            for handle in handles:
                if (transfer := self._read(handle.id)) is not None:
                    self._step(handle.id, transfer)
                    found[handle] = _status(transfer)
        return found

    def files(self, handle: Handle) -> Sequence[TransferFile]:
        transfer = self._known(handle)
        return [TransferFile(1, transfer["name"], transfer["size"], 100.0 * transfer["done"] / (transfer["size"] or 1))]

    def pause(self, handle: Handle) -> None:
        self._switch(handle, TransferState.DOWNLOADING, TransferState.PAUSED)

    def resume(self, handle: Handle) -> None:
        self._switch(handle, TransferState.PAUSED, TransferState.DOWNLOADING)

    def remove(self, handle: Handle, delete_data: bool) -> None:
        self._reach()
        with self._lock:
            transfer = self._read(handle.id)
            self._log("removes.log", f"{handle.id} {'data' if delete_data else 'kept'}")
            if transfer is None:
                return
            if delete_data:
                (Path(transfer["directory"]) / transfer["name"]).unlink(missing_ok=True)
            self._path(handle.id).unlink()

    def events(self) -> Iterator[None]:
        while not self._closed.wait(0.02):
            yield

    def close(self) -> None:
        self._closed.set()

    def _step(self, key: str, transfer: dict[str, Any]) -> None:
        if transfer["state"] != TransferState.DOWNLOADING:
            return
        if transfer["fail"] and transfer["failed"] < transfer["times"]:
            transfer |= {"state": TransferState.ERROR, "failed": transfer["failed"] + 1}
            self._write(key, transfer)
            return
        waiting = transfer["manual"] and not (self._folder / f"{key}.finish").exists()
        goal = transfer["size"] - 1 if waiting else transfer["size"]
        transfer["done"] = max(min(transfer["done"] + -(-transfer["size"] // transfer["steps"]), goal), 0)
        path = Path(transfer["directory"]) / transfer["name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(fake_content(transfer["size"])[: transfer["done"]])
        if transfer["done"] == transfer["size"] and not waiting:
            transfer["state"] = TransferState.COMPLETED
        self._write(key, transfer)

    def _switch(self, handle: Handle, old: TransferState, new: TransferState) -> None:
        transfer = self._known(handle)
        with self._lock:
            if transfer["state"] == old:
                self._write(handle.id, transfer | {"state": new})

    def _known(self, handle: Handle) -> dict[str, Any]:
        self._reach()
        with self._lock:
            transfer = self._read(handle.id)
        if transfer is None:
            raise NotFound(f"the fake has no transfer {handle.id}")
        return transfer

    def _reach(self) -> None:
        limit = time.monotonic() + self._deadline()
        while (self._folder / "hang").exists():
            if time.monotonic() >= limit or self._closed.wait(0.02):
                raise Unavailable("the fake did not answer in time")
        if (self._folder / "down").exists():
            raise Unavailable("the fake is down")

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"

    def _read(self, key: str) -> dict[str, Any] | None:
        try:
            transfer: dict[str, Any] = json.loads(self._path(key).read_bytes())
        except FileNotFoundError:
            return None
        return transfer

    def _write(self, key: str, transfer: dict[str, Any]) -> None:
        new = self._folder / f"{key}.new"
        new.write_text(json.dumps(transfer))
        new.replace(self._path(key))

    def _log(self, name: str, line: str) -> None:
        file = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(file, f"{line}\n".encode())
        finally:
            os.close(file)


def fake_content(size: int) -> bytes:
    """What every transfer of the fake with this size brings."""
    return hashlib.shake_128(b"fake").digest(size)


def _script(request: Request) -> dict[str, Any]:
    url = urlsplit(request.urls[0])
    told = {name: values[-1] for name, values in parse_qs(url.query).items()}
    return {
        "directory": str(request.directory),
        "name": request.name or told.get("name") or url.path.rpartition("/")[2] or "fake.bin",
        "size": int(told.get("size", 1000)),
        "steps": int(told.get("steps", 1)),
        "manual": told.get("manual") == "1",
        "fail": told.get("fail"),
        "times": int(told.get("times", 1_000_000)),
        "kind": told.get("kind", "fake"),
        "retry_after": float(told["retry_after"]) if "retry_after" in told else None,
        "done": 0,
        "state": TransferState.DOWNLOADING,
    }


def _status(transfer: dict[str, Any]) -> TransferStatus:
    finals: dict[str, Final | None] = {"passing": None, "downloader": "downloader", "request": "request"}
    state = TransferState(transfer["state"])
    error = None
    if state is TransferState.ERROR:
        final = finals[transfer["fail"]]
        error = Rejected("the fake fails as told", final, kind=transfer["kind"], retry_after=transfer["retry_after"])
    return TransferStatus(
        state=state,
        name=transfer["name"],
        total=transfer["size"],
        downloaded=transfer["done"],
        content=(str(Path(transfer["directory"]) / transfer["name"]),),
        error=error,
    )
