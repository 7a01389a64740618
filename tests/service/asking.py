"""Calls to the service as a transport makes them: JSON values in, JSON values out."""

from __future__ import annotations

import json
from typing import Any

from dlqueue.protocol.caller import Caller
from dlqueue.protocol.errors import RpcError
from dlqueue.protocol.jsonrpc import Call
from dlqueue.transports.dispatch import Dispatcher
from tests.downloads.house import ME, House

YOU = Caller(uid=4002, gid=4002, name="you")
ROOT = Caller(uid=0, gid=0, name="root")


class Asking:
    """One caller of one house."""

    def __init__(self, house: House, caller: Caller = ME) -> None:
        self._dispatcher = Dispatcher(house.service)
        self._caller = caller

    async def __call__(self, method: str, **params: Any) -> Any:
        """The result, as the other end of a socket gets it. :raises RpcError: the answer is no."""
        result = await self._dispatcher.result(self._caller, Call(id=1, method=method, params=params))
        return json.loads(json.dumps(result))

    async def refused(self, method: str, **params: Any) -> RpcError:
        """The answer must be no."""
        try:
            answer = await self(method, **params)
        except RpcError as error:
            assert error.code != -32603, error.message
            return error
        raise AssertionError(f"{method} was not refused: {answer}")
