"""One step: call it, within its limits, and turn what comes of it into a `Settlement`. Nothing is written here."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from functools import cache

import anyio
import anyio.to_thread
import msgspec
from msgspec import UNSET

from dlqueue.queue.errors import CriticalError
from dlqueue.queue.outcome import Canceled, Completed, ResumeAfter
from dlqueue.queue.record import Progress, TaskError, TaskRecord, storable
from dlqueue.queue.retry import RetryPolicy
from dlqueue.queue.status import Status, Want
from dlqueue.queue.task import Context, LeaseLost, Task, result_of
from dlqueue.queue.transitions import Settlement
from dlqueue.runtime.clock import Clock, Timer

log = logging.getLogger(__name__)

TOLD_AGAIN = 5.0
"""Seconds of its clean-up that a cancelled step has, before what it awaits is cancelled once more."""


class StepTimeout(Exception):
    """The step took longer than its ``timeout``."""

    kind = "timeout"


class Interrupt:
    """Why a running step is being stopped from outside, and the means to do it."""

    def __init__(self, record: TaskRecord) -> None:
        self.record = record
        self.context: Context | None = None
        self.reason: BaseException | str | None = None
        """An exception (a time limit), ``"cancel"`` or ``"stop"``; the first one counts."""
        self.tell: Callable[[], object] | None = None
        """How to reach the step while it runs."""
        self.thread: asyncio.Future[object] | None = None
        """Where a blocking step runs."""
        self.following: asyncio.Future[TaskRecord] | None = None
        """Where its worker waits for its next task, once the step has ended."""

    def stop(self, reason: BaseException | str) -> None:
        """Tell the step to end: an async one is cancelled, a blocking one can look at ``ctx.cancelled``."""
        if self.reason is None:
            self.reason = reason
        if self.context is not None:
            self.context.cancelled = True
        if self.tell is not None:
            self.tell()


async def run_step(
    task: Task, context: Context, interrupt: Interrupt, policy: Callable[[TaskRecord], RetryPolicy], clock: Clock
) -> tuple[Settlement | None, asyncio.Future[object] | None]:
    """How it ended; None = it was stopped and has not failed.

    The second answer is the thread of a blocking step that overran its limit and has not returned yet: whoever gets it
    keeps the worker until it is done, and looks at nothing that it brings.
    """
    interrupt.context = context
    context.cancelled = interrupt.reason is not None  # told to stop before it began
    started = clock.time()
    left_behind: asyncio.Future[object] | None = None
    limits = [_Limit(clock, when, interrupt, reason) for when, reason in _limits(task, interrupt.record, started)]
    try:
        if _is_async(task.run):
            outcome = await _in_loop(task, context, interrupt)
        else:
            outcome, left_behind = await _in_thread(task, context, interrupt)
        end = _ended(context, outcome, clock.time()) if interrupt.reason is None or outcome is not None else None
    except LeaseLost:
        return None, None
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001
        # Whatever a task raises is its outcome; but what it raises because we stop it is not.
        if interrupt.reason == "stop":
            return None, None
        late = isinstance(interrupt.reason, BaseException)
        end = None if late else _failed(task, context, interrupt.record, error, policy, clock.time())
    finally:
        for limit in limits:
            limit.cancel()
    if end is None:
        if not isinstance(interrupt.reason, BaseException):
            if interrupt.reason != "cancel":
                return None, left_behind
            end = Settlement(target=Status.CANCELED, kind="canceled")
        else:
            # After a time-out the last checkpoint counts, not what the step left behind in its state.
            end = _failed(task, context, interrupt.record, interrupt.reason, policy, clock.time(), keep_state=False)
    end.started_at = started
    end.executed = clock.time() - started
    if not isinstance(interrupt.reason, BaseException):
        end.began_with = interrupt.record.params
    end.cleanup = task.has_cleanup()
    end.unprepared = task.pause_runs_step and context.want is not Want.PAUSE
    if context.progress_dirty and end.progress is UNSET:
        end.progress = context.latest_progress
    return end, left_behind


@cache
def _is_async(run: Callable[..., object]) -> bool:
    return inspect.iscoroutinefunction(run)


def _limits(task: Task, record: TaskRecord, now: float) -> list[tuple[float, BaseException]]:
    timeout = record.options.timeout if record.options.timeout is not None else task.timeout
    limits: list[tuple[float, BaseException]] = []
    if timeout is not None:
        limits.append((now + timeout, StepTimeout(f"the step took longer than its timeout of {timeout:g} s")))
    if record.expires_at is not None:
        text = f"not done within max_execution ({record.options.max_execution or 0:g} s)"
        limits.append((record.expires_at, CriticalError(text, "max_execution")))
    return limits


class _Limit:
    """Stops a step at a point in time, unless it is cancelled before."""

    def __init__(self, clock: Clock, when: float, interrupt: Interrupt, reason: BaseException) -> None:
        self._clock = clock
        self._when = when
        self._interrupt = interrupt
        self._reason = reason
        self._timer: Timer = clock.call_at(when, self._fire)

    def _fire(self) -> None:
        if self._clock.time() < self._when:  # the clock wakes early rather than late
            self._timer = self._clock.call_at(self._when, self._fire)
        else:
            self._interrupt.stop(self._reason)

    def cancel(self) -> None:
        self._timer.cancel()


async def _in_loop(task: Task, context: Context, interrupt: Interrupt) -> object:
    cancellation = _Cancellation()
    interrupt.tell = cancellation.tell
    if interrupt.reason is not None:
        cancellation.tell()
    try:
        return await task.run(context)
    except asyncio.CancelledError:
        if cancellation.from_elsewhere():
            raise
        if interrupt.reason is None:
            raise RuntimeError("the step was cancelled from inside") from None
        return None
    finally:
        interrupt.tell = None
        cancellation.over()


class _Cancellation:
    """Cancels what a step awaits; one that takes no notice is told again. (A scope of anyio does the same, and costs
    more than the rest of a short step.)"""

    __slots__ = ("_again", "_step", "_told")

    def __init__(self) -> None:
        current = asyncio.current_task()
        assert current is not None
        self._step = current
        self._told = 0
        self._again: asyncio.Handle | None = None

    def tell(self) -> None:
        if self._again is None:
            # Who cancels itself is hit by it only later, perhaps when the step is over.
            by_itself = asyncio.current_task() is self._step
            self._again = self._step.get_loop().call_soon(self._cancel) if by_itself else None
            if not by_itself:
                self._cancel()

    def _cancel(self) -> None:
        self._told += 1
        self._step.cancel()
        self._again = self._step.get_loop().call_later(TOLD_AGAIN, self._cancel)

    def from_elsewhere(self) -> bool:
        """Has somebody else cancelled the worker?"""
        return self._step.cancelling() > self._told

    def over(self) -> None:
        if self._again is not None:
            self._again.cancel()
        for _ in range(self._told):
            self._step.uncancel()


async def _in_thread(
    task: Task, context: Context, interrupt: Interrupt
) -> tuple[object, asyncio.Future[object] | None]:
    def call() -> object:
        try:
            return task.run(context)
        except Exception:
            raise
        except BaseException as error:
            # An exit or a cancellation must not get out of the thread: asyncio would end the whole program with it.
            raise RuntimeError(f"the step raised {type(error).__name__} ({error})") from error

    thread: asyncio.Future[object] = asyncio.ensure_future(
        anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1))
    )
    interrupt.thread = thread
    event = asyncio.Event()
    interrupt.tell = event.set
    if interrupt.reason is not None:
        event.set()
    told: asyncio.Future[object] = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({thread, told}, return_when=asyncio.FIRST_COMPLETED)
        if not thread.done() and not isinstance(interrupt.reason, BaseException):
            # Told to stop: it may still end well, until it is fenced.
            await asyncio.wait({thread})
    except asyncio.CancelledError:
        thread.cancel()
        raise
    finally:
        told.cancel()
    if thread.done():
        return thread.result(), None
    return None, thread


def _ended(context: Context, outcome: object, now: float) -> Settlement:
    state = context.saved_state()
    match outcome:
        case Completed(result):
            done = msgspec.structs.replace(context.latest_progress or Progress(), percent=100.0)
            return Settlement(
                target=Status.COMPLETED,
                kind="completed",
                state=state,
                progress=done,
                result=UNSET if result is None else result_of(result),
                attempt=0,
            )
        case ResumeAfter(seconds, hold, renew):
            run_at = None if seconds is None else now + seconds
            return Settlement(
                target=Status.SUSPENDING,
                kind="suspended",
                state=state,
                run_at=run_at,
                hold=hold,
                attempt=0 if renew else None,
                message=hold,
            )
        case Canceled(reason):
            return Settlement(
                target=Status.CANCELED,
                kind="canceled",
                state=state,
                message=None if reason is None else storable(str(reason)),
            )
    raise CriticalError(
        f"a step must answer Completed, ResumeAfter or Canceled, not {type(outcome).__name__}", "outcome"
    )


def _failed(
    task: Task,
    context: Context,
    record: TaskRecord,
    error: BaseException,
    policy: Callable[[TaskRecord], RetryPolicy],
    now: float,
    keep_state: bool = True,
) -> Settlement:
    kind = getattr(error, "kind", None)
    told = TaskError(storable(kind) if isinstance(kind, str) and kind else type(error).__name__, _message(error), now)
    state: bytes | msgspec.UnsetType = UNSET
    if keep_state:
        try:
            state = context.saved_state()
        except CriticalError:
            log.warning("task %d: its state cannot be saved as JSON; the last saved one counts", record.id)
    failures = 0 if getattr(error, "renew", False) else record.attempt
    delay = policy(record).delay(failures, error) if _is_retryable(task, error) else None
    if delay is None:
        if not isinstance(error, (CriticalError, StepTimeout)):
            # One that names its kind was raised on purpose, and says what has happened; of another the place helps.
            unforeseen = record.attempt == 0 and getattr(error, "kind", None) is None
            context.logger.info("failed: %s", told.message, exc_info=error if unforeseen else None)
        return Settlement(target=Status.ERROR, kind="error", state=state, error=told, message=told.message)
    return Settlement(
        target=Status.SUSPENDING,
        kind="retry",
        state=state,
        error=told,
        message=f"{told.message}; next try in {delay:.1f} s",
        run_at=now + delay,
        attempt=failures + 1,
        retried=True,
    )


def _is_retryable(task: Task, error: BaseException) -> bool:
    try:
        return task.is_retryable(error)
    except Exception:
        log.exception("is_retryable of task type %r failed; the policy decides", task.type)
        return True


def _message(error: BaseException) -> str:
    try:
        text = storable(str(error)) or type(error).__name__
    except Exception:  # noqa: BLE001 - its own words may fail too
        text = type(error).__name__
    return text if len(text) <= 2000 else text[:2000] + "…"
