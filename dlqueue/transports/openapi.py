"""The OpenAPI document, made from the tables of methods and routes."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from dlqueue import __version__
from dlqueue.protocol.errors import Code
from dlqueue.protocol.events import Subscribe
from dlqueue.protocol.methods import METHODS, Method
from dlqueue.protocol.routes import ROUTES, Route
from dlqueue.transports import shapes
from dlqueue.transports.problem import MEDIA_TYPE

_PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457. `kind` and `code` are those of the JSON-RPC interface.",
    "required": ["type", "title", "status", "detail", "code", "kind"],
    "properties": {
        "type": {"const": "about:blank"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"enum": [int(code) for code in Code]},
        "kind": {"type": "string"},
        "field": {"type": "string", "description": "The param that is wrong."},
        "task_id": {"type": "integer"},
        "retry_after": {"type": "number", "description": "Seconds."},
    },
}
_EVERYWHERE = (400, 401, 403, 429, 500, 503)
_WITH_BODY = (408, 413, 415)
_OF_WRITES = (404, 409, 422, 502, 504)
_PLAIN = (400, 403, 503)


def document() -> dict[str, Any]:
    """Every path with its params, answers and refusals."""
    schemas: dict[str, Any] = {"Problem": _PROBLEM}
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.template, {})[route.verb.lower()] = _operation(route, schemas)
    for path, operation in _others(schemas).items():
        paths[path] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "dlqueue",
            "version": __version__,
            "description": "Each route is a method of the JSON-RPC interface. Params of a POST or PUT may also be "
            "given in the query, as far as they are no objects.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "Made by `dlqueue token new`."}
            },
            "schemas": schemas,
        },
    }


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    row = METHODS[route.method]
    params = _schema(row.params, schemas)
    if route.takes is not None:
        kept = {*route.takes, *route.in_path}
        params["properties"] = {name: one for name, one in params["properties"].items() if name in kept}
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": row.doc,
        "tags": [row.name.partition(".")[0]],
        "description": f"Method `{row.name}`; needs the role `{row.role}`.",
        "x-method": row.name,
        "x-role": row.role,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": _in_path(params["properties"].pop(name))}
            for name in route.in_path
        ],
        "responses": _responses(route, row, schemas),
    }
    required = [name for name in params.pop("required", []) if name not in route.in_path]
    if not route.has_body:
        operation["parameters"] += [
            {"name": name, "in": "query", "required": name in required, "schema": _in_query(one)}
            for name, one in params["properties"].items()
        ]
    else:
        body = {**params, **({"required": required} if required else {})}
        operation["requestBody"] = {"required": bool(required), "content": {"application/json": {"schema": body}}}
    return operation


def _operation_id(route: Route) -> str:
    """Methods that have two paths differ by what is in the path."""
    alike = [other for other in ROUTES if other.method == route.method]
    return route.method if alike[0] == route else f"{route.method}.by_{'_'.join(route.in_path)}"


def _responses(route: Route, row: Method, schemas: dict[str, Any]) -> dict[str, Any]:
    result = _schema(row.result, schemas)
    answers: dict[str, Any] = {}
    if route.makes is None or row.name in ("tasks.submit", "downloads.add"):
        joined = "What was asked for." if route.makes is None else "A task that was there already, or a dry run."
        answers["200"] = {"description": joined, "content": {"application/json": {"schema": result}}}
    if route.makes is not None:
        answers["201"] = {
            "description": "It is made.",
            "headers": {"Location": {"schema": {"type": "string"}, "required": True}},
            "content": {"application/json": {"schema": result}},
        }
    statuses = {*_EVERYWHERE, *(_WITH_BODY if route.has_body else ())}
    if row.access == "write":
        statuses.update(_OF_WRITES)
    if route.in_path:
        statuses.update((404, 502))
    return answers | _problems(sorted(statuses))


def _problems(statuses: Iterable[int]) -> dict[str, Any]:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {str(status): {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def _schema(hint: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    described = shapes.schema(hint)
    schemas.update(described.pop("$defs", {}))
    described.pop("title", None)
    if "properties" in described:
        described["properties"] = dict(described["properties"])
    return described


def _in_path(schema: dict[str, Any]) -> dict[str, Any]:
    """One value, and never empty."""
    one = _in_query(schema)
    return {**one, "minLength": 1} if one.get("type") == "string" else one


def _in_query(schema: dict[str, Any]) -> dict[str, Any]:
    """Without what a query cannot say: null and objects."""
    schema = {name: value for name, value in schema.items() if name not in ("title", "default")}
    kinds: list[dict[str, Any]] = [one for one in schema.pop("anyOf", []) if one.get("type") not in ("null", "object")]
    if len(kinds) == 1:
        return schema | kinds[0]
    return schema | {"anyOf": kinds} if kinds else schema


def _others(schemas: dict[str, Any]) -> dict[str, Any]:
    """What is no method of the table."""
    status = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}}
    anything: dict[str, Any] = {}
    envelope = {"description": "One request, or a batch of 1 to 1000.", "type": ["object", "array"]}
    subscribe = _schema(Subscribe, schemas)
    events: dict[str, Any] = {
        "summary": "Events, as they come (server-sent events).",
        "description": "The event's name is its topic, its id the durable sequence; needs the role `read`.",
        "parameters": [
            *(
                {"name": name, "in": "query", "required": False, "schema": _in_query(one)}
                for name, one in subscribe["properties"].items()
            ),
            {
                "name": "Last-Event-ID",
                "in": "header",
                "required": False,
                "schema": {"type": "integer", "minimum": 0},
                "description": "The id of the last event that was seen; instead of `since`.",
            },
        ],
    }
    rpc = _get("rpc", "JSON-RPC 2.0, with the envelopes of the Unix socket.", "application/json", anything, _WITH_BODY)
    rpc["requestBody"] = {"required": True, "content": {"application/json": {"schema": envelope}}}
    rpc["responses"]["204"] = {"description": "Only notifications: there is no answer."}
    rpc["responses"]["403"]["content"]["application/json"] = {"schema": anything}
    streams = {
        path: {"get": _get(name, events["summary"], "text/event-stream", {"type": "string"}) | events}
        for path, name in (("/events", "events"), ("/api/v1/events", "api.events"))
    }
    return {
        "/rpc": {"post": rpc},
        **streams,
        "/metrics": {"get": _get("metrics", "Metrics for Prometheus.", "text/plain", {"type": "string"}, (404,))},
        "/openapi.json": {"get": _get("openapi", "This document.", "application/json", {"type": "object"})},
        "/healthz": {"get": _public(_get("healthz", "Whether the process lives.", "application/json", status))},
        "/readyz": {"get": _public(_get("readyz", "Whether tasks are taken and run.", "application/json", status))},
        "/": {"get": _public(_get("dashboard", "The dashboard.", "text/html", {"type": "string"}))},
    }


def _get(
    identity: str, summary: str, media_type: str, schema: dict[str, Any], more: tuple[int, ...] = ()
) -> dict[str, Any]:
    return {
        "operationId": identity,
        "summary": summary,
        "tags": ["gateway"],
        "responses": {
            "200": {"description": "What was asked for.", "content": {media_type: {"schema": schema}}},
            **_problems(sorted({*_EVERYWHERE, *more})),
        },
    }


def _public(operation: dict[str, Any]) -> dict[str, Any]:
    kept = ("200", *map(str, _PLAIN))
    responses = {status: one for status, one in operation["responses"].items() if status in kept}
    return {**operation, "security": [], "responses": responses}
