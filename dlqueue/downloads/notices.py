"""What is told of downloaders themselves, to whoever listens: they come and go, are paused, and answer or do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dlqueue.downloads.coordinator import Coordinator

DownloaderChange = Literal["added", "changed", "removed", "down", "refused", "back", "paused", "resumed"]
"""``down``: it does not answer, or cannot be used; ``refused``: it refuses our login, and is not asked again before
that is another one; ``back``: after either, and the first answer after a reload. The breaker opens with the first two
and closes with the third."""


@dataclass(frozen=True, slots=True)
class DownloaderNotice:
    """Something has become of a downloader, and what it was like then."""

    name: str
    kind: DownloaderChange
    at: float
    health: str
    open: bool
    """Is its breaker open: is it spared?"""
    paused: bool
    last_error: str | None


def notice_of(coordinator: Coordinator, kind: DownloaderChange) -> DownloaderNotice:
    """As it is now."""
    return DownloaderNotice(
        coordinator.name,
        kind,
        coordinator.clock.time(),
        coordinator.health,
        coordinator.down,
        coordinator.paused is not None,
        coordinator.last_error,
    )
