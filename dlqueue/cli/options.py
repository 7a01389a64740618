"""Values of options that click does not know: durations and moments."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from dlqueue.units import parse_duration


def duration(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """`90s`, `2h30m`, `7d` as seconds."""
    if value is None:
        return None
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def moment(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """RFC 3339 in UTC; without a zone it is the time of this machine."""
    if value is None:
        return None
    try:
        given = datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError):
        message = f'not a time: "{value}"; write for example 2026-01-31T18:00 or 2026-01-31T17:00:00Z'
        raise click.BadParameter(message, ctx, param) from None
    return given.isoformat(timespec="seconds").replace("+00:00", "Z")
