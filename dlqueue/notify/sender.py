"""Empties the outbox: at least once each, a few at a time, again and again until it has arrived or a day is over."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

from dlqueue.notify import targets
from dlqueue.notify.carrier import Carrier
from dlqueue.notify.failure import Failed
from dlqueue.queue import QueueClosed, StorageError
from dlqueue.queue.outbox import Letter, Outbox, Settled
from dlqueue.runtime.clock import Clock
from dlqueue.runtime.failpoint import reach
from dlqueue.runtime.threads import Threads

log = logging.getLogger(__name__)

AT_ONCE = 16
AT_ONCE_IN_A_LANE = 4
"""So that a receiver that does not answer leaves threads for the others."""
AT_ONCE_IN_A_BUNDLE = 12
"""So that somebody with many receivers that do not answer leaves threads for other people."""
WINDOW = 64
LONGEST_WAIT = 3600.0
TRIES = 35
"""With waits of 1, 2, 4 … s, at most an hour: the last one is 23 hours after the first."""
HOOK_TRIES = 5
STORE_WAIT = 5.0
STOP_GRACE = 3.0


class Sent:
    """What has become of letters since the start, by `targets.KINDS`."""

    def __init__(self) -> None:
        self.arrived = Counter(dict.fromkeys(targets.KINDS.values(), 0))
        self.put_off = self.arrived.copy()
        """Attempts in vain that are followed by others."""
        self.given_up = self.arrived.copy()


Remark = Callable[[int, str, str], Awaitable[None]]
"""Writes a line into the history of a task, if it is there: its id, the kind of the line, the words."""


def wait_after(attempts: int, failure: Failed) -> float:
    """Seconds until the next attempt, after so many in vain."""
    wait = min(2.0 ** (attempts - 1), LONGEST_WAIT)
    return wait if failure.retry_after is None else min(max(wait, failure.retry_after), LONGEST_WAIT)


class Sender:
    """Belongs to the event loop of its queue."""

    def __init__(self, outbox: Outbox, carrier: Carrier, remark: Remark, clock: Clock) -> None:
        self._outbox = outbox
        self._carrier = carrier
        self._remark = remark
        self._clock = clock
        self.sent = Sent()
        self._threads = Threads(AT_ONCE, "dlqueue-notify")
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._lanes: Counter[str] = Counter()
        self._bundles: Counter[str] = Counter()
        self._ended: set[int] = set()
        """Letters that went while the outbox was being read: what was read of them is old."""
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to send."""
        self._loop = asyncio.create_task(self._run(), name="dlqueue-notify")

    async def stop(self) -> None:
        """What is on its way may arrive within some seconds; the rest stays in the outbox for the next start."""
        if self._loop is None:
            return
        self._loop.cancel()
        await asyncio.gather(self._loop, return_exceptions=True)
        if self._under_way:
            await asyncio.wait(self._under_way.values(), timeout=STOP_GRACE)
        left = list(self._under_way.values())
        for task in left:
            task.cancel()
        self._carrier.hooks.stop()
        await asyncio.gather(*left, return_exceptions=True)
        self._threads.close()

    async def carry(self, letter: Letter) -> Failed | None:
        """Bring it there now, once, whatever is in the outbox; what kept it from arriving."""
        return await self._threads.run(partial(self._carried, letter))

    async def idle(self, seconds: float) -> bool:
        """Is there nothing to be sent within so many seconds?"""
        first = await self._outbox.letters(1)
        return not self._under_way and not (first and first[0].due_at <= self._clock.time() + seconds)

    async def _run(self) -> None:
        while True:
            self._outbox.arrived.clear()
            try:
                due = await self._begin()
            except QueueClosed:
                return
            except StorageError as error:
                log.warning("the outbox cannot be read now: %s", error)
                due = self._clock.time() + STORE_WAIT
            timer = None if due is None else self._clock.call_at(due, self._outbox.arrived.set)
            try:
                await self._outbox.arrived.wait()
            finally:
                if timer is not None:
                    timer.cancel()

    async def _begin(self) -> float | None:
        """Send what is due, as far as there is a thread for it; answers when the next one is."""
        while True:
            self._ended.clear()
            full = {lane for lane, count in self._lanes.items() if count >= AT_ONCE_IN_A_LANE}
            full |= {bundle for bundle, count in self._bundles.items() if count >= AT_ONCE_IN_A_BUNDLE}
            letters = await self._outbox.letters(WINDOW, full)
            now, began, due = self._clock.time(), False, None
            for letter in letters:
                if letter.id in self._under_way or letter.id in self._ended:
                    continue
                # None is ever put off for longer: what is due later than that is from before the clock was set back.
                if now < letter.due_at <= now + LONGEST_WAIT:
                    due = letter.due_at if due is None else due
                    continue
                if len(self._under_way) >= AT_ONCE:
                    return None  # the next one that ends looks again
                bundle = targets.bundle(letter.lane)
                many = 0 if bundle is None else self._bundles[bundle]
                if self._lanes[letter.lane] < AT_ONCE_IN_A_LANE and many < AT_ONCE_IN_A_BUNDLE:
                    self._lanes[letter.lane] += 1
                    if bundle is not None:
                        self._bundles[bundle] += 1
                    self._under_way[letter.id] = asyncio.create_task(self._send(letter))
                    began = True
            if not began:
                return due

    async def _send(self, letter: Letter) -> None:
        try:
            failure = await self.carry(letter)
            await self._settle(letter, failure)
        finally:
            self._ended.add(letter.id)
            del self._under_way[letter.id]
            bundle = targets.bundle(letter.lane)
            for counts, one in ((self._lanes, letter.lane), (self._bundles, bundle)):
                if one is not None:
                    counts[one] -= 1
                    if not counts[one]:
                        del counts[one]
            self._outbox.arrived.set()

    def _carried(self, letter: Letter) -> Failed | None:
        reach("notify")
        try:
            self._carrier.carry(letter)
        except Failed as failure:
            return failure
        except Exception as error:
            log.exception("%s: sending failed in a way that was not thought of", targets.shown(letter.target))
            return Failed(f"a defect of dlqueue: {type(error).__name__}")
        reach("notified")
        return None

    async def _settle(self, letter: Letter, failure: Failed | None) -> None:
        settled, gone = Settled(letter.id), None
        kind = targets.parts(letter.target)[0]
        count = self.sent.arrived
        if failure is not None:
            attempts = letter.attempts + 1
            tries = HOOK_TRIES if kind == targets.HOOK else TRIES
            if failure.final or attempts >= tries:
                count = self.sent.given_up
                gone = f"{letter.event}: {targets.shown(letter.target)}: {failure.message}"
                gone += f"; given up after {attempts} {'attempt' if attempts == 1 else 'attempts'}"
            else:
                count = self.sent.put_off
                due = self._clock.time() + wait_after(attempts, failure)
                settled = Settled(letter.id, due, failure.message)
        count[targets.KINDS[kind]] += 1
        while True:
            try:
                if gone is not None:
                    await self._remark(letter.task_id, "notice_failed", gone)
                    log.error("notice %s", gone, extra={"task_id": letter.task_id})
                    gone = None
                await self._outbox.settle([settled])
                return
            except QueueClosed:
                return
            except StorageError as error:
                log.warning("what came of a notice cannot be stored now: %s", error)
                await asyncio.sleep(STORE_WAIT)
