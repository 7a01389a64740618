"""Params (frozen dataclasses) and results (typed dictionaries) of every method, as they cross the socket.

A params class checks what its fields mean, whatever door they came through, and raises
:class:`~dlqueue.protocol.errors.InvalidParams` naming the field; that values have the declared types is checked before,
where bytes become values. ``None`` always means "not given". Durations are seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, NotRequired, TypedDict

from dlqueue.protocol import times
from dlqueue.protocol.envelope import MAX_BATCH
from dlqueue.protocol.errors import InvalidParams
from dlqueue.protocol.estimate import Estimate
from dlqueue.protocol.notify import Notice, Notify
from dlqueue.protocol.status import Status

Topic = Literal["task", "progress", "downloader", "queue", "schedule"]
Order = Literal["-id", "id", "priority", "-priority", "created_at", "-created_at", "finished_at", "-finished_at"]
Until = Literal["final", "delivered"]
OnExists = Literal["rename", "skip", "overwrite", "fail"]
Health = Literal["up", "degraded", "down", "unknown"]
Reason = Literal[
    "running", "due", "delayed", "between_steps", "retry_wait", "slot", "concurrency", "rate", "queue_paused",
    "downloader_unavailable", "space", "resources", "dependency", "paused", "quota", "stalled", "metadata", "seeding",
    "no_route", "unknown_type", "final",
]  # fmt: skip

MAX_PRIORITY = 1000
MAX_SECONDS = 36500 * 86400.0
MAX_LIST = 1000
MAX_FILTER_LABELS = 16
MAX_LABELS = 64
MAX_PARAMS = 256 * 1024
"""Bytes that the params of a task have at most, as JSON."""
SEED_MEASURES = ("ratio", "time", "idle")
MAX_TEXT = 1024
"""Longest name, label, key or search text, in characters."""


def _bounded(params: Any, low: float, high: float, *names: str) -> None:
    for name in names:
        value = getattr(params, name)
        if value is not None and not (math.isfinite(value) and low <= value <= high):
            raise InvalidParams(name, f"must be between {low:.0f} and {high:.0f}")


def _short(params: Any, *names: str) -> None:
    for name in names:
        value = getattr(params, name)
        if value is not None and not 0 < len(value) <= MAX_TEXT:
            raise InvalidParams(name, f"must have between 1 and {MAX_TEXT} characters")


def _instants(params: Any, *names: str) -> None:
    for name in names:
        value = getattr(params, name)
        if value is not None:
            try:
                times.instant(value)
            except ValueError as error:
                raise InvalidParams(name, str(error)) from None


def _as_lists(labels: dict[str, str | list[str]] | None) -> dict[str, list[str]]:
    return {key: [value] if isinstance(value, str) else list(value) for key, value in (labels or {}).items()}


def _few(labels: dict[str, list[str]]) -> None:
    if sum(max(len(values), 1) for values in labels.values()) > MAX_LABELS:
        raise InvalidParams("labels", f"at most {MAX_LABELS} labels")
    for key, values in labels.items():
        if not 0 < len(key) <= MAX_TEXT or any(len(value) > MAX_TEXT for value in values):
            raise InvalidParams("labels", f"keys and values must have at most {MAX_TEXT} characters")


def _identifier(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise InvalidParams(name, "task ids are numbers from 1")


# ------------------------------------------------------------------------------------------------------------- params


@dataclass(frozen=True, kw_only=True)
class NoParams:
    """For methods that take none."""


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
        _bounded(self, -MAX_PRIORITY, MAX_PRIORITY, "priority")
        _bounded(self, 0, MAX_SECONDS, "delay", "retry_delay", "timeout", "max_execution")
        _bounded(self, 0, 1_000_000, "max_retry")
        _short(self, "queue", "unique_key", "correlation_id")
        _instants(self, "run_at")
        if self.delay is not None and self.run_at is not None:
            raise InvalidParams("run_at", "give either delay or run_at, not both")
        for dependency in self.depends_on or ():
            _identifier("depends_on", dependency)
        _identifier("parent_id", self.parent_id)
        _few(self.all_labels())

    def all_labels(self) -> dict[str, list[str]]:
        """The labels with every value as a list."""
        return _as_lists(self.labels)

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
        _short(self, "type")


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


@dataclass(frozen=True, kw_only=True)
class GetTask:
    id: int | None = None
    correlation_id: str | None = None

    def __post_init__(self) -> None:
        if (self.id is None) == (self.correlation_id is None):
            raise InvalidParams("id", "give either id or correlation_id")
        _identifier("id", self.id)


@dataclass(frozen=True, kw_only=True)
class TaskId:
    id: int

    def __post_init__(self) -> None:
        _identifier("id", self.id)


@dataclass(frozen=True, kw_only=True)
class SelectFiles:
    """By ``indexes`` (from 1) or by ``match``, a glob over the paths; what is not named is not fetched."""

    id: int
    indexes: list[int] | None = None
    match: str | None = None

    def __post_init__(self) -> None:
        _identifier("id", self.id)
        _short(self, "match")
        if (self.indexes is None) == (self.match is None):
            raise InvalidParams("indexes", "give either indexes or match")
        if self.indexes is not None and not self.indexes:
            raise InvalidParams("indexes", "must name at least one file")


@dataclass(frozen=True, kw_only=True)
class RefreshUrl:
    id: int
    url: str

    def __post_init__(self) -> None:
        _identifier("id", self.id)


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
        _short(self, "type", "queue", "owner", "text")
        _instants(self, "since", "until")
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
        _bounded(self, 1, MAX_LIST, "limit")
        _short(self, "cursor")


@dataclass(frozen=True, kw_only=True)
class Steer(Filter):
    """One task by ``id``, or all that match the filters, or ``all: true``; never everything by accident."""

    id: int | None = None
    all: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _identifier("id", self.id)
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
        _identifier("id", self.id)
        _bounded(self, -MAX_PRIORITY, MAX_PRIORITY, "priority")
        _instants(self, "run_at")
        if self.labels is not None:
            _few(_as_lists(self.labels))
        if self.priority is None and self.labels is None and self.run_at is None:
            raise InvalidParams("id", "nothing to change is given: say priority, labels or run_at")

    def changes(self) -> dict[str, Any]:
        """What is given, in the terms of the queue."""
        given = {
            "priority": self.priority,
            "labels": None if self.labels is None else _as_lists(self.labels),
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
        _identifier("id", self.id)
        _bounded(self, 0, MAX_SECONDS, "timeout")


@dataclass(frozen=True, kw_only=True)
class Subscribe:
    """``since`` is the sequence of the last event seen: what was committed after it comes first."""

    topics: list[Topic] | None = None
    task_ids: list[int] | None = None
    since: int | None = None

    def __post_init__(self) -> None:
        for task_id in self.task_ids or ():
            _identifier("task_ids", task_id)
        if self.since is not None and self.since < 0:
            raise InvalidParams("since", "must be 0 or the sequence of an event")


@dataclass(frozen=True, kw_only=True)
class ListEvents:
    """Those after ``since`` (default 0: all that are kept), oldest first; ``cursor`` is a ``next_cursor`` of before."""

    task_ids: list[int] | None = None
    since: int | None = None
    limit: int | None = None
    cursor: str | None = None

    def __post_init__(self) -> None:
        for task_id in self.task_ids or ():
            _identifier("task_ids", task_id)
        if self.since is not None and self.since < 0:
            raise InvalidParams("since", "must be 0 or the sequence of an event")
        _bounded(self, 1, MAX_LIST, "limit")
        if self.cursor is not None and not (self.cursor.isascii() and self.cursor.isdigit() and len(self.cursor) < 19):
            raise InvalidParams("cursor", "not a cursor of ours; take next_cursor of the page before")

    def after(self) -> int:
        """The sequence that was seen last."""
        return int(self.cursor) if self.cursor is not None else self.since or 0


@dataclass(frozen=True, kw_only=True)
class DownloaderName:
    name: str

    def __post_init__(self) -> None:
        _short(self, "name")


@dataclass(frozen=True, kw_only=True)
class Unsubscribe:
    subscription: str


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


class Subscription(TypedDict):
    subscription: str


class Unsubscribed(TypedDict):
    subscription: str


class PastEvent(TypedDict):
    """An event as it is kept."""

    sequence: int
    topic: str
    task_id: int
    at: str
    data: dict[str, Any]


class EventPage(TypedDict):
    items: list[PastEvent]
    next_cursor: str | None
    total: int | None


class Event(TypedDict):
    """The params of an ``event`` notification. ``progress`` has no sequence; topic ``missed`` tells of a gap."""

    subscription: str
    sequence: int | None
    topic: str
    task_id: NotRequired[int]
    at: str
    data: dict[str, Any]
