"""What people want of a task: cancel, pause, resume, retry, update, remove. Written at once, honoured by its steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from msgspec.structs import replace

from dlqueue.queue import wants
from dlqueue.queue.errors import Conflict, InvalidTask, QueueError, TaskNotFound, WaitTimeout
from dlqueue.queue.notices import Notices
from dlqueue.queue.pool import Pool
from dlqueue.queue.rank import rank
from dlqueue.queue.record import Change, Decide, Json, TaskRecord
from dlqueue.queue.settings import Lanes
from dlqueue.queue.status import Status
from dlqueue.queue.store import Store
from dlqueue.queue.submission import SECONDS_MAX
from dlqueue.queue.task import Task
from dlqueue.runtime.clock import Clock

CANCEL_GRACE = 5.0
"""Seconds that a step gets to stop after it was told, before it is fenced."""


class Intents:
    """The verbs; each answers the task as it is then."""

    def __init__(
        self, store: Store, pool: Pool, notices: Notices, types: Mapping[str, Task], lanes: Lanes, clock: Clock
    ) -> None:
        self._store = store
        self._pool = pool
        self._notices = notices
        self._types = types
        self._lanes = lanes
        self._clock = clock

    async def cancel(self, task_id: int, intent: dict[str, Json] | None = None) -> TaskRecord:
        """End it; answers when its status is ``canceled``. Canceled already is no error.

        :raises Conflict: it has completed or failed, perhaps just now.
        """
        record = await self._store.get(task_id)
        task = self._types.get(record.type)
        needs = task is None or task.has_cleanup()
        await self._decide(task_id, partial(_cancel, now=self._clock.time(), needs_cleanup=needs, intent=intent))
        record = await self._store.get(task_id)
        if record.status is Status.PROCESSING:
            interrupt = self._pool.running(task_id)
            if interrupt is not None and interrupt.record.lease_token == record.lease_token:
                interrupt.stop("cancel")
            try:
                record = await self._notices.wait(task_id, timeout=CANCEL_GRACE)
            except WaitTimeout:
                token = record.lease_token
                await self._decide(task_id, partial(_fence, token=token, now=self._clock.time()))
                record = await self._notices.wait(task_id, timeout=CANCEL_GRACE)
        if record.status is not Status.CANCELED:
            raise Conflict(f"task {task_id} had just ended: it is {record.status}", task_id)
        return record

    async def pause(self, task_id: int) -> TaskRecord:
        """Let the running step end and then wait for `resume`. Answers at once; ``want`` is ``pause`` until it is."""
        task = self._types.get((await self._store.get(task_id)).type)
        runs_step = task is not None and task.pause_runs_step
        await self._decide(task_id, partial(_pause, now=self._clock.time(), runs_step=runs_step))
        return await self._store.get(task_id)

    async def resume(self, task_id: int) -> TaskRecord:
        """Go on. Not paused is no error. :raises Conflict: it is final."""
        await self._decide(task_id, partial(wants.resume, now=self._clock.time()))
        return await self._store.get(task_id)

    async def reword(self, task_id: int, reworded: Callable[[Json], Json], message: str) -> TaskRecord:
        """Give it other params. :raises Conflict: it has completed."""
        await self._decide(task_id, partial(wants.reword, now=self._clock.time(), reworded=reworded, message=message))
        return await self._store.get(task_id)

    async def retry(self, task_id: int) -> TaskRecord:
        """Begin again, with the state it had. :raises Conflict: it has not failed and was not canceled."""
        await self._decide(task_id, partial(wants.retry, now=self._clock.time()))
        return await self._store.get(task_id)

    async def update(
        self,
        task_id: int,
        *,
        priority: int | None = None,
        labels: Mapping[str, Sequence[str]] | None = None,
        run_at: float | None = None,
        if_revision: int | None = None,
    ) -> TaskRecord:
        """Another priority, other labels (in place of all), another time to begin; what is not given stays.

        :param if_revision: only if the task is still as of this revision.
        :raises Conflict: it is not; or the task is final, has begun or waits for something else than a time.
        """
        now = self._clock.time()
        if run_at is not None and not run_at - now <= SECONDS_MAX:
            raise InvalidTask(f"must be within {SECONDS_MAX:g} seconds from now", "run_at")
        given = None if labels is None else {key: list(values) for key, values in labels.items()}

        def decide(record: TaskRecord) -> Change | None:
            ranked = None if priority is None else self._rank(record, priority)
            return wants.update(
                record, now, priority=priority, rank=ranked, labels=given, run_at=run_at, if_revision=if_revision
            )

        await self._decide(task_id, decide)
        return await self._store.get(task_id)

    def _rank(self, record: TaskRecord, priority: int) -> float:
        return rank(priority, record.created_at, self._lanes[record.queue].ageing, record.options.standing)

    async def remove(self, task_id: int, intent: dict[str, Json] | None = None) -> TaskRecord:
        """Forget it (an unfinished one is cancelled first); answers the task as it was last."""
        record = await self._store.get(task_id)
        if not record.final:
            try:
                record = await self.cancel(task_id, intent)
            except Conflict:
                record = await self._store.get(task_id)  # it ended by itself: all the better
        task = self._types.get(record.type)
        needs = (task is None or task.has_cleanup()) and record.touched
        # From before it is decided: its end may come at once, and has what its clean-up leaves to say.
        subscription = self._notices.bus.subscribe(
            lambda notice: isinstance(notice, Change) and notice.delete and notice.record.id == task_id
        )
        timer = self._clock.call_at(self._clock.time() + CANCEL_GRACE, subscription.close)
        try:
            change = await self._decide(
                task_id, partial(_remove, now=self._clock.time(), needs_cleanup=needs, intent=intent)
            )
            if change is not None and not change.delete:
                # But not for ever: it goes on in the background.
                async for notice in subscription:
                    assert isinstance(notice, Change)
                    return replace(record, state=notice.record.state)
        finally:
            timer.cancel()
            subscription.close()
        return record

    async def _decide(self, task_id: int, decide: Decide) -> Change | None:
        def visible(record: TaskRecord) -> Change | None:
            if record.cleanup > 1:
                raise TaskNotFound(task_id)
            return decide(record)

        (answer,) = await self._store.transact([(task_id, visible)])
        if isinstance(answer, QueueError):
            raise answer
        return answer


def _cancel(record: TaskRecord, *, now: float, needs_cleanup: bool, intent: dict[str, Json] | None) -> Change | None:
    return wants.cancel(record, now, needs_cleanup, intent)


def _fence(record: TaskRecord, *, token: int, now: float) -> Change | None:
    return wants.fence(record, token, now)


def _pause(record: TaskRecord, *, now: float, runs_step: bool) -> Change | None:
    return wants.pause(record, now, runs_step)


def _remove(record: TaskRecord, *, now: float, needs_cleanup: bool, intent: dict[str, Json] | None) -> Change | None:
    return wants.remove(record, now, needs_cleanup, intent)
