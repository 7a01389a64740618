"""The protocol's plain types as pydantic sees them: strict checking, and JSON Schema for the documents."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable
from functools import cache
from typing import Any, NotRequired, Required, Union, get_args, get_origin, get_type_hints, is_typeddict

from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from dlqueue.protocol.errors import InvalidParams, did_you_mean

_STRICT = ConfigDict(extra="forbid", strict=True)
_LOOSE = ConfigDict(extra="allow")
_WORDS = {
    "must be a valid dictionary": "must be an object",
    "must be a valid list": "must be a list",
    "must be a valid string": "must be a string",
    "must be a valid integer": "must be a whole number",
    "must be a valid number": "must be a number",
    "must be a valid boolean": "must be true or false",
}
_typed_dict: Any = TypedDict  # called with names known at run time only


@cache
def _dataclass_shape(declared: type[Any]) -> Any:
    hints = get_type_hints(declared)
    members = {}
    for field in dataclasses.fields(declared):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        hint = shape(hints[field.name])
        members[field.name] = Required[hint] if required else NotRequired[hint]
    made = _typed_dict(declared.__name__, members)
    made.__pydantic_config__ = _STRICT
    return made


@cache
def _typeddict_shape(declared: type[Any]) -> Any:
    # Not `__optional_keys__`: that does not know what is written as text (postponed annotations).
    hints = get_type_hints(declared, include_extras=True)
    members = {}
    for name, hint in hints.items():
        optional = get_origin(hint) is NotRequired
        plain = shape(get_args(hint)[0] if optional else hint)
        members[name] = NotRequired[plain] if optional else Required[plain]
    made = _typed_dict(declared.__name__, members)
    made.__pydantic_config__ = _LOOSE
    return made


def shape(hint: Any) -> Any:
    """``hint`` with dataclasses and standard TypedDicts replaced by what pydantic accepts on every Python."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _dataclass_shape(hint)
    if is_typeddict(hint):
        return _typeddict_shape(hint)
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return Union[tuple(shape(part) for part in parts)]  # noqa: UP007 - the members are known at run time only
    if origin in (list, dict):
        return origin[tuple(shape(part) for part in parts)]
    return hint


def schema(hint: Any) -> dict[str, Any]:
    """JSON Schema; named parts are referred to under ``#/components/schemas/`` and listed in ``$defs``."""
    return TypeAdapter(shape(hint)).json_schema(ref_template="#/components/schemas/{model}")


def reader(declared: type[Any]) -> Callable[[dict[str, Any]], Any]:
    """A function that makes ``declared`` (a params dataclass) out of a JSON object.

    It raises :class:`InvalidParams` naming the first field that is wrong.
    """
    adapter = TypeAdapter(shape(declared))
    build = _builder(declared)

    def read(params: dict[str, Any]) -> Any:
        try:
            return build(adapter.validate_python(params))
        except ValidationError as error:
            raise _translated(error, declared) from None

    return read


def _builder(declared: type[Any]) -> Callable[[dict[str, Any]], Any]:
    """From checked values to the dataclass, with the dataclasses in it and in its lists."""
    hints = get_type_hints(declared)
    lists = {name: _builder(member) for name, hint in hints.items() if (member := _listed(hint))}
    members = {name: _builder(member) for name, hint in hints.items() if (member := _optional(hint))}
    if not lists and not members:
        return lambda values: declared(**values)

    def build(values: dict[str, Any]) -> Any:
        made = dict(values)
        for name, member in lists.items():
            made[name] = [_placed(f"{name}.{index}", member, value) for index, value in enumerate(values[name])]
        for name, member in members.items():
            if made.get(name) is not None:
                made[name] = _placed(name, member, made[name])
        return declared(**made)

    return build


def _listed(hint: Any) -> type[Any] | None:
    """The dataclass that a list holds, if it does."""
    member = next(iter(get_args(hint)), None) if get_origin(hint) is list else None
    return member if isinstance(member, type) and dataclasses.is_dataclass(member) else None


def _optional(hint: Any) -> type[Any] | None:
    """The dataclass of a field that need not be given, if it is one."""
    members = [part for part in get_args(hint) if part is not types.NoneType]
    if get_origin(hint) not in (Union, types.UnionType) or len(members) != 1:
        return None
    return members[0] if isinstance(members[0], type) and dataclasses.is_dataclass(members[0]) else None


def _placed(place: str, build: Callable[[dict[str, Any]], Any], value: dict[str, Any]) -> Any:
    try:
        return build(value)
    except InvalidParams as error:
        field = f"{place}.{error.field}"
        raise InvalidParams(field, error.message.removeprefix(f"{error.field}: "), kind=error.kind) from None


def _translated(error: ValidationError, declared: type[Any]) -> InvalidParams:
    found = error.errors(include_url=False)
    # A misspelt name explains the missing one, not the other way round.
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    location = [part for part in first["loc"] if isinstance(part, int) or _is_name(part)]
    field = ".".join(str(part)[:100] for part in location) or None
    kind, context = first["type"], first.get("ctx", {})
    if kind == "extra_forbidden":
        known = _names_at(declared, location[:-1])
        meant = did_you_mean(str(first["loc"][-1]), known) or (
            f"; there is {', '.join(known)}" if 0 < len(known) < 8 else ""
        )
        return InvalidParams(field, f"no such param{meant}", kind="unknown_param")
    if kind == "missing":
        return InvalidParams(field, "is required", kind="missing_param")
    if kind == "literal_error":
        expected = str(context.get("expected", ""))
        return InvalidParams(field, f"must be {expected}{_meant(first.get('input'), expected)}")
    message = str(first["msg"]).replace("Input should be", "must be")
    return InvalidParams(field, _WORDS.get(message, message))


def _is_name(part: object) -> bool:
    # pydantic adds the branch of a union to the location ("list[literal[…]]", "str"): that says nothing to a caller.
    return isinstance(part, str) and part not in ("str", "int", "float", "bool") and "[" not in part


def _meant(given: object, expected: str) -> str:
    words = [word.strip("' ") for word in expected.replace(" or ", ",").split(",")]
    return did_you_mean(given, words) if isinstance(given, str) else ""


def _names_at(declared: type[Any], location: list[Any]) -> list[str]:
    for part in location:
        if isinstance(part, str):
            hint = get_type_hints(declared).get(part)
            declared = _listed(hint) or _optional(hint) or declared
    return [field.name for field in dataclasses.fields(declared)]
