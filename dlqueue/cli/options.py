"""Values of options that click does not know, and the options that every submit has."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from dlqueue.cli.complete import complete_ids, complete_queues
from dlqueue.cli.ids import numbers, task_ids
from dlqueue.cli.session import Session
from dlqueue.protocol.errors import LimitExceeded, ParseError
from dlqueue.protocol.jsonrpc import check_params, decode
from dlqueue.protocol.times import instant_text
from dlqueue.units import parse_duration, parse_size

F = TypeVar("F", bound=Callable[..., Any])

FOLDER = click.Path(file_okay=False, readable=False)
"""For a shell: of what is typed, only folders are offered. It is the daemon that has to write there, not we."""
DOWNLOAD = "remote_download"
"""The type of tasks that downloads are."""
MOST_FILES = 100_000
"""File indexes in one selection."""


def duration(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """`90s`, `2h30m`, `7d` as seconds."""
    if value is None:
        return None
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def moment(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """RFC 3339 in UTC; without a zone it is the time of this machine; also `now`."""
    if value is None:
        return None
    if value == "now":
        return instant_text(time.time())
    try:
        given = datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError):
        message = f'not a time: "{value}"; write for example 2026-01-31T18:00 or 2026-01-31T17:00:00Z'
        raise click.BadParameter(message, ctx, param) from None
    return given.isoformat(timespec="seconds").replace("+00:00", "Z")


def folder(given: str) -> Path:
    """A shell leaves ``~/`` alone where it is quoted or follows a `=`: here it is the home folder all the same."""
    return Path(given).expanduser() if given == "~" or given.startswith("~/") else Path(given)


def indexes(ctx: click.Context, param: click.Parameter, value: str | None) -> list[int] | None:
    """`1,3-5` as the indexes of files."""
    if value is None:
        return None
    try:
        return numbers(value, "the number of a file", MOST_FILES)
    except ValueError as error:
        raise click.BadParameter(f"{error}; write for example 1,3-5", ctx, param) from None


def estimate(ctx: click.Context, param: click.Parameter, value: str | None) -> dict[str, float] | None:
    """`memory=2GiB,cpu=1.5,temp=500M,seconds=2h` as what a task needs."""
    if value is None:
        return None
    given: dict[str, float] = {}
    for part in value.split(","):
        name, equals, text = part.strip().partition("=")
        read = _ESTIMATED.get(name)
        if read is None or not equals or name in given:
            message = f'not an estimate: "{part}"; there are {", ".join(_ESTIMATED)}, as in memory=2GiB,cpu=1'
            raise click.BadParameter(message, ctx, param)
        try:
            given[name] = read(text.strip())
        except ValueError as error:
            raise click.BadParameter(f"{name}: {error}", ctx, param) from None
    return given


def _cores(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f'not a number of cores: "{text}"') from None


_ESTIMATED: dict[str, Callable[[str], float]] = {
    "memory": parse_size,
    "cpu": _cores,
    "temp": parse_size,
    "seconds": parse_duration,
}


def json_object(text: str, called: str) -> dict[str, Any]:
    """Params given as JSON, read as strictly as the daemon reads them; ``-`` is standard input."""
    try:
        value, suspect = decode(sys.stdin.buffer.read() if text == "-" else os.fsencode(text))
    except (ParseError, LimitExceeded) as error:
        raise click.UsageError(f"{called}: {error.message}") from None
    if not isinstance(value, dict):
        raise click.UsageError(f"{called}: must be a JSON object, such as '{{\"id\": 7}}'")
    if suspect:
        check_params(value)
    return value


def task_params(text: str, type: str | None) -> dict[str, Any]:
    """The value of ``--params`` for a task of this type: a download that names no folder comes here."""
    params = json_object(text, "--params")
    if type == DOWNLOAD and not params.keys() & {"cwd", "directory"}:
        set_cwd(params)
    return params


def set_cwd(params: dict[str, Any]) -> None:
    """Say where the command is given: there goes a download that names no folder."""
    with suppress(FileNotFoundError):  # a folder that was removed under our feet: the daemon has a default of its own
        params["cwd"] = str(Path.cwd())


def submission_options(command: F) -> F:
    """What every submit may say."""
    for option in reversed(
        (
            click.option("--priority", type=int, metavar="N", help="Higher goes first (default 0)."),
            click.option("--queue", metavar="Q", shell_complete=complete_queues, help="The queue to put it in."),
            click.option("--tag", "tags", metavar="T", multiple=True, help="A tag; may be repeated."),
            click.option(
                "--after", metavar="ID", multiple=True, shell_complete=complete_ids, help="Start when this is done."
            ),
            click.option("--at", "run_at", callback=moment, metavar="TIME", help="Start at this time."),
            click.option("--delay", callback=duration, metavar="DUR", help="Start after this time."),
            click.option("--max-retry", type=click.IntRange(min=0), metavar="N", help="Tries after a passing error."),
            click.option("--unique-key", metavar="K", help="At most one task with this key."),
            click.option("--on-full", type=click.Choice(["refuse", "wait"]), help="If its queue is at its capacity."),
            click.option("--paused", is_flag=True, help="Do not start yet."),
            click.option("-q", "quiet", is_flag=True, help="Ids only."),
            click.option("--on-done", "hook", metavar="HOOK", help="Run this hook of the configuration at the end."),
            click.option("--webhook", metavar="URL", help="Tell this URL at the end."),
        )
    ):
        command = option(command)
    return command


def submission(options: dict[str, Any]) -> dict[str, Any]:
    """What `submission_options` were given, as params; but for ``--after``, for which the daemon has to be asked."""
    if options["run_at"] is not None and options["delay"] is not None:
        raise click.UsageError("give either --at or --delay, not both")
    names = ("priority", "queue", "run_at", "delay", "max_retry", "unique_key", "on_full")
    given: dict[str, Any] = {name: options[name] for name in names if options[name] is not None}
    if options["tags"]:
        given["labels"] = {"tag": list(options["tags"])}
    if options["paused"]:
        given["paused"] = True
    if notify := {name: options[name] for name in ("hook", "webhook") if options[name] is not None}:
        given["notify"] = notify
    return given


def dependencies(session: Session, after: tuple[str, ...]) -> dict[str, Any]:
    """``--after`` as params."""
    return {"depends_on": task_ids(session, after).existing(session)} if after else {}
