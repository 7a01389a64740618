"""Publish and subscribe, bounded: a slow subscriber is told how many messages it missed and slows nobody."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Missed:
    """Stands in the stream where ``count`` messages were dropped, because their reader was too slow."""

    __slots__ = ("count",)

    def __init__(self, count: int) -> None:
        self.count = count

    def __repr__(self) -> str:
        return f"Missed({self.count})"


class Subscription(Generic[T]):
    """An endless async iterator over messages and `Missed` notices; ends after `close`."""

    def __init__(self, bus: Bus[T], wanted: Callable[[T], bool] | None, size: int) -> None:
        self._bus = bus
        self._wanted = wanted
        self._size = size
        self._messages: deque[T] = deque()
        self._missed = 0
        self._closed = False
        self._ready = asyncio.Event()

    def _offer(self, message: T) -> None:
        if self._wanted is not None and not self._wanted(message):
            return
        # While a gap is open nothing more is taken: the notice then stands exactly where the gap is.
        if self._missed or len(self._messages) >= self._size:
            self._missed += 1
        else:
            self._messages.append(message)
        self._ready.set()

    def close(self) -> None:
        """Nothing more is taken; what waits to be read still is, and then the iteration ends, a pending read too."""
        self._closed = True
        self._bus._subscriptions.discard(self)
        self._ready.set()

    def __aiter__(self) -> Subscription[T]:
        return self

    async def __anext__(self) -> T | Missed:
        while True:
            if self._messages:
                return self._messages.popleft()
            if self._missed:
                missed, self._missed = self._missed, 0
                return Missed(missed)
            if self._closed:
                raise StopAsyncIteration
            self._ready.clear()
            await self._ready.wait()


class Bus(Generic[T]):
    """Hands each published message to all subscribers. Belongs to one event loop."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription[T]] = set()

    def subscribe(self, wanted: Callable[[T], bool] | None = None, size: int = 1000) -> Subscription[T]:
        """A new subscription, from now on. ``size`` messages may wait for its reader."""
        subscription = Subscription(self, wanted, size)
        self._subscriptions.add(subscription)
        return subscription

    def publish(self, message: T) -> None:
        """Never blocks, never fails because of a subscriber."""
        for subscription in tuple(self._subscriptions):
            subscription._offer(message)

    @property
    def listened_to(self) -> bool:
        """Is anybody subscribed? Saves making messages that nobody reads."""
        return bool(self._subscriptions)
