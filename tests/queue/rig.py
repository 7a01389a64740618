"""A queue under test: tasks made of functions, a clock that stands still, and ways to stop it, kindly or not."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from dlqueue.queue import Completed, Context, Outcome, Queue, QueueError, Status, StorageError, Store, Task, TaskRecord
from dlqueue.queue.record import Answer, Decision
from dlqueue.queue.testing import PATIENCE, FakeClock, reached

S = Status
AsyncStep = Callable[[Context], Awaitable[Any]]
Step = AsyncStep | Callable[[Context], Any]


def task(run: Step, type: str = "test", **attributes: Any) -> Task:
    """A task type of one function; a plain one makes it a blocking step."""

    class Async(Task):
        async def run(self, ctx: Context) -> Outcome:
            answer: Outcome = await run(ctx)
            return answer

    class Blocking(Task):
        def run(self, ctx: Context) -> Outcome:  # type: ignore[override]
            answer: Outcome = run(ctx)  # type: ignore[assignment]
            return answer

    made = Async if inspect.iscoroutinefunction(run) else Blocking
    functions = {
        name: staticmethod(value) if inspect.isfunction(value) else value for name, value in attributes.items()
    }
    cls: Callable[[], Task] = type_(type, made, functions)
    return cls()


def type_(name: str, base: type[Task], attributes: dict[str, Any]) -> type[Task]:
    made: type[Task] = type(name, (base,), {"type": name, **attributes})
    return made


async def done(ctx: Context) -> Outcome:
    """A step that is done at once."""
    return Completed(ctx.params)


class Gate:
    """Steps stop here until the test lets them go on: async ones await `passing`, blocking ones call `block`."""

    def __init__(self) -> None:
        self._entered: asyncio.Queue[int] = asyncio.Queue()
        self._open = asyncio.Event()
        self._open_thread = threading.Event()
        self._loop = asyncio.get_running_loop()

    async def passing(self, ctx: Context) -> None:
        self._entered.put_nowait(ctx.task_id)
        await self._open.wait()

    def block(self, ctx: Context, until: Callable[[], bool] = lambda: False) -> None:
        """Also ends when ``until`` answers True."""
        self._loop.call_soon_threadsafe(self._entered.put_nowait, ctx.task_id)
        for _ in range(int(PATIENCE / 0.005)):
            if self._open_thread.wait(0.005) or until():
                return

    async def entered(self) -> int:
        """The id of the next task that stands here."""
        async with asyncio.timeout(PATIENCE):
            return await self._entered.get()

    async def nobody(self) -> bool:
        """Has nobody come, though everything that could has had its turn?"""
        await settled()
        return self._entered.empty()

    def open(self) -> None:
        self._open.set()
        self._open_thread.set()

    def close(self) -> None:
        self._open.clear()
        self._open_thread.clear()


async def settled(rounds: int = 30) -> None:
    """Let the loop, and the threads of a store, do what they can do now."""
    for _ in range(rounds):
        await asyncio.sleep(0.001)


class Rig:
    """Starts queues one after the other on the same data and the same clock."""

    def __init__(self, new_store: Callable[[], Store]) -> None:
        self.clock = FakeClock()
        self.new_store = new_store
        self.queue: Queue | None = None

    async def start(self, *tasks: Task | type[Task], store: Store | None = None, **settings: Any) -> Queue:
        assert self.queue is None, "stop the one before"
        settings = {"workers": 4, **settings}
        self.queue = Queue(tasks=tasks, store=store or self.new_store(), clock=self.clock, **settings)
        await self.queue.open()
        self.queue.start()
        return self.queue

    async def stop(self, grace: float = 0) -> None:
        """A graceful stop; time passes meanwhile."""
        if self.queue is not None:
            queue, self.queue = self.queue, None
            stopping = asyncio.ensure_future(queue.shutdown(grace))
            async with asyncio.timeout(PATIENCE):
                while not (await asyncio.wait({stopping}, timeout=0.02))[0]:
                    self.clock.advance(0.5)
            await stopping

    async def crash(self) -> None:
        """The process dies: nothing more is written, nobody is told."""
        assert self.queue is not None
        queue, self.queue = self.queue, None
        pool, cleaner = queue._pool, queue._cleaner
        cleaner._stopped = True
        assert pool._dispatcher is not None
        victims = [*pool._tasks, pool._dispatcher, queue._cleanup_start, *cleaner._tasks.values()]
        if queue._retention._task is not None:
            victims.append(queue._retention._task)
        victims += [
            looker
            for looker in (queue._admission._looker, queue._folders._looker, queue._wakes._repeater)
            if looker is not None
        ]
        ticker = queue.schedules.ticker
        assert ticker.task is not None
        victims.append(ticker.task)
        for victim in victims:
            victim.cancel()
        await asyncio.wait(victims, timeout=PATIENCE)
        await queue._store.close()

    async def reached(self, task_id: int, *statuses: Status, **more: Any) -> TaskRecord:
        assert self.queue is not None
        record = await reached(self.queue, task_id, *statuses, **more)
        await self.told()
        return record

    async def told(self) -> None:
        """Until the queue has heard of all that is written: who reads the database may be ahead of it."""
        assert self.queue is not None
        with contextlib.suppress(QueueError):
            await self.queue._store.transact([])

    async def timer(self, seconds: float) -> None:
        """Wait until somebody waits for the moment that is so far away. (The pool always has one of 5 s, from its
        start or the last one: let a little time pass first where that would be the wrong one.)"""
        when = self.clock.time() + seconds
        async with asyncio.timeout(PATIENCE):
            while not any(abs(t.when - when) < 1e-3 and not t.cancelled for t in self.clock._timers):
                await asyncio.sleep(0.001)

    async def done(self, task_id: int) -> TaskRecord:
        """The task, once it has completed."""
        record = await self.reached(task_id, S.COMPLETED, S.ERROR, S.CANCELED)
        assert record.status is S.COMPLETED, record.error
        return record

    async def failed(self, task_id: int) -> TaskRecord:
        record = await self.reached(task_id, S.COMPLETED, S.ERROR, S.CANCELED)
        assert record.status is S.ERROR, record
        return record

    async def after(self, seconds: float, task_id: int, *statuses: Status) -> TaskRecord:
        """Let so much time pass, then wait for a status."""
        self.clock.advance(seconds)
        return await self.reached(task_id, *statuses)

    async def kinds(self, task_id: int) -> list[str]:
        assert self.queue is not None
        return [event.kind for event in await self.queue.history(task_id)]


class Faults:
    """Makes the next writes of a queue's store fail, as a full or locked database does."""

    def __init__(self, queue: Queue) -> None:
        self.left = 0
        self.refused = 0
        self._transact = queue._store.transact
        queue._store.transact = self._faulty  # type: ignore[method-assign]

    def fail(self, times: int) -> None:
        self.left = times

    async def _faulty(self, decisions: Sequence[Decision]) -> list[Answer]:
        if self.left and decisions:  # `Rig.told` asks for nothing
            self.left -= 1
            self.refused += 1
            await asyncio.sleep(0)
            raise StorageError("the disk is full")
        return await self._transact(decisions)
