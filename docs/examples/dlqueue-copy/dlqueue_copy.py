"""Copies from a folder that is mounted here (a share, a backup disk): ``copy:/films/a.mkv`` is the file in it."""

import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from dlqueue import sdk

BLOCK = 1 << 20


@dataclass(frozen=True)
class CopyConfig:
    root: Path  # nothing outside of this folder can be fetched
    pace: float = field(default=0.01, metadata={"duration": True})  # seconds between two blocks


class CopyDownloader(sdk.Downloader):
    kind, schemes, config_type = "copy", frozenset({"copy"}), CopyConfig

    def open(self, config: CopyConfig, context: sdk.Context) -> None:
        self._root, self._pace, self._folder = config.root.resolve(), config.pace, context.folder
        self._lock, self._closed = threading.Lock(), threading.Event()
        stored = self._folder.glob("*.json")
        self._transfers: dict[str, dict[str, Any]] = {path.stem: json.loads(path.read_text()) for path in stored}
        self._worker = threading.Thread(target=self._work, daemon=True)
        self._worker.start()

    def test(self) -> str:
        if not self._root.is_dir():
            raise sdk.Unavailable(f"{self._root} is not mounted")
        return "0.1"

    def create(self, request: sdk.Request, key: str) -> sdk.Handle:
        if request.options:
            raise sdk.Rejected(f"copy has no option {', '.join(request.options)}", "request", kind="bad_option")
        source = (self._root / unquote(request.urls[0].partition(":")[2]).lstrip("/")).resolve()
        if not source.is_relative_to(self._root):
            raise sdk.Rejected("the path leads out of the folder", "request", kind="policy")
        target = request.directory / (request.name or source.name)
        with self._lock:
            if self._transfers.get(key, {"state": "error"})["state"] == "error":
                self._note(key, state="downloading", source=str(source), target=str(target), mark=None, done=0)
        return sdk.Handle(key)

    def poll(self, handles: Sequence[sdk.Handle]) -> Mapping[sdk.Handle, sdk.TransferStatus]:
        return {handle: _status(transfer) for handle in handles if (transfer := self._transfers.get(handle.id))}

    def files(self, handle: sdk.Handle) -> Sequence[sdk.TransferFile]:
        seen = _status(self._find(handle))
        return [sdk.TransferFile(1, seen.name or "", seen.total or 0, 100 * seen.downloaded / (seen.total or 1))]

    def pause(self, handle: sdk.Handle) -> None:
        self._switch(handle, "downloading", "paused")

    def resume(self, handle: sdk.Handle) -> None:
        self._switch(handle, "paused", "downloading")

    def remove(self, handle: sdk.Handle, delete_data: bool) -> None:
        with self._lock:  # the worker writes under it only: from here on nothing does
            if (transfer := self._transfers.pop(handle.id, None)) and delete_data:
                Path(transfer["target"]).unlink(missing_ok=True)
            (self._folder / f"{handle.id}.json").unlink(missing_ok=True)

    def close(self) -> None:
        self._closed.set()
        self._worker.join()

    def _find(self, handle: sdk.Handle) -> dict[str, Any]:
        if handle.id not in self._transfers:
            raise sdk.NotFound(f"copy has no transfer {handle.id}")
        return self._transfers[handle.id]

    def _switch(self, handle: sdk.Handle, old: str, new: str) -> None:
        with self._lock:
            if self._find(handle)["state"] == old:
                self._note(handle.id, state=new)

    def _note(self, key: str, **changes: Any) -> None:
        self._transfers[key] = self._transfers.get(key, {}) | changes
        new = self._folder / f"{key}.new"
        new.write_text(json.dumps(self._transfers[key]))
        new.replace(self._folder / f"{key}.json")  # a crash leaves the old text or the new one

    def _work(self) -> None:
        while not self._closed.wait(self._pace):
            for key in list(self._transfers):
                with self._lock:
                    if self._transfers.get(key, {}).get("state") == "downloading":
                        self._note(key, **_copy_block(**self._transfers[key]))


def _copy_block(source: str, target: str, mark: list[int] | None, done: int, **_: Any) -> dict[str, Any]:
    """What is to be noted afterwards. Bytes count only if they are on the disk, and from this very source."""
    try:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        with open(source, "rb") as reader, open(target, "ab") as writer:
            found = os.fstat(reader.fileno())
            now = [found.st_size, found.st_mtime_ns]
            done = done if mark == now and writer.tell() >= done else 0
            writer.truncate(done)
            reader.seek(done)
            done += writer.write(reader.read(BLOCK))
            os.fsync(writer.fileno())
    except OSError as error:
        return {"state": "error", "error": f"cannot copy: {error.strerror}"}
    return {"mark": now, "done": done, "state": "completed" if done >= found.st_size else "downloading"}


def _status(transfer: dict[str, Any]) -> sdk.TransferStatus:
    target, error = Path(transfer["target"]), transfer["state"] == "error"
    return sdk.TransferStatus(
        state=sdk.TransferState(transfer["state"]),
        name=target.name,
        total=transfer["mark"] and transfer["mark"][0],
        downloaded=transfer["done"],
        content=(str(target),),
        error=sdk.Rejected(transfer["error"], "downloader", kind="file") if error else None,
    )
