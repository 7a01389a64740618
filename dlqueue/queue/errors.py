"""What the queue raises. One family; every class says what to do."""

from __future__ import annotations


class QueueError(Exception):
    """Base of everything that the queue raises on purpose."""


class TaskNotFound(QueueError):
    """No task has this id (ids are never used again, so it was removed or never existed)."""

    def __init__(self, task_id: object) -> None:
        super().__init__(f"task {task_id} not found")
        self.task_id = task_id


class Conflict(QueueError):
    """The task is not in a state that allows this, or a name or key is taken with other contents."""

    def __init__(self, message: str, task_id: int | None = None) -> None:
        super().__init__(message)
        self.task_id = task_id


class IllegalTransition(Conflict):
    """A change of status that is not an edge of the table in `dlqueue.queue.status`."""


class InvalidTask(QueueError):
    """What was submitted cannot be right; ``field`` names the part to change."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(f"{field}: {message}")
        self.message = message
        self.field = field


class InvalidSetting(InvalidTask):
    """A queue's name or setting that cannot be right; ``field`` names it."""


class QueueNotFound(QueueError):
    """No queue has this name: it was never named by the program, never created, and never had a task."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no queue {name[:100]!r}")
        self.name = name


class UnknownType(InvalidTask):
    """No task class of this name is registered here."""

    def __init__(self, type: str, known: list[str]) -> None:
        super().__init__(f"no task type {type!r} (known: {', '.join(sorted(known)) or 'none'})", "type")


class QueueFull(QueueError):
    """The queue has as many unfinished tasks as its capacity allows. Submit again later."""


class QuotaExceeded(QueueFull):
    """The owner has as many unfinished tasks, or bytes of them, as a quota allows. Submit again later."""


def full(queue: str, size: int, capacity: int) -> str:
    """What `QueueFull` says."""
    return f"queue {queue!r} is full: {size} unfinished tasks, its capacity is {capacity}"


class QueueClosed(QueueError):
    """The queue is stopping or was never started; nothing was stored."""


class StorageError(QueueError):
    """The database could not do it (full disk, lock, lost connection). Nothing was changed; try again."""


class WaitTimeout(QueueError, TimeoutError):
    """The task did not get there within the time given. It goes on."""


class CriticalError(Exception):
    """Raised by a task: this can never succeed, do not retry. ``kind`` ends up as the kind of the task's error."""

    def __init__(self, message: str = "", kind: str = "critical") -> None:
        super().__init__(message)
        self.kind = kind


class TempFull(Exception):
    """Told to a step: the temporary folders of all tasks together have reached their cap. It passes when some end."""

    kind = "temp_full"
