"""From what a submit says to what is stored: everything is checked here, before the first row is written."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from dlqueue.queue.errors import InvalidTask, UnknownType
from dlqueue.queue.estimate import Estimate, read_estimate
from dlqueue.queue.rank import rank, standing
from dlqueue.queue.record import Json, NewTask, Options
from dlqueue.queue.resources import Resources
from dlqueue.queue.settings import Lanes
from dlqueue.queue.task import Submitter, Task
from dlqueue.runtime.clock import Clock

OwnerLevel = Mapping[str, float] | Callable[[str], float]
"""Of each owner, how many levels above the others (or below) their tasks stand."""

INTEGER_MAX = 2**31 - 1
SECONDS_MAX = 10 * 365 * 86400.0
"""No delay, time-out or limit is longer."""


class Preparer:
    """Knows the types and the queues that there are."""

    def __init__(
        self,
        types: Mapping[str, Task],
        lanes: Lanes,
        clock: Clock,
        resources: Resources,
        owner_level: OwnerLevel | None = None,
    ) -> None:
        self._types = types
        self._owner_level = owner_level or {}
        self._lanes = lanes
        self._clock = clock
        self._resources = resources

    def prepare(
        self,
        type: str,
        params: Json = None,
        *,
        queue: str | None = None,
        priority: int = 0,
        delay: float | None = None,
        run_at: float | datetime.datetime | None = None,
        unique_key: str | None = None,
        join_key: str | None = None,
        owner: str = "",
        cwd: str | None = None,
        labels: Mapping[str, str | Sequence[str]] | None = None,
        correlation_id: str | None = None,
        depends_on: Sequence[int] = (),
        on_dependency_failure: str = "cancel",
        parent_id: int | None = None,
        max_retry: int | None = None,
        retry_delay: float | None = None,
        timeout: float | None = None,
        max_execution: float | None = None,
        estimate: Estimate | Mapping[str, Any] | None = None,
        paused: bool = False,
        notify: Json = None,
    ) -> NewTask:
        """Check a submit and fill in what its class and queue say. :raises InvalidTask: see `submit`."""
        task = self._types.get(type)
        if task is None:
            raise UnknownType(type, list(self._types))
        # On the hot path of a submit, where most of these are not given.
        if priority or max_retry is not None:
            _check_integer("priority", priority, -INTEGER_MAX)
            _check_integer("max_retry", max_retry, 0)
        if not (delay is None and retry_delay is None and timeout is None and max_execution is None):
            _check_seconds(delay=delay, retry_delay=retry_delay, timeout=timeout, max_execution=max_execution)
        if delay is not None and run_at is not None:
            raise InvalidTask("give either delay or run_at", "run_at")
        if on_dependency_failure not in ("cancel", "run"):
            raise InvalidTask("must be cancel or run", "on_dependency_failure")
        estimated = None if estimate is None else read_estimate(estimate)
        if estimated is not None:
            self._resources.check(estimated)
        better = task.validate(params, Submitter(owner, cwd))
        params = params if better is None else better
        task.read_params(params)
        now = self._clock.time()
        at = run_at.timestamp() if isinstance(run_at, datetime.datetime) else run_at
        if at is not None and not at - now <= SECONDS_MAX:
            raise InvalidTask(f"must be within {SECONDS_MAX:g} seconds from now", "run_at")
        if delay is not None:
            at = now + delay
        lane = queue or task.queue or self._lanes.default
        settings = self._lanes[lane]
        if max_execution is None and task.limited:
            max_execution = self._lanes.max_execution
        stands = standing(self._level_of(owner), None if estimated is None else estimated.seconds)
        for retries in (task.max_retry, settings.max_retry, self._lanes.policy.max_retry):
            max_retry = retries if max_retry is None else max_retry
        params = _checked("params", params)
        if notify is not None:
            notify = _checked("notify", notify)
        if queue or owner or unique_key or correlation_id or labels:
            for field, text in (
                ("queue", lane),
                ("owner", owner),
                ("unique_key", unique_key),
                ("correlation_id", correlation_id),
                ("labels", labels),
            ):
                _checked(field, text)
        return NewTask(
            type=type,
            params=params,
            queue=lane,
            priority=priority,
            rank=rank(priority, now, settings.ageing, stands),
            owner=owner,
            labels=_lists(labels) if labels else {},
            correlation_id=correlation_id,
            unique_key=unique_key,
            join_key=join_key,
            parent_id=parent_id,
            depends_on=tuple(dict.fromkeys(depends_on)) if depends_on else (),
            run_at=at if at is not None and at > now else None,
            paused=paused,
            max_retry=max_retry or 0,
            options=Options(
                retry_delay, timeout, max_execution, on_dependency_failure, estimated, stands, notify=notify
            ),
        )

    def another(self, first: NewTask, params: Json) -> NewTask:
        """`prepare` with the type and options of ``first``, which were none, and other params."""
        task = self._types[first.type]
        if task.params_type is not None or type(task).validate is not Task.validate:
            return self.prepare(first.type, params)
        return msgspec.structs.replace(first, params=_checked("params", params))

    def _level_of(self, owner: str) -> float:
        level = self._owner_level
        return level(owner) if callable(level) else level.get(owner, 0)


def _check_integer(field: str, number: int | None, least: int) -> None:
    if number is not None and not least <= number <= INTEGER_MAX:
        raise InvalidTask(f"must be between {least} and {INTEGER_MAX}", field)


def _check_seconds(**given: float | None) -> None:
    for field, value in given.items():
        if value is not None and not 0 <= value <= SECONDS_MAX:
            raise InvalidTask(f"must be between 0 and {SECONDS_MAX:g} seconds", field)


def _lists(labels: Mapping[str, str | Sequence[str]]) -> dict[str, list[str]]:
    return {key: [value] if isinstance(value, str) else list(value) for key, value in labels.items()}


def _checked(field: str, value: Json) -> Json:
    if value is None or (value.__class__ is str and value.isascii()):
        return value
    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except Exception as error:
        raise InvalidTask(f"not JSON: {error}", field) from error
