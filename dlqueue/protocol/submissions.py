"""Params of what makes tasks: ``tasks.submit``, ``tasks.submit_many``, ``downloads.add``."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal

from dlqueue.protocol import times
from dlqueue.protocol.checks import (
    MAX_PRIORITY,
    MAX_SECONDS,
    as_lists,
    bounded,
    few_labels,
    identifier,
    instants,
    named,
    short,
)
from dlqueue.protocol.envelope import MAX_BATCH
from dlqueue.protocol.errors import InvalidParams
from dlqueue.protocol.estimate import Estimate
from dlqueue.protocol.notify import Notify

OnExists = Literal["rename", "skip", "overwrite", "fail"]
SEED_MEASURES = ("ratio", "time", "idle")


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What every submit may say, whatever the task does."""

    queue: str | None = None
    priority: int | None = None
    labels: dict[str, str | list[str]] | None = None
    delay: float | None = None
    run_at: str | None = None
    max_retry: int | None = None
    retry_delay: float | None = None
    timeout: float | None = None
    max_execution: float | None = None
    depends_on: list[int] | None = None
    on_dependency_failure: Literal["cancel", "run"] | None = None
    parent_id: int | None = None
    unique_key: str | None = None
    correlation_id: str | None = None
    estimate: Estimate | None = None
    notify: Notify | None = None
    on_full: Literal["refuse", "wait"] | None = None
    paused: bool | None = None

    def __post_init__(self) -> None:
        bounded(self, -MAX_PRIORITY, MAX_PRIORITY, "priority")
        bounded(self, 0, MAX_SECONDS, "delay", "retry_delay", "timeout", "max_execution")
        bounded(self, 0, 1_000_000, "max_retry")
        named(self, "queue")
        short(self, "unique_key", "correlation_id")
        instants(self, "run_at")
        if self.delay is not None and self.run_at is not None:
            raise InvalidParams("run_at", "give either delay or run_at, not both")
        for dependency in self.depends_on or ():
            identifier("depends_on", dependency)
        identifier("parent_id", self.parent_id)
        few_labels(self.all_labels())

    def all_labels(self) -> dict[str, list[str]]:
        """The labels with every value as a list."""
        return as_lists(self.labels)

    def due(self, now: float) -> float | None:
        """When the first step is wanted (Unix seconds), or ``None`` for at once."""
        if self.run_at is not None:
            return times.instant(self.run_at)
        return now + self.delay if self.delay else None


@dataclass(frozen=True, kw_only=True)
class Submit(Submission):
    type: str
    params: dict[str, Any]

    def __post_init__(self) -> None:
        super().__post_init__()
        short(self, "type")


@dataclass(frozen=True, kw_only=True)
class SubmitMany:
    tasks: list[Submit]

    def __post_init__(self) -> None:
        if not 0 < len(self.tasks) <= MAX_BATCH:
            raise InvalidParams("tasks", f"must be between 1 and {MAX_BATCH} tasks")


@dataclass(frozen=True, kw_only=True)
class AddDownload(Submission):
    """``urls`` are mirrors of one file, ``torrent`` and ``metalink`` the content of such a file as base64; exactly one
    of the four is given. ``seed`` holds rules for ``ratio``, ``time``, ``idle`` (seconds): the first that is met ends
    the seeding, ``null`` = no rule on that measure, 0 = do not seed; what is left out is as configured. With
    ``dry_run`` nothing is submitted: the answer is what would happen."""

    url: str | None = None
    urls: list[str] | None = None
    directory: str | None = None
    name: str | None = None
    on_exists: OnExists | None = None
    downloader: str | None = None
    options: dict[str, str] | None = None
    headers: dict[str, str] | None = None
    checksum: str | None = None
    cwd: str | None = None
    torrent: str | None = None
    metalink: str | None = None
    select: list[int] | None = None
    seed: dict[str, float | None] | Literal[0] | None = None
    dry_run: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        sources = (self.url, self.urls, self.torrent, self.metalink)
        if sum(source is not None for source in sources) != 1:
            raise InvalidParams("url", "give one of url, urls (mirrors of one file), torrent and metalink")
        if self.urls is not None and not self.urls:
            raise InvalidParams("urls", "must not be empty")
        if self.select is not None and not self.select:
            raise InvalidParams("select", "must name at least one file")
        for measure, value in (self.seed or {}).items():
            if measure not in SEED_MEASURES:
                raise InvalidParams(f"seed.{measure}"[:100], f"no such param; there is {', '.join(SEED_MEASURES)}")
            if value is not None and not (math.isfinite(value) and 0 <= value <= MAX_SECONDS):
                raise InvalidParams(f"seed.{measure}", f"must be between 0 and {MAX_SECONDS:.0f}")

    def request(self) -> dict[str, Any]:
        """What is given beyond a submission: the ``params`` of a ``remote_download``."""
        common = {field.name for field in fields(Submission)} | {"dry_run"}
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in common}
        return {name: value for name, value in own.items() if value is not None}
