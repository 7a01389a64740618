"""What Transmission tells of a torrent, in the words of the SDK."""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath

from dlqueue.sdk import Final, Rejected, TransferFile, TransferState, TransferStatus
from dlqueue_transmission.entries import Entry, Listing, Status, Trouble

_STATES: dict[int, TransferState] = {
    Status.STOPPED: TransferState.PAUSED,
    Status.CHECK_WAIT: TransferState.CHECKING,
    Status.CHECK: TransferState.CHECKING,
    Status.DOWNLOAD_WAIT: TransferState.QUEUED,
    Status.DOWNLOAD: TransferState.DOWNLOADING,
    Status.SEED_WAIT: TransferState.SEEDING,
    Status.SEED: TransferState.SEEDING,
}
NO_DATA = "No data found"
_LOCAL: tuple[tuple[str, str, Final | None, str], ...] = (
    (r"no space left|disk quota", "no space left where the files are to go", None, "disk_full"),
    (re.escape(NO_DATA), "its files are gone from the disk", None, "files_gone"),
    (r"file ?name too long", "a file of the torrent has a name that is too long for the disk", "downloader", "file"),
    (r"permission denied|read-only file system", "transmission may not write where the files are to go", "downloader",
     "file"),
)  # fmt: skip
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S*")


def state_of(entry: Entry) -> TransferState:
    """Whether it has failed is another question."""
    state = _STATES.get(entry.status, TransferState.UNKNOWN)
    if not entry.has_metadata and state in (TransferState.DOWNLOADING, TransferState.SEEDING):
        return TransferState.METADATA
    if state is TransferState.PAUSED and entry.is_whole:
        return TransferState.COMPLETED  # by a limit, or by hand
    if state is TransferState.SEEDING and not entry.is_whole:
        return TransferState.DOWNLOADING  # more files have just been selected
    return state


def tell(entry: Entry, content: tuple[str, ...] | None, flaw: Rejected | None) -> TransferStatus:
    """
    :param content: None = it could not be found out.
    :param flaw: why it is of no use, if Transmission does not know that.
    """
    state = state_of(entry)
    if flaw is None and entry.error == Trouble.LOCAL:
        flaw = explain(entry.error_string)
    if flaw is not None:
        state = TransferState.ERROR
    elif state in (TransferState.SEEDING, TransferState.COMPLETED) and content is None:
        state = TransferState.UNKNOWN  # it was gone when its files were asked for: the next look will tell
    known = entry.has_metadata
    stopped = entry.status == Status.STOPPED
    told = entry.error in (Trouble.TRACKER_WARNING, Trouble.TRACKER_ERROR) and entry.error_string
    return TransferStatus(
        state=state,
        name=_name(entry, content or ()),
        total=entry.size_when_done if known else None,
        downloaded=max(entry.size_when_done - entry.left_until_done, 0) if known else 0,
        uploaded=entry.uploaded_ever,
        download_speed=0.0 if stopped else float(entry.rate_download),
        upload_speed=0.0 if stopped else float(entry.rate_upload),
        content=content or (),
        error=flaw,
        message=f"the tracker says: {scrubbed(entry.error_string)}" if told and flaw is None else None,
        hash=entry.hash_string,
    )


def _name(entry: Entry, content: tuple[str, ...]) -> str | None:
    """That of the file or folder, once there is one: Transmission cleans it, but tells the one in the torrent."""
    name = PurePosixPath(content[0]).name if content else entry.name
    return "".join(sign if sign.isprintable() else "_" for sign in name) or None


def explain(message: str) -> Rejected:
    """The error for a torrent with a local error. The texts are those of 3.00 and 4.1, and of the system."""
    for pattern, text, final, kind in _LOCAL:
        if re.search(pattern, message, re.IGNORECASE):
            return Rejected(text, final, kind=kind)
    return Rejected(f"transmission failed: {scrubbed(message) or 'it does not say why'}", kind="transmission")


def scrubbed(message: str) -> str:
    """One line, not long, without addresses: that of a tracker may hold a passkey."""
    text = "".join(character if character.isprintable() else " " for character in message)
    return " ".join(_URL.sub("(address)", text).split())[:200]


def files_of(listing: Listing) -> list[TransferFile]:
    return [
        TransferFile(
            index=index,
            path=file.name,
            size=file.length,
            progress=100.0 * file.bytes_completed / file.length if file.length else 100.0,
            selected=choice.wanted,
        )
        for index, (file, choice) in enumerate(zip(listing.files, listing.file_stats, strict=False), 1)
    ]


def content_of(entry: Entry, listing: Listing) -> tuple[str, ...]:
    """The files and folders right below the folder of the torrent that hold the selected files.

    :raises Rejected: whatever Transmission says, nothing outside of that folder is meant.
    """
    tops: dict[str, None] = {}
    for file in files_of(listing):
        parts = PurePosixPath(file.path).parts
        if not parts or ".." in parts or parts[0] == "/":
            raise Rejected("transmission put a file outside of the transfer's folder", "request", kind="bad_path")
        if file.selected:
            tops[os.path.join(os.path.normpath(entry.download_dir), parts[0])] = None  # noqa: PTH118
    return tuple(tops)
