"""A plug-in's events: hints that a poll is worth while. They come in a thread of their own, which may hang for ever."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

from dlqueue.runtime.clock import Clock, sleep

log = logging.getLogger(__name__)

PAUSE = 5.0
"""Seconds from their end, or failure, until they are asked for again."""


async def listen(name: str, events: Callable[[], Iterator[None]], poke: Callable[[], object], clock: Clock) -> None:
    """Until it is cancelled; its thread then ends with the next event.

    :param name: of the downloader.
    :param poke: called in the loop for each of them.
    """
    loop = asyncio.get_running_loop()
    over = False
    try:
        while True:
            done: asyncio.Future[Exception | None] = loop.create_future()

            def tell(problem: Exception | None, done: asyncio.Future[Exception | None] = done) -> None:
                if not done.done():
                    done.set_result(problem)

            def body(tell: Callable[[Exception | None], None] = tell) -> None:
                problem: Exception | None = None
                try:
                    for _ in events():
                        if over:
                            return
                        loop.call_soon_threadsafe(poke)
                except Exception as error:  # noqa: BLE001 - events are hints; without them there is the poll
                    problem = error
                finally:
                    with contextlib.suppress(RuntimeError):  # the loop is gone, and with it whoever waited
                        loop.call_soon_threadsafe(tell, problem)

            threading.Thread(target=body, name=f"dlqueue-events-{name}", daemon=True).start()
            problem = await done
            if problem is not None:
                log.debug("downloader %s: its events ended: %s", name, problem)
            await sleep(clock, PAUSE)
    finally:
        over = True
