"""Params and results of ``downloaders.*``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NotRequired, TypedDict

from dlqueue.protocol.checks import short

Health = Literal["up", "degraded", "down", "unknown"]


@dataclass(frozen=True, kw_only=True)
class DownloaderName:
    name: str

    def __post_init__(self) -> None:
        short(self, "name")


class Breaker(TypedDict):
    state: str
    until: str | None


class Downloader(TypedDict):
    name: str
    kind: str
    health: Health
    version: str | None
    active: int
    max_active: int
    download_speed: int
    upload_speed: int
    breaker: Breaker
    last_error: str | None
    node: str
    paused: bool


class DownloaderPage(TypedDict):
    items: list[Downloader]
    next_cursor: str | None
    total: int | None


class Check(TypedDict):
    name: str
    ok: bool
    message: str
    cure: NotRequired[str]


class DownloaderTest(TypedDict):
    ok: bool
    version: str | None
    checks: list[Check]


class Kind(TypedDict):
    """A kind of downloader that is installed; ``problem`` says why it is not usable."""

    kind: str
    usable: bool
    schemes: list[str]
    downloaders: list[str]
    problem: str | None


class KindPage(TypedDict):
    items: list[Kind]
    next_cursor: str | None
    total: int | None
