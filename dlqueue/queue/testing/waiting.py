"""Waiting for what a queue does, with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from dlqueue.queue.queue import Queue
from dlqueue.queue.record import Change, TaskRecord
from dlqueue.queue.status import UNFINISHED, Status, Want
from dlqueue.queue.testing.clock import FakeClock

PATIENCE = 30.0
"""Seconds of real time in which what ought to happen at once has to happen."""


async def reached(
    queue: Queue,
    task_id: int,
    *statuses: Status | str,
    want: Want | None = None,
    newer_than: TaskRecord | None = None,
    patience: float = PATIENCE,
) -> TaskRecord:
    """The task once it has one of these statuses (and this ``want``).

    :param newer_than: what it was like before: that does not count.

    :raises TimeoutError: it never got there; the message says where it is.
    """

    def there(record: TaskRecord) -> bool:
        newer = newer_than is None or record.revision > newer_than.revision
        return newer and record.status in statuses and (want is None or record.want is want)

    subscription = queue.bus.subscribe(lambda notice: isinstance(notice, Change) and notice.record.id == task_id)
    record: TaskRecord | None = None
    try:
        async with asyncio.timeout(patience):
            record = await queue.get(task_id)
            if there(record):
                return record
            async for notice in subscription:
                if isinstance(notice, Change):
                    record = notice.record
                    if there(record):
                        return record
    except TimeoutError:
        raise TimeoutError(f"waited for {'/'.join(statuses)}, but it is {record}") from None
    finally:
        subscription.close()
    raise TimeoutError(f"the queue closed while waiting for {'/'.join(statuses)}; the task is {record}")


async def drain(
    queue: Queue,
    clock: FakeClock | None = None,
    ids: Iterable[int] | None = None,
    quiet: float = 0.02,
    patience: float = PATIENCE,
) -> None:
    """Until these tasks (or all) are over or paused.

    :param clock: goes on to its next timer whenever nothing has changed for ``quiet`` seconds of real time.
    :raises TimeoutError: they are not.
    """
    wanted = None if ids is None else set(ids)
    subscription = queue.bus.subscribe()
    try:
        async with asyncio.timeout(patience):
            while True:
                left = (await queue.list(status=sorted(UNFINISHED - {Status.PAUSED}), limit=1000)).items
                if not [record for record in left if wanted is None or record.id in wanted]:
                    return
                try:
                    async with asyncio.timeout(quiet):
                        await anext(subscription)
                except TimeoutError:
                    if clock is not None and not queue.counters.busy_workers and clock.next_time is not None:
                        clock.advance(clock.next_time - clock.time())
    finally:
        subscription.close()
