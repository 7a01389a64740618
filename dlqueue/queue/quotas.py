"""What each owner may have at once: so many unfinished tasks, and so many bytes of them.

Counted as tasks change, in memory, so that nobody has to count rows. What is on its way to the store is promised first,
in one turn of the loop: however many submit at once, together they never have more than they may.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec

from dlqueue.queue.errors import QueueFull, QuotaExceeded
from dlqueue.queue.record import Change, Filter, NewTask, Submission, TaskRecord
from dlqueue.queue.status import FINAL, UNFINISHED
from dlqueue.queue.store import Store
from dlqueue.queue.task import Task

log = logging.getLogger(__name__)

R = TypeVar("R")

HOLD = "quota"
"""Tasks wait with holds ``quota:OWNER…``."""
AT_ONCE = 16
"""Tasks that wait for bytes and are woken at once, in rank order, whenever some are free."""
_PAGE = 500


class Quota(msgspec.Struct, frozen=True):
    """None = no limit."""

    tasks: int | None = None
    """Unfinished tasks."""
    bytes: int | None = None
    """Of unfinished tasks that are not delivered, as far as their sizes are known."""
    named: str = "a quota"
    """Where it is set, for those who are refused by it."""


Limits = Callable[[str], Quota | None]


class _Promise(msgspec.Struct):
    tasks: int = 0
    bytes: int = 0
    unknown: bool = False
    """Some of them have a size that is not known yet: at least a byte, for which there must be room."""


Promises = dict[str, _Promise]
"""Of each owner, what has been promised and is not stored yet."""


class Quotas:
    """Belongs to the event loop of its queue.

    :param wake: is given a hold, and how many of those who hold it; answers how many there were.
    """

    def __init__(
        self, store: Store, types: Mapping[str, Task], wake: Callable[[str, int | None], Awaitable[int]]
    ) -> None:
        self._store = store
        self._types = types
        self._wake = wake
        self._limits: Limits | None = None
        self._counted = False
        self._meanwhile: list[Change] | None = None
        """While they are counted: what may, or may not, be counted with them."""
        self._tasks: dict[str, int] = {}
        self._bytes: dict[str, int] = {}
        self._sizes: dict[int, int] = {}
        """Of the tasks of owners whose bytes are limited: those that count, where their size is known."""
        self._promised: dict[str, _Promise] = {}
        self._ended: set[int] | None = None
        """While sizes are read: what has ended meanwhile."""
        self._asked: dict[str, int] = {}
        """How often bytes were refused since nobody waited for them; who waits is in the store only."""
        self._waking: set[asyncio.Task[None]] = set()

    # -- what is allowed ----------------------------------------------------------------------------------------------

    async def open(self, limits: Limits | None) -> None:
        """Count what is there. :raises StorageError: it cannot be read."""
        await self.limit(limits)

    async def limit(self, limits: Limits | None) -> None:
        """From now on; None = nobody has a limit. Nothing that is there is taken away, whatever it says.

        :raises StorageError: what is there cannot be read; nothing has changed.
        """
        if limits is not None and not self._counted:
            await self._count()
        before = self._limits, self._sizes, self._bytes
        self._limits, self._sizes, self._bytes = limits, {}, {}
        self._ended = set()
        try:
            for owner in self.owners():
                quota = self.of(owner)
                if quota is not None and quota.bytes is not None:
                    await self._read_sizes(owner, before[1])
        except BaseException:
            self._limits, self._sizes, self._bytes = before
            raise
        finally:
            self._ended = None

    async def _count(self) -> None:
        """Who has how many, for the first time: nobody pays for it before there is a limit."""
        self._meanwhile = []
        try:
            self._tasks, until = await self._store.owners()
            self._counted = True
            self.note(change for change in self._meanwhile if change.sequence > until)
        finally:
            self._meanwhile = None

    async def _read_sizes(self, owner: str, before: Mapping[int, int]) -> None:
        wanted, cursor = Filter(status=tuple(sorted(UNFINISHED)), owner=owner), None
        while True:
            page = await self._store.find(wanted, "id", _PAGE, cursor)
            for record in page.items:
                if record.id not in (self._ended or ()) and record.id not in self._sizes:
                    self._count_size(record, before.get(record.id))
            cursor = page.next_cursor
            if cursor is None:
                break

    async def look_again(self) -> None:
        """Limits are others now, or nobody was there to tell those who wait for bytes."""
        if not self.any:
            await self._wake(f"{HOLD}:*", None)
            return
        for owner in self.owners():
            quota = self.of(owner)
            if quota is not None and quota.bytes is not None:
                self._asked[owner] = 1
                self._offer(owner)
                await self._wake(f"{HOLD}:{owner}:never", None)
            else:
                await self._wake(f"{HOLD}:{owner}:*", None)

    @property
    def any(self) -> bool:
        """May anybody have a limit?"""
        return self._limits is not None

    def of(self, owner: str) -> Quota | None:
        """What this owner may have; None = as much as there is."""
        return None if self._limits is None else self._limits(owner)

    def owners(self) -> list[str]:
        """Who has unfinished tasks; nobody is counted before there is a limit."""
        return [owner for owner, count in self._tasks.items() if count]

    def used(self, owner: str) -> tuple[int, int]:
        """Unfinished tasks, and bytes of them."""
        return self._tasks.get(owner, 0), self._bytes.get(owner, 0)

    # -- counting -----------------------------------------------------------------------------------------------------

    def note(self, changes: Iterable[Change]) -> None:
        """These are committed. On the hot path."""
        if not self._counted:
            if self._meanwhile is not None:
                self._meanwhile += changes
            return
        for change in changes:
            record, source = change.record, change.source
            status = record.status
            if status is source:
                if self._sizes and record.delivered_at is not None:
                    self._drop_size(record)
            elif source is None or source in FINAL:
                if status not in FINAL:
                    self._more(record)
            elif status in FINAL:
                self._tasks[record.owner] = self._tasks.get(record.owner, 0) - 1
                if self._limits is not None:
                    self._drop_size(record)
                    self._offer(record.owner)

    def _more(self, record: TaskRecord) -> None:
        owner = record.owner
        self._tasks[owner] = self._tasks.get(owner, 0) + 1
        if self._limits is None:
            return
        size = 0
        quota = self.of(owner)
        if quota is not None and quota.bytes is not None:
            size = self._count_size(record)
        promised = self._promised.get(owner)
        if promised is not None:
            promised.tasks = max(promised.tasks - 1, 0)
            promised.bytes = max(promised.bytes - size, 0)

    def _count_size(self, record: TaskRecord, known: int | None = None) -> int:
        task = self._types.get(record.type)
        size = known
        if size is None and task is not None and not (record.hold or "").startswith(f"{HOLD}:"):
            size = task.size(record.params, record.state)
        if not size or size < 0 or record.delivered_at is not None:
            return 0
        self._sizes[record.id] = size
        self._bytes[record.owner] = self._bytes.get(record.owner, 0) + size
        return size

    def _drop_size(self, record: TaskRecord) -> None:
        if self._ended is not None:
            self._ended.add(record.id)
        size = self._sizes.pop(record.id, None)
        if size is not None:
            self._bytes[record.owner] -= size
            self._offer(record.owner)

    # -- submits ------------------------------------------------------------------------------------------------------

    async def keep(
        self, tasks: Sequence[NewTask], store: Callable[[], Coroutine[Any, Any, list[Submission]]]
    ) -> list[Submission]:
        """Store them if their owners may have so many. :raises QuotaExceeded: they may not."""
        if self._limits is None:
            return await store()
        try:
            promise = self.promise(tasks)
        except QuotaExceeded as refused:
            # What is answered with a task that is there needs none.
            if any(new.unique_key is None and new.join_key is None for new in tasks):
                raise
            try:
                return await self._store.submit(tasks, 0.0, dict.fromkeys((new.queue for new in tasks), 0))
            except QueueFull:
                raise refused from None
        return await self.promised(promise, store(), lambda made: [one.record for one in made if one.created])

    async def retry(self, record: TaskRecord, retry: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """It becomes unfinished again. :raises QuotaExceeded: its owner has too many of those."""
        if not record.final:
            return await retry()
        size = self._size(record.type, record.params)
        promise = self._promise({record.owner: _Promise(1, size or 0, size is None)})
        return await self.promised(promise, retry(), lambda _: [record])

    def promise(self, tasks: Iterable[NewTask], others: Promises | None = None) -> Promises:
        """Room for new tasks, to be settled by `promised`. :raises QuotaExceeded: there is none.

        :param others: promises that are settled together with these.
        """
        wanted: Promises = {}
        for new in tasks if self._limits is not None else ():
            if self.of(new.owner) is not None:
                mine = wanted.setdefault(new.owner, _Promise())
                size = self._size(new.type, new.params)
                mine.tasks += 1
                mine.bytes += size or 0
                mine.unknown = mine.unknown or size is None
        made = self._promise(wanted)
        for owner, other in (others or {}).items():
            mine = made.setdefault(owner, _Promise())
            mine.tasks += other.tasks
            mine.bytes += other.bytes
        return made

    def _size(self, type: str, params: Any) -> int | None:
        task = self._types.get(type)
        size = 0 if task is None else task.size(params, None)
        return size if size is None else max(size, 0)

    def _promise(self, wanted: Promises) -> Promises:
        for owner, new in wanted.items():
            quota = self.of(owner)
            if quota is not None:
                self._check(owner, quota, new)
        for owner, new in wanted.items():
            promised = self._promised.setdefault(owner, _Promise())
            promised.tasks += new.tasks
            promised.bytes += new.bytes
        return wanted

    def _check(self, owner: str, quota: Quota, new: _Promise) -> None:
        tasks, used = self._with_promised(owner)
        if quota.tasks is not None and tasks + new.tasks > quota.tasks:
            raise QuotaExceeded(
                f"{owner} has {tasks} unfinished tasks and may have {quota.tasks} ({quota.named}.max_tasks):"
                f" there is no room for {new.tasks} more; wait until some are done, or cancel some"
            )
        needs = max(new.bytes, int(new.unknown))
        if quota.bytes is not None and needs and used + needs > quota.bytes:
            raise QuotaExceeded(
                f"the unfinished downloads of {owner} have {used} bytes and may have {quota.bytes}"
                f" ({quota.named}.max_bytes): there is no room for {needs} more; wait until some are done, or cancel"
                " some"
            )

    def _with_promised(self, owner: str) -> tuple[int, int]:
        promised = self._promised.get(owner)
        tasks, used = self.used(owner)
        return (tasks, used) if promised is None else (tasks + promised.tasks, used + promised.bytes)

    async def promised(
        self,
        promise: Promises,
        storing: Coroutine[Any, Any, R],
        made: Callable[[R], Iterable[TaskRecord | NewTask]],
    ) -> R:
        """What is stored on a promise. What was not made of it is given back, also if the caller has gone meanwhile.

        :param made: of the answer, the tasks that became unfinished.
        """
        if not promise:
            return await storing
        future = asyncio.ensure_future(storing)
        future.add_done_callback(partial(self._settle, promise, made))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            future.cancel()
            raise

    def _settle(
        self,
        promise: Promises,
        made: Callable[[R], Iterable[TaskRecord | NewTask]],
        future: asyncio.Future[R],
    ) -> None:
        stored = () if future.cancelled() or future.exception() is not None else made(future.result())
        for task in stored:
            left = promise.get(task.owner)
            if left is not None:
                left.tasks -= 1
                left.bytes -= self._size(task.type, task.params) or 0
        for owner, left in promise.items():
            promised = self._promised.get(owner, left)  # none: all of it is stored
            promised.tasks = max(promised.tasks - left.tasks, 0)
            promised.bytes = max(promised.bytes - left.bytes, 0)
            if not (promised.tasks or promised.bytes):
                self._promised.pop(owner, None)

    # -- sizes that become known later --------------------------------------------------------------------------------

    def fits(self, owner: str, task_id: int, size: int | None) -> str | None:
        """Count a task with this size from now on; None = it is not known yet, and is taken for one byte. If it does
        not fit it does not count any more, and what is answered is the hold to wait with."""
        quota = self.of(owner)
        if quota is None or quota.bytes is None:
            return None
        if size is not None and size < 0:  # who says that is not believed, and makes no room for others
            size = None
        had = self._sizes.get(task_id, 0)
        rest = self._with_promised(owner)[1] - had
        wanted = max(size or 1, 1)
        if rest + wanted <= quota.bytes or (size is not None and size <= had):
            if size:
                self._sizes[task_id] = size
                self._bytes[owner] = self._bytes.get(owner, 0) - had + size
            return None
        if self._sizes.pop(task_id, None) is not None:
            self._bytes[owner] -= had
        if wanted > quota.bytes:
            return f"{HOLD}:{owner}:never"
        self._asked[owner] = self._asked.get(owner, 0) + 1
        return f"{HOLD}:{owner}:bytes"

    def _offer(self, owner: str) -> None:
        """Bytes may be free: let those look who wait for them."""
        if self._asked.get(owner):
            task = asyncio.create_task(self._wake_some(owner), name="dlqueue-quota")
            self._waking.add(task)
            task.add_done_callback(self._waking.discard)

    async def _wake_some(self, owner: str) -> None:
        asked = self._asked.get(owner, 0)
        try:
            if not await self._wake(f"{HOLD}:{owner}:bytes", AT_ONCE) and self._asked.get(owner) == asked:
                del self._asked[owner]
        except Exception as error:  # noqa: BLE001 - the tasks look by themselves later
            log.warning("could not wake who waits for bytes of %s: %s", owner, error)

    async def stop(self) -> None:
        for task in self._waking:
            task.cancel()
        await asyncio.gather(*self._waking, return_exceptions=True)
