"""Handing downloads to the daemon: many in one round trip, and what is refused does not keep the others out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dlqueue.cli import exits
from dlqueue.cli.follow import Task
from dlqueue.cli.session import Session
from dlqueue.cli.taskrow import joined
from dlqueue.client import DaemonUnreachable, RpcError
from dlqueue.protocol.envelope import MAX_BATCH

MAX_BYTES = 3 * 1024 * 1024
"""Of one request; a line has 4 MiB at most."""
MOST_REFUSALS = 20
"""Refusals, or tasks that were there already, told one by one."""
_SUBMISSION = frozenset(
    {"queue", "priority", "labels", "delay", "run_at", "max_retry", "depends_on", "unique_key", "on_full", "paused"}
)


@dataclass(frozen=True)
class Request:
    """Params of `downloads.add`, and where they stood if that was a list."""

    params: dict[str, Any]
    where: str | None = None

    def as_task(self) -> dict[str, Any]:
        """The same as a task of `tasks.submit_many`."""
        outer = {name: value for name, value in self.params.items() if name in _SUBMISSION}
        inner = {name: value for name, value in self.params.items() if name not in _SUBMISSION}
        return {"type": "remote_download", "params": inner, **outer}


def add(session: Session, requests: Sequence[Request], show: Callable[[Task], None]) -> tuple[list[Task], int]:
    """The tasks that were accepted, and the exit code of the first refusal."""
    added: list[Task] = []
    refusals: list[int] = []
    known = 0
    session.on_interrupt = ["dlqueue: what was asked for may have been added all the same: see dlqueue ls"]
    for answer in _answers(session, requests, added):
        if isinstance(answer, RpcError):
            refusals.append(exits.code_of(answer))
            if len(refusals) <= MOST_REFUSALS:
                exits.report(answer)
            continue
        added.append(answer)
        if not answer["created"]:
            known += 1
            if known <= MOST_REFUSALS:
                exits.say(joined(answer))
        show(answer)
    session.on_interrupt = []
    if known > MOST_REFUSALS:
        exits.say(f"and {known - MOST_REFUSALS} more that were there already")
    if len(refusals) > MOST_REFUSALS:
        exits.say(f"dlqueue: and {len(refusals) - MOST_REFUSALS} more were refused")
    if refusals and len(requests) > 1:
        exits.say(f"dlqueue: {len(added)} added, {len(refusals)} refused")
    return added, next(iter(refusals), exits.OK)


def _answers(session: Session, requests: Sequence[Request], added: Sequence[Task]) -> Iterator[Task | RpcError]:
    try:
        for part in _parts(requests):
            yield from _together(session, part)
    except (RpcError, DaemonUnreachable):
        if added:
            exits.say(f"dlqueue: {len(added)} of {len(requests)} were added before; the same command adds the others")
        raise


def _parts(requests: Sequence[Request]) -> Iterator[list[Request]]:
    """As many as fit into one round trip."""
    part: list[Request] = []
    size = 0
    for request in requests:
        length = len(json.dumps(request.params))
        if part and (len(part) == MAX_BATCH or size + length > MAX_BYTES):
            yield part
            part, size = [], 0
        part.append(request)
        size += length
    if part:
        yield part


def _together(session: Session, part: list[Request]) -> Iterator[Task | RpcError]:
    if len(part) > 1:
        try:
            for task in session.client.tasks.submit_many(tasks=[request.as_task() for request in part]):
                yield dict(task)
            return
        except RpcError as error:
            if exits.code_of(error) == exits.FAILURE:
                raise  # the daemon is stopping, its disk is full …: nobody's own fault
    for request in part:
        try:
            yield dict(session.client.downloads.add(**request.params))
        except RpcError as error:
            if request.where is not None:
                error.message = f"{request.where}: {error.message}"
            if exits.code_of(error) == exits.FAILURE:
                raise
            yield error
