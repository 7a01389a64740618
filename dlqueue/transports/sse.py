"""`GET /events`: the events as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from sse_starlette import EventSourceResponse
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dlqueue.protocol import envelope
from dlqueue.protocol.errors import InvalidParams
from dlqueue.protocol.events import Subscribe
from dlqueue.protocol.jsonrpc import Call
from dlqueue.transports.calls import Calls
from dlqueue.transports.dispatch import EventStream
from dlqueue.transports.query import read_query

KEEP_ALIVE = 15
"""Seconds between comments, so that proxies keep the connection and a client sees that it is alive."""
MOST = 256
"""Streams at once."""


class Events:
    """The endpoint. The ``id`` of an event is its durable sequence: a client that comes again says which it saw last
    (``Last-Event-ID``), and gets what was committed after it."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def __call__(self, request: Request) -> Response:
        params = read_query(Subscribe, request.scope["query_string"])
        if (last := request.headers.get("last-event-id")) is not None:
            if not (last.isascii() and last.isdigit() and len(last) < 19):
                raise InvalidParams("Last-Event-ID", "must be the id of an event")
            params["since"] = int(last)
        caller = request.scope["caller"]
        self._calls.admit(caller, self._calls.streams.values(), MOST, "event streams are open", "subscriptions")
        stream: EventStream = await self._calls.dispatcher.result(caller, Call(None, envelope.SUBSCRIBE, params))
        self._calls.streams[stream] = caller
        return _Response(self._calls, stream)


class _Response(EventSourceResponse):
    """Lets go of the stream, whatever ends it."""

    def __init__(self, calls: Calls, stream: EventStream) -> None:
        super().__init__(_lines(stream, calls), ping=KEEP_ALIVE, sep="\n")
        self._calls = calls
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stream.close()
            self._calls.streams.pop(self._stream, None)


async def _lines(stream: EventStream, calls: Calls) -> AsyncIterator[dict[str, Any]]:
    yield {"comment": "dlqueue"}
    async for event in stream:
        if stream not in calls.streams:
            return
        told = {name: value for name, value in event.items() if name != "subscription"}
        line: dict[str, Any] = {"event": event["topic"], "data": envelope.encode(told).decode().rstrip("\n")}
        if event["sequence"] is not None:
            line["id"] = str(event["sequence"])
        yield line
