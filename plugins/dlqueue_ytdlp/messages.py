"""What a process of yt-dlp says, a line of JSON each, and what it is answered."""

from __future__ import annotations

from typing import Literal

import msgspec

from dlqueue.sdk import Final


class Progress(msgspec.Struct, tag=True):
    downloaded: int
    total: int | None = None
    speed: float = 0.0
    name: str | None = None
    message: str | None = None


class Address(msgspec.Struct, tag=True):
    """It wants to connect there; it waits for a `Verdict`."""

    address: str


class Done(msgspec.Struct, tag=True):
    paths: list[str]


class Failed(msgspec.Struct, tag=True):
    message: str
    final: Final | None = None
    kind: str = "ytdlp"


class Verdict(msgspec.Struct):
    address: str
    refused: str | None = None


Said = Progress | Address | Done | Failed
State = Literal["running", "paused", "completed", "error"]
