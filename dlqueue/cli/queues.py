"""`queue`: the named queues, their settings and how full they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from dlqueue.cli.complete import complete_queues
from dlqueue.cli.groups import Commands
from dlqueue.cli.named import paused_or_resumed, put_each_named
from dlqueue.cli.options import duration
from dlqueue.cli.session import Session, everywhere, pass_session
from dlqueue.cli.table import is_terminal, put_field, put_json, put_line, put_table
from dlqueue.units import format_duration, parse_rate

F = TypeVar("F", bound=Callable[..., Any])

_KEYS = ("concurrency", "capacity", "rate", "ageing", "max_retry", "retry_delay", "backoff_factor", "backoff_max")
_name = click.argument("name", metavar="NAME", shell_complete=complete_queues)
_names = click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_queues)


def _rate(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        try:
            parse_rate(value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from None
    return value


def _settings(command: F) -> F:
    """What can be set of a queue."""
    for option in reversed(
        (
            click.option("--concurrency", type=int, metavar="N", help="Steps at once."),
            click.option("--capacity", type=int, metavar="N", help="Unfinished tasks at most."),
            click.option("--rate", callback=_rate, metavar="RATE", help="Starts per period, such as 10/s or 100/m."),
            click.option("--ageing", type=float, metavar="N", help="Points that a waiting task gains in a minute."),
            click.option("--max-retry", type=int, metavar="N", help="Tries after a passing error."),
            click.option("--retry-delay", callback=duration, metavar="DUR", help="The wait before the first of them."),
            click.option("--backoff-factor", type=float, metavar="N", help="Each further wait is longer by this."),
            click.option("--backoff-max", callback=duration, metavar="DUR", help="The longest wait."),
        )
    ):
        command = option(command)
    return command


@click.group("queue", cls=Commands)
@everywhere
def queue_command() -> None:
    """Look at the queues, make new ones, change and pause them."""


@queue_command.command("ls")
@everywhere
@pass_session
def ls(session: Session, /) -> None:
    """All queues."""
    items = session.everything("queues.list")
    if session.json:
        put_json(items)
        return
    titles = ("STATE", "PENDING", "RUNNING", "FAILED", "DONE", "AT ONCE", "CAPACITY", "RATE", "NAME")
    put_table(titles, [_row(item) for item in items], frozenset(titles[1:7]), ("DONE", "FAILED", "RATE", "CAPACITY"))


def _row(item: Mapping[str, Any]) -> list[object]:
    nothing = "-" if is_terminal() else ""
    capacity = item["capacity"]
    row = [
        "paused" if item["paused"] else "full" if capacity is not None and item["size"] >= capacity else "open",
        item["pending"],
        item["running"],
        item["failed"],
        item["completed"],
        item["concurrency"],
        nothing if capacity is None else capacity,
        item["rate"] or nothing,
    ]
    # For a person the longest comes last, where it is cut; a program finds the name first.
    return [*row, item["name"]] if is_terminal() else [item["name"], *row]


@queue_command.command("show")
@_name
@everywhere
@pass_session
def show(session: Session, /, name: str) -> None:
    """All that is known of one."""
    _show(session, session.client.queues.get(name=name))


def _show(session: Session, item: Mapping[str, Any]) -> None:
    if session.json:
        put_json(dict(item))
        return
    size, capacity = item["size"], item["capacity"]
    for title, value in (
        ("name", item["name"]),
        ("paused", "yes: none of its tasks is begun" if item["paused"] else "no"),
        ("unfinished", f"{size}, {item['running']} of them in a step" if size else "none"),
        ("ended", f"{item['completed']} completed, {item['failed']} failed"),
        ("concurrency", item["concurrency"]),
        ("capacity", "no limit" if capacity is None else capacity),
        ("rate", item["rate"] or "no limit"),
        ("ageing", f"{item['ageing']:g} points a minute" if item["ageing"] else "off"),
        ("retries", item["max_retry"]),
        ("retry delay", format_duration(item["retry_delay"]) if item["retry_delay"] else "1s"),
        ("backoff", f"× {item['backoff_factor']:g}, at most {format_duration(item['backoff_max'])}"),
        ("set at run time", ", ".join(item["changed"]) or None),
    ):
        if value is not None:
            put_field(title, value, 16)


@queue_command.command("create")
@click.argument("name", metavar="NAME")
@_settings
@everywhere
@pass_session
def create(session: Session, /, name: str, **settings: Any) -> None:
    """A new queue; it stays when the daemon restarts.

    \b
    dlqueue queue create nightly --concurrency 2 --capacity 1000
    """
    _done(session, session.client.queues.create(name=name, **settings), "created")


@queue_command.command("set")
@_name
@_settings
@click.option("--reset", type=click.Choice(_KEYS), metavar="KEY", multiple=True, help="Again as configured.")
@everywhere
@pass_session
def set_(session: Session, /, name: str, reset: tuple[str, ...], **settings: Any) -> None:
    """Other settings, from now on.

    They hold until the configuration says something new about the same key.

    \b
    dlqueue queue set downloads --concurrency 4 --rate 10/m
    dlqueue queue set downloads --reset rate
    """
    if not reset and all(value is None for value in settings.values()):
        raise click.UsageError("nothing to change is given; give a setting, or --reset")
    _done(session, session.client.queues.update(name=name, reset=list(reset) or None, **settings), "changed")


def _done(session: Session, item: Mapping[str, Any], said: str) -> None:
    if session.json:
        put_json(dict(item))
    else:
        put_line(item["name"], said)


@queue_command.command("pause")
@_names
@everywhere
@pass_session
def pause(session: Session, /, names: tuple[str, ...]) -> int:
    """Begin no step of its tasks; those that run go on. Lasts until it is resumed."""
    return put_each_named(session, names, lambda name: session.client.queues.pause(name=name), paused_or_resumed)


@queue_command.command("resume")
@_names
@everywhere
@pass_session
def resume(session: Session, /, names: tuple[str, ...]) -> int:
    """Go on."""
    return put_each_named(session, names, lambda name: session.client.queues.resume(name=name), paused_or_resumed)
