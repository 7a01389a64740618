"""One HTTP connection: uvicorn's, with a bound on how long it may be of no use."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from dlqueue.protocol import envelope
from dlqueue.protocol.errors import InvalidRequest, LimitExceeded, RpcError
from dlqueue.transports.problem import MEDIA_TYPE, body_of, status_of

HEAD_SECONDS = 10.0
"""The head of a request has to come within so long; so has what is left of a body that nobody wants."""
STALL_SECONDS = 10.0
"""A client that takes nothing for so long, while an answer waits for it, is dropped."""
MOST = 512
"""Connections at once."""


class BoundedProtocol(H11Protocol):
    """uvicorn has no limit of time for a head that drips in (slow loris), nor for a client that does not read."""

    _head: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST:
            told = f"{MOST} clients are connected already; try again later"
            self._refuse(LimitExceeded(told, kind="connections", retry_after=5), 503)
            return
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head, self._stall):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._expect_head()
        super().on_response_complete()

    def _expect_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
        self._head = self.loop.call_later(HEAD_SECONDS, self._late)

    def _late(self) -> None:
        # Bytes that still wait to be taken are the business of the other timer.
        idle = self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]  # None at first
        if idle and not self.transport.get_write_buffer_size():
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
        super().resume_writing()

    def _watch(self, size: int) -> None:
        self._stall = self.loop.call_later(STALL_SECONDS, self._stalled, size)

    def _stalled(self, before: int) -> None:
        size = self.transport.get_write_buffer_size()
        if size >= before:
            self.transport.abort()
        else:
            self._watch(size)

    def send_400_response(self, msg: str) -> None:
        self._refuse(InvalidRequest("this is no HTTP request", kind="http"), 400)

    def _refuse(self, error: RpcError, status: int | None = None) -> None:
        """An answer to what never becomes a request."""
        status = status_of(error) if status is None else status
        body = envelope.encode(body_of(error, status))
        headers = [("content-type", MEDIA_TYPE), ("content-length", str(len(body))), ("connection", "close")]
        response: Any = h11.Response(status_code=status, headers=headers)
        try:
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:
            pass  # in the middle of an answer: there is no way to say more
        self.transport.close()
