"""A downloader whose strings a test holds: nothing moves unless it says so."""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from dlqueue.queue.testing import PATIENCE
from dlqueue.sdk import (
    Context,
    Downloader,
    Handle,
    NotFound,
    Rejected,
    Request,
    TransferFile,
    TransferState,
    TransferStatus,
)

CONTENT = b"the content"


@dataclass(frozen=True)
class PuppetConfig:
    """Nothing to configure."""


class Puppet(Downloader):
    """Keeps its transfers in memory. ``before`` holds a function per method name that is called first: it may raise,
    or block. ``log`` has a line per call that changes something."""

    kind: ClassVar[str] = "puppet"
    schemes: ClassVar[frozenset[str]] = frozenset({"http", "https"})
    config_type: ClassVar[type[Any]] = PuppetConfig

    def __init__(self) -> None:
        self.transfers: dict[str, TransferStatus] = {}
        self.requests: dict[str, Request] = {}
        self.before: dict[str, Callable[[], object]] = {}
        self.log: list[str] = []
        self.polls: list[list[str]] = []
        self.tests = 0
        self.program: str | None = None
        """The running program, where it can tell."""
        self.listed: dict[str, list[TransferFile]] = {}
        self.left: dict[str, tuple[str, ...]] = {}
        """Content that is whole though its transfer is gone."""
        self.looked_for: list[tuple[str, int | None, bool]] = []
        self.theirs: Handle | None = None
        """A transfer that was there before: `create` answers it."""
        self.proves = True
        """It brings what `downloader test` has it fetch."""
        self.context: Context | None = None
        self._news: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._given = self._heard = 0
        self._gates: list[Gate] = []
        self._changing = threading.Lock()
        self._asked = threading.local()

    # -- the strings --------------------------------------------------------------------------------------------------

    def news(self) -> None:
        """Have the core poll now."""
        self._given += 1
        self._news.put(True)

    @property
    def untold(self) -> bool:
        """Has the core not heard all the news yet?"""
        return self._heard < self._given

    def show(self, key: str, **fields: Any) -> None:
        """The transfer is like this from now on."""
        with self._changing:
            self.transfers[key] = dataclasses.replace(self.transfers[key], **fields)
        self.news()

    def restart(self, program: str, *forgotten: str) -> None:
        """It is another program from now on, which does not know these. No look falls in between."""
        with self._changing:
            self.program = program
            for key in forgotten:
                del self.transfers[key]
        self.news()

    def finish(self, key: str, content: bytes = CONTENT, name: str = "file.bin") -> Path:
        """The transfer brings one file."""
        path = self.requests[key].directory / (self.requests[key].name or name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.show(
            key,
            state=TransferState.COMPLETED,
            name=path.name,
            content=(str(path),),
            total=len(content),
            downloaded=len(content),
        )
        return path

    def finish_folder(self, key: str, name: str, files: Mapping[str, bytes], **fields: Any) -> Path:
        """The transfer brings a folder; ``fields`` of its status, in the same moment."""
        folder = self.requests[key].directory / name
        for inner, content in files.items():
            (folder / inner).parent.mkdir(parents=True, exist_ok=True)
            (folder / inner).write_bytes(content)
        self.show(key, **{"state": TransferState.COMPLETED, "name": name, "content": (str(folder),), **fields})
        return folder

    def seed(self, key: str, **fields: Any) -> None:
        """What has been brought is given away."""
        self.show(key, state=TransferState.SEEDING, **fields)

    def fail(self, key: str, error: Rejected, downloaded: int = 0) -> None:
        """The transfer ends in this error."""
        self.show(key, state=TransferState.ERROR, error=error, downloaded=downloaded)

    def forget(self, key: str) -> None:
        """The transfer is gone."""
        del self.transfers[key]
        self.news()

    def goes(self, method: str, error: Exception) -> None:
        """Every call of this method raises."""

        def fail() -> None:
            raise error

        self.before[method] = fail

    def gate(self, method: str) -> Gate:
        """Calls of this method block until the gate is opened."""
        gate = self.before[method] = Gate()
        self._gates.append(gate)
        return gate

    def free(self) -> None:
        """Open every gate."""
        for gate in self._gates:
            gate.open.set()

    # -- the downloader -----------------------------------------------------------------------------------------------

    def _called(self, method: str) -> None:
        hook = self.before.get(method) or self.before.get("all")
        if hook is not None:
            hook()

    def open(self, config: Any, context: Context) -> None:
        self.context = context
        self._called("open")

    def test(self) -> str:
        self.tests += 1
        self._called("test")
        return "puppet 1"

    def create(self, request: Request, key: str) -> Handle:
        self._called("create")
        old = self.transfers.get(key)
        self.requests[key] = request
        if self.theirs is None and (old is None or old.state is TransferState.ERROR):
            self.transfers[key] = TransferStatus(TransferState.DOWNLOADING)
        if any("/dlqueue-proof-" in url for url in request.urls) and self.proves:
            self.finish(key)
        # Last: who waits for it changes the transfer.
        self.log.append(f"create {key}" if old is None else f"create {key} again")
        return self.theirs or Handle(key)

    def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, TransferStatus]:
        # What was so when it was asked, even if the answer is late.
        with self._changing:
            found = {handle: self.transfers[handle.id] for handle in handles if handle.id in self.transfers}
            program = self.program
        self.polls.append([handle.id for handle in handles])
        self._called("poll")
        self._asked.program = program
        return found

    def instance(self) -> str | None:
        # The one that was polled just before in this thread, and not one that a test has started since.
        asked: str | None = self._asked.__dict__.pop("program", self.program)
        return asked

    def whole_content(self, request: Request, key: str, *, total: int | None, restarted: bool) -> Sequence[str]:
        self.looked_for.append((key, total, restarted))
        return self.left.get(key, ())

    def files(self, handle: Handle) -> Sequence[TransferFile]:
        self._called("files")
        if handle.id not in self.transfers:
            raise NotFound(handle.id)
        return self.listed.get(handle.id, [])

    def select(self, handle: Handle, indexes: Sequence[int]) -> None:
        self._called("select")
        files = self.listed.get(handle.id, [])
        self.listed[handle.id] = [dataclasses.replace(file, selected=file.index in indexes) for file in files]
        self.log.append(f"select {handle.id} {','.join(map(str, indexes))}")

    def pause(self, handle: Handle) -> None:
        self._called("pause")
        self._switch(handle, TransferState.PAUSED)
        self.log.append(f"pause {handle.id}")

    def resume(self, handle: Handle) -> None:
        self._called("resume")
        self._switch(handle, TransferState.DOWNLOADING, only=TransferState.PAUSED)
        self.log.append(f"resume {handle.id}")

    def _switch(self, handle: Handle, state: TransferState, only: TransferState | None = None) -> None:
        with self._changing:
            if handle.id not in self.transfers:
                raise NotFound(handle.id)
            # What has become whole since somebody saw it paused stays whole.
            if only is None or self.transfers[handle.id].state is only:
                self.transfers[handle.id] = dataclasses.replace(self.transfers[handle.id], state=state)

    def remove(self, handle: Handle, delete_data: bool) -> None:
        self._called("remove")
        self.log.append(f"remove {handle.id}")
        self.transfers.pop(handle.id, None)

    def events(self) -> Iterator[None]:
        while self._news.get():
            yield
            self._heard += 1

    def close(self) -> None:
        self._called("close")
        self._news.put(False)


class TorrentPuppet(Puppet):
    """It also understands what .torrent and .metalink files are."""

    kind: ClassVar[str] = "torrents"
    schemes: ClassVar[frozenset[str]] = frozenset({"http", "https", "magnet", "torrent", "metalink"})


class Gate:
    """Holds up whoever calls it."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        if not self.open.wait(PATIENCE):
            raise AssertionError("nobody opened the gate")
