"""Is a file at rest that is said to be whole? One that still grows, or has another size than its downloader says, is
not delivered: it is looked at again."""

from __future__ import annotations

from collections.abc import Sequence

from dlqueue.downloads.state import DownloadState, Entry
from dlqueue.sdk import Rejected, TransferStatus

LOOKS = 10
"""How often it is looked at again, one second apart, before that counts as a passing error."""


def is_settled(state: DownloadState, entries: Sequence[Entry], status: TransferStatus) -> bool:
    """Is there as much as the downloader says? A torrent is proven piece by piece, and what a program counts as wanted
    is of whole pieces: of that nothing is asked here.

    :raises Rejected: it does not come to rest.
    """
    size = sum(entry.size for entry in entries)
    if status.total in (None, size) or status.hash is not None or state.handle_hash is not None:
        state.unsettled = 0
        return True
    state.unsettled += 1
    if state.unsettled <= LOOKS:
        return False
    state.unsettled = 0
    raise Rejected(f"{state.downloader} says that {status.total} bytes are there, but there are {size}", kind="size")
