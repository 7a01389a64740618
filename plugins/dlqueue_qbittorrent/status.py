"""What qBittorrent tells of a torrent, in the words of the SDK."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import msgspec

from dlqueue.sdk import Rejected, TransferFile, TransferState, TransferStatus
from dlqueue_qbittorrent.sync import Entry

_STOPPED_WHOLE = frozenset({"pausedUP", "stoppedUP"})
STOPPED = frozenset({"pausedDL", "stoppedDL"}) | _STOPPED_WHOLE
"""Up to 4.6, and since 5.0."""
BROKEN = frozenset({"error", "missingFiles"})
SEEDING = frozenset({"uploading", "stalledUP", "forcedUP", "queuedUP"})
STATES = {
    **dict.fromkeys(("metaDL", "forcedMetaDL"), TransferState.METADATA),
    **dict.fromkeys(("queuedDL",), TransferState.QUEUED),
    **dict.fromkeys(("downloading", "forcedDL", "stalledDL", "allocating"), TransferState.DOWNLOADING),
    **dict.fromkeys(("checkingDL", "checkingUP", "checkingResumeData", "moving"), TransferState.CHECKING),
    **dict.fromkeys(SEEDING, TransferState.SEEDING),
    **dict.fromkeys(STOPPED, TransferState.PAUSED),
    **dict.fromkeys(BROKEN, TransferState.ERROR),
}
"""From 4.5 to 5.3 (`TorrentState` in qBittorrent's source). What is not in it is `unknown`, never an end."""

INCOMPLETE = ".!qB"
"""What it may add to the names of files that are not whole (a preference)."""


class File(msgspec.Struct):
    """A file of a torrent; ``name`` is its path below the folder."""

    name: str
    size: int
    progress: float
    priority: int

    @property
    def whole(self) -> bool:
        return self.progress >= 1 or self.size == 0


def has_metadata(entry: Entry) -> bool:
    return entry.total_size >= 0


def tell(entry: Entry, *, attached: bool) -> TransferStatus:
    """The status, without content and error."""
    state = STATES.get(entry.state, TransferState.UNKNOWN)
    limited = entry.ratio_limit >= 0 or entry.seeding_time_limit >= 0
    if entry.state in _STOPPED_WHOLE and (attached or limited):
        # Ours are created without a limit: one that somebody else has set may have ended it. Without one, somebody has
        # stopped it, and it can go on.
        state = TransferState.COMPLETED
    if state in (TransferState.COMPLETED, TransferState.SEEDING) and entry.completed < entry.size:
        state = TransferState.DOWNLOADING
    known = has_metadata(entry)
    return TransferStatus(
        state=state,
        name=entry.name or None,
        total=entry.size if known and entry.size >= 0 else None,
        downloaded=entry.completed if known else 0,
        uploaded=entry.uploaded,
        download_speed=float(entry.dlspeed),
        upload_speed=float(entry.upspeed),
        hash=entry.infohash_v1 or None,
    )


def content(folder: str, files: Sequence[File]) -> tuple[str, ...]:
    """The files and folders right below the transfer's folder that hold the selected files. Raises `Rejected`."""
    tops = (_below(file.name).parts[0] for file in files if file.priority > 0)
    return tuple(os.path.join(os.path.normpath(folder), top) for top in dict.fromkeys(tops))  # noqa: PTH118


def is_settled(folder: Path, files: Sequence[File]) -> bool:
    """Is every selected file whole, and has it got its name? The state may tell of a moment ago.

    :param folder: as we see it.
    """
    selected = [file for file in files if file.priority > 0]
    return all(file.whole for file in selected) and not any(
        os.path.lexists(folder / (file.name + INCOMPLETE)) for file in selected
    )


def listed(files: Sequence[File]) -> list[TransferFile]:
    return [
        TransferFile(
            index=index,
            path=str(_below(file.name)),
            size=file.size,
            progress=100.0 if file.whole else max(0.0, 100.0 * file.progress),
            selected=file.priority > 0,
        )
        for index, file in enumerate(files, 1)
    ]


def _below(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts:
        raise Rejected("qBittorrent put a file outside of the transfer's folder", "request", kind="bad_path")
    return path
