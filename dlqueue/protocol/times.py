"""Instants as text: RFC 3339 in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def instant(text: str) -> float:
    """RFC 3339 text as Unix seconds. Raises ``ValueError`` with a message that says what is wrong."""
    if not _RFC3339.fullmatch(text):
        raise ValueError(f'"{text[:40]}" is not a time in RFC 3339, such as 2026-01-31T12:00:00Z')
    try:
        return datetime.fromisoformat(text.upper()).timestamp()
    except (ValueError, OverflowError) as error:
        raise ValueError(f'"{text}" is not a time that exists: {error}') from None


def instant_text(seconds: float) -> str:
    """Unix seconds as RFC 3339 in UTC, with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
