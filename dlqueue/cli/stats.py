"""`stats`: how tasks ended, and how long they took."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from dlqueue.cli import exits
from dlqueue.cli.options import duration
from dlqueue.cli.session import Session, everywhere, pass_session
from dlqueue.cli.table import is_terminal, put_json, put_table
from dlqueue.units import format_duration

_TITLES = ("QUEUE", "TYPE", "TOTAL", "DONE", "FAILED", "CANCELED", "SUCCESS", "AVG", "P50", "P95", "P99")
_EXPENDABLE = ("CANCELED", "TOTAL", "P95", "AVG")


@click.command("stats")
@click.option("--since", callback=duration, metavar="DUR", help="What ended in the last 24h, say; default: ever.")
@everywhere
@pass_session
def stats_command(session: Session, /, since: float | None) -> None:
    """How tasks ended, and how long they took.

    \b
    dlqueue stats --since 24h
    """
    start = None
    if since is not None:
        start = (datetime.now(UTC) - timedelta(seconds=since)).isoformat(timespec="milliseconds")
    found = session.client.tasks.stats(since=start, groups=True)
    if session.json:
        put_json(found)
        return
    groups = found["groups"]
    rows = [_row(group["queue"], group["type"], group) for group in groups]
    if len(groups) > 1 and is_terminal():
        rows.append(_row("", "all", found))
    put_table(_TITLES, rows, right=frozenset(_TITLES[2:]), expendable=_EXPENDABLE)
    if not groups:
        exits.say("no task has ended" + ("" if since is None else f" in the last {format_duration(since)}"))


def _row(queue: str, type: str, summary: Mapping[str, Any]) -> tuple[object, ...]:
    seconds, rate = summary["seconds"], summary["success_rate"]
    return (
        queue,
        type,
        summary["total"],
        summary["completed"],
        summary["failed"],
        summary["canceled"],
        None if rate is None else f"{100 * rate:.3g}%",
        *(_time(seconds[name]) for name in ("avg", "p50", "p95", "p99")),
    )


def _time(seconds: float | None) -> str | None:
    """For a program the number, for a person what it means."""
    if seconds is None:
        return None
    return format_duration(seconds) if is_terminal() else f"{seconds:.6g}"
