"""Publish and subscribe, bounded: a slow subscriber is told how many messages it missed and slows nobody."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Missed:
    """Stands in the stream where ``count`` messages were dropped, because their reader was too slow."""

    __slots__ = ("count",)

    def __init__(self, count: int) -> None:
        self.count = count

    def __repr__(self) -> str:
        return f"Missed({self.count})"


class Subscription(Generic[T]):
    """An endless async iterator over messages and `Missed` notices; ends after `close`. Hears the buses that it joins.

    :param size: messages that may wait to be read.
    """

    def __init__(self, wanted: Callable[[T], bool] | None = None, size: int = 1000) -> None:
        self._leave: list[Callable[[], None]] = []
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
        for leave in self._leave:
            leave()
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


class _Reader(Protocol[T_contra]):
    """A subscription that takes such messages, and perhaps others."""

    _leave: list[Callable[[], None]]

    def _offer(self, message: T_contra) -> None: ...


class Bus(Generic[T]):
    """Hands each published message to all subscribers. Belongs to one event loop."""

    def __init__(self) -> None:
        self._subscriptions: set[_Reader[T]] = set()

    def subscribe(self, wanted: Callable[[T], bool] | None = None, size: int = 1000) -> Subscription[T]:
        """A new subscription, from now on. ``size`` messages may wait for its reader."""
        subscription = Subscription(wanted, size)
        self.join(subscription)
        return subscription

    def join(self, subscription: _Reader[T]) -> None:
        """Tell it too, from now on: one reader of several buses."""
        self._subscriptions.add(subscription)
        subscription._leave.append(partial(self._subscriptions.discard, subscription))

    def publish(self, message: T) -> None:
        """Never blocks, never fails because of a subscriber."""
        for subscription in tuple(self._subscriptions):
            subscription._offer(message)

    @property
    def listened_to(self) -> bool:
        """Is anybody subscribed? Saves making messages that nobody reads."""
        return bool(self._subscriptions)
