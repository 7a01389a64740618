"""The keys of the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from dlqueue.sdk import check_endpoint

PATH = "/transmission/rpc"


@dataclass(frozen=True, slots=True)
class TransmissionConfig:
    """The keys of a ``[downloaders.NAME]`` section with ``kind = "transmission"``."""

    url: str
    """Its RPC address; without a path, the one that Transmission has if nothing else is set (``rpc-url``)."""
    username: str | None = None
    password: str | None = field(default=None, metadata={"secret": True})
    """What it has as ``rpc-username`` and ``rpc-password``, if it wants them."""

    def __post_init__(self) -> None:
        check_endpoint(self.url, "http://127.0.0.1:9091/transmission/rpc", "they go into username and password")
        if self.password is not None and not self.username:
            raise ValueError("password needs a username beside it")

    @property
    def protocol(self) -> str:
        return urlsplit(self.url).scheme

    @property
    def host(self) -> str:
        """As a URL has it: an IPv6 address in brackets."""
        name = urlsplit(self.url).hostname or ""
        return f"[{name}]" if ":" in name else name

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or (443 if self.protocol == "https" else 80)

    @property
    def path(self) -> str:
        path = urlsplit(self.url).path
        return PATH if path.rstrip("/") in ("", "/transmission") else path

    @property
    def endpoint(self) -> str:
        """The whole address, for people."""
        return f"{self.protocol}://{self.host}:{self.port}{self.path}"
