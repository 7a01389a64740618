"""`POST /rpc`: the envelopes of the Unix socket."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from dlqueue.protocol import envelope, jsonrpc
from dlqueue.protocol.errors import Forbidden, LimitExceeded, MethodNotFound, RpcError
from dlqueue.transports.body import read_body
from dlqueue.transports.calls import Calls
from dlqueue.transports.connection import MAX_BATCH_ANSWER

_STREAMING = frozenset({envelope.SUBSCRIBE, envelope.UNSUBSCRIBE})


class Rpc:
    """The endpoint."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def __call__(self, request: Request) -> Response:
        message = jsonrpc.parse(await read_body(request))
        if isinstance(message, jsonrpc.Batch):
            answers: list[bytes] = []
            size = 0
            for item in message.items:
                answer, _ = await self._answer(request, item, full=size > MAX_BATCH_ANSWER)
                if answer is not None:
                    answers.append(answer.rstrip(b"\n"))
                    size += len(answer)
            return _json(b"[" + b",".join(answers) + b"]\n" if answers else None)
        answer, refused = await self._answer(request, message)
        # A role that is too small is 403 by every door; for all else the envelope has the answer.
        return _json(answer, 403 if refused and message_is_call(message) else 200)

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


def message_is_call(message: jsonrpc.Call | jsonrpc.Refused) -> bool:
    return isinstance(message, jsonrpc.Call) and not message.notification


def _json(line: bytes | None, status: int = 200) -> Response:
    return Response(status_code=204) if line is None else Response(line, status, media_type="application/json")
