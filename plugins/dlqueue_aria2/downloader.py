"""The plug-in. A transfer's creation key is its GID, so that it is created once whatever happens in between."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

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
from dlqueue_aria2.config import Aria2Config, find_command
from dlqueue_aria2.content import is_full, matches, only_file, relative, tidy
from dlqueue_aria2.creation import create
from dlqueue_aria2.entries import Entry, Fault, File, TooLarge
from dlqueue_aria2.look import Look, everything
from dlqueue_aria2.managed import Managed
from dlqueue_aria2.memory import Memory
from dlqueue_aria2.orders import GID, SCHEMES, check_selection, make_order
from dlqueue_aria2.removal import delete_written, remove
from dlqueue_aria2.status import ask_details, is_stale, tell

if TYPE_CHECKING:
    from dlqueue_aria2.notices import Notices
    from dlqueue_aria2.rpc import Rpc

PAUSE_PATIENCE = 2.0
"""Seconds that `pause` waits for bytes to stop."""
REMOVE_PATIENCE = 15.0
SHARE, LONGEST_SHARE = 5, 0.2
"""After a look that took one unit of time, hints wait for so many, but not for more seconds than this: however many
notices there are, looks leave time for other work."""


class Aria2Downloader(Downloader):
    """Drives an aria2 over its JSON-RPC interface. A handle is the GID, which is the creation key."""

    kind: ClassVar[str] = "aria2"
    schemes: ClassVar[frozenset[str]] = SCHEMES | {"magnet", "torrent", "metalink"}
    config_type: ClassVar[type[Aria2Config]] = Aria2Config
    tried_versions: ClassVar[tuple[str, str] | None] = ("1.36", "1.37")

    @classmethod
    def default_config(cls) -> Aria2Config | None:
        return None if find_command() is None else Aria2Config()

    def __init__(self) -> None:
        self._changing: set[str] = set()
        self._changed = threading.Condition()
        self._connecting = threading.Lock()
        self._closed = threading.Event()
        self._local = threading.local()
        self._look = Look()
        self._managed: Managed | None = None
        self._endpoint: Rpc | None = None
        self._notices: Notices | None = None
        self._took = 0.0

    def open(self, config: Aria2Config, context: Context) -> None:
        self._config = config
        self._context = context
        folder = Path(context.folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._memory = Memory(folder)
        if config.url is None:
            self._managed = Managed(config.command, folder, context.logger, context.deadline, dht=config.dht)

    def test(self) -> str:
        if self._managed is not None and self._managed.untried:
            return self._managed.version()
        rpc = self._rpc()
        return f"aria2 {rpc.read(rpc.call('getVersion'), dict[str, object]).get('version', '')}"

    # -- transfers ----------------------------------------------------------------------------------------------------

    def create(self, request: Request, key: str) -> Handle:
        order = make_order(request, key, self._context.check_url)
        with self._alone(key):
            return create(self._rpc(), order, request, key, self._memory, self._context.local)

    def owned(self) -> Mapping[str, str]:
        if self._managed is not None and self._managed.untried:
            return {}
        rpc = self._rpc()
        entries = [
            entry
            for answer in rpc.multicall(everything(["gid", "status", "dir"]))
            for entry in rpc.read(answer, list[Entry])
            if entry.status != "removed"
        ]
        # A GID says nothing of who has chosen it; the folder, which the core ends with the key, does.
        return {entry.gid: entry.dir for entry in entries if entry.dir.endswith(entry.gid)}

    def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, TransferStatus]:
        wanted = [handle for handle in handles if GID.fullmatch(handle.id) and not self._memory.is_foreign(handle.id)]
        if not wanted:
            return {}
        rpc = self._rpc()
        began = time.monotonic()
        sight = self._look.at(rpc, list({handle.id for handle in wanted}))
        self._local.instance = sight.instance
        found = [(handle, entry) for handle in wanted if (entry := sight.current(handle.id)) is not None]
        stale = {entry.gid: entry for _, entry in found if is_stale(entry, self._memory.details(entry.gid))}
        if stale:
            self._memory.note_details(ask_details(rpc, list(stale.values())))
        statuses = {
            handle: tell(entry, self._memory.details(entry.gid)) for handle, entry in found if entry.status != "removed"
        }
        for handle, status in statuses.items():
            if status.whole:
                self._memory.note_whole(handle.id, status.content)
        self._took = time.monotonic() - began
        return statuses

    def instance(self) -> str | None:
        seen: str | None = getattr(self._local, "instance", None)
        self._local.instance = None
        if seen is None:
            rpc = self._rpc()
            seen = rpc.read(rpc.call("getSessionInfo"), dict[str, str]).get("sessionId")
        return seen

    def whole_content(self, request: Request, key: str, *, total: int | None, restarted: bool) -> Sequence[str]:
        known = self._memory.whole(key)
        if known and all(os.path.lexists(self._context.local(path)) for path in known):
            return known
        if request.torrent is not None or any(_leads_on(url) for url in request.urls):
            return ()  # aria2 proves it piece by piece when it is created anew
        path = only_file(self._context.local(str(request.directory)))
        if path is None or not is_full(path, total):
            return ()
        whole = str(request.directory / path.name)
        if request.checksum is not None:
            return (whole,) if matches(path, request.checksum, self._context.deadline() - 2.0) else ()
        # An aria2 that is killed in the first minute leaves no control file: then nothing tells a part from the whole.
        if restarted or (total is None and not self._memory.heard(key)):
            return ()
        return (whole,)

    def files(self, handle: Handle) -> Sequence[TransferFile]:
        rpc = self._rpc()
        entry = self._find(rpc, handle)
        return [
            TransferFile(
                index=file.index,
                path=relative(entry.dir, file.path),
                size=file.length or file.completed_length,
                progress=_progress(entry, file),
                selected=file.selected,
            )
            for file in self._files(rpc, entry)
        ]

    def select(self, handle: Handle, indexes: Sequence[int]) -> None:
        _refuse_attached(handle)
        rpc = self._rpc()
        entry = self._find(rpc, handle)
        files = self._files(rpc, entry)
        value = check_selection(tuple(indexes), len(files) or None)
        if set(indexes) == {file.index for file in files if file.selected}:
            return
        if not entry.alive:
            raise Rejected("it has ended already: nothing more can be selected", "downloader", kind="unsupported")
        try:
            rpc.call("changeOption", entry.gid, {"select-file": value})
        except Fault as fault:
            raise Rejected(f"aria2 does not take the selection: {fault}", kind="bad_select") from None

    def pause(self, handle: Handle) -> None:
        _refuse_attached(handle)
        rpc = self._rpc()
        entry = self._find(rpc, handle)
        if entry.status not in ("active", "waiting"):
            return
        with contextlib.suppress(Fault):
            rpc.call("forcePause", entry.gid)
        until = time.monotonic() + min(PAUSE_PATIENCE, self._context.deadline())
        while self._find(rpc, handle).status in ("active", "waiting"):
            if time.monotonic() > until:
                raise Unavailable("aria2 does not pause the transfer")
            self._closed.wait(0.01)

    def resume(self, handle: Handle) -> None:
        _refuse_attached(handle)
        rpc = self._rpc()
        entry = self._find(rpc, handle)
        if entry.status != "paused":
            return
        try:
            rpc.call("unpause", entry.gid)
        except Fault as fault:
            if self._find(rpc, handle).status == "paused":
                raise Rejected(f"aria2 does not resume the transfer: {fault}", kind="aria2") from None

    def remove(self, handle: Handle, delete_data: bool) -> None:
        _refuse_attached(handle)
        if not GID.fullmatch(handle.id) or self._memory.is_foreign(handle.id):
            return
        with self._alone(handle.id):
            patience = min(REMOVE_PATIENCE, self._context.deadline() - 1.0)
            written = remove(self._rpc(), handle.id, is_ours=self._memory.is_ours, patience=patience)
            whole = [self._context.local(path) for path in self._memory.whole(handle.id)]
            if delete_data:
                delete_written(written or self._remembered(handle.id), self._context.local)
            else:
                tidy(whole)
            self._memory.forget(handle.id)
            self._look.forget(handle.id)

    # -- life ---------------------------------------------------------------------------------------------------------

    def events(self) -> Iterator[None]:
        if self._closed.is_set() or self._await_endpoint() is None:
            return
        from dlqueue_aria2.notices import Notices

        with self._connecting:
            if self._closed.is_set():
                return
            notices = Notices(self._await_endpoint, self._memory.note_heard, self._rest)
            self._notices = notices
        yield from notices

    def close(self) -> None:
        with self._connecting:
            self._closed.set()
            if self._notices is not None:
                self._notices.close()
            if self._endpoint is not None:
                self._endpoint.close()
        if self._managed is not None:
            self._managed.close()

    # -- tools --------------------------------------------------------------------------------------------------------

    def _rpc(self) -> Rpc:
        if self._managed is not None:
            return self._managed.rpc()
        with self._connecting:
            if self._closed.is_set():
                raise Unavailable("the connection to aria2 is closed")
            if self._endpoint is None:
                from dlqueue_aria2.rpc import Rpc

                self._endpoint = Rpc(self._config.endpoint, self._config.secret, self._context.deadline)
            return self._endpoint

    def _await_endpoint(self) -> Rpc | None:
        """For the thread of `events`, which starts nothing."""
        if self._managed is not None:
            return self._managed.wait_running()
        try:
            return self._rpc()
        except Unavailable:
            return None

    def _rest(self) -> float:
        return min(SHARE * self._took, LONGEST_SHARE)

    @contextlib.contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        """What looks first and then acts must not meet another such call for the same transfer half-way."""
        with self._changed:
            if not self._changed.wait_for(lambda: key not in self._changing, self._context.deadline()):
                raise Unavailable(f"aria2 is still busy with the transfer {key}")
            self._changing.add(key)
        try:
            yield
        finally:
            with self._changed:
                self._changing.remove(key)
                self._changed.notify_all()

    def _find(self, rpc: Rpc, handle: Handle) -> Entry:
        known = GID.fullmatch(handle.id) and not self._memory.is_foreign(handle.id)
        entry = self._look.at(rpc, [handle.id]).current(handle.id) if known else None
        if entry is None or entry.status == "removed":
            raise NotFound(f"aria2 has no transfer {handle.id}")
        return entry

    def _files(self, rpc: Rpc, entry: Entry) -> list[File]:
        """Those of the content, and fills in ``entry.dir``; none as long as only what describes it is fetched."""
        try:
            found = rpc.read(rpc.call("tellStatus", entry.gid, ["gid", "dir", "files"]), Entry)
        except Fault:
            raise NotFound(f"aria2 has no transfer {entry.gid}") from None
        except TooLarge as error:
            raise Rejected("the transfer has too many files to list", "downloader", kind="too_large") from error
        entry.dir = found.dir
        details = ask_details(rpc, [entry]).get(entry.gid)
        if details is None or details.metadata:
            return []
        return [file for file in found.files if file.path]

    def _remembered(self, gid: str) -> list[tuple[str, list[File]]]:
        """What a transfer wrote that aria2 has forgotten: the one file, if it was one."""
        return [
            (str(path.parent), [File(index=1, path=str(path), length=0)])
            for path in map(Path, self._memory.whole(gid))
            if (seen := self._context.local(str(path))).is_file() and not seen.is_symlink()
        ]


def _refuse_attached(handle: Handle) -> None:
    if handle.attached:
        raise Rejected("this transfer of aria2 belongs to somebody else", "downloader", kind="attached")


def _leads_on(url: str) -> bool:
    return url[:7].lower() == "magnet:" or urlsplit(url).path.lower().endswith(".torrent")


def _progress(entry: Entry, file: File) -> float:
    # Of a torrent that has ended, aria2 may say that no file has a byte.
    whole = entry.status == "complete" or entry.seeder
    if file.selected and (whole or not file.length):
        return 100.0 if whole else 0.0
    return min(100.0 * file.completed_length / file.length, 100.0) if file.length else 0.0
