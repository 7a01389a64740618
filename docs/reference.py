"""Writes `rpc-reference.md` from the method table: `make docs` runs it, and a test compares.

python docs/reference.py [--check]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dlqueue.transports import openrpc

PAGE = Path(__file__).parent / "rpc-reference.md"

FEW = 5
"""Members that are told in one sentence."""

_HEAD = """# Reference of the methods

Made from the method table of the program by `make docs`; what the words mean is explained in [JSON-RPC](rpc.md). A
daemon tells the same as an OpenRPC document: `dlqueue rpc rpc.discover`. *Role* is what a token of the HTTP gateway
needs; on the Unix socket there are no roles. Params in **bold** must be given. Every object that is answered may get
more members in later versions.
"""


def page() -> str:
    """The whole page."""
    document = openrpc.document()
    types = dict(document["components"]["schemas"])
    parts = [_HEAD]
    space = ""
    for method in document["methods"]:
        if method["name"].partition(".")[0] != space:
            space = method["name"].partition(".")[0]
            parts.append(f"## {space}\n")
        result = method["result"]
        if _is_long(result["schema"]):
            types[result["name"]] = result["schema"]
        parts.append("\n".join(_method(method)))
    parts.append("## Types\n")
    for name, schema in sorted(types.items()):
        parts.append("\n".join(_type(name, schema)))
    return "\n".join(parts).rstrip() + "\n"


def _method(method: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {method['name']}\n"
    yield f"{method['summary']} Role: {method['x-role']}.\n"
    if method["params"]:
        yield "| param | type |\n|---|---|"
        for param in sorted(method["params"], key=lambda param: not param["required"]):
            name = f"**`{param['name']}`**" if param["required"] else f"`{param['name']}`"
            yield f"| {name} | {_words(param['schema'], optional=not param['required'])} |"
        yield ""
    yield f"Answers {_result(method['result'])}.\n"


def _result(result: Mapping[str, Any]) -> str:
    schema, name = result["schema"], result["name"]
    if _is_long(schema):
        return f"[{name}](#{name.lower()})"
    if "properties" in schema:
        return "an object of " + ", ".join(f"`{key}` ({_words(value)})" for key, value in schema["properties"].items())
    return _words(schema)


def _is_long(schema: Mapping[str, Any]) -> bool:
    """Is it better described in a place of its own?"""
    return len(schema.get("properties", ())) > FEW


def _type(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {name}\n"
    if "properties" in schema:
        required = schema.get("required", ())
        yield "| member | type |\n|---|---|"
        for key, described in schema["properties"].items():
            absent = "" if key in required else "; may be absent"
            yield f"| `{key}` | {_words(described)}{absent} |"
        yield ""
    else:
        yield f"{_words(schema)}\n"


def _words(schema: Mapping[str, Any], optional: bool = False) -> str:
    """A JSON Schema in a few words. ``null`` goes without saying where a value may be left out."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        parts = [part for part in schema["anyOf"] if not (optional and part.get("type") == "null")]
        return " or ".join(_words(part) for part in parts)
    if "enum" in schema:
        return " ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    match schema.get("type"):
        case "array":
            items = _words(schema.get("items", {}))
            return f"a list of {items}"
        case "object" if isinstance(schema.get("additionalProperties"), Mapping):
            return f"an object of {_words(schema['additionalProperties'])}"
        case "object":
            return "an object"
        case "null":
            return "null"
        case str(kind):
            return kind
    return "any value"


def main() -> int:
    made = page()
    if sys.argv[1:] == ["--check"]:
        return int(PAGE.read_text(encoding="utf-8") != made)
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
