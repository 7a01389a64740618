"""REST: params from the path, the query and the body; then one call of the dispatcher."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from dlqueue.protocol import envelope
from dlqueue.protocol.errors import InvalidParams, did_you_mean
from dlqueue.protocol.jsonrpc import Call
from dlqueue.protocol.methods import METHODS
from dlqueue.protocol.routes import API, ROUTES, Route
from dlqueue.transports.calls import Calls
from dlqueue.transports.query import read_query, value_of

Endpoint = Callable[[Request], Awaitable[Response]]


def endpoints(calls: Calls) -> dict[str, dict[str, Endpoint]]:
    """Path → verb → what answers it, in the order of the table."""
    paths: dict[str, dict[str, Endpoint]] = {}
    for route in ROUTES:
        paths.setdefault(API + route.path, {})[route.verb] = _endpoint(calls, route)
    return paths


def _endpoint(calls: Calls, route: Route) -> Endpoint:
    async def answer(request: Request) -> Response:
        calls.dispatcher.admit(request.scope["caller"], route.method)  # before anything of it is read
        call = Call(None, route.method, await _params(calls, route, request))
        result = await calls.result(request, call)
        return _answered(calls, route, call, result)

    return answer


async def _params(calls: Calls, route: Route, request: Request) -> dict[str, Any]:
    declared = METHODS[route.method].params
    params = {name: value_of(declared, name, [request.path_params[name]]) for name in route.in_path}
    given = [read_query(declared, request.scope["query_string"])]
    if route.has_body:
        given.append(await calls.intake.read_object(request))
    for part in given:
        for name, value in part.items():
            if name in params:
                if name in route.in_path and value == params[name]:
                    continue  # a client that sends back what it got
                raise InvalidParams(name[:100], "is given twice")
            if route.takes is not None and name not in route.takes:
                meant = did_you_mean(name, route.takes)
                raise InvalidParams(name[:100], f"no such param{meant}", kind="unknown_param")
            params[name] = value
    return params


def _answered(calls: Calls, route: Route, call: Call, result: Any) -> Response:
    try:
        body = envelope.encode(result)
    except (TypeError, ValueError, RecursionError) as error:
        raise calls.dispatcher.defect(call.method, error) from None
    if route.makes is None or result.get("dry_run") or not result.get("created", True):
        return Response(body, media_type="application/json")
    where = API + route.makes.format(**{name: quote(str(value), safe="") for name, value in result.items()})
    return Response(body, 201, {"Location": where}, "application/json")
