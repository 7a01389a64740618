"""The OpenRPC document, made from the method table."""

from __future__ import annotations

from typing import Any

from dlqueue import __version__
from dlqueue.protocol import errors, methods
from dlqueue.transports import shapes

_ERRORS = [
    {"code": int(raised.default_code), "message": raised.default_kind}
    for raised in sorted(errors.RpcError.__subclasses__(), key=lambda raised: raised.default_code)
]


def document() -> dict[str, Any]:
    """Every method with the JSON Schema of its params and its result."""
    schemas: dict[str, Any] = {}
    rows = [_method(row, schemas) for row in methods.METHODS.values()]
    return {
        "openrpc": "1.3.2",
        "info": {"title": "dlqueue", "version": __version__},
        "methods": rows,
        "components": {"schemas": schemas},
    }


def _method(row: methods.Method, schemas: dict[str, Any]) -> dict[str, Any]:
    params = shapes.schema(row.params)
    result = shapes.schema(row.result)
    for described in (params, result):
        schemas.update(described.pop("$defs", {}))
    required = params.get("required", [])
    return {
        "name": row.name,
        "summary": row.doc,
        "paramStructure": "by-name",
        "params": [
            {"name": name, "required": name in required, "schema": described}
            for name, described in params.get("properties", {}).items()
        ],
        "result": {"name": result.pop("title", "result"), "schema": result},
        "errors": _ERRORS,
        "x-access": row.access,
        "x-role": row.role,
        "x-since": row.since,
    }
