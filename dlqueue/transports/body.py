"""The body of a request, within bounds, and the JSON in it."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import ClientDisconnect, Request

from dlqueue.protocol import jsonrpc
from dlqueue.protocol.errors import InvalidParams, InvalidRequest, LimitExceeded, TimedOut
from dlqueue.protocol.framing import MAX_LINE
from dlqueue.transports.problem import HttpRefusal

SECONDS = 30.0
"""A body has to come within so long."""
MOST_BYTES = 64 * 1024 * 1024
"""Of all bodies that are on their way."""


class Intake:
    """Reads bodies, and knows how much of them is in memory."""

    def __init__(self) -> None:
        self._held = 0

    async def read(self, request: Request) -> bytes:
        """All of a body. :raises LimitExceeded: it is too long, or there is too much already. :raises HttpRefusal: it
        does not come, or is no JSON."""
        _check_head(request)
        data = bytearray()
        try:
            async with asyncio.timeout(SECONDS):
                async for chunk in request.stream():
                    data += chunk
                    self._held += len(chunk)
                    if len(data) > MAX_LINE:
                        raise _too_long()
                    if self._held > MOST_BYTES:
                        told = "the bodies of other requests take all the room; try again later"
                        raise LimitExceeded(told, kind="bodies", retry_after=1)
        except TimeoutError:
            raise HttpRefusal(TimedOut(f"the body did not come within {SECONDS:g} s"), 408) from None
        except ClientDisconnect:
            raise HttpRefusal(InvalidRequest("the body ends too early"), 400) from None
        finally:
            self._held -= len(data)
        return bytes(data)

    async def read_object(self, request: Request) -> dict[str, Any]:
        """The JSON object in the body; no body is an empty one. :raises RpcError, HttpRefusal:"""
        data = await self.read(request)
        if not data:
            return {}
        value, suspect = jsonrpc.decode(data)
        if not isinstance(value, dict):
            raise InvalidParams(None, "the body must be a JSON object")
        if suspect:
            jsonrpc.check_params(value)
        return value


def _too_long() -> LimitExceeded:
    return LimitExceeded(f"a body has at most {MAX_LINE} bytes", kind="message_size")


def _check_head(request: Request) -> None:
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        told = f'the body must be JSON (Content-Type: application/json), not "{kind[:100]}"'
        raise HttpRefusal(InvalidRequest(told, kind="content_type"), 415)
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared[:20]) > MAX_LINE:
        raise _too_long()
