"""What a download remembers between its steps."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Literal

import msgspec

from dlqueue.sdk import Handle

Phase = Literal["", "monitor", "deliver", "seeding"]


class Attempt(msgspec.Struct):
    """One line of the ledger: a try, with a downloader."""

    downloader: str
    kind: str
    key: str
    started_at: float
    ended_at: float | None = None
    bytes: int = 0
    error_class: str | None = None
    """``passing downloader request lost quota removed replaced space stalled unavailable``; None = it went well (so
    far)."""
    message: str | None = None
    next: str | None = None
    """What was decided: ``retry``, ``next downloader``, ``from the top``, ``create anew``, ``error``, ``wait``."""


class Entry(msgspec.Struct, frozen=True):
    """One file or folder on its way to the destination. Device and inode prove afterwards that it has arrived."""

    source: str
    target: str
    device: int
    inode: int
    size: int
    name: str
    """What it is to be called where nothing else has that name."""
    keep: bool = False
    """The source stays where it is (it is seeded, or not ours, or only a part of it is wanted): what is delivered is a
    clone of it."""
    only: tuple[str, ...] | None = None
    """The wanted files in a folder, relative to it; None = all."""
    tag: str = ""
    """Whose it is: the creation key. Two tasks may clone the same thing to the same place."""
    modified: int = 0
    """Of a file: nanoseconds of its last change; 0 = not known."""
    seals: str = ""
    """Of a folder: what is in it (`dlqueue.downloads.deletion`)."""

    @property
    def stays(self) -> bool:
        """Is it delivered where it is?"""
        return self.source == self.target


class MadeFolder(msgspec.Struct, frozen=True):
    """A folder on the way to the destination that was not there before us."""

    path: str
    inode: int
    """It proves that nobody has removed it and made another one since."""


class Obligation(msgspec.Struct, frozen=True):
    """A transfer that we have given up but that may still live in its downloader: to be removed, until proven gone."""

    downloader: str
    key: str
    handle_id: str
    staging: str
    delete_data: bool = False
    """Its downloader is to remove what it has written, wherever that is."""


class DownloadState(msgspec.Struct):
    """The private state of `remote_download`."""

    phase: Phase = ""
    downloader: str | None = None
    kind: str | None = None
    key: str | None = None
    """The creation key: committed before the downloader is asked, so that asking again adopts what is there."""
    handle_id: str | None = None
    handle_hash: str | None = None
    attached: bool = False
    """The transfer was there before us: `dlqueue.sdk.Handle.attached`."""
    instance: str | None = None
    """The running downloader in which it was last seen."""
    source: str | None = None
    """What the transfer was created from (`dlqueue.downloads.request.source_mark`)."""
    torrent: str | None = None
    """The .torrent file that ``source`` has led to, fetched for a downloader that wants the file: as in
    `DownloadParams.torrent`."""
    staging: str | None = None
    """The folder of this key."""
    mounts: list[str | None] = []
    """Where the file systems of the destination and of the staging folder were mounted when it was last begun (None =
    ``/``); empty = both are that of ``/``, or it has not begun."""
    attempts: list[Attempt] = []
    state: str | None = None
    name: str | None = None
    total: int | None = None
    downloaded: int = 0
    bytes_at_failure: int = 0
    """How far it was when it last failed: more now means that the retry budget starts anew."""
    lost: int = 0
    """How often it was lost in a row: bytes beyond ``lost_bytes``, or seeding well, end the row."""
    lost_bytes: int = 0
    """How far it had ever been when it was lost."""
    lost_at: float | None = None
    """When it was last lost while it seeded."""
    unsettled: int = 0
    """How often it was said to be whole, and had another size."""
    uploaded: int = 0
    """Bytes given away by the present transfer."""
    uploaded_before: int = 0
    """And by those that were lost while they seeded."""
    recount: bool = False
    """It was begun anew: the next look tells whether its counter was, too."""
    uploaded_at: float | None = None
    """When the last of them went out."""
    seeding_since: float | None = None
    matched: dict[str, tuple[int, ...]] = {}
    """What `DownloadParams.match` has come to, once the names of its files were known."""
    tried: list[str] = []
    """Downloaders that can not do it."""
    manifest: list[Entry] = []
    numbers: tuple[int, ...] = ()
    """What the delivered files are numbered in their torrent, in the order of their paths; empty = 1, 2, 3 …"""
    made: list[MadeFolder] = []
    location: str | None = None
    obligations: list[Obligation] = []
    kept: str | None = None
    """What was asked to be deleted with it and was not, in words."""

    @property
    def handle(self) -> Handle | None:
        return None if self.handle_id is None else Handle(self.handle_id, self.handle_hash, self.attached)

    @handle.setter
    def handle(self, handle: Handle | None) -> None:
        self.handle_id = None if handle is None else handle.id
        self.handle_hash = None if handle is None else handle.hash
        self.attached = handle is not None and handle.attached

    @property
    def stays(self) -> bool:
        """Is the content, in the folder of the transfer, what is delivered?"""
        return any(entry.stays for entry in self.manifest)

    def begin_attempt(self, downloader: str, kind: str, staging: Path, task_id: int, now: float) -> None:
        """A new key for a new try, and a folder of its own in ``staging``. (One level, not two: making and removing
        folders is the dearest part of a small download.)"""
        self.downloader, self.kind = downloader, kind
        self.key = secrets.token_hex(8)
        self.handle = None
        self.staging = str(staging / f"{task_id}-{self.key}")
        self.note_attempt(now)

    def note_attempt(self, now: float) -> None:
        """The same key once more, or for the first time."""
        self.attempts.append(Attempt(self.downloader or "", self.kind or "", self.key or "", now))
        del self.attempts[:-LEDGER_KEPT]

    def end_attempt(
        self, now: float, error_class: str | None, message: str | None, following: str | None
    ) -> Attempt | None:
        """How the present try ended: answers it. Nothing if none is open."""
        if not self.attempts or self.attempts[-1].ended_at is not None:
            return None
        attempt = self.attempts[-1]
        attempt.ended_at, attempt.bytes = now, self.downloaded
        attempt.error_class, attempt.message, attempt.next = error_class, message, following
        return attempt

    def note_skipped(self, downloader: str, kind: str, message: str, now: float) -> None:
        """It was passed over because it is down: nothing was tried there, so that this line has no key."""
        last = next((attempt for attempt in reversed(self.attempts) if attempt.downloader == downloader), None)
        if last is None or (last.key and last.error_class != "unavailable"):
            skipped = Attempt(downloader, kind, "", now, now, 0, "unavailable", message, "next downloader")
            self.attempts.append(skipped)

    def owe(self) -> None:
        """Write down that the present transfer is to be removed. One that was there before us is not; the key is, in
        case that a call of ours came through after all."""
        if self.key is not None and self.downloader is not None:
            handle = self.key if self.attached else self.handle_id or self.key
            staging = "" if self.stays else self.staging or ""
            self.obligations.append(Obligation(self.downloader, self.key, handle, staging))

    def abandon(self) -> None:
        """Give up the present transfer: from now on its removal is owed."""
        self.owe()
        self.phase = ""
        self.key = self.staging = None
        self.handle = None
        self.downloader = self.kind = None
        self.state = None
        self.instance = self.source = self.torrent = self.seeding_since = None
        self.downloaded = self.bytes_at_failure = self.uploaded = 0
        self.manifest = []
        self.matched = {}
        self.recount = False


LEDGER_KEPT = 50
"""Attempts remembered; the oldest go."""
