"""Calls that came over HTTP: what waits ends when its client leaves or the daemon stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from starlette.requests import Request

from dlqueue.protocol import envelope
from dlqueue.protocol.caller import Caller
from dlqueue.protocol.errors import LimitExceeded, Stopping, Unauthenticated
from dlqueue.protocol.jsonrpc import Call
from dlqueue.transports.body import Intake
from dlqueue.transports.dispatch import Dispatcher, EventStream

MOST_WAITING = 4096
"""Calls that wait, at once: as many as one connection of the Unix socket may have. Each costs some kilobytes, and a
batch has a thousand of them."""
SHARE = 4
"""One token has at most the fourth part of what all share, so that it cannot keep others out."""


class Calls:
    """The way from a request to the dispatcher.

    :ivar knows: is the token of this caller worth something still?
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher
        self.intake = Intake()
        self.knows: Callable[[Caller], bool] = lambda caller: True
        self._waiting: dict[asyncio.Task[Any], Caller] = {}
        self.streams: dict[EventStream, Caller] = {}
        """The event streams that are open, and whose."""

    async def result(self, request: Request, call: Call) -> Any:
        """What the service answers. :raises RpcError:"""
        caller: Caller = request.scope["caller"]
        self._check(caller)  # the body may have taken its time
        if not envelope.waits(call.method, call.params):
            return await self.dispatcher.result(caller, call)
        self.admit(caller, self._waiting.values(), MOST_WAITING, "calls wait", "waits")
        work = asyncio.create_task(self.dispatcher.result(caller, call))
        gone = asyncio.create_task(_left(request))
        self._waiting[work] = caller
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            work.cancel()
            await asyncio.wait({work})
        finally:
            gone.cancel()
            work.cancel()
            del self._waiting[work]
        if work.cancelled():
            self._check(caller)
            raise Stopping("the daemon is stopping", retry_after=5)
        return work.result()

    @staticmethod
    def admit(caller: Caller, there: Collection[Caller], most: int, what: str, kind: str) -> None:
        """:raises LimitExceeded: all of them have ``most`` already, or the token of this one its share of it."""
        if len(there) >= most:
            raise LimitExceeded(f"{most} {what} already", kind=kind, retry_after=5)
        share = most // SHARE
        if len(there) >= share and sum(one.token == caller.token for one in there) >= share:
            raise LimitExceeded(f"{share} {what} already for this token", kind=kind, retry_after=5)

    def interrupt(self) -> None:
        """End what would go on for as long as the clients like."""
        for work in self._waiting:
            work.cancel()
        for stream in list(self.streams):
            stream.close()

    def end_token(self, name: str) -> None:
        """End what a token that was revoked still waits for."""
        for work, caller in self._waiting.items():
            if caller.token == name:
                work.cancel()
        for stream, caller in list(self.streams.items()):
            if caller.token == name:
                del self.streams[stream]  # what waits to be read is not told any more
                stream.close()

    def _check(self, caller: Caller) -> None:
        if not self.knows(caller):
            raise Unauthenticated("the token has been revoked", kind="token")


async def _left(request: Request) -> None:
    """Until the client is gone. The body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
