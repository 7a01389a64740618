"""What the author of a task sees: the class to derive from, and the context of a step."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from dlqueue.queue.errors import CriticalError, InvalidTask
from dlqueue.queue.outcome import Outcome
from dlqueue.queue.record import Json, Progress, TaskRecord, storable
from dlqueue.queue.status import Status, Want
from dlqueue.queue.temporary import TemporaryFolders

logger = logging.getLogger("dlqueue.task")


class Submitter(msgspec.Struct, frozen=True):
    """Who submits, for `Task.validate`."""

    owner: str = ""
    cwd: str | None = None
    """The folder the submitter stands in, where that is known and believed."""


class Task:
    """A type of task. One instance serves all tasks of its type, so what belongs to one task lives in ``ctx.state``."""

    type: ClassVar[str]
    """How a stored row finds its class again."""
    queue: ClassVar[str | None] = None
    """Where its tasks go unless the submit says otherwise; None = the queue's default."""
    max_retry: ClassVar[int | None] = None
    timeout: ClassVar[float | None] = None
    """Seconds for one step."""
    state_type: ClassVar[Any] = dict
    """The type of ``ctx.state``: anything msgspec decodes from JSON; made without arguments for a new task."""
    params_type: ClassVar[Any] = None
    """If given, params are checked against it at submit and ``ctx.params`` is an instance of it."""
    limited: ClassVar[bool] = True
    """Does ``max_execution`` of the queue apply to tasks that give none?"""
    pause_runs_step: ClassVar[bool] = False
    """Run one more step (``ctx.want`` is ``pause``) before a suspended task is paused."""

    async def run(self, ctx: Context) -> Outcome:
        """One step. A plain ``def run`` runs in a thread. Answer an outcome; raise `CriticalError` = never retry, any
        other exception = retry by policy."""
        raise NotImplementedError(f"task type {self.type!r} has no run()")

    def validate(self, params: Json, submitter: Submitter) -> Json | None:
        """Look at params before they are stored; answer better ones, or None to keep them.

        :raises InvalidTask: they cannot be right.
        """
        return None

    def size(self, params: Json, state: bytes | None) -> int | None:
        """Bytes that a task will have when it is done, for the quota of its owner; 0 = it fetches nothing, None = it is
        not known yet. Must not fail."""
        return 0

    def is_retryable(self, error: BaseException) -> bool:
        """May this failure pass? Asked before the retry policy."""
        return not isinstance(error, CriticalError)

    async def cleanup(self, ctx: Context) -> None:
        """Runs when the task has ended in ``error`` or ``canceled``, or is being removed. May be repeated after a
        crash, and is tried again later if it raises."""

    def has_cleanup(self) -> bool:
        """Is there anything to clean up?"""
        return type(self).cleanup is not Task.cleanup

    # -- for the queue -----------------------------------------------------------------------------------------------

    def read_state(self, saved: bytes | None) -> Any:
        """:raises CriticalError: what is stored is not of `state_type`."""
        if saved is None:
            return self.state_type()
        try:
            return _decoder(self.state_type).decode(saved)
        except msgspec.MsgspecError as error:
            raise CriticalError(f"the saved state cannot be read: {error}", "state") from error

    def read_params(self, params: Json) -> Any:
        """:raises InvalidTask: params are not of `params_type`."""
        if self.params_type is None:
            return params
        try:
            return msgspec.convert(params, self.params_type)
        except msgspec.ValidationError as error:
            raise InvalidTask(str(error), "params") from error


def result_of(given: Json) -> Json:
    """The result as it will be read again. :raises CriticalError: it is not JSON."""
    try:
        return msgspec.json.decode(msgspec.json.encode(given))
    except Exception as error:
        raise CriticalError(f"the result is not JSON: {error}", "result") from error


_progress = msgspec.json.Decoder(Progress)


@cache
def _decoder(state_type: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(state_type)


class Save(Protocol):
    """How a context reaches the store in the middle of a step."""

    def __call__(self, state: bytes, progress: Progress | None, result: Json | UnsetType) -> Awaitable[None]: ...


class Context:
    """One step of one task. ``state`` is saved when the step ends (not on a time-out, stop or crash), and whenever
    `checkpoint` is awaited."""

    def __init__(
        self,
        task: Task,
        record: TaskRecord,
        save: Save,
        report: Callable[[Context], None] | None = None,
        folders: TemporaryFolders | None = None,
    ) -> None:
        self._save = save
        self._folders = folders
        self._report = report
        self._record = record
        self.task_id = record.id
        self.params: Any = task.read_params(record.params)
        if self.params is record.params and self.params:
            # Each step has its own: what it does to them is not seen by the next one, in this process or another.
            self.params = msgspec.json.decode(msgspec.json.encode(self.params))
        self.state: Any = task.read_state(record.state)
        self.attempt = record.attempt + 1
        """1 for the first try of the present retry budget."""
        self.owner = record.owner
        self.labels: Mapping[str, list[str]] = record.labels
        self.cancelled = False
        """True once this step has been told to stop; a blocking step looks at it now and then."""
        self.want = record.want
        """``pause`` if this step is to prepare a pause."""
        self.latest_progress = record.progress
        self.progress_dirty = False

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """Its records are about this task."""
        return logging.LoggerAdapter(logger, {"task_id": self.task_id, "correlation_id": self._record.correlation_id})

    @property
    def status(self) -> Status:
        """``processing`` in a step; in `Task.cleanup` how the task ended."""
        return self._record.status

    @property
    def record(self) -> TaskRecord:
        """The whole task, as it was when this step began."""
        return self._record

    def progress(
        self,
        percent: float | None = None,
        message: str | None = None,
        step: Mapping[str, Json] | None = None,
        counters: Mapping[str, float] | None = None,
    ) -> None:
        """Tell how far it is. Parts that are not given stay. Cheap: it is stored now and then and at the end.

        :raises ValueError: a part cannot be right; it names the part.
        """
        old = self.latest_progress or Progress()
        told = Progress(
            percent=old.percent if percent is None else min(max(float(percent), 0.0), 100.0),
            message=old.message if message is None else storable(str(message)),
            step=old.step if step is None else dict(step),
            counters=old.counters if counters is None else {**(old.counters or {}), **counters},
        )
        try:  # As it will be read again: what could not be would keep the whole task from being written, or read.
            self.latest_progress = _progress.decode(msgspec.json.encode(told))
        except Exception as error:
            raise ValueError(f"progress: {error}") from error
        self.progress_dirty = True
        if self._report is not None:
            self._report(self)

    def temp_folder(self, name: str | None = None) -> Path:
        """A folder of this task's own (0700), or the one called ``name`` in it. It is there for all steps of the task
        and removed when the task is over, clean-up included.

        :raises TempFull: all tasks together have reached the cap. Not caught, it is a passing error.
        :raises ValueError: ``name`` is not one plain name.
        """
        if self._folders is None:
            raise RuntimeError("there are no temporary folders here")
        return self._folders.of(self._record, name)

    async def checkpoint(self) -> None:
        """Save the state now.

        :raises LeaseLost: the task is not ours any more; the step should end.
        """
        await self._save(self.saved_state(), self.latest_progress, UNSET)

    async def deliver(self, result: Json) -> None:
        """Save the state, and the result before the task is over: who waits for *delivered* goes on."""
        await self._save(self.saved_state(), self.latest_progress, result_of(result))

    def saved_state(self) -> bytes:
        """The state as JSON. :raises CriticalError: it is not JSON."""
        try:
            return msgspec.json.encode(self.state)
        except Exception as error:
            raise CriticalError(f"the state cannot be saved: {error}", "state") from error


class LeaseLost(Exception):
    """The step's task has been taken away from it; whatever it does now is refused."""


__all__ = ["Context", "LeaseLost", "Submitter", "Task", "Want"]
