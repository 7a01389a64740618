"""The store under test, and short ways to bring tasks into a state. For the parts of the conformance suite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import pytest

from dlqueue.queue import transitions, wants
from dlqueue.queue.record import Change, Decide, Event, NewTask, Submission, TaskRecord
from dlqueue.queue.status import Status
from dlqueue.queue.store import Store
from dlqueue.queue.transitions import Settlement

NOW = 1_700_000_000.0
NODE = "node-1"


class Bench:
    """An open store, and what its listener was told."""

    def __init__(self, new_store: Callable[[], Store]) -> None:
        self._new_store = new_store
        self.told: list[Change] = []
        self.store = new_store()

    async def open(self) -> None:
        await self.store.open(self.told.extend)

    async def reopen(self) -> None:
        """Close it and open another one on the same data."""
        await self.store.close()
        self.store = self._new_store()
        await self.open()

    async def submit(self, type: str = "test", params: Any = None, now: float = NOW, **fields: Any) -> TaskRecord:
        (submission,) = await self.submit_all(NewTask(type=type, params=params, **fields), now=now)
        return submission.record

    async def submit_all(self, *tasks: NewTask, now: float = NOW) -> Sequence[Submission]:
        return await self.store.submit(tasks, now)

    async def decide(self, task_id: int, decide: Decide) -> Change:
        """:raises QueueError: the refusal, if it is one."""
        (answer,) = await self.store.transact([(task_id, decide)])
        if isinstance(answer, Exception):
            raise answer
        assert answer is not None, f"nothing became of {decide}"
        return answer

    async def claim(self, task_id: int, now: float = NOW) -> TaskRecord:
        return (await self.decide(task_id, partial(transitions.claim, node=NODE, now=now))).record

    async def end(self, task_id: int, target: Status = Status.COMPLETED, now: float = NOW, **fields: Any) -> TaskRecord:
        """Claim it and end its step so."""
        token = (await self.claim(task_id, now)).lease_token
        end = Settlement(target=target, kind=str(target), **fields)
        return (await self.decide(task_id, settle(token, end, now))).record

    async def hold(self, task_id: int, hold: str, run_at: float | None = None) -> TaskRecord:
        return await self.end(task_id, Status.SUSPENDING, hold=hold, run_at=run_at)

    async def pause(self, task_id: int) -> TaskRecord:
        return (await self.decide(task_id, partial(wants.pause, now=NOW, runs_step=False))).record

    async def cancel(self, task_id: int) -> TaskRecord:
        return (await self.decide(task_id, partial(wants.cancel, now=NOW, needs_cleanup=False))).record

    async def resume(self, task_id: int) -> TaskRecord:
        return (await self.decide(task_id, partial(wants.resume, now=NOW))).record

    async def remove(self, task_id: int, needs_cleanup: bool = False) -> Change:
        return await self.decide(task_id, partial(wants.remove, now=NOW, needs_cleanup=needs_cleanup))

    async def all_events(self) -> Sequence[Event]:
        return await self.store.events(0, 10_000)


def settle(token: int, end: Settlement, now: float = NOW) -> Decide:
    return lambda record: transitions.settle(record, token, end, now)


class Suite:
    """What every part of the suite needs."""

    pytestmark: ClassVar[Any] = pytest.mark.anyio
    durable: ClassVar[bool] = False
    """Does the data outlive the store object?"""

    @pytest.fixture
    def new_store(self) -> Callable[[], Store]:
        raise NotImplementedError("give a fixture new_store: a callable that answers an unopened store")

    @pytest.fixture
    async def bench(self, new_store: Callable[[], Store]) -> AsyncIterator[Bench]:
        bench = Bench(new_store)
        await bench.open()
        try:
            yield bench
        finally:
            await bench.store.close()
