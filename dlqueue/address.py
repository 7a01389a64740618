"""Where the HTTP gateway listens, as text. Standard library only."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

_HOST_PORT = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9.-]+)):(?P<port>[0-9]{1,5})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """Either ``path`` (of a Unix socket), or ``host`` (without brackets) and ``port`` (0 = any that is free)."""

    host: str = ""
    port: int = 0
    path: Path | None = None

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine reach it."""
        if self.path is not None or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def authority(self) -> str:
        """``HOST:PORT`` as it stands in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path is not None else f"http://{self.authority}"


def parse_address(text: str) -> Address:
    """From ``HOST:PORT``, ``[IPV6]:PORT`` or ``unix:/PATH``. Raises ``ValueError`` saying what is wrong."""
    if text.startswith("unix:"):
        path = Path(text.removeprefix("unix:"))
        if not path.is_absolute() or ".." in path.parts or "\0" in text:
            raise ValueError('must be an absolute path after "unix:", such as unix:/run/dlqueue/http.sock')
        return Address(path=path)
    found = _HOST_PORT.fullmatch(text)
    if found is None:
        raise ValueError('must be HOST:PORT or unix:/PATH, such as "127.0.0.1:8787"')
    port = int(found["port"])
    if port > 65535:
        raise ValueError("a port is at most 65535")
    host = found["host"] or found["six"]
    if found["six"] is not None or host.replace(".", "").isdigit():
        try:
            host = str(ipaddress.ip_address(host))
        except ValueError:
            raise ValueError(f"{host} is no address") from None
    return Address(host.lower(), port)
