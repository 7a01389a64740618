"""Params (frozen dataclasses) and results (typed dictionaries) of methods, as they cross the socket: those of tasks,
downloads and the daemon; modules beside this one have those of other namespaces.

A params class checks what its fields mean, whatever door they came through, and raises
:class:`~dlqueue.protocol.errors.InvalidParams` naming the field; that values have the declared types is checked before,
where bytes become values. ``None`` always means "not given". Durations are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, NotRequired, TypedDict

from dlqueue.protocol import times
from dlqueue.protocol.checks import (
    MAX_FILTER_LABELS,
    MAX_LIST,
    MAX_PRIORITY,
    MAX_SECONDS,
    MAX_TEXT,
    as_lists,
    bounded,
    few_labels,
    identifier,
    instants,
    short,
)
from dlqueue.protocol.errors import InvalidParams
from dlqueue.protocol.notify import Notice
from dlqueue.protocol.status import Status

Order = Literal["-id", "id", "priority", "-priority", "created_at", "-created_at", "finished_at", "-finished_at"]
Until = Literal["final", "delivered"]
Reason = Literal[
    "running", "due", "delayed", "between_steps", "retry_wait", "slot", "concurrency", "rate", "queue_paused",
    "downloader_unavailable", "space", "resources", "dependency", "paused", "quota", "stalled", "metadata", "seeding",
    "no_route", "unknown_type", "final",
]  # fmt: skip

# ------------------------------------------------------------------------------------------------------------- params


@dataclass(frozen=True, kw_only=True)
class NoParams:
    """For methods that take none."""


@dataclass(frozen=True, kw_only=True)
class GetTask:
    id: int | None = None
    correlation_id: str | None = None

    def __post_init__(self) -> None:
        if (self.id is None) == (self.correlation_id is None):
            raise InvalidParams("id", "give either id or correlation_id")
        identifier("id", self.id)


@dataclass(frozen=True, kw_only=True)
class TaskId:
    id: int

    def __post_init__(self) -> None:
        identifier("id", self.id)


@dataclass(frozen=True, kw_only=True)
class SelectFiles:
    """By ``indexes`` (from 1) or by ``match``, a glob over the paths; what is not named is not fetched."""

    id: int
    indexes: list[int] | None = None
    match: str | None = None

    def __post_init__(self) -> None:
        identifier("id", self.id)
        short(self, "match")
        if (self.indexes is None) == (self.match is None):
            raise InvalidParams("indexes", "give either indexes or match")
        if self.indexes is not None and not self.indexes:
            raise InvalidParams("indexes", "must name at least one file")


@dataclass(frozen=True, kw_only=True)
class RefreshUrl:
    id: int
    url: str

    def __post_init__(self) -> None:
        identifier("id", self.id)


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which tasks: all conditions must hold. ``label`` is ``KEY``, ``KEY=VALUE`` or an object.

    ``since`` and ``until`` bound ``created_at``; ``retryable`` is status error or canceled; ``dead`` is status error.
    """

    status: Status | list[Status] | None = None
    type: str | None = None
    queue: str | None = None
    owner: str | None = None
    label: str | dict[str, str] | None = None
    text: str | None = None
    since: str | None = None
    until: str | None = None
    retryable: bool | None = None
    dead: bool | None = None

    def __post_init__(self) -> None:
        short(self, "type", "queue", "owner", "text")
        instants(self, "since", "until")
        if len(self.labels()) > MAX_FILTER_LABELS or any(
            len(key) > MAX_TEXT or len(value or "") > MAX_TEXT for key, value in self.labels().items()
        ):
            raise InvalidParams("label", f"at most {MAX_FILTER_LABELS} labels of at most {MAX_TEXT} characters")
        if isinstance(self.label, str) and not self.label.partition("=")[0]:
            raise InvalidParams("label", "must be KEY, KEY=VALUE or an object")

    def statuses(self) -> tuple[Status, ...] | None:
        """The wanted statuses, or ``None`` for all."""
        if self.status is None:
            return None
        return (self.status,) if isinstance(self.status, str) else tuple(self.status)

    def labels(self) -> dict[str, str | None]:
        """The wanted labels; ``None`` as a value: any value will do."""
        if isinstance(self.label, str):
            key, equals, value = self.label.partition("=")
            return {key: value if equals else None}
        return dict(self.label or {})

    def is_empty(self) -> bool:
        """Whether no condition is given (an empty list of statuses is a condition: it matches nothing)."""
        return all(getattr(self, field.name) is None for field in fields(Filter))


@dataclass(frozen=True, kw_only=True)
class ListTasks(Filter):
    """``order`` descends with ``-``; by default the newest come first. ``cursor`` is a ``next_cursor`` of before."""

    order: Order | None = None
    limit: int | None = None
    cursor: str | None = None
    count: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        bounded(self, 1, MAX_LIST, "limit")
        short(self, "cursor")


@dataclass(frozen=True, kw_only=True)
class Steer(Filter):
    """One task by ``id``, or all that match the filters, or ``all: true``; never everything by accident."""

    id: int | None = None
    all: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        identifier("id", self.id)
        if self.id is not None:
            if self.all or not self.is_empty():
                raise InvalidParams("id", "give id alone, or filters, or all: true")
        elif self.is_empty() and not self.all:
            raise InvalidParams("id", "give id, or filters, or all: true")


@dataclass(frozen=True, kw_only=True)
class SteerData(Steer):
    delete_data: bool | None = None


@dataclass(frozen=True, kw_only=True)
class UpdateTask:
    """What is given replaces what was; ``labels`` replaces all labels, ``{}`` removes them. A ``run_at`` that is over
    means at once. Refused if ``if_revision`` is given and the task has another one by now."""

    id: int
    priority: int | None = None
    labels: dict[str, str | list[str]] | None = None
    run_at: str | None = None
    if_revision: int | None = None

    def __post_init__(self) -> None:
        identifier("id", self.id)
        bounded(self, -MAX_PRIORITY, MAX_PRIORITY, "priority")
        instants(self, "run_at")
        if self.labels is not None:
            few_labels(as_lists(self.labels))
        if self.priority is None and self.labels is None and self.run_at is None:
            raise InvalidParams("id", "nothing to change is given: say priority, labels or run_at")

    def changes(self) -> dict[str, Any]:
        """What is given, in the terms of the queue."""
        given = {
            "priority": self.priority,
            "labels": None if self.labels is None else as_lists(self.labels),
            "run_at": None if self.run_at is None else times.instant(self.run_at),
            "if_revision": self.if_revision,
        }
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Wait:
    id: int
    until: Until | None = None
    timeout: float | None = None

    def __post_init__(self) -> None:
        identifier("id", self.id)
        bounded(self, 0, MAX_SECONDS, "timeout")


# ------------------------------------------------------------------------------------------------------------ results


class Step(TypedDict):
    name: str
    done: int
    total: int


class Progress(TypedDict):
    percent: float | None
    message: str | None
    step: Step | None
    counters: dict[str, float]


class TaskError(TypedDict):
    kind: str
    message: str
    at: str


class TransferHandle(TypedDict):
    id: str
    hash: str | None


class DownloadAttempt(TypedDict):
    downloader: str
    kind: str
    key: str
    started_at: str
    ended_at: str | None
    bytes: int
    error_class: str | None
    message: str | None
    next: str | None


class DownloadFile(TypedDict):
    index: int
    path: str
    size: int | None
    progress: float | None
    selected: bool


class Files(TypedDict):
    """All files of a download; nothing while they are not known."""

    items: list[DownloadFile]


class RouteChoice(TypedDict):
    """One downloader that could be asked: in which order, and whether it would be now."""

    downloader: str
    kind: str
    chosen: bool
    reason: str


class DryRun(TypedDict):
    """What a submit would do. ``downloader`` is None if it would have to wait."""

    dry_run: bool
    downloader: str | None
    route: list[RouteChoice]
    params: dict[str, Any]


class Download(TypedDict):
    """``url`` is None if a file was sent instead."""

    url: str
    name: str | None
    downloader: str | None
    handle: TransferHandle | None
    phase: Literal["", "monitor", "deliver", "seeding"]
    state: str | None
    destination: str
    location: str | None
    delivered_at: str | None
    files: list[DownloadFile] | None
    attempts: list[DownloadAttempt]


class Task(TypedDict):
    id: int
    type: str
    status: Status
    want: Literal["run", "pause", "cancel"]
    hold: str | None
    queue: str
    priority: int
    owner: str
    labels: dict[str, list[str]]
    correlation_id: str | None
    unique_key: str | None
    created: bool
    params: dict[str, Any]
    result: Any
    progress: Progress | None
    error: TaskError | None
    retries: int
    max_retry: int
    crashes: int
    executed_seconds: float
    timeout: float | None
    max_execution: float | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    resume_at: str | None
    parent_id: int | None
    depends_on: list[int]
    revision: int
    download: NotRequired[Download]


class TaskPage(TypedDict):
    items: list[Task]
    next_cursor: str | None
    total: int | None


class Count(TypedDict):
    count: int


HistoryEvent = TypedDict(  # in this form because `from` is a keyword
    "HistoryEvent",
    {
        "sequence": int,
        "at": str,
        "kind": str,
        "from": NotRequired[str],
        "to": NotRequired[str],
        "node": NotRequired[str],
        "message": NotRequired[str],
        "error": NotRequired[TaskError],
    },
)


class Execution(TypedDict):
    node: str
    started_at: str
    ended_at: str | None
    outcome: str | None


class History(TypedDict):
    """``notices``: what somebody is still to be told."""

    items: list[HistoryEvent]
    attempts: list[DownloadAttempt]
    executions: list[Execution]
    notices: list[Notice]


class Why(TypedDict):
    id: int
    status: Status
    reason: Reason
    message: str
    since: str | None
    next_check_at: str | None
    blocking: Any


class Counters(TypedDict):
    busy_workers: int
    submitted: int
    completed: int
    failed: int
    canceled: int
    suspending: int


class DaemonInfo(TypedDict):
    version: str
    node: str
    uptime: float
    store: str
    counters: Counters


SettingChange = TypedDict("SettingChange", {"key": str, "from": Any, "to": Any})
"""One setting of the configuration, secrets as ``***``; ``None`` = it is (was) not there."""


class Reloaded(TypedDict):
    changed: list[SettingChange]
    warnings: list[str]


class ShuttingDown(TypedDict):
    stopping: bool
