"""Checking one table against a dataclass: unknown keys, wrong types, units, secrets, paths."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, to_json

from dlqueue import __version__
from dlqueue.config.files import Sources
from dlqueue.config.problems import Key, nearest, quoted
from dlqueue.config.secrets import expand_home, resolve_secret
from dlqueue.config.sections import REMOTE, SCHEME, TARGET, WEBHOOK
from dlqueue.names import NAME, NAME_RULE
from dlqueue.units import parse_duration, parse_rate, parse_size, parse_size_range

NOT_YET = f"not supported yet by dlqueue {__version__.rsplit('.', 1)[0]}"


class Checker:
    """Turns tables into values; what is wrong goes to the sources' problems."""

    def __init__(self, sources: Sources, environ: Mapping[str, str]) -> None:
        self.sources = sources
        self.environ = environ
        self.plain_secrets: list[Key] = []
        """Where secrets stand in plain text."""

    def table(self, key: Key, cure: str = "") -> dict[str, Any]:
        """The table at ``key``, empty if there is none or if something else is there."""
        table: dict[str, Any] = self.sources.data
        for name in key:
            value = table.get(str(name), {})
            if not isinstance(value, dict):
                self.sources.problem(key, f"must be a table, not {_called(value)}" + (f"; {cure}" if cure else ""))
                return {}
            table = value
        return table

    def keys(self, table: Mapping[str, Any], at: Key, valid: Sequence[str]) -> None:
        """Report keys that are unknown."""
        for name in table:
            if name not in valid:
                self.sources.problem((*at, name), f"unknown key; {nearest(name, valid)}")

    def name(self, at: Key) -> None:
        """Report a name that is none, at the end of ``at``."""
        if not NAME.fullmatch(str(at[-1])):
            self.sources.problem(at, f"a name is {NAME_RULE}")

    def values(
        self, cls: type[Any], table: Mapping[str, Any], at: Key, *, leave: Collection[str] = ()
    ) -> dict[str, Any]:
        """The values for the fields of the dataclass ``cls`` that ``table`` gives and that are right.
        Fields named in ``leave`` are not looked at."""
        hints = get_type_hints(cls, include_extras=True)
        right: dict[str, Any] = {}
        for one in dataclasses.fields(cls):
            if not one.init or one.name in leave:
                continue
            if one.name in table:
                try:
                    right[one.name] = self._value(table[one.name], hints[one.name], one.metadata, (*at, one.name))
                except _Reported:
                    continue
            elif _required(one) and not self.sources.broken:  # a file that cannot be read may well hold it
                self.sources.problem((*at, one.name), "is required")
        return right

    def _value(self, value: Any, hint: Any, metadata: Mapping[Any, Any], at: Key) -> Any:
        secret = bool(metadata.get("secret"))
        if metadata.get("off") and value is False:
            return None
        alone = bool(metadata.get("listed")) and not isinstance(value, list)
        hint_off = "; false = no rule" if metadata.get("off") else ""
        try:
            _refuse_oddities(value)
            if secret:
                if isinstance(value, str):
                    self.plain_secrets.append(at)
                value = resolve_secret(value, self.environ)
            elif metadata.get("duration"):
                value = parse_duration(value)
            elif metadata.get("size"):
                value = parse_size(value)
            elif metadata.get("rate"):
                parse_rate(value)
            elif alone:
                value = [value]
            if metadata.get("size_range"):
                for one in value:
                    parse_size_range(one)
        except ValueError as error:
            self.sources.problem(at, f"{error}{hint_off}")
            raise _Reported from None
        try:
            # By way of JSON: strict about types, and still a list may become a tuple and text a path.
            checked = TypeAdapter[Any](hint).validate_json(to_json(value), strict=True)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                if detail["type"] == "too_short" and value:
                    continue  # only because an item is wrong, which is said too
                within = _within(value, detail["loc"])[1:] if alone else _within(value, detail["loc"])
                self.sources.problem((*at, *within), _message(detail, secret=secret) + hint_off)
            raise _Reported from None
        try:
            return self._paths(checked)
        except ValueError as error:
            self.sources.problem(at, str(error))
            raise _Reported from None

    def _paths(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(self._paths(item) for item in value)
        if not isinstance(value, Path):
            return value
        path = expand_home(str(value), self.environ)
        if not path.is_absolute():
            raise ValueError(f'must be an absolute path, not {quoted(str(value))} ("~/" is understood)')
        if ".." in path.parts:
            raise ValueError('a path must not hold ".."')
        return path


def _required(one: dataclasses.Field[Any]) -> bool:
    return one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING


class _Reported(Exception):
    """The value is wrong, and the problem is noted."""


def _refuse_oddities(value: Any) -> None:
    if isinstance(value, (datetime.date, datetime.time)):
        raise ValueError("a date or time is not used here")  # noqa: TRY004 - one error type
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a finite number")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("a number beyond 64 bits")
    if isinstance(value, str) and "\0" in value:
        raise ValueError("holds a NUL character")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _refuse_oddities(inner)


def _within(value: Any, loc: tuple[int | str, ...]) -> Key:
    """The part of an error's place that is in the file; the rest names alternatives of a type."""
    key: Key = ()
    for part in loc:
        try:
            value = value[part]
        except (LookupError, TypeError):
            break
        key += (part,)
    return key


_WANTED = {
    "bool": "true or false",
    "dict": "a table",
    "float": "a number",
    "frozen_set": "a list",
    "int": "a whole number",
    "list": "a list",
    "set": "a list",
    "string": "text",
    "tuple": "a list",
}


_PATTERNS = {
    SCHEME: 'must be the name of a scheme in small letters, such as "https", without ://',
    f"^{NAME.pattern}$": f"must be {NAME_RULE}",
    TARGET: 'must be a URL as apprise understands it, such as "mailto://…"',
    WEBHOOK: "must begin with https:// or http://",
    REMOTE: "must be an absolute path, as the downloader would name it",
}


def _message(detail: ErrorDetails, *, secret: bool) -> str:
    kind, given, ctx = detail["type"], detail["input"], detail.get("ctx", {})
    wanted = _WANTED.get(kind.removesuffix("_type").removesuffix("_from_float"))
    if wanted:
        cure = f": write [{quoted(given)}]" if wanted == "a list" and isinstance(given, str) and not secret else ""
        return f"must be {wanted}, not {_called(given)}{cure}"
    if kind == "literal_error":
        expected = str(ctx["expected"]).replace("'", '"')
        shown = quoted(given) if isinstance(given, str) else _called(given)
        return f"must be {expected}" + ("" if secret else f", not {shown}")
    if kind == "greater_than":
        return f"must be more than {ctx['gt']:g}"
    if kind == "greater_than_equal":
        return f"must be at least {ctx['ge']:g}"
    if kind == "less_than_equal":
        return f"must be at most {ctx['le']:g}"
    if kind == "too_short":
        return f"must have at least {ctx['min_length']} item(s)"
    if kind == "string_too_short":
        return "must not be empty"
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(ctx["pattern"], f"must match {ctx['pattern']}")
    return detail["msg"].removeprefix("Value error, ")


def _called(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, dict):
        return "a table"
    return "a list" if isinstance(value, (list, tuple)) else "a date or time"
