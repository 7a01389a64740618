"""The bus: bounded, and honest about what it dropped."""

from __future__ import annotations

import asyncio

import pytest

from dlqueue.runtime.bus import Bus, Missed, Subscription

pytestmark = pytest.mark.anyio


async def read(subscription: Subscription[int], count: int) -> list[int | str]:
    async with asyncio.timeout(10):
        messages = [await anext(subscription) for _ in range(count)]
    return [repr(message) if isinstance(message, Missed) else message for message in messages]


async def test_everybody_gets_everything_in_order() -> None:
    bus: Bus[int] = Bus()
    assert not bus.listened_to
    first, second = bus.subscribe(), bus.subscribe()
    assert bus.listened_to
    for number in range(5):
        bus.publish(number)
    assert await read(first, 5) == await read(second, 5) == [0, 1, 2, 3, 4]


async def test_a_subscription_begins_now_and_may_choose() -> None:
    bus: Bus[int] = Bus()
    bus.publish(0)
    even = bus.subscribe(lambda number: number % 2 == 0)
    for number in range(1, 7):
        bus.publish(number)
    assert await read(even, 3) == [2, 4, 6]


async def test_a_slow_reader_is_told_where_the_gap_is_and_slows_nobody() -> None:
    bus: Bus[int] = Bus()
    slow, quick = bus.subscribe(size=3), bus.subscribe(size=100)
    for number in range(8):
        bus.publish(number)
    assert await read(slow, 2) == [0, 1]
    bus.publish(8)  # the gap is still open: this belongs to it, or the notice would stand in the wrong place
    assert await read(slow, 2) == [2, "Missed(6)"]
    bus.publish(9)
    assert await read(slow, 1) == [9]
    assert await read(quick, 10) == list(range(10))


async def test_a_pending_read_gets_the_next_message() -> None:
    bus: Bus[int] = Bus()
    subscription = bus.subscribe()
    pending = asyncio.ensure_future(read(subscription, 1))
    await asyncio.sleep(0)
    bus.publish(7)
    assert await pending == [7]


async def test_close_ends_a_pending_read_and_every_further_one() -> None:
    bus: Bus[int] = Bus()
    subscription = bus.subscribe()

    async def all_of_it() -> list[int | Missed]:
        return [message async for message in subscription]

    bus.publish(1)
    pending = asyncio.ensure_future(all_of_it())
    await asyncio.sleep(0)
    subscription.close()
    bus.publish(2)
    async with asyncio.timeout(10):
        assert await pending == [1]
        assert await all_of_it() == []
    assert not bus.listened_to


async def test_closing_while_publishing_is_harmless() -> None:
    bus: Bus[int] = Bus()
    other = bus.subscribe()

    def wanted(_: int) -> bool:
        other.close()
        return True

    first = bus.subscribe(wanted)
    bus.publish(1)
    bus.publish(2)
    assert await read(first, 2) == [1, 2]


async def test_one_reader_of_two_buses_hears_both_in_order_until_it_is_closed() -> None:
    numbers, words = Bus[int](), Bus[str]()
    both: Subscription[int | str] = Subscription(lambda message: message != 2, 10)
    numbers.join(both)
    words.join(both)
    numbers.publish(1)
    words.publish("one")
    numbers.publish(2)
    numbers.publish(3)
    async with asyncio.timeout(10):
        assert [await anext(both) for _ in range(3)] == [1, "one", 3]
    both.close()
    assert not numbers.listened_to
    assert not words.listened_to
