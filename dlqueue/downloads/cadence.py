"""How long until a downloader is looked at again: soon when something is about to end or somebody watches, seldom when
nothing moves."""

from __future__ import annotations

from collections.abc import Iterable

from dlqueue.downloads.watch import Watch
from dlqueue.sdk import TransferState

LIVE = 1.0
"""Seconds at most while somebody watches."""
NEAR = 4
"""Looks in one poll interval, at most, while a transfer is about to end."""
SOONEST = 0.1
"""Seconds between two looks, at least."""
SHARE = 10
"""Times that a look took: so far apart are two of them at least, so that they take a tenth of a thread at most."""
SELDOM = 5
"""Poll intervals between two looks while nothing moves."""
SELDOM_MAX = 60.0
"""Seconds between them at most, or the poll interval if that is more."""
STILL = 30.0
"""Seconds without a byte after which a transfer does not count as moving."""
_MAY_END = (TransferState.DOWNLOADING, TransferState.METADATA, TransferState.CHECKING, TransferState.UNKNOWN)


def next_look(watches: Iterable[Watch], poll: float, live: bool, took: float) -> float:
    """Seconds from now.

    :param poll: the configured interval.
    :param live: somebody watches.
    :param took: seconds that the last look took.
    """
    longest = min(poll, LIVE) if live else max(poll, min(SELDOM * poll, SELDOM_MAX))
    soonest = min(max(poll / NEAR, SOONEST, SHARE * took), longest)
    wait = longest
    for watch in watches:
        if not _moves(watch):
            continue
        wait = min(wait, poll)
        left = _left(watch)
        if left is not None and left < poll:
            wait = min(wait, max(left, soonest))
            if wait <= soonest:
                break
    return wait


def _moves(watch: Watch) -> bool:
    """May its state become another one at any time?"""
    if watch.latest is None:
        return not watch.gone
    return not watch.gone and watch.latest.state in _MAY_END and watch.still < STILL


def _left(watch: Watch) -> float | None:
    """Seconds until it is whole, if it goes on like this."""
    status = watch.latest
    if status is None or status.total is None or status.download_speed <= 0:
        return None
    return (status.total - status.downloaded) / status.download_speed
