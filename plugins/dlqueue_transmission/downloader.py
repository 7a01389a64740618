"""The plug-in. A transfer is a torrent in the folder that was made for it; its name over there is its info-hash."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, ClassVar

from msgspec.structs import replace

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
    Unavailable,
)
from dlqueue_transmission.config import TransmissionConfig
from dlqueue_transmission.entries import UNLIMITED, Entry, Listing, Status, Trouble
from dlqueue_transmission.ledger import HALTED, KEY, SAVING, Ledger, Note
from dlqueue_transmission.runs import Runs
from dlqueue_transmission.status import content_of, files_of, scrubbed, tell
from dlqueue_transmission.torrents import HASH, Order, check_selection, make_order

if TYPE_CHECKING:
    from dlqueue_transmission.rpc import Rpc

LABEL = "dlqueue"
PATIENCE = 5.0
"""Seconds that `pause` waits for bytes to stop, and `remove` for the torrent to be gone."""
LOADING = 5.0
"""Seconds after its start in which Transmission may not know its torrents yet, though it answers."""
REMEMBERED = 20_000
"""Torrents whose content is not asked for again."""
METADATA_SPEED = 64
"""KiB/s as long as a selection waits for the files to be known: Transmission cannot be told to wait for it, so little
of the other files comes before."""


class TransmissionDownloader(Downloader):
    """Drives a Transmission over its RPC interface. The id of a handle is the creation key, or the info-hash of a
    torrent that was there before us."""

    kind: ClassVar[str] = "transmission"
    schemes: ClassVar[frozenset[str]] = frozenset({"magnet", "torrent"})
    config_type: ClassVar[type[TransmissionConfig]] = TransmissionConfig
    tried_versions: ClassVar[tuple[str, str] | None] = ("3.0", "4.1")

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._connecting = threading.Lock()
        self._endpoint: Rpc | None = None
        self._closed = False
        self._local = threading.local()
        self._content: dict[str, tuple[tuple[str, str], tuple[str, ...]]] = {}
        self._whole: dict[str, tuple[str, ...]] = {}
        self._flaws: dict[str, Rejected] = {}

    def open(self, config: TransmissionConfig, context: Context) -> None:
        self._config = config
        self._context = context
        self._ledger = Ledger(context.folder)
        self._runs = Runs(context.folder)

    def test(self) -> str:
        return f"transmission {self._rpc().version()}"

    # -- transfers ----------------------------------------------------------------------------------------------------

    def create(self, request: Request, key: str) -> Handle:
        order = make_order(request)
        if not KEY.fullmatch(key):
            raise Rejected("a creation key is 16 hex digits", "request", kind="bad_key")
        rpc = self._rpc()
        with self._alone():
            entry = rpc.torrents([order.hash]).get(order.hash)
            if entry is not None and self._is_ours(rpc, entry, key) and entry.error == Trouble.LOCAL:
                # Starting it again does not cure it; its files are verified when it is added anew.
                self._remove(rpc, entry, delete_data=False)
                entry = None
            if entry is None:
                entry = self._added(rpc, order, request, key)
            if not self._is_ours(rpc, entry, key):
                return Handle(order.hash, order.hash, attached=True)
            self._flaws.pop(key, None)
            self._set_up(rpc, entry, request, key)
        return Handle(key, order.hash)

    def owned(self) -> Mapping[str, str]:
        # By the folder, which the core ends with the key; the label alone does not say which transfer it is.
        folders = (
            (PurePosixPath(entry.download_dir).name[-16:], entry) for entry in self._rpc().torrents(None).values()
        )
        return {key: entry.name for key, entry in folders if KEY.fullmatch(key)}

    def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, TransferStatus]:
        wanted = {handle: digest for handle in handles if (digest := self._hash(handle)) is not None}
        if not wanted:
            return {}
        rpc = self._rpc()
        found = rpc.torrents(list(set(wanted.values())))
        run = self._local.instance = self._runs.name(rpc)
        here: dict[Handle, Entry] = {}
        for handle, digest in wanted.items():
            entry = found.get(digest)
            if entry is None:
                self._await_loaded(rpc, handle)
            elif handle.attached or (_is_in(entry, handle.id) and not self._is_bare(entry, handle.id, run)):
                here[handle] = entry
        self._select_pending(rpc, here)
        states = self._keep_sound(rpc, here, run)
        contents = self._contents(rpc, here)
        statuses = {}
        for handle, entry in here.items():
            content = contents.get(entry.hash_string)
            flaw = content if isinstance(content, Rejected) else self._flaws.get(handle.id)
            status = tell(entry, None if isinstance(content, Rejected) else content, flaw)
            if handle in states and status.state in (TransferState.SEEDING, TransferState.COMPLETED):
                status = dataclasses.replace(status, state=states[handle])
            statuses[handle] = status
            if status.whole and not handle.attached:
                self._whole[handle.id] = status.content
        return statuses

    def instance(self) -> str | None:
        seen: str | None = getattr(self._local, "instance", None)
        self._local.instance = None
        return seen if seen is not None else self._runs.name(self._rpc())

    def whole_content(self, request: Request, key: str, *, total: int | None, restarted: bool) -> Sequence[str]:
        known = self._whole.get(key, ())
        # What was not seen whole is proven piece by piece when it is created anew.
        return known if known and all(os.path.lexists(self._context.local(path)) for path in known) else ()

    def files(self, handle: Handle) -> Sequence[TransferFile]:
        rpc = self._rpc()
        entry = self._find(rpc, handle)
        return files_of(self._listing(rpc, entry)) if entry.has_metadata else []

    def select(self, handle: Handle, indexes: Sequence[int]) -> None:
        _refuse_attached(handle)
        rpc = self._rpc()
        with self._alone():
            self._select(rpc, self._find(rpc, handle), handle.id, tuple(indexes))

    def pause(self, handle: Handle) -> None:
        _refuse_attached(handle)
        rpc = self._rpc()
        if (note := self._ledger.get(handle.id)) is not None and note.sound not in (None, SAVING):
            self._ledger.write(handle.id, replace(note, sound=HALTED))
        looks, checking = 0, False
        for _ in self._patiently("transmission does not pause the transfer"):
            entry = self._find(rpc, handle)
            stopped = entry.status == Status.STOPPED
            # One that is being verified says that it is stopped, and goes on a moment later.
            looks = looks + 1 if stopped else 0
            if not stopped:
                checking = entry.status in (Status.CHECK_WAIT, Status.CHECK)
                rpc.stop(entry.hash_string)
            elif looks > 1 or not checking:
                return

    def resume(self, handle: Handle) -> None:
        _refuse_attached(handle)
        rpc = self._rpc()
        entry = self._find(rpc, handle)
        if entry.status != Status.STOPPED:
            return
        note, run = self._ledger.get(handle.id), self._runs.name(rpc)
        if note is not None and note.run not in (None, run) and entry.has_metadata and not entry.is_whole:
            # A crash may have set back what it knows of its files: what is there is not to be fetched again.
            rpc.verify(entry.hash_string)
            self._ledger.write(handle.id, replace(note, run=run))
        rpc.start(entry.hash_string)

    def remove(self, handle: Handle, delete_data: bool) -> None:
        _refuse_attached(handle)
        rpc = self._rpc()
        with self._alone():
            digest = self._hash(handle)
            found = rpc.torrents(None if digest is None else [digest])
            for entry in found.values():
                if _is_in(entry, handle.id):
                    self._remove(rpc, entry, delete_data=delete_data)
                elif self._has_lost(rpc, entry, handle.id):
                    # Whose the files in that folder are, nobody knows.
                    self._remove(rpc, entry, delete_data=False)
            self._ledger.forget(handle.id)
            self._whole.pop(handle.id, None)
            self._flaws.pop(handle.id, None)

    def close(self) -> None:
        with self._connecting:
            self._closed = True
            if self._endpoint is not None:
                self._endpoint.close()

    # -- creating -----------------------------------------------------------------------------------------------------

    def _added(self, rpc: Rpc, order: Order, request: Request, key: str) -> Entry:
        from dlqueue_transmission.rpc import Refused

        self._ledger.write(key, Note(order.hash))
        try:
            rpc.add(order.source, str(request.directory))
        except Refused as error:
            if re.search("invalid|corrupt|unrecognized", error.said, re.IGNORECASE):
                message = f"transmission cannot use this torrent: {scrubbed(error.said)}"
                raise Rejected(message, "request", kind="bad_torrent") from None
            raise
        entry = rpc.torrents([order.hash]).get(order.hash)
        if entry is None:
            raise Rejected("transmission has another info-hash for this torrent", "downloader", kind="bad_torrent")
        if not _is_in(entry, key):
            self._ledger.forget(key)  # somebody was faster
        return entry

    def _set_up(self, rpc: Rpc, entry: Entry, request: Request, key: str) -> None:
        """All that makes it ours. What was cut short half-way is done again."""
        digest, folder = entry.hash_string, str(request.directory)
        note = self._ledger.get(key) or Note(digest)
        self._ledger.write(key, replace(note, hash=digest, added=entry.added_date))
        begun = _is_in(entry, key) and entry.seed_ratio_mode == UNLIMITED
        if not _is_in(entry, key):
            rpc.stop(digest)
            rpc.place(digest, folder, move=False)
            rpc.verify(digest)
        elif not begun:
            # Out of the folder for incomplete files, if Transmission has one: everything belongs into this folder.
            rpc.place(digest, folder, move=True)
        if request.select is not None:
            self._select(rpc, entry, key, request.select)
        if not begun:
            # The core ends the seeding. Last, since it is the mark of a transfer that is set up.
            rpc.change(digest, seed_ratio_mode=UNLIMITED, seed_idle_mode=UNLIMITED, labels=[LABEL])
            note = self._ledger.get(key) or Note(digest)
            self._ledger.write(key, replace(note, run=self._runs.name(rpc), seeds=request.seed))
            rpc.start(digest)

    def _select(self, rpc: Rpc, entry: Entry, key: str, indexes: tuple[int, ...]) -> None:
        """:raises Rejected: there are no such files."""
        digest = entry.hash_string
        if not entry.has_metadata:
            check_selection(indexes, None)
            self._ledger.write(key, replace(self._ledger.get(key) or Note(digest), hash=digest, select=indexes))
            rpc.change(digest, download_limited=True, download_limit=METADATA_SPEED)
            return
        files = files_of(self._listing(rpc, entry))
        check_selection(indexes, len(files))
        chosen = set(indexes)
        if chosen != {file.index for file in files if file.selected}:
            # Never an empty list: that would mean all files.
            others = [file.index - 1 for file in files if file.index not in chosen]
            rpc.change(digest, files_wanted=[index - 1 for index in sorted(chosen)], files_unwanted=others or None)
        if (note := self._ledger.get(key)) is not None and note.select is not None:
            rpc.change(digest, download_limited=False)
            self._ledger.write(key, replace(note, select=None))

    def _select_pending(self, rpc: Rpc, here: dict[Handle, Entry]) -> None:
        """Selections whose files have become known."""
        changed = []
        for handle, entry in here.items():
            note = None if handle.attached else self._ledger.get(handle.id)
            if note is None or note.select is None or not entry.has_metadata:
                continue
            if handle.id in self._flaws:
                if entry.status != Status.STOPPED:
                    rpc.stop(entry.hash_string)  # it goes on by itself when its files are known
                continue
            try:
                with self._alone():
                    self._select(rpc, entry, handle.id, note.select)
                changed.append(handle)
            except Rejected as error:
                self._flaws[handle.id] = error
        if changed:
            found = rpc.torrents([here[handle].hash_string for handle in changed])
            here |= {handle: found.get(here[handle].hash_string, here[handle]) for handle in changed}

    def _keep_sound(self, rpc: Rpc, here: Mapping[Handle, Entry], run: str) -> dict[Handle, TransferState]:
        """Transmission (seen with 3.00) writes down that a torrent is whole when it is stopped, or after minutes.
        Killed before that, it would fetch it again, into files that are linked to what is delivered by then. So each
        that is to seed is stopped for a moment before it is said to be whole.

        :return: of those whose state would tell something else, what it is.
        """
        states: dict[Handle, TransferState] = {}
        stop: list[str] = []
        start: list[str] = []
        for handle, entry in here.items():
            note = None if handle.attached or handle.id in self._flaws else self._ledger.get(handle.id)
            if (
                note is None
                or not note.seeds
                or not entry.is_whole
                or entry.error == Trouble.LOCAL
                or note.sound == run
            ):
                continue
            stopped, sound = entry.status == Status.STOPPED, run
            if stopped and note.sound == SAVING:
                start.append(entry.hash_string)
                states[handle] = TransferState.SEEDING
            elif stopped:
                states[handle], sound = TransferState.PAUSED, note.sound or HALTED
            elif note.sound in (None, SAVING):
                stop.append(entry.hash_string)
                states[handle], sound = TransferState.UNKNOWN, SAVING
            self._ledger.write(handle.id, replace(note, sound=sound))
        if stop:
            rpc.stop(*stop)
        if start:
            rpc.start(*start)
        return states

    # -- looking ------------------------------------------------------------------------------------------------------

    def _is_ours(self, rpc: Rpc, entry: Entry, key: str) -> bool:
        return _is_in(entry, key) or self._has_lost(rpc, entry, key)

    def _has_lost(self, rpc: Rpc, entry: Entry, key: str) -> bool:
        """Did we add it, and has a crash of Transmission lost where, and all else that we had set? Ours may also have
        been removed over there, and the same torrent added by somebody: that one was added at another time, and was not
        there from a start on."""
        note = self._ledger.get(key)
        if note is None or note.hash != entry.hash_string:
            return False
        if _is_in(entry, key) or entry.seed_ratio_mode == UNLIMITED:
            return False
        same = entry.added_date == note.added or self._runs.began_with(rpc, entry.added_date)
        return same and note.run != self._runs.name(rpc)

    def _is_bare(self, entry: Entry, key: str, run: str) -> bool:
        """Is it ours and in its place, but a crash of Transmission has lost all else that we had set, the selection
        too? (It writes the folder down as soon as it has verified the files.) What a person changes in the run in which
        it was set up is no loss."""
        note = self._ledger.get(key)
        return note is not None and note.run not in (None, run) and entry.seed_ratio_mode != UNLIMITED

    def _hash(self, handle: Handle) -> str | None:
        digest = handle.hash or (handle.id if handle.attached else None)
        if digest is None and (note := self._ledger.get(handle.id)) is not None:
            digest = note.hash
        return digest if digest is not None and HASH.fullmatch(digest) else None

    def _find(self, rpc: Rpc, handle: Handle) -> Entry:
        """:raises NotFound: there is none, or it is not ours."""
        digest = self._hash(handle)
        entry = None if digest is None else rpc.torrents([digest]).get(digest)
        there = entry is not None and (handle.attached or _is_in(entry, handle.id))
        if (
            entry is None
            or not there
            or (not handle.attached and self._is_bare(entry, handle.id, self._runs.name(rpc)))
        ):
            raise NotFound(f"transmission has no transfer {handle.id}")
        return entry

    def _await_loaded(self, rpc: Rpc, handle: Handle) -> None:
        """:raises Unavailable: it is not there, but may be in a moment."""
        if (handle.attached or self._ledger.get(handle.id) is not None) and self._runs.age(rpc) < LOADING:
            raise Unavailable("transmission has just started and does not know all of its torrents yet")

    def _listing(self, rpc: Rpc, entry: Entry) -> Listing:
        found = rpc.listings([entry.hash_string]).get(entry.hash_string)
        if found is None:
            raise NotFound(f"transmission has no torrent {entry.hash_string}")
        return found

    def _contents(self, rpc: Rpc, here: Mapping[Handle, Entry]) -> dict[str, tuple[str, ...] | Rejected]:
        """Of those that are whole, by info-hash. Their files are asked for once: the list may be long."""
        whole = {entry.hash_string: entry for entry in here.values() if entry.is_whole}
        for digest in [entry.hash_string for entry in here.values() if not entry.is_whole]:
            self._content.pop(digest, None)
        if len(self._content) > REMEMBERED:
            self._content.clear()
        found: dict[str, tuple[str, ...] | Rejected] = {}
        for digest, entry in whole.items():
            mark, content = self._content.get(digest, (None, ()))
            if mark == (entry.download_dir, entry.name):
                found[digest] = content
        missing = [digest for digest in whole if digest not in found]
        for digest, listing in (rpc.listings(missing) if missing else {}).items():
            if digest not in whole:
                continue
            entry = whole[digest]
            try:
                content = found[digest] = content_of(entry, listing)
                self._content[digest] = ((entry.download_dir, entry.name), content)
            except Rejected as error:
                found[digest] = error
        return found

    # -- tools --------------------------------------------------------------------------------------------------------

    def _remove(self, rpc: Rpc, entry: Entry, *, delete_data: bool) -> None:
        digest = entry.hash_string
        rpc.remove(digest, delete_data=delete_data)
        self._content.pop(digest, None)
        for _ in self._patiently("transmission does not remove the transfer"):
            if digest not in rpc.torrents([digest]):
                return

    def _rpc(self) -> Rpc:
        with self._connecting:
            if self._closed:
                raise Unavailable("the connection to transmission is closed")
            if self._endpoint is None:
                from dlqueue_transmission.rpc import Rpc

                self._endpoint = Rpc(self._config, self._context.deadline)
            return self._endpoint

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """What looks first and then acts must not meet another such call half-way."""
        if not self._changing.acquire(timeout=self._context.deadline()):
            raise Unavailable("transmission is still busy with another transfer")
        try:
            yield
        finally:
            self._changing.release()

    def _patiently(self, otherwise: str) -> Iterator[None]:
        """Again and again for a while. :raises Unavailable: for too long."""
        until = time.monotonic() + min(PATIENCE, self._context.deadline())
        while time.monotonic() < until:
            yield
            time.sleep(0.01)
        raise Unavailable(otherwise)


def _is_in(entry: Entry, key: str) -> bool:
    """Is it in the folder of this transfer? The core ends its name with the key."""
    return bool(key) and PurePosixPath(entry.download_dir).name.endswith(key)


def _refuse_attached(handle: Handle) -> None:
    if handle.attached:
        raise Rejected("this torrent of transmission belongs to somebody else", "downloader", kind="attached")
