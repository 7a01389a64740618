"""What is counted of each downloader since the daemon was started. It outlives the coordinator, which a reload may
replace."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from dlqueue.runtime.meters import Histogram
from dlqueue.sdk import TransferStatus

KEPT = 10_000
"""Transfers whose bytes are remembered."""
POLL_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(slots=True)
class DownloaderMeters:
    polls: Histogram = field(default_factory=lambda: Histogram(POLL_SECONDS))
    """Seconds that it took to answer, of looks that were answered."""
    failed_polls: int = 0
    openings: int = 0
    """How often it went down: its breaker opened."""
    downloaded: int = 0
    uploaded: int = 0
    """Bytes, as far as it was seen while they came."""
    errors: Counter[str] = field(default_factory=Counter)
    """Tries of downloads that ended in an error, by class."""

    _seen: dict[str, tuple[int, int]] = field(default_factory=dict)
    """The most that each transfer had, by its key: a later try goes on from there, perhaps after a look that saw
    nothing yet."""

    def saw(self, key: str, now: TransferStatus, fresh: bool) -> None:
        """A transfer has moved on.

        :param fresh: it was created just now. Otherwise what it has when it is seen first is from another time.
        """
        first = (0, 0) if fresh else (now.downloaded, now.uploaded)
        downloaded, uploaded = self._seen.pop(key, first)
        self.downloaded += max(now.downloaded - downloaded, 0)
        self.uploaded += max(now.uploaded - uploaded, 0)
        self._seen[key] = max(now.downloaded, downloaded), max(now.uploaded, uploaded)
        if len(self._seen) > KEPT:
            del self._seen[next(iter(self._seen))]
