"""What the service manager hears of us while we work: that we are alive, and how it goes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from dlqueue.daemon.systemd import Notifier
from dlqueue.queue import StorageError
from dlqueue.runtime.failpoint import reach

log = logging.getLogger(__name__)

_LOOK = 10.0
"""Seconds between two looks, or less if the manager wants to hear of us more often."""


async def report(notifier: Notifier, read: Callable[[], Awaitable[None]], status: Callable[[], str]) -> None:
    """Feed the watchdog and keep the status line, until cancelled.

    It is fed from the event loop, and only after ``read`` came back: if one of the two hangs, the manager sees it.

    :param read: a small read of the database; raises `StorageError`.
    """
    interval = min(_LOOK, notifier.watchdog_interval or _LOOK)
    told, failing = "", False
    while notifier.active:
        reach("tick")
        try:
            await read()
        except StorageError as error:
            if not failing:
                log.error("the watchdog is not fed, because the database does not answer: %s", error)  # noqa: TRY400
            failing = True
        else:
            if failing:
                log.info("the database answers again")
            failing = False
            if notifier.watchdog_interval is not None:
                notifier.watchdog()
            if (line := status()) != told:
                notifier.status(line)
                told = line
        await asyncio.sleep(interval)
