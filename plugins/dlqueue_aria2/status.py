"""What aria2 tells of a transfer, in the words of the SDK."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dlqueue.sdk import Rejected, TransferState, TransferStatus
from dlqueue_aria2.content import relative, top_level
from dlqueue_aria2.entries import Entry, Fault, TooLarge
from dlqueue_aria2.errors import explain

if TYPE_CHECKING:
    from dlqueue_aria2.rpc import Rpc

_METADATA = "[METADATA]"
_BATCH = 500
_KEYS = ["gid", "dir", "files"]
_STATES = {
    "waiting": TransferState.QUEUED,
    "paused": TransferState.PAUSED,
    "complete": TransferState.COMPLETED,
    "error": TransferState.ERROR,
}


@dataclass(slots=True)
class Details:
    """What can be large and seldom changes. Asked for when something is known, and again when it is whole."""

    content: tuple[str, ...] = ()
    name: str | None = None
    metadata: bool = False
    """It fetches what describes a torrent; the content comes later."""
    selected: bool = True
    """Any file is."""
    final: bool = False
    """Nothing will change any more."""
    error: Rejected | None = None


def is_whole(entry: Entry) -> bool:
    return entry.status == "complete" or (entry.status == "active" and entry.seeder)


def is_stale(entry: Entry, details: Details | None) -> bool:
    """Does it pay to ask for its details?"""
    if entry.status == "error":
        return False
    if is_whole(entry):
        return details is None or not details.final
    if details is not None and (details.metadata or details.content or details.error):
        return False
    return bool(entry.info_hash or entry.completed_length or entry.total_length)


def ask_details(rpc: Rpc, entries: Sequence[Entry]) -> dict[str, Details]:
    """By GID; without those that are gone by now."""
    found: dict[str, Details] = {}
    for start in range(0, len(entries), _BATCH):
        batch = entries[start : start + _BATCH]
        try:
            found |= _ask(rpc, batch)
        except TooLarge:
            for entry in batch:
                try:
                    found |= _ask(rpc, [entry])
                except TooLarge:
                    error = Rejected("the torrent has too many files", "downloader", kind="too_large")
                    found[entry.gid] = Details(final=True, error=error)
    return found


def tell(entry: Entry, details: Details | None) -> TransferStatus:
    """The status of a transfer that is not removed."""
    details = details or Details()
    state, error = _state(entry, details), None
    if state is TransferState.ERROR:
        error = details.error or explain(entry.error_code, entry.error_message)
    elif (error := _flaw(entry, details, state)) is not None:
        state = TransferState.ERROR
    if state in (TransferState.COMPLETED, TransferState.SEEDING) and not details.final:
        state = TransferState.UNKNOWN  # it was gone when its content was asked for: the next look will tell
    metadata = state is TransferState.METADATA or details.metadata
    return TransferStatus(
        state=state,
        name=details.name,
        total=None if metadata or (not entry.total_length and not is_whole(entry)) else entry.total_length,
        downloaded=0 if metadata else entry.completed_length,
        uploaded=entry.upload_length,
        download_speed=float(entry.download_speed) if entry.status == "active" else 0.0,
        upload_speed=float(entry.upload_speed) if entry.status == "active" else 0.0,
        content=details.content,
        error=error,
        hash=entry.info_hash or None,
    )


def _state(entry: Entry, details: Details) -> TransferState:
    if entry.status != "active":
        return _STATES.get(entry.status, TransferState.UNKNOWN)
    if entry.verified_length is not None or entry.verify_integrity_pending:
        return TransferState.CHECKING
    if details.metadata:
        return TransferState.METADATA
    return TransferState.SEEDING if entry.seeder else TransferState.DOWNLOADING


def _flaw(entry: Entry, details: Details, state: TransferState) -> Rejected | None:
    """Why something that aria2 is content with is of no use."""
    if details.error is not None:
        return details.error
    if state not in (TransferState.COMPLETED, TransferState.SEEDING) or not details.final:
        return None
    if details.metadata and state is TransferState.COMPLETED:
        # It would have led to a download of its own.
        return Rejected("what came is no .torrent file", "request", kind="bad_torrent")
    if entry.info_hash and not details.selected:
        return Rejected("none of the selected files is in the torrent", "request", kind="bad_select")
    return None


def _ask(rpc: Rpc, entries: Iterable[Entry]) -> dict[str, Details]:
    wanted = list(entries)
    answers = rpc.multicall([("tellStatus", [entry.gid, _KEYS]) for entry in wanted])
    pairs = zip(wanted, answers, strict=True)
    return {e.gid: _details(e, rpc.read(answer, Entry)) for e, answer in pairs if not isinstance(answer, Fault)}


def _details(entry: Entry, found: Entry) -> Details:
    first = found.files[0].path if found.files else ""
    if first.startswith(_METADATA):
        return Details(name=first[len(_METADATA) :] or None, metadata=True, final=is_whole(entry))
    try:
        content = top_level(found.dir, found.files)
        # A torrent of which nothing is selected has a name all the same.
        named = content or ((relative(found.dir, first).split("/")[0],) if entry.info_hash and first else (first,))
    except Rejected as error:
        return Details(final=True, error=error)
    name = Path(named[0]).name or None
    # The .torrent of a URL is kept in memory. One that the user wanted as a file is on the disk.
    leads = not entry.info_hash and first.lower().endswith(".torrent") and not os.path.lexists(first)
    return Details(
        content=() if leads else content,
        name=name,
        metadata=leads,
        selected=any(file.selected for file in found.files),
        final=is_whole(entry),
    )
