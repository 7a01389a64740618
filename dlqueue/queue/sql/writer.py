"""One thread that writes, with group commit: what has gathered goes into one transaction.

That is what makes a synchronous commit affordable: a hundred callers share one flush of the disk. A job is a *verb*
(a function over a list of payloads) and one payload; neighbours with the same verb run as one batch. Order is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from sqlalchemy import Connection

from dlqueue.queue.errors import QueueClosed, StorageError
from dlqueue.queue.record import Change
from dlqueue.queue.sql.rows import Driver, driver_of
from dlqueue.runtime.meters import Histogram

log = logging.getLogger(__name__)

Verb: TypeAlias = Callable[[Driver, Sequence[Any], list[Change]], Sequence[Any]]
"""Works on its payloads inside the transaction, appends the changes it makes, and answers each payload: a result, or
an exception for a refusal that wrote nothing."""
Job: TypeAlias = tuple[Verb, Any, "asyncio.Future[Any]"]

GROUP = 256
"""Jobs per transaction at most, so that nobody waits for a very long one."""
GROUP_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, GROUP)
COMMIT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0)


class Writer:
    """Belongs to one event loop, in which the futures are answered and ``listener`` is called."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        listener: Callable[[Sequence[Change]], None],
        rolled_back: Callable[[], None],
        before_commit: Callable[[Driver], None],
    ) -> None:
        self._connect = connect
        self._listener = listener
        self._rolled_back = rolled_back
        self._before_commit = before_commit
        self._jobs: deque[Job] = deque()
        self._gathered: list[Job] = []
        """What is handed over at the end of this turn of the loop: what begins together is written together."""
        self.group_sizes = Histogram(GROUP_SIZES)
        """Jobs of each transaction that was committed."""
        self.commit_seconds = Histogram(COMMIT_SECONDS)
        """How long each of these took, from its begin to its commit."""
        self._some = threading.Condition()
        self._closing = False
        self._begun = False
        """Has the present transaction got as far as its first job? If not, none of them is to blame."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="dlqueue-writer", daemon=True)
        self._opened: asyncio.Future[None] = self._loop.create_future()

    async def start(self) -> None:
        """:raises StorageError: the database cannot be opened."""
        self._thread.start()
        await self._opened

    async def do(self, verb: Verb, payload: Any) -> Any:
        """Run it in the next transaction; returns after the commit.

        :raises StorageError: the database could not do it; nothing was changed.
        """
        if self._closing:
            raise QueueClosed("the store is closed")
        future: asyncio.Future[Any] = self._loop.create_future()
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append((verb, payload, future))
        # The change happens whether or not the caller is cancelled meanwhile; the listener hears of it.
        return await future

    def _hand_over(self) -> None:
        with self._some:
            self._jobs.extend(self._gathered)
            self._some.notify()
        self._gathered.clear()

    async def close(self) -> None:
        """Write what has been handed over, then end the thread."""
        self._hand_over()
        with self._some:
            self._closing = True
            self._some.notify()
        while self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    # -- in the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            connection = self._connect()
        except Exception as error:  # noqa: BLE001 - whoever waits for the start is told, whatever it is
            problem = error if isinstance(error, StorageError) else StorageError(_reason(error))
            problem.__cause__ = error if problem is not error else None
            self._answer([(self._opened, problem)], [])
            return
        self._expected = connection.dialect.loaded_dbapi.Error
        self._answer([(self._opened, None)], [])
        try:
            while True:
                with self._some:
                    while not self._jobs and not self._closing:
                        self._some.wait()
                    if not self._jobs:
                        return
                    group = [self._jobs.popleft() for _ in range(min(len(self._jobs), GROUP))]
                self._commit(driver_of(connection), group)
        finally:
            connection.close()

    def _commit(self, driver: Driver, group: list[Job]) -> None:
        self._begun = False
        try:
            answers, changes = self._attempt(driver, group)
        except Exception as error:
            self._rolled_back()
            if len(group) > 1 and self._begun:
                # One of them, or the disk: alone each gets its own verdict.
                for job in group:
                    self._commit(driver, [job])
                return
            if not self._begun:
                # Who came meanwhile has waited for the same lock, and need not wait for it as long again.
                with self._some:
                    group = [*group, *self._jobs]
                    self._jobs.clear()
            if not isinstance(error, self._expected):
                log.exception("a write failed unexpectedly")
            problem = StorageError(_reason(error))
            problem.__cause__ = error
            self._answer([(job[2], problem) for job in group], [])
            return
        self._answer([(job[2], answer) for job, answer in zip(group, answers, strict=True)], changes)

    def _attempt(self, driver: Driver, group: list[Job]) -> tuple[list[Any], list[Change]]:
        answers: list[Any] = []
        changes: list[Change] = []
        began = time.perf_counter()
        driver.execute("BEGIN IMMEDIATE")
        self._begun = True
        try:
            start = 0
            while start < len(group):
                verb, end = group[start][0], start + 1
                while end < len(group) and group[end][0] == verb:
                    end += 1
                answers.extend(verb(driver, [job[1] for job in group[start:end]], changes))
                start = end
            self._before_commit(driver)
            driver.execute("COMMIT")
            self.commit_seconds.observe(time.perf_counter() - began)
            self.group_sizes.observe(len(group))
        except BaseException:
            if driver.in_transaction:  # a full disk may have rolled back already
                driver.execute("ROLLBACK")
            raise
        return answers, changes

    def _answer(self, answers: list[tuple[asyncio.Future[Any], Any]], changes: list[Change]) -> None:
        def tell() -> None:
            if changes:
                self._listener(changes)
            for future, answer in answers:
                if future.done():
                    continue
                if isinstance(answer, BaseException):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)

        self._tell(tell)

    def _tell(self, callback: Callable[[], object]) -> None:
        # The loop may be gone when the program ends without closing; then nobody is left to be told.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)


def _reason(error: BaseException) -> str:
    return f"the database refused: {getattr(error, 'orig', None) or error}"
