"""What values of params may be: limits, and checks that raise :class:`~dlqueue.protocol.errors.InvalidParams`."""

from __future__ import annotations

import math
from typing import Any

from dlqueue.names import NAME, NAME_RULE
from dlqueue.protocol import times
from dlqueue.protocol.errors import InvalidParams

MAX_PRIORITY = 1000
MAX_SECONDS = 36500 * 86400.0
MAX_LIST = 1000
MAX_FILTER_LABELS = 16
MAX_LABELS = 64
MAX_PARAMS = 256 * 1024
"""Bytes that the params of a task have at most, as JSON."""
MAX_TEXT = 1024
"""Longest name, label, key or search text, in characters."""


def bounded(params: Any, low: float, high: float, *names: str) -> None:
    """These fields, where they are given, are between the two."""
    for name in names:
        value = getattr(params, name)
        if value is not None and not (math.isfinite(value) and low <= value <= high):
            raise InvalidParams(name, f"must be between {low:.0f} and {high:.0f}")


def short(params: Any, *names: str) -> None:
    """These fields, where they are given, are texts of a length that makes sense."""
    for name in names:
        value = getattr(params, name)
        if value is not None and not 0 < len(value) <= MAX_TEXT:
            raise InvalidParams(name, f"must have between 1 and {MAX_TEXT} characters")


def named(params: Any, *names: str) -> None:
    """These fields, where they are given, are names."""
    for name in names:
        value = getattr(params, name)
        if value is not None and not NAME.fullmatch(value):
            raise InvalidParams(name, f"must be {NAME_RULE}")


def instants(params: Any, *names: str) -> None:
    """These fields, where they are given, are points in time."""
    for name in names:
        value = getattr(params, name)
        if value is not None:
            try:
                times.instant(value)
            except ValueError as error:
                raise InvalidParams(name, str(error)) from None


def as_lists(labels: dict[str, str | list[str]] | None) -> dict[str, list[str]]:
    """One value is a list of one."""
    return {key: [value] if isinstance(value, str) else list(value) for key, value in (labels or {}).items()}


def few_labels(labels: dict[str, list[str]]) -> None:
    """Not too many, and not too long."""
    if sum(max(len(values), 1) for values in labels.values()) > MAX_LABELS:
        raise InvalidParams("labels", f"at most {MAX_LABELS} labels")
    for key, values in labels.items():
        if not 0 < len(key) <= MAX_TEXT or any(len(value) > MAX_TEXT for value in values):
            raise InvalidParams("labels", f"keys and values must have at most {MAX_TEXT} characters")


def identifier(name: str, value: int | None) -> None:
    """It could be the id of a task."""
    if value is not None and value < 1:
        raise InvalidParams(name, "task ids are numbers from 1")
