"""From what the lower rooms raise to what a caller is told."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from dlqueue.downloads.endpoints import NoRoute
from dlqueue.downloads.policy import PolicyRefused
from dlqueue.protocol import errors
from dlqueue.queue import (
    Conflict,
    InvalidTask,
    QueueClosed,
    QueueError,
    QueueFull,
    QueueNotFound,
    QuotaExceeded,
    ScheduleNotFound,
    StorageError,
    TaskNotFound,
    UnknownType,
    WaitTimeout,
)

P = ParamSpec("P")
R = TypeVar("R")


def as_rpc_error(error: QueueError) -> errors.RpcError:
    """The answer for an error of the queue or of downloads."""
    match error:
        case PolicyRefused():
            return errors.PolicyRefused(str(error), kind=error.kind, field=error.field)
        case NoRoute():
            return errors.PolicyRefused(str(error), kind="no_route", field=error.field)
        case UnknownType():
            return errors.InvalidParams(error.field, error.message, kind="unknown_type")
        case InvalidTask():
            return errors.InvalidParams(error.field, error.message)
        case TaskNotFound():
            task_id = error.task_id if isinstance(error.task_id, int) else None
            return errors.NotFound(str(error), task_id=task_id)
        case QueueNotFound():
            return errors.NotFound(str(error), kind="queue", field="name")
        case ScheduleNotFound():
            return errors.NotFound(str(error), kind="schedule", field="name")
        case Conflict():
            return errors.Conflict(str(error), task_id=error.task_id)
        case QuotaExceeded():
            return errors.LimitExceeded(str(error), kind="quota")
        case QueueFull():
            return errors.LimitExceeded(str(error), kind="capacity")
        case QueueClosed():
            return errors.Stopping("the daemon is stopping")
        case StorageError():
            return errors.StorageError(str(error))
        case WaitTimeout():
            return errors.TimedOut(str(error))
    return errors.Conflict(str(error))


def verb(method: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """A method of the service: what the rooms below raise becomes an answer."""

    @wraps(method)
    async def answering(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await method(*args, **kwargs)
        except QueueError as error:
            raise as_rpc_error(error) from error

    return answering
