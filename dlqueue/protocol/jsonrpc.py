"""JSON-RPC 2.0, incoming: strict reading of requests."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from dlqueue.protocol.envelope import MAX_BATCH, Id
from dlqueue.protocol.errors import InvalidParams, InvalidRequest, LimitExceeded, ParseError, RpcError

MAX_DEPTH = 32
MAX_VALUES = 200_000
"""Values in one message: decoding holds up everybody else, so that its cost must have a bound (about 0.1 s)."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request; a notification gets no answer."""

    id: Id
    method: str
    params: dict[str, Any]
    notification: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Something in the place of a request that cannot be one; answered with ``error``."""

    id: Id
    error: RpcError


@dataclass(frozen=True, slots=True)
class Batch:
    items: tuple[Call | Refused, ...]


class _TooBig:
    """Stands in the place of an integer beyond 64 bits until the field that holds it is known."""


class _Reader:
    """One decoding: remembers whether there is anything that needs a closer look."""

    __slots__ = ("too_big",)

    def __init__(self) -> None:
        self.too_big = False

    def integer(self, text: str) -> int | _TooBig:
        if len(text) < 19:
            return int(text)
        if len(text) <= 20 and -(2**63) <= (value := int(text)) < 2**63:
            return value
        self.too_big = True
        return _TooBig()


def _number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ParseError(f"{text[:40]} is beyond what a number can be")
    return value


def _constant(text: str) -> Any:
    raise ParseError(f"{text} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ParseError(f'the key "{key[:100]}" is given twice')
            seen.add(key)
    return made


# The end of a string is optional so that every quote matches at once: an unterminated string costs linear time.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def _check_shape(data: bytes) -> None:
    """Refuse deep nesting and huge numbers of values before anything is built, without recursion, in linear time."""
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH and data.count(b",") <= MAX_VALUES:
        return
    bare = _STRING.sub(b"", data)
    depth = 0
    for bracket in bare.translate(None, _NOT_BRACKETS)[: 2 * MAX_VALUES]:
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise ParseError(f"nested deeper than {MAX_DEPTH} levels")
    if bare.count(b",") + bare.count(b"[") + bare.count(b"{") > MAX_VALUES:
        raise LimitExceeded(f"a message has at most {MAX_VALUES} values", kind="message_size")


def decode(data: bytes) -> tuple[Any, bool]:
    """The JSON value of a line, and whether it holds integers beyond 64 bits or NUL (see :func:`_blemish`).

    Raises :class:`ParseError` for everything that is not strict JSON in UTF-8: NaN, Infinity, duplicate keys, lone
    surrogates, too deep nesting. :class:`LimitExceeded` for more than ``MAX_VALUES`` values.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ParseError(f"not UTF-8: {error.reason} at byte {error.start}") from None
    _check_shape(data)
    reader = _Reader()
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=reader.integer,
            parse_float=_number,
            parse_constant=_constant,
        )
    except json.JSONDecodeError as error:
        raise ParseError(f"not JSON: {error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise ParseError(f"nested deeper than {MAX_DEPTH} levels") from None
    if _SURROGATE.search(data):
        _check_surrogates(value)
    return value, reader.too_big or b"\\u0000" in data


def _check_surrogates(value: Any) -> None:
    try:
        if isinstance(value, str):
            value.encode()
        elif isinstance(value, dict):
            for key, member in value.items():
                key.encode()
                _check_surrogates(member)
        elif isinstance(value, list):
            for member in value:
                _check_surrogates(member)
    except UnicodeEncodeError:
        raise ParseError("a string holds a lone surrogate") from None


def _blemish(value: Any) -> str | None:
    """What makes this value unusable anywhere, if anything: an integer beyond 64 bits, or NUL in a string."""
    if isinstance(value, _TooBig):
        return "the integer does not fit into 64 bits"
    if isinstance(value, str):
        return "must not hold the character NUL" if "\0" in value else None
    if isinstance(value, dict):
        return next((found for pair in value.items() for part in pair if (found := _blemish(part))), None)
    if isinstance(value, list):
        return next((found for member in value if (found := _blemish(member))), None)
    return None


def check_params(params: dict[str, Any]) -> None:
    """Of what :func:`decode` calls suspect. Raises :class:`InvalidParams` naming the param that nobody can use."""
    for name, param in params.items():
        if found := _blemish(name) or _blemish(param):
            raise InvalidParams(name.replace("\0", "\\0"), found)


def parse(data: bytes) -> Call | Refused | Batch:
    """What a line asks for. Never raises for bad input: the error is in the answer."""
    try:
        value, suspect = decode(data)
    except (ParseError, LimitExceeded) as error:
        return Refused(None, error)
    if not isinstance(value, list):
        return _call(value, suspect)
    if not value:
        return Refused(None, InvalidRequest("a batch must not be empty"))
    if len(value) > MAX_BATCH:
        return Refused(None, LimitExceeded(f"a batch has at most {MAX_BATCH} requests", kind="batch_size"))
    return Batch(tuple(_call(item, suspect) for item in value))


def _call(value: Any, suspect: bool) -> Call | Refused:
    if not isinstance(value, dict):
        return Refused(None, InvalidRequest("a request is a JSON object"))
    identity = value.get("id")
    if isinstance(identity, _TooBig):
        return Refused(None, InvalidParams("id", "the integer does not fit into 64 bits"))
    if isinstance(identity, bool) or not isinstance(identity, str | int | None):
        return Refused(None, InvalidRequest("id must be a string, an integer or null"))
    if value.get("jsonrpc") != "2.0":
        return Refused(identity, InvalidRequest('jsonrpc must be "2.0"'))
    method = value.get("method")
    if not isinstance(method, str):
        return Refused(identity, InvalidRequest("method must be a string"))
    params = value.get("params", {})
    notification = "id" not in value
    try:
        if not isinstance(params, dict):
            raise InvalidParams("params", "must be an object: named params only")
        if suspect:
            check_params(params)
    except InvalidParams as error:
        # A notification never gets an answer; the dispatcher needs the refusal only for requests.
        return Call(None, method, {}, notification=True) if notification else Refused(identity, error)
    return Call(identity, method, params, notification)
