"""The plug-in: keeps its transfers in its private folder and goes on with them after any end of its process."""

from __future__ import annotations

import importlib.metadata
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from dlqueue.sdk import Context, Engine, Rejected, Request
from dlqueue_http import names, web
from dlqueue_http.control import KEY, Journal
from dlqueue_http.transfer import Tools, Transfer
from dlqueue_http.workers import Workers

OPTIONS = frozenset({"connections", "user-agent"})
MAX_CONNECTIONS = 16
LONGEST_TIMEOUT = 86_400.0
"""Seconds. A socket takes no time-out beyond 2^31 ms."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# These frame the messages; the engine sets them itself.
_OWN_HEADERS = frozenset(
    {"accept-encoding", "connection", "content-length", "expect", "if-range", "keep-alive", "proxy-connection", "range"}
    | {"te", "trailer", "transfer-encoding", "upgrade"}
)


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """The keys of a ``[downloaders.NAME]`` section with ``kind = "http"``."""

    connections: int = 4
    """Connections per file, 1 to 16; more than one only for files that take a while."""
    min_segment: int = field(default=8 * 1024 * 1024, metadata={"size": True})
    """Bytes; a connection is not opened for less."""
    split_after: float = field(default=1.0, metadata={"duration": True})
    """Seconds that a file is given with one connection."""
    connect_timeout: float = field(default=15.0, metadata={"duration": True})
    read_timeout: float = field(default=60.0, metadata={"duration": True})
    """Seconds without a byte."""
    user_agent: str | None = None
    verify: bool = True
    """Check the certificates of servers."""
    ca_file: str | None = None
    """Certificates to trust, PEM, instead of those of the system."""

    def __post_init__(self) -> None:
        if not 1 <= self.connections <= MAX_CONNECTIONS:
            raise ValueError(f"connections must be 1 to {MAX_CONNECTIONS}, not {self.connections}")
        if self.min_segment < 1024 * 1024:
            raise ValueError("min_segment must be at least 1 MiB")
        if self.split_after < 0:
            raise ValueError("split_after must not be negative")
        for key, seconds in (("connect_timeout", self.connect_timeout), ("read_timeout", self.read_timeout)):
            if not 0 < seconds <= LONGEST_TIMEOUT:
                raise ValueError(f"{key} must be more than 0 seconds and at most a day")
        if self.user_agent is not None and not _is_header_value(self.user_agent):
            raise ValueError("user_agent must be one line of Latin-1 text")


class HttpDownloader(Engine[Transfer]):
    """Fetches over HTTP and HTTPS with threads of this process. A handle is the creation key."""

    kind: ClassVar[str] = "http"
    schemes: ClassVar[frozenset[str]] = frozenset({"http", "https"})
    proves_bytes: ClassVar[bool] = True
    config_type: ClassVar[type[HttpConfig]] = HttpConfig

    @classmethod
    def default_config(cls) -> HttpConfig:
        return HttpConfig()

    def open(self, config: HttpConfig, context: Context) -> None:
        self._folder = Path(context.folder)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._workers = Workers(f"http-{context.name}")
        self._web = web.Web(
            context,
            user_agent=config.user_agent or f"dlqueue/{_version()}",
            connect_timeout=config.connect_timeout,
            read_timeout=config.read_timeout,
            verify=config.verify,
            ca_file=config.ca_file,
        )
        self._journal = Journal(self._folder / "transfers.jsonl")
        self._tools = Tools(
            journal=self._journal,
            folder=self._folder,
            web=self._web,
            workers=self._workers,
            logger=context.logger,
            connections=config.connections,
            min_segment=config.min_segment,
            split_after=config.split_after,
            changed=self.changed,
        )
        for key, record in list(self._journal.records.items()):
            try:
                self.transfers[key] = Transfer.stored(key, record, self._tools)
            except (KeyError, TypeError, ValueError, AttributeError):
                # Only what was written whole has been promised to anybody.
                context.logger.warning("what is written about transfer %s cannot be read; it is forgotten", key)
                self._journal.drop(key)
        for transfer in self.transfers.values():
            transfer.go_on()

    def test(self) -> str:
        return f"dlqueue {_version()} with urllib3 {importlib.metadata.version('urllib3')}"

    def begin(self, there: Transfer | None, request: Request, key: str) -> Transfer:
        _check(request, key)
        if there is None:
            return Transfer.new(key, request, self._tools)
        there.again(request)
        return there

    def close(self) -> None:
        super().close()
        self._workers.close(1.5)
        self._web.close()
        self._journal.close()


def _check(request: Request, key: str) -> None:
    """Raises `Rejected` for what can be seen to be wrong without asking anybody."""
    if not KEY.fullmatch(key):
        raise Rejected("a creation key is letters and digits", "request", kind="bad_key")
    if request.torrent is not None or request.metalink is not None or not request.urls:
        raise Rejected("the built-in engine fetches URLs only", "downloader", kind="unsupported")
    if request.select is not None and tuple(request.select) != (1,):
        raise Rejected("there is one file to select, number 1", "request", kind="bad_select")
    for url in request.urls:
        web.check_syntax(url)
    if request.name is not None and not names.is_safe(request.name):
        raise Rejected("the name is not usable as the name of one file", "request", kind="bad_name")
    for name, value in request.headers.items():
        if not _TOKEN.fullmatch(name):
            raise Rejected("a header has a name that HTTP does not allow", "request", kind="bad_header")
        if name.lower() in _OWN_HEADERS:
            raise Rejected(f"the header {name} is set by the engine itself", "request", kind="bad_header")
        if not _is_header_value(value):
            raise Rejected(f"the value of the header {name} is not one line of text", "request", kind="bad_header")
    for option, value in request.options.items():
        if option not in OPTIONS:
            known = ", ".join(sorted(OPTIONS))
            raise Rejected(
                f"the built-in engine has no option {option!r} (it has {known})", "request", kind="bad_option"
            )
        if option == "connections" and not (re.fullmatch(r"\d{1,2}", value) and 1 <= int(value) <= MAX_CONNECTIONS):
            raise Rejected(f"the option connections takes 1 to {MAX_CONNECTIONS}", "request", kind="bad_option")
        if option == "user-agent" and not _is_header_value(value):
            raise Rejected("the option user-agent takes one line of text", "request", kind="bad_option")


def _is_header_value(value: str) -> bool:
    return all(character == "\t" or " " <= character <= "~" or "\xa0" <= character <= "\xff" for character in value)


def _version() -> str:
    try:
        return importlib.metadata.version("dlqueue")
    except importlib.metadata.PackageNotFoundError:
        return "0"
