"""From a request to an answer: check the params, call the service, turn what comes back into bytes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import msgspec

from dlqueue.protocol import envelope, jsonrpc, methods
from dlqueue.protocol.caller import Caller
from dlqueue.protocol.errors import Forbidden, Internal, LimitExceeded, MethodNotFound, RpcError, Stopping, did_you_mean
from dlqueue.transports import openrpc, shapes

_log = logging.getLogger(__name__)


MOST_WAITING = 16_384
"""Calls of one user that wait, over all connections: each costs some kilobytes."""


class EventStream(Protocol):
    """What `events_subscribe` of a service gives: the params of `event` notifications, until it is closed."""

    id: str

    def __aiter__(self) -> AsyncIterator[dict[str, Any]]: ...

    def close(self) -> None:
        """End the iteration, also a pending read."""
        ...


class Service(Protocol):
    """The one object that owns the verbs: for every row ``a.b`` of the method table it has

    ``async def a_b(self, caller: Caller, params: Params) -> Result``, raising :class:`RpcError` for what is refused;
    but ``rpc.discover`` and ``events.unsubscribe`` are answered here. ``events_subscribe`` gives an `EventStream`.
    """

    async def events_subscribe(self, caller: Caller, params: Any) -> EventStream: ...


class Dispatcher:
    """Answers calls for every transport. ``stopping`` refuses everything new."""

    def __init__(self, service: Service) -> None:
        """Raises ``TypeError`` if ``service`` lacks a method of the table."""
        self._rows: dict[str, tuple[methods.Method, Callable[[dict[str, Any]], Any], _Answer | None]] = {}
        for name, row in methods.METHODS.items():
            answer = getattr(service, methods.attribute(name), None)
            if name == envelope.DISCOVER:
                answer = self._discover
            elif answer is None and name != envelope.UNSUBSCRIBE:
                raise TypeError(f"the service has no {methods.attribute(name)}")
            self._rows[name] = (row, shapes.reader(row.params), answer)
        self._document: dict[str, Any] | None = None
        self._waiting: Counter[int] = Counter()
        self.stopping = False

    def row(self, name: str) -> methods.Method:
        """The table's row. Raises :class:`MethodNotFound`, naming the nearest one."""
        found = self._rows.get(name)
        if found is None and name in methods.LATER:
            raise MethodNotFound(f"{name} is not supported yet by this version", kind="unsupported")
        if found is None:
            raise MethodNotFound(f'no such method: "{name[:100]}"{did_you_mean(name, self._rows)}')
        return found[0]

    def params(self, call: jsonrpc.Call) -> Any:
        """The checked params. Raises :class:`RpcError`."""
        self.row(call.method)
        if self.stopping:
            raise Stopping("the daemon is stopping", retry_after=5)
        return self._rows[call.method][1](call.params)

    def admit(self, caller: Caller, name: str) -> None:
        """Raises :class:`Forbidden` if the caller came with a token whose role is too small for the method."""
        needed = self.row(name).role
        if not caller.has_role(needed):
            told = f'{name} needs the role {needed}; the token "{caller.token}" has the role {caller.role}'
            raise Forbidden(told, kind="role")

    async def result(self, caller: Caller, call: jsonrpc.Call) -> Any:
        """What the service answers. Raises :class:`RpcError`; a defect is logged and becomes :class:`Internal`."""
        try:
            self.admit(caller, call.method)
            params = self.params(call)
            answer = self._rows[call.method][2]
            if answer is None:
                raise MethodNotFound(f"{call.method} needs a connection that stays")
            if not envelope.waits(call.method, call.params):
                return await answer(caller, params)
            if self._waiting[caller.uid] >= MOST_WAITING:
                raise LimitExceeded(f"{MOST_WAITING} calls of yours wait already", kind="waits", retry_after=5)
            self._waiting[caller.uid] += 1
            try:
                return await answer(caller, params)
            finally:
                self._waiting[caller.uid] -= 1
        except RpcError:
            raise
        except Exception as error:  # noqa: BLE001 - the one border where a defect becomes an answer
            raise self.defect(call.method, error) from None

    async def answer(self, caller: Caller, call: jsonrpc.Call) -> bytes:
        """The line that answers ``call``."""
        try:
            result = await self.result(caller, call)
        except RpcError as error:
            return envelope.refusal(call.id, error)
        return self.encoded(call, result)

    def encoded(self, call: jsonrpc.Call, result: Any) -> bytes:
        """The line of a result."""
        try:
            return _line(call.id, result)
        except (TypeError, ValueError, RecursionError) as error:
            return envelope.refusal(call.id, self.defect(call.method, error))

    def defect(self, method: str, error: Exception) -> Internal:
        """Log a defect with its traceback; the caller learns only that there was one."""
        _log.error("defect while answering %s", method, exc_info=error)
        return Internal(f"{method} failed because of a defect in dlqueue; the daemon's log has the details")

    async def _discover(self, caller: Caller, params: Any) -> dict[str, Any]:
        if self._document is None:
            self._document = openrpc.document()
        return self._document


def _line(identity: envelope.Id, result: Any) -> bytes:
    """As `envelope.answer`, and ten times as fast: a list of a thousand tasks must not hold up the others. What only
    the standard library can say (lone surrogates, integers beyond 64 bits), and what is no JSON at all, is left to
    that."""
    try:
        return msgspec.json.encode({"jsonrpc": "2.0", "id": identity, "result": result}) + b"\n"
    except (TypeError, ValueError, OverflowError, RecursionError):
        return envelope.answer(identity, result)


_Answer = Callable[[Caller, Any], Awaitable[Any]]
