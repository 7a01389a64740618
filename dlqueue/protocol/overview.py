"""The result of ``daemon.overview``: what a person wants to see first."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from dlqueue.protocol.status import Status

Limit = Literal["none", "slots", "concurrency", "queue_paused", "space", "rate", "downloader"]
Need = Literal["failed", "no_route", "downloader_down", "downloader_paused", "queue_paused", "space", "mount"]


class You(TypedDict):
    """``role`` is what the caller may do: of the token, and ``admin`` at most for those who are admins."""

    name: str
    role: Literal["read", "submit", "operate", "admin"]
    admin: bool


class Counts(TypedDict):
    """``whole`` is false if only the newest tasks of a person who has very many were counted."""

    status: dict[Status, int]
    whole: bool
    running: int
    waiting: int
    seeding: int


class Rates(TypedDict):
    """Bytes a second of all downloaders. ``history``: [seconds ago, down, up] of the last five minutes as far as
    somebody looked, oldest first."""

    download_speed: int
    upload_speed: int
    history: list[tuple[float, int, int]]


class Binding(TypedDict):
    """What keeps the next waiting task from running; ``name`` is the queue, downloader or folder."""

    kind: Limit
    name: str | None
    message: str


class Disk(TypedDict):
    """Bytes. ``reserved``: promised to transfers that run; ``floor``: stays free; ``low``: nothing begins there."""

    path: str
    total: int
    free: int
    reserved: int
    floor: int
    low: bool


class ErrorGroup(TypedDict):
    """Tasks in status error that have the kind of error and the host in common, the newest first; ``message`` is that
    of the newest; ``task_ids`` are 50 at most."""

    kind: str
    host: str | None
    count: int
    message: str
    at: str
    task_ids: list[int]


class Action(TypedDict):
    """A call that would help."""

    label: str
    method: str
    params: dict[str, Any]


class NeedsYou(TypedDict):
    """What goes no further by itself. ``name`` is the queue, downloader or folder; ``task_ids`` are 50 at most."""

    kind: Need
    message: str
    name: str | None
    task_ids: list[int]
    actions: list[Action]


class Overview(TypedDict):
    """``running``: ids of the tasks that are at work now, 200 at most."""

    at: str
    version: str
    verdict: str
    you: You
    counts: Counts
    running: list[int]
    rates: Rates
    limit: Binding
    disks: list[Disk]
    errors: list[ErrorGroup]
    needs: list[NeedsYou]
