"""`POST /rpc`: the envelopes of the Unix socket."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from dlqueue.protocol import envelope, jsonrpc
from dlqueue.protocol.errors import Forbidden, LimitExceeded, MethodNotFound, RpcError
from dlqueue.transports.calls import Calls
from dlqueue.transports.connection import MAX_BATCH_ANSWER

_STREAMING = frozenset({envelope.SUBSCRIBE, envelope.UNSUBSCRIBE})


class Rpc:
    """The endpoint."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def __call__(self, request: Request) -> Response:
        message = jsonrpc.parse(await self._calls.intake.read(request))
        if isinstance(message, jsonrpc.Batch):
            return _json(await self._batch(request, message))
        answer, refused = await self._answer(request, message)
        # A role that is too small is 403 by every door; for all else the envelope has the answer.
        return _json(answer, 403 if refused and answer is not None else 200)

    async def _batch(self, request: Request, batch: jsonrpc.Batch) -> bytes | None:
        """One after the other, but for those that wait: what they wait for may be in the same batch."""
        waiting: dict[int, asyncio.Task[tuple[bytes | None, bool]]] = {}
        answers: list[bytes | None] = [None] * len(batch.items)
        size = 0
        try:
            for index, item in enumerate(batch.items):
                if isinstance(item, jsonrpc.Call) and envelope.waits(item.method, item.params):
                    waiting[index] = asyncio.create_task(self._answer(request, item))
                else:
                    answers[index], _ = await self._answer(request, item, full=size > MAX_BATCH_ANSWER)
                    size += len(answers[index] or b"")
            for index, task in waiting.items():
                answers[index], _ = await task
        finally:
            for task in waiting.values():
                task.cancel()
        told = [answer.rstrip(b"\n") for answer in answers if answer is not None]
        return b"[" + b",".join(told) + b"]\n" if told else None

    async def _answer(
        self, request: Request, item: jsonrpc.Call | jsonrpc.Refused, *, full: bool = False
    ) -> tuple[bytes | None, bool]:
        """The line of an answer (``None`` for a notification), and whether the role was too small."""
        if isinstance(item, jsonrpc.Refused):
            return envelope.refusal(item.id, item.error), False
        try:
            if full:
                told = f"the answers of a batch have at most {MAX_BATCH_ANSWER} bytes"
                raise LimitExceeded(told, kind="batch_size")
            if item.method in _STREAMING:
                raise MethodNotFound(f"{item.method} needs a connection that stays: GET /events", kind="unsupported")
            result = await self._calls.result(request, item)
        except RpcError as error:
            refused = isinstance(error, Forbidden) and error.kind == "role"
            return None if item.notification else envelope.refusal(item.id, error), refused
        return None if item.notification else self._calls.dispatcher.encoded(item, result), False


def _json(line: bytes | None, status: int = 200) -> Response:
    return Response(status_code=204) if line is None else Response(line, status, media_type="application/json")
