"""What goes into a downloader and what comes out of it. Sizes are bytes, speeds bytes per second, times seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from dlqueue.sdk.errors import Rejected


class TransferState(StrEnum):
    """How a transfer is doing, in the words that all downloaders share."""

    QUEUED = "queued"
    METADATA = "metadata"
    CHECKING = "checking"
    DOWNLOADING = "downloading"
    SEEDING = "seeding"
    PAUSED = "paused"
    COMPLETED = "completed"
    ERROR = "error"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be fetched, and into which folder.

    ``directory`` belongs to this one transfer: it exists or may be made, nothing else is in it, and everything that is
    fetched must end up in it. The core gives it a name that ends with the creation key, so that a transfer of ours can
    be told from one that somebody else has begun under the same key. It is in the downloader's own terms, which are
    ours unless the configuration maps paths. Headers and URLs may carry secrets: they must not reach a log line or an
    error message.
    """

    urls: tuple[str, ...]
    """Mirrors of one file (or one magnet link). Empty only if ``torrent`` or ``metalink`` is given."""
    directory: Path
    name: str | None = None
    """A safe file name the user asked for; ``None`` = the downloader finds one."""
    torrent: bytes | None = None
    metalink: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    checksum: str | None = None
    """``ALGORITHM=HEX`` (sha-256, sha-1, sha-512, md5). The core verifies it before delivery in any case."""
    select: tuple[int, ...] | None = None
    """Indexes of the wanted files, from 1; ``None`` = all. Given before the files are known (a magnet link), it is
    applied as soon as they are, before any content is fetched."""
    seed: bool = True
    """Is it to be seeded when it is whole? The core ends the seeding (`Downloader.remove`); a downloader with rules of
    its own switches them off. With False it may end by itself as soon as it is whole."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Options of this kind of downloader; a plug-in takes those on its allow-list and rejects others by name."""


@dataclass(frozen=True, slots=True)
class Handle:
    """How a transfer is addressed inside its downloader. ``hash`` is the v1 info-hash of a torrent, where known."""

    id: str
    hash: str | None = None
    attached: bool = False
    """It was in the downloader before us, or belongs to somebody else (a torrent can be there once only): it is
    watched, and never paused, changed or removed. `Downloader.create` answers so instead of failing."""


@dataclass(frozen=True, slots=True)
class TransferStatus:
    """One look at a transfer."""

    state: TransferState
    name: str | None = None
    total: int | None = None
    """Bytes wanted, ``None`` while unknown."""
    downloaded: int = 0
    uploaded: int = 0
    download_speed: float = 0.0
    upload_speed: float = 0.0
    content: tuple[str, ...] = ()
    """Absolute paths, in the downloader's own terms, of the top-level files or folders that were fetched. Must be
    complete in the states ``completed`` and ``seeding``."""
    error: Rejected | None = None
    """Why, in the state ``error``."""
    message: str | None = None
    """What a person should know now ("server asked us to wait 30 s")."""
    hash: str | None = None
    """The v1 info-hash, once it is known, where the handle does not tell it."""

    @property
    def whole(self) -> bool:
        """Is all the content there?"""
        return self.state in (TransferState.COMPLETED, TransferState.SEEDING)


@dataclass(frozen=True, slots=True)
class TransferFile:
    """One file of a transfer; ``path`` is relative to the transfer's folder, ``progress`` 0 to 100."""

    index: int
    path: str
    size: int
    progress: float
    selected: bool = True
