"""The clocks: the machine's, and the one that tests hold in their hands."""

from __future__ import annotations

import asyncio
import time

import pytest

from dlqueue.queue.testing import FakeClock
from dlqueue.runtime.clock import SystemClock, sleep, sleep_until

pytestmark = pytest.mark.anyio


async def test_system_clock_calls_what_is_due() -> None:
    clock = SystemClock()
    assert abs(clock.time() - time.time()) < 60
    rung = asyncio.Event()
    clock.call_at(clock.time() - 100, rung.set)
    async with asyncio.timeout(10):
        await rung.wait()


async def test_system_clock_takes_a_call_back() -> None:
    clock = SystemClock()
    rung: list[int] = []
    clock.call_at(clock.time(), lambda: rung.append(1)).cancel()
    done = asyncio.Event()
    clock.call_at(clock.time() + 0.01, done.set)
    async with asyncio.timeout(10):
        await done.wait()
    assert not rung


async def test_system_clock_never_waits_long_without_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is turned forward is noticed: the timer rings early, and who sleeps looks again."""
    monkeypatch.setattr(SystemClock, "MAX_WAIT", 0.01)
    now = 1000.0
    monkeypatch.setattr(time, "time", lambda: now)
    waiting = asyncio.ensure_future(sleep_until(SystemClock(), 1000.0 + 3600))
    done, _ = await asyncio.wait({waiting}, timeout=0.05)
    assert not done, "early rings do not end the sleep"
    now += 3601
    async with asyncio.timeout(10):
        await waiting


async def test_fake_clock_calls_in_order() -> None:
    clock = FakeClock(100.0)
    rung: list[tuple[str, float]] = []

    def ring(name: str) -> None:
        rung.append((name, clock.time()))

    clock.call_at(130.0, lambda: ring("late"))

    def first() -> None:
        ring("first")
        clock.call_at(115.0, lambda: ring("set meanwhile"))

    clock.call_at(110.0, first)
    clock.call_at(120.0, lambda: ring("tie 1"))
    clock.call_at(120.0, lambda: ring("tie 2"))
    clock.call_at(119.0, lambda: ring("taken back")).cancel()
    assert clock.next_time == 110.0
    clock.advance(5)
    assert rung == []
    clock.advance(15)
    assert rung == [("first", 110.0), ("set meanwhile", 115.0), ("tie 1", 120.0), ("tie 2", 120.0)]
    assert (clock.time(), clock.next_time) == (120.0, 130.0)
    clock.advance(1000)
    assert rung[-1] == ("late", 130.0)
    assert clock.time() == 1120.0
    assert clock.next_time is None


async def test_fake_clock_calls_what_is_due_from_the_loop() -> None:
    clock = FakeClock()
    rung = asyncio.Event()
    clock.call_at(clock.time(), rung.set)
    assert not rung.is_set()
    async with asyncio.timeout(10):
        await rung.wait()


async def test_sleep_ends_when_the_clock_says_so() -> None:
    clock = FakeClock()
    waiting = asyncio.ensure_future(sleep(clock, 60))
    await asyncio.sleep(0)
    clock.advance(59)
    done, _ = await asyncio.wait({waiting}, timeout=0.01)
    assert not done
    clock.advance(1)
    async with asyncio.timeout(10):
        await waiting


async def test_a_cancelled_sleep_leaves_no_timer() -> None:
    clock = FakeClock()
    waiting = asyncio.ensure_future(sleep(clock, 60))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert clock.next_time is None
