"""Tasks as they change, seen from outside; also across a crash of the daemon."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dlqueue.cli import exits
from dlqueue.cli.session import Session
from dlqueue.client import Client, DaemonUnreachable, Events
from dlqueue.protocol.errors import Stopping
from dlqueue.protocol.status import UNFINISHED

Task = dict[str, Any]

TICK = 1.0
"""Seconds after which a look is taken without an event: events are hints."""
_GATHER = 0.02
_RECONNECT_SECONDS = 30.0
"""A NAS may take so long to start it again, with a migration of the database before it answers."""

FINAL = frozenset({"completed", "error", "canceled"})
_LISTED = 25
"""From so many on, tasks are listed."""


def follow(session: Session, ids: Sequence[int], revive: Callable[[], None] | None = None) -> Iterator[dict[int, Task]]:
    """What changed since the last look: at first everything, then with every event, at least an empty one per tick.

    ``revive`` starts a crashed daemon again. Raises `RpcError` (a task was removed), `DaemonUnreachable`.
    """
    known: dict[int, Task] = {}
    while True:
        try:
            with session.client.events(topics=["task", "progress"], task_ids=list(ids)) as events:
                touched = set(ids)
                while True:
                    looked = _look(session, ids, touched, known)
                    changed = {number: task for number, task in looked.items() if known.get(number) != task}
                    known.update(changed)
                    yield changed
                    touched = _touched(events, ids)
        except (DaemonUnreachable, Stopping) as lost:
            reconnect(session, lost, revive)


def _look(session: Session, ids: Sequence[int], touched: set[int], known: dict[int, Task]) -> dict[int, Task]:
    """How they are now. What is final stays so while it is followed; many are listed rather than asked for singly."""
    wanted = {number for number in touched if number not in known or known[number]["status"] not in FINAL}
    looked: dict[int, Task] = {}
    if len(wanted) > _LISTED:
        cursor: str | None = None
        while True:
            page = session.client.tasks.list(status=list(UNFINISHED), order="id", limit=1000, cursor=cursor)
            looked |= {task["id"]: dict(task) for task in page["items"] if task["id"] in wanted}
            cursor = page["next_cursor"]
            if cursor is None or len(looked) == len(wanted):
                break
    for number in ids:
        if number in wanted and number not in looked:
            looked[number] = dict(session.client.tasks.get(id=number))
    return looked


def _touched(events: Events, ids: Sequence[int]) -> set[int]:
    """The tasks that the next events are about; all of them if nothing came or something was missed."""
    event = events.next(TICK)
    touched: set[int] = set()
    while event is not None and len(touched) < 100:
        if event["topic"] == "missed" or "task_id" not in event:
            return set(ids)
        touched.add(event["task_id"])
        event = events.next(_GATHER)
    return touched or set(ids)


def reconnect(session: Session, lost: DaemonUnreachable | Stopping, revive: Callable[[], None] | None = None) -> None:
    """Find the daemon again. A socket file without a daemon behind it is what a crash leaves: only then is a daemon
    revived; one that was stopped on purpose removes the file. Raises ``lost`` when time is up."""
    path = session.client.path
    again = "starting it again" if revive is not None and path.is_socket() else "waiting for it to come back"
    exits.say(f"dlqueue: {str(lost).partition('; ')[0]}; {again}")
    deadline = time.monotonic() + _RECONNECT_SECONDS
    while True:
        try:
            session.use(Client(path))
            session.client.daemon.info()  # one that is stopping still listens
            return
        except Stopping:
            pass
        except DaemonUnreachable:
            if revive is not None and path.is_socket():
                revive()
                return
        if time.monotonic() > deadline:
            raise lost
        time.sleep(0.1)


def is_delivered(task: Task) -> bool:
    """Whether what was asked for is there: a file where it belongs, or the result of another task."""
    download = task.get("download")
    return task["status"] == "completed" or bool(download and download.get("delivered_at"))


def failure(task: Task) -> exits.Failed:
    """The error for a task that ended otherwise than well."""
    error = task.get("error") or {}
    said = f": {error['kind']}: {error['message']}" if error else ""
    number = task["id"]
    if task["status"] == "canceled":
        return exits.Failed(f"task {number} was canceled{said}", exits.TASK_FAILED, f"again: dlqueue retry {number}")
    hint = f"all about it: dlqueue show {number}; again: dlqueue retry {number}"
    return exits.Failed(f"task {number} failed{said}", exits.TASK_FAILED, hint)
