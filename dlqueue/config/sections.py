"""What the configuration says, as plain frozen values. The defaults are here; `docs/configuration.md` explains them.

Field metadata steers the check: ``duration`` and ``size`` accept text with units, ``rate`` text such as ``10/s``,
``size_range`` such as ``>1GiB``, ``listed`` also one value without its list,
``secret`` also a reference; with ``off`` the value ``false`` means None. A downloader's ``config_type`` may use them
too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from dlqueue.config.problems import Problem
from dlqueue.names import NAME
from dlqueue.places import Mode, Places
from dlqueue.runtime.redaction import HIDDEN, hide_userinfo

SCHEME = r"^[a-z][a-z0-9+.-]*$"
"""What URL schemes are made of."""
REMOTE = r"^/"
"""How paths begin that are not ours but a downloader's."""

TARGET = r"^[A-Za-z][A-Za-z0-9+.-]*://."
"""How the URLs of apprise begin."""
WEBHOOK = r"^https?://."
"""How webhooks begin."""

_DURATION = {"duration": True}
_OFF = {"off": True}
_RATE = {"rate": True}
_LISTED = {"listed": True}
_SOME = Field(min_length=1)
_Texts = Annotated[tuple[Annotated[str, _SOME], ...], _SOME]


def _workers() -> int:
    return max(8, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class DaemonSection:
    """``[daemon]``"""

    downloads: Path | None = None
    """Default destination; ``None`` = the current directory of the client."""
    allow_destinations: Annotated[tuple[Path, ...], Field(min_length=1)] = ()
    staging: Path | None = None
    """One folder for everything unfinished; ``None`` = by the rule of `Places.staging`."""
    keep_free: Annotated[int, Field(ge=0)] | None = field(default=None, metadata={"size": True})
    """Bytes that stay free on every file system; ``None`` = a fiftieth of it, at most 1 GiB."""
    workers: Annotated[int, Field(ge=1, le=1024)] = field(default_factory=_workers)
    admins: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    log: Literal["auto", "text", "json", "journal"] = "auto"
    """The form of the log; ``auto``: with fields in the journal, with colours at a terminal, else text."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"


@dataclass(frozen=True, slots=True)
class StoreSection:
    """``[store]``"""

    url: str = ""
    durability: Literal["disk", "process"] = "disk"
    namespace: Annotated[str, Field(pattern=f"^{NAME.pattern}$")] = "default"


@dataclass(frozen=True, slots=True)
class QueueSection:
    """``[queues.NAME]``; ``None`` = not set here. Times are seconds."""

    concurrency: Annotated[int, Field(ge=1, le=10_000)] | None = None
    capacity: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    rate: str | None = field(default=None, metadata=_RATE)
    max_retry: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    retry_delay: float | None = field(default=None, metadata=_DURATION)
    backoff_factor: Annotated[float, Field(ge=1, le=100)] | None = None
    backoff_max: float | None = field(default=None, metadata=_DURATION)
    ageing: Annotated[float, Field(ge=0, le=1_000_000)] | None = None
    """Points of priority a minute; 0 = off."""


@dataclass(frozen=True, slots=True)
class PathSection:
    """One of ``paths`` of a downloader."""

    remote: Annotated[str, Field(pattern=REMOTE)]
    """What it calls a folder."""
    local: Path
    """What we call it."""


@dataclass(frozen=True, slots=True)
class DownloaderSection:
    """``[downloaders.NAME]``"""

    name: str
    kind: str
    enabled: bool = True
    max_active: Annotated[int, Field(ge=1, le=10_000)] = 5
    poll: Annotated[float, Field(ge=0.1, le=86_400)] = field(default=2.0, metadata=_DURATION)
    stall: Annotated[float, Field(gt=0)] | None = field(default=1800.0, metadata=_DURATION | _OFF)
    """Seconds without a byte; ``None`` (written ``false``) = never stalled."""
    failover_after: Annotated[float, Field(ge=0)] | None = field(default=600.0, metadata=_DURATION | _OFF)
    """Seconds of being down; ``None`` (written ``false``) = its transfers wait for it."""
    directory: Annotated[str, Field(pattern=REMOTE)] | None = None
    """Where it writes, in its own terms; ``None`` = in our staging folder."""
    paths: tuple[PathSection, ...] = ()
    """Empty: it calls everything what we call it."""
    delivery: Literal["move", "none"] = "move"
    options: Any = None
    """An instance of the ``config_type`` of this kind."""


@dataclass(frozen=True, slots=True)
class MatchSection:
    """``match`` of ``[[routes]]``: one value, or a list of which any will do. Empty = not given; a list that is given
    and empty would never match, and is refused."""

    scheme: Annotated[tuple[Annotated[str, Field(pattern=SCHEME)], ...], _SOME] = field(default=(), metadata=_LISTED)
    host: _Texts = field(default=(), metadata=_LISTED)
    url: _Texts = field(default=(), metadata=_LISTED)
    size: Annotated[tuple[str | int, ...], _SOME] = field(default=(), metadata=_LISTED | {"size_range": True})
    tag: _Texts = field(default=(), metadata=_LISTED)
    owner: _Texts = field(default=(), metadata=_LISTED)
    type: _Texts = field(default=(), metadata=_LISTED)


@dataclass(frozen=True, slots=True)
class RouteSection:
    """One of ``[[routes]]``."""

    use: Annotated[tuple[str, ...], Field(min_length=1)] = field(metadata=_LISTED)
    match: MatchSection = field(default_factory=MatchSection)
    all: bool = False
    """Every key of ``match`` must hold, not only one."""


@dataclass(frozen=True, slots=True)
class PolicySection:
    """``[policy]``"""

    schemes: tuple[Annotated[str, Field(pattern=SCHEME)], ...] = ("http", "https", "ftp", "magnet")
    private_addresses: bool = True


@dataclass(frozen=True, slots=True)
class SeedingSection:
    """``[seeding]``: the first measure that is met ends it. ``None`` (written ``false``: TOML has no null) = no rule
    on this measure; 0 = do not seed."""

    ratio: Annotated[float, Field(ge=0)] | None = field(default=1.0, metadata=_OFF)
    """Bytes sent for each byte fetched."""
    time: float | None = field(default=86_400.0, metadata=_DURATION | _OFF)
    """Seconds since it is whole."""
    idle: float | None = field(default=None, metadata=_DURATION | _OFF)
    """Seconds without a byte sent."""


@dataclass(frozen=True, slots=True)
class RetentionSection:
    """``[retention]``: seconds; ``None`` (written ``false``) = for ever."""

    finished: float | None = field(default=30 * 86_400.0, metadata=_DURATION | _OFF)
    """How long a task is kept after its end."""


@dataclass(frozen=True, slots=True)
class HttpSection:
    """``[http]``"""

    listen: str | None = None
    """``HOST:PORT`` or ``unix:/PATH``; ``None`` = off."""
    hosts: tuple[str, ...] = ()
    """Further names under which it may be asked for: ``NAME`` or ``NAME:PORT``."""
    origins: tuple[str, ...] = ()
    """Further origins whose pages may ask it."""


@dataclass(frozen=True, slots=True)
class OwnerSection:
    """``[owners.NAME]``; ``None`` = no limit."""

    max_tasks: Annotated[int, Field(ge=0, le=1_000_000_000)] | None = None
    """Unfinished tasks."""
    max_bytes: Annotated[int, Field(ge=0)] | None = field(default=None, metadata={"size": True})
    """Bytes of unfinished downloads, as far as their sizes are known."""
    max_active: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """Transfers at once, in all downloaders together."""
    allow_destinations: tuple[Path, ...] = ()
    """In place of those of the daemon, and within them; empty = those."""
    level: Annotated[float, Field(ge=-1000, le=1000)] = 0.0
    """Each level is worth 10 points of priority."""


@dataclass(frozen=True, slots=True)
class HookSection:
    """``[hooks.NAME]``"""

    command: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
    timeout: Annotated[float, Field(ge=0.1, le=86_400)] = field(default=60.0, metadata=_DURATION)
    """Seconds, after which it is killed."""


@dataclass(frozen=True, slots=True)
class TargetSection:
    """``[notify.targets.NAME]``"""

    url: Annotated[str, Field(pattern=TARGET)] = field(metadata={"secret": True})
    """As apprise understands it."""


@dataclass(frozen=True, slots=True)
class NotifyRuleSection:
    """One of ``[[notify.rules]]``; ``on`` empty: when the result is there, or never will be."""

    match: MatchSection = field(default_factory=MatchSection)
    all: bool = False
    """Every key of ``match`` must hold, not only one."""
    on: tuple[Literal["delivered", "completed", "error", "canceled"], ...] = field(default=(), metadata=_LISTED)
    to: tuple[str, ...] = field(default=(), metadata=_LISTED)
    """Names of targets."""
    webhook: Annotated[str, Field(pattern=WEBHOOK)] | None = None
    hook: str | None = None


@dataclass(frozen=True, slots=True)
class NotifySection:
    """``[notify]``"""

    webhook_secret: str | None = field(default=None, metadata={"secret": True})
    """``whsec_…``; ``None`` = webhooks are not signed."""
    allow_private: bool = False
    """May webhooks go to private and loopback addresses?"""
    targets: Mapping[str, TargetSection] = field(default_factory=dict)
    rules: tuple[NotifyRuleSection, ...] = ()


DOWNLOADS_QUEUE = QueueSection(
    concurrency=16, max_retry=10, retry_delay=5.0, backoff_factor=2.0, backoff_max=600.0, ageing=1.0
)
"""What the queue ``downloads`` does where the configuration is silent."""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that is in force."""

    mode: Mode
    places: Places
    daemon: DaemonSection
    store: StoreSection
    queues: Mapping[str, QueueSection]
    downloaders: Mapping[str, DownloaderSection]
    routes: tuple[RouteSection, ...]
    seeding: SeedingSection
    retention: RetentionSection
    policy: PolicySection
    http: HttpSection
    owners: Mapping[str, OwnerSection]
    """By name; ``*`` stands for everybody who has no section."""
    notify: NotifySection
    hooks: Mapping[str, HookSection]
    files: tuple[Path, ...]
    """The files that were read, in order; a later one wins."""
    warnings: tuple[Problem, ...] = ()
    """What is allowed and likely a mistake all the same."""

    def as_shown(self) -> dict[str, Any]:
        """The effective configuration for a person: JSON values, every setting, secrets as ``***``."""
        return {
            "mode": self.mode,
            "files": _shown(self.files),
            "socket": str(self.places.socket),
            "state": str(self.places.state),
            **self.settings(),
        }

    def settings(self, *, reveal: bool = False) -> dict[str, Any]:
        """Every setting, by section: JSON values.

        :param reveal: secrets as they are, to compare them. Never to be shown.
        """

        def downloader(section: DownloaderSection) -> dict[str, Any]:
            common = _shown(section, reveal)
            del common["name"], common["options"]
            return {**common, **(_shown(section.options, reveal) if section.options is not None else {})}

        return {
            "daemon": _shown(self.daemon, reveal),
            "store": _shown(self.store, reveal),
            "queues": _shown(self.queues, reveal),
            "downloaders": {name: downloader(section) for name, section in self.downloaders.items()},
            "routes": _shown(self.routes, reveal),
            "seeding": _shown(self.seeding, reveal),
            "retention": _shown(self.retention, reveal),
            "policy": _shown(self.policy, reveal),
            "http": _shown(self.http, reveal),
            "owners": _shown(self.owners, reveal),
            "notify": _shown(self.notify, reveal),
            "hooks": _shown(self.hooks, reveal),
        }

    def secret_values(self) -> frozenset[str]:
        """All secrets, so that the log can leave them out; but none that is the name of a downloader or of a kind, as
        the password of Debian's Transmission is: paths could not be read."""
        values = set()
        options = [section.options for section in self.downloaders.values()]
        for section in (*options, self.notify, *self.notify.targets.values()):
            for one in fields(section) if is_dataclass(section) else ():
                value = getattr(section, one.name)
                if one.metadata.get("secret") and isinstance(value, str):
                    values.add(value)
        return frozenset(values) - set(self.downloaders) - {section.kind for section in self.downloaders.values()}


def _shown(value: Any, reveal: bool = False) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        pairs = ((one, getattr(value, one.name)) for one in fields(value))
        return {
            one.name: HIDDEN
            if one.metadata.get("secret") and inner is not None and not reveal
            else _shown(inner, reveal)
            for one, inner in pairs
            if inner != () or not isinstance(value, MatchSection)  # an empty list is refused there
        }
    if isinstance(value, Mapping):
        return {str(name): _shown(inner, reveal) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shown(inner, reveal) for inner in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_shown(inner, reveal) for inner in value), key=str)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return str(value) if reveal else hide_userinfo(str(value))
