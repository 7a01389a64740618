"""The keys of the configuration, and where an aria2c may be found."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from dlqueue.sdk import check_endpoint


@dataclass(frozen=True, slots=True)
class Aria2Config:
    """The keys of a ``[downloaders.NAME]`` section with ``kind = "aria2"``."""

    url: str | None = None
    """The JSON-RPC endpoint of an aria2 that runs already; ``None`` = start and look after an aria2c of our own."""
    secret: str | None = field(default=None, metadata={"secret": True})
    """What it was given as ``--rpc-secret``. An aria2c of our own gets a new one at every start."""
    command: Path | None = None
    """The aria2c to start; ``None`` = look for one."""
    dht: bool = True
    """May an aria2c of our own look for peers in the distributed hash table? False: only trackers name some."""

    def __post_init__(self) -> None:
        if self.url is None:
            if self.secret is not None:
                raise ValueError("secret belongs to an aria2 that runs already: give its url too, or leave it out")
            return
        for key, given in (("command", self.command is not None), ("dht", not self.dht)):
            if given:
                raise ValueError(f"{key} is for an aria2c that dlqueue starts itself: leave out {key} or url")
        check_endpoint(self.url, "http://127.0.0.1:6800/jsonrpc", "what aria2 wants goes into secret")

    @property
    def endpoint(self) -> str:
        """``url`` with the path that aria2 has if none is given."""
        url = self.url or ""
        return f"{url.rstrip('/')}/jsonrpc" if urlsplit(url).path in ("", "/") else url


def find_command() -> Path | None:
    """An aria2c: on the PATH, else the one of the ``bundled`` extra."""
    found = shutil.which("aria2c")
    # In our own environment it is the script of the bundled package, which starts a second process.
    if found is not None and Path(found).parent != Path(sys.executable).parent:
        return Path(found)
    spec = importlib.util.find_spec("aria2c")
    if spec is None or spec.origin is None:
        return None
    bundled = Path(spec.origin).parent / "bin" / "aria2c"
    return bundled if os.access(bundled, os.X_OK) else None
