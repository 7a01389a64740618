"""From a query string (or a path) to params: text becomes what the method's param is."""

from __future__ import annotations

import math
import re
import types
from collections.abc import Iterable
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl

from dlqueue.protocol.errors import InvalidParams, ParseError

_MOST = 1000
"""Params in one query."""
_INTEGER = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?", re.ASCII)
_WORDS = {"true": True, "false": False}


def read_query(declared: type[Any], query: bytes) -> dict[str, Any]:
    """The params in a query string, as JSON would have them. Names that ``declared`` (a params dataclass) lacks stay
    as they are: the check of the params knows what to say. A list is given by repeating its name.

    :raises ParseError, InvalidParams:
    """
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST)
    except (UnicodeDecodeError, ValueError) as error:
        told = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else f"has more than {_MOST} params"
        raise ParseError(f"the query {told}") from None
    given: dict[str, list[str]] = {}
    for name, text in pairs:
        given.setdefault(name, []).append(text)
    return {name: value_of(declared, name, texts) for name, texts in given.items()}


def value_of(declared: type[Any], name: str, texts: list[str]) -> Any:
    """What the texts given for a param mean. :raises InvalidParams: it cannot be said in a query."""
    if any("\0" in text for text in (name, *texts)):
        raise InvalidParams(name.replace("\0", "\\0")[:100], "must not hold the character NUL")
    kinds = list(_kinds(get_type_hints(declared).get(name, str)))
    listed = next((kind for kind in kinds if get_origin(kind) is list), None)
    if listed is not None and (len(texts) > 1 or len(kinds) == 1):
        members = list(_kinds(get_args(listed)[0]))
        return [_scalar(name, members, text) for text in texts]
    if len(texts) > 1:
        raise InvalidParams(name[:100], "is given twice")
    return _scalar(name, kinds, texts[0])


def _kinds(hint: Any) -> Iterable[Any]:
    """The alternatives of a type, without None."""
    if get_origin(hint) in (Union, types.UnionType):
        for part in get_args(hint):
            yield from _kinds(part)
    elif hint is not types.NoneType:
        yield hint


def _scalar(name: str, kinds: list[Any], text: str) -> Any:
    """The value; text that is none of the type stays, for the check of the params to refuse."""
    if bool in kinds:
        return _WORDS.get(text, text)
    if int in kinds and _INTEGER.fullmatch(text):
        value = int(text)
        if not -(2**63) <= value < 2**63:
            raise InvalidParams(name, "the integer does not fit into 64 bits")
        return value
    if float in kinds and _NUMBER.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    if not any(kind is str or get_origin(kind) is Literal for kind in kinds) and not {int, float} & set(kinds):
        raise InvalidParams(name, "cannot be said in the query; put it into the body")
    return text
