"""The keys of the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field

from dlqueue.sdk import check_endpoint


@dataclass(frozen=True, slots=True)
class QbittorrentConfig:
    """The keys of a ``[downloaders.NAME]`` section with ``kind = "qbittorrent"``."""

    url: str
    """Where its web interface is."""
    username: str | None = None
    """``None`` = it wants no login from here, or an ``api_key``."""
    password: str | None = field(default=None, metadata={"secret": True})
    api_key: str | None = field(default=None, metadata={"secret": True})
    """Instead of a login; qBittorrent 5.2 or newer makes such keys."""

    def __post_init__(self) -> None:
        check_endpoint(self.url, "http://127.0.0.1:8080", "they are keys of their own")
        if self.api_key is not None:
            if self.username is not None or self.password is not None:
                raise ValueError("api_key takes the place of username and password: leave out the one or the others")
            if not self.api_key.isascii() or not self.api_key.isprintable() or not self.api_key.strip():
                raise ValueError("api_key must be one line of plain characters")
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together: give both, or none")
        if self.username == "":
            raise ValueError("username must not be empty")
