"""What Transmission answers, as far as it is asked: the names and numbers of its RPC specification (rpc-spec.md)."""

from __future__ import annotations

from enum import IntEnum

import msgspec

UNLIMITED = 2
"""``seedRatioMode`` and ``seedIdleMode``: neither its own nor the global limit."""


class Status(IntEnum):
    STOPPED = 0
    CHECK_WAIT = 1
    CHECK = 2
    DOWNLOAD_WAIT = 3
    DOWNLOAD = 4
    SEED_WAIT = 5
    SEED = 6


class Trouble(IntEnum):
    NONE = 0
    TRACKER_WARNING = 1
    TRACKER_ERROR = 2
    LOCAL = 3


class Entry(msgspec.Struct, rename="camel"):
    """A torrent, without what can be large."""

    hash_string: str
    name: str = ""
    download_dir: str = ""
    status: int = -1
    error: int = 0
    error_string: str = ""
    metadata_percent_complete: float = 0.0
    left_until_done: int = 0
    """Bytes of the selected files; 0 also as long as the files are not known."""
    size_when_done: int = 0
    rate_download: int = 0
    rate_upload: int = 0
    uploaded_ever: int = 0
    seed_ratio_mode: int = 0
    added_date: int = 0
    """Seconds since 1970. One of which a crash has lost everything else is added anew when Transmission starts."""

    @property
    def has_metadata(self) -> bool:
        return self.metadata_percent_complete >= 1

    @property
    def is_whole(self) -> bool:
        checking = self.status in (Status.CHECK_WAIT, Status.CHECK)
        return self.has_metadata and not self.left_until_done and not checking


class File(msgspec.Struct, rename="camel"):
    """Its path is relative to the folder that the torrent is in."""

    name: str
    length: int
    bytes_completed: int


class Choice(msgspec.Struct):
    wanted: bool


class Listing(msgspec.Struct, rename="camel"):
    """The files of a torrent."""

    hash_string: str
    files: list[File] = []
    file_stats: list[Choice] = []


class Statistics(msgspec.Struct, rename="camel"):
    """How long it has been running (seconds), and how often it was started."""

    seconds_active: int
    session_count: int = 0
