"""Threads for what blocks, cheap enough to be used for every small thing.

Answers are handed to the event loop in one piece when several are ready: waking the loop costs more than most calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

R = TypeVar("R")

_Call = tuple[Callable[[], Any], "asyncio.Future[Any]", contextvars.Context]


class Threads:
    """Up to ``count`` threads, started when they are needed. Belongs to the event loop of its first call.

    The threads are daemons: one that hangs does not hold up the exit of the program.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._done: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._telling = False
        self._started = 0
        self._busy = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, function: Callable[[], R]) -> asyncio.Future[R]:
        """Begin; the future has the answer. Cancelled before a thread takes it, it is not run at all."""
        loop = asyncio.get_running_loop()
        self._loop = loop
        future: asyncio.Future[R] = loop.create_future()
        self._busy += 1
        if self._busy > self._started and self._started < self._count:
            self._started += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._started}", daemon=True).start()
        self._calls.put((function, future, contextvars.copy_context()))
        return future

    def close(self) -> None:
        """The threads end when they are through with what they have."""
        for _ in range(self._started):
            self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            function, future, context = call
            answer: Any = None
            problem: BaseException | None = None
            if not future.cancelled():
                try:
                    answer = context.run(function)
                except BaseException as error:  # noqa: BLE001 - it is raised where the answer is awaited
                    problem = error
            self._done.append((future, answer, problem))
            del call, function, future, context, answer, problem
            if not self._telling:
                self._telling = True
                with contextlib.suppress(RuntimeError):  # the loop is gone, and with it whoever waited
                    if self._loop is not None:
                        self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        # First the flag, then the answers: what is added from here on is told by another call.
        self._telling = False
        while self._done:
            future, answer, problem = self._done.popleft()
            self._busy -= 1
            if future.done():
                continue
            if problem is None:
                future.set_result(answer)
            elif isinstance(problem, StopIteration):
                future.set_exception(RuntimeError(f"StopIteration: {problem}"))
            else:
                future.set_exception(problem)
