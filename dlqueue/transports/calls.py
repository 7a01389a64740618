"""Calls that came over HTTP: what waits ends when its client leaves or the daemon stops."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request

from dlqueue.protocol import envelope
from dlqueue.protocol.caller import Caller
from dlqueue.protocol.errors import Stopping
from dlqueue.protocol.jsonrpc import Call
from dlqueue.transports.body import Intake
from dlqueue.transports.dispatch import Dispatcher, EventStream


class Calls:
    """The way from a request to the dispatcher."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher
        self.intake = Intake()
        self._waiting: set[asyncio.Task[Any]] = set()
        self.streams: dict[EventStream, Caller] = {}
        """The event streams that are open, and whose."""

    async def result(self, request: Request, call: Call) -> Any:
        """What the service answers. :raises RpcError:"""
        caller: Caller = request.scope["caller"]
        if not envelope.waits(call.method, call.params):
            return await self.dispatcher.result(caller, call)
        work = asyncio.create_task(self.dispatcher.result(caller, call))
        gone = asyncio.create_task(_left(request))
        self._waiting.add(work)
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            work.cancel()
            await asyncio.wait({work})
        finally:
            gone.cancel()
            work.cancel()
            self._waiting.discard(work)
        if work.cancelled():
            raise Stopping("the daemon is stopping", retry_after=5)
        return work.result()

    def interrupt(self) -> None:
        """End what would go on for as long as the clients like."""
        for work in self._waiting:
            work.cancel()
        for stream in list(self.streams):
            stream.close()

    def end_token(self, name: str) -> None:
        """End the streams of a token that was revoked."""
        for stream, caller in list(self.streams.items()):
            if caller.token == name:
                stream.close()


async def _left(request: Request) -> None:
    """Until the client is gone. The body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
