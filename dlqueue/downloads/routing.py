"""Which downloaders may fetch something, in which order, and which of them takes it now. Pure: facts in, names out."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal
from urllib.parse import urlsplit

from dlqueue.downloads.request import DownloadParams
from dlqueue.sdk import Downloader

TASK_TYPE = "remote_download"
"""What the type of a download is, as a task."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What rules may look at in a download."""

    schemes: frozenset[str]
    """See `DownloadParams.schemes`."""
    sources: tuple[str, ...]
    """Its URLs, without query and with it; a file that was sent counts as ``NAME.torrent`` or ``NAME.metalink``."""
    hosts: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    size: int | None = None
    tags: frozenset[str] = frozenset()
    owner: str = ""
    names_torrent: bool = False
    """See `DownloadParams.names_torrent`."""
    downloader: str | None = None
    """The only one that is wanted, if one was named."""


def facts_of(params: DownloadParams, owner: str = "", labels: Mapping[str, Sequence[str]] | None = None) -> Wanted:
    """
    :param labels: of the task.
    """
    sent = [kind for kind in ("torrent", "metalink") if getattr(params, kind) is not None]
    bare = [url.partition("#")[0].partition("?")[0] for url in params.urls]
    sources = (*params.urls, *bare, *(f"{params.title or 'file'}.{kind}" for kind in sent))
    hosts = {_host(url) for url in params.urls}
    return Wanted(
        params.schemes,
        tuple(dict.fromkeys(sources)),
        frozenset(host for host in hosts if host),
        frozenset(_types(params, [*bare, *sources])),
        params.size,
        frozenset((labels or {}).get("tag", ())),
        owner,
        params.names_torrent,
        params.downloader,
    )


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _types(params: DownloadParams, sources: Iterable[str]) -> Iterable[str]:
    yield TASK_TYPE
    yield from ("torrent" for scheme in params.schemes if scheme == "magnet")
    for name in (params.name, params.title, *sources):
        _, dot, ending = (name or "").rpartition("/")[2].lower().rpartition(".")
        if not dot or not ending.isalnum():
            continue
        yield ending
        guessed = mimetypes.guess_type(f"name.{ending}")[0]
        if guessed is not None:
            yield from (guessed, guessed.partition("/")[0])


SizeRange = tuple[int, int | None]
"""Smallest and largest; None = no limit."""


@dataclass(frozen=True, slots=True)
class Rule:
    """``[[routes]]``: what matches is fetched by these downloaders, in this order. Of each condition any value will do;
    globs, without regard to upper and lower case, but for tags, owners and sizes."""

    use: tuple[str, ...]
    scheme: tuple[str, ...] = ()
    host: tuple[str, ...] = ()
    url: tuple[str, ...] = ()
    size: tuple[SizeRange, ...] = ()
    """A size that is not known is in no range."""
    tag: tuple[str, ...] = ()
    owner: tuple[str, ...] = ()
    type: tuple[str, ...] = ()
    all: bool = False
    """Every condition that is given must hold; otherwise one is enough."""

    def matches(self, download: Wanted) -> bool:
        """Without a condition: always."""
        conditions: list[tuple[object, Callable[[], bool]]] = [
            (self.scheme, lambda: _like(download.schemes, self.scheme)),
            (self.host, lambda: _like(download.hosts, self.host)),
            (self.url, lambda: _like(download.sources, self.url)),
            (self.size, lambda: download.size is not None and any(_in(download.size, each) for each in self.size)),
            (self.tag, lambda: not download.tags.isdisjoint(self.tag)),
            (self.owner, lambda: download.owner in self.owner),
            (self.type, lambda: _like(download.types, self.type)),
        ]
        held = [holds() for given, holds in conditions if given]
        return not held or (all if self.all else any)(held)


def _like(values: Iterable[str], patterns: Iterable[str]) -> bool:
    lower = [value.lower() for value in values]
    return any(fnmatchcase(value, pattern.lower()) for pattern in patterns for value in lower)


def _in(size: int, limits: SizeRange) -> bool:
    low, high = limits
    return low <= size and (high is None or size <= high)


@dataclass(frozen=True, slots=True)
class Route:
    """:param names: who can fetch it, in the order in which they are tried."""

    names: tuple[str, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Each other one, and why."""
    rule: int | None = None
    """The number of the rule, from 1; None = the default order, or one was named."""

    @property
    def shares(self) -> bool:
        """May any of them take it whose turn it is? By default only the first that is up: the others are for when it
        fails."""
        return self.rule is not None

    @property
    def title(self) -> str:
        return "the default order" if self.rule is None else f"route {self.rule}"


def find_route(download: Wanted, rules: Sequence[Rule], configured: Mapping[str, type[Downloader]]) -> Route:
    """The first rule that matches decides; without one it is first those of kind ``http`` for http(s), then all as
    they are configured. Who was named is the only one. One that takes torrents and no URLs is given the file that the
    URL of a .torrent leads to."""
    number, order, reason = None, list(configured), ""
    if download.downloader is not None:
        order = [name for name in order if name == download.downloader]
        reason = f"{download.downloader} was asked for by name"
    else:
        number = next((n for n, rule in enumerate(rules, 1) if rule.matches(download)), None)
        if number is not None:
            order = [name for name in dict.fromkeys(rules[number - 1].use) if name in configured]
            reason = f"not in route {number} (use = {', '.join(rules[number - 1].use)})"
        elif download.schemes <= {"http", "https"}:
            order.sort(key=lambda name: configured[name].kind != "http")
    # By the default order it is a file like others, unless nobody fetches those.
    chosen = bool(reason) or not any(download.schemes <= kind.schemes for kind in configured.values())
    left_out: dict[str, str] = {}
    for name, kind in configured.items():
        missing = download.schemes - kind.schemes
        if chosen and download.names_torrent and "torrent" in kind.schemes:
            missing = frozenset()
        if name not in order:
            left_out[name] = reason
        elif missing:
            left_out[name] = f"cannot fetch {' and '.join(sorted(missing))}"
    return Route(tuple(name for name in order if name not in left_out), left_out, number)


@dataclass(frozen=True, slots=True)
class Condition:
    """Of one downloader, now."""

    down: bool
    paused: bool
    free: int
    """Slots."""


Waits = Literal["slot", "downloader", "paused", "route"]


@dataclass(frozen=True, slots=True)
class Choice:
    """``name`` takes it now; or, if that is None, it ``waits`` for any of ``names``."""

    name: str | None
    waits: Waits | None = None
    names: tuple[str, ...] = ()


def choose(names: Sequence[str], now: Mapping[str, Condition], shares: bool) -> Choice:
    """The first that is up, not paused and has a slot free.

    :param shares: is one whose slots are taken passed over for the next? Otherwise it is waited for.
    """
    up = [name for name in names if not now[name].down and not now[name].paused]
    for name in up if shares else up[:1]:
        if now[name].free:
            return Choice(name)
    if up:
        return Choice(None, "slot", tuple(up if shares else up[:1]))
    down = tuple(name for name in names if now[name].down)
    if down:
        return Choice(None, "downloader", down)
    return Choice(None, "paused", (names[0],)) if names else Choice(None, "route")
