"""What a shell may offer for a word that is being typed: ids of tasks, names of what is configured, methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from dlqueue.cli.session import Session
from dlqueue.client import Client, DaemonUnreachable, RpcError
from dlqueue.protocol.status import UNFINISHED

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_SECONDS = 1.0
_MOST = 50


def complete_ids(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[Any]]:
    """The newest tasks; nothing if no daemon answers at once."""
    from dlqueue.cli.taskrow import name_of, state_of

    before, comma, last = incomplete.rpartition(",")
    wanted = _OF_USE.get(ctx.info_name or "")
    found = _asked(ctx, "tasks.list", limit=_MOST, **({"status": list(wanted)} if wanted else {}))
    offered = [("@last", "your newest task"), *((str(t["id"]), f"{state_of(t)} {name_of(t)}") for t in found)]
    return [_item(f"{before}{comma}{number}", said) for number, said in offered if number.startswith(last)]


_OF_USE = {
    "pause": ("queued", "blocked", "processing", "suspending"),
    "resume": ("paused",),
    "cancel": UNFINISHED,
    "wait": UNFINISHED,
    "retry": ("error", "canceled"),
}
"""Statuses of the tasks with which a command can do something."""


def complete_downloaders(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[Any]]:
    """The configured downloaders."""
    found = _asked(ctx, "downloaders.list")
    return [_item(one["name"], one["kind"]) for one in found if one["name"].startswith(incomplete)]


def complete_queues(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[Any]]:
    """The queues that there are."""
    found = _asked(ctx, "queues.list", limit=_MOST)
    return [_item(one["name"], f"{one['size']} unfinished") for one in found if one["name"].startswith(incomplete)]


def complete_schedules(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[Any]]:
    """The schedules."""
    found = _asked(ctx, "schedules.list", limit=_MOST)
    return [_item(one["name"], one["cron"] or "") for one in found if one["name"].startswith(incomplete)]


def complete_methods(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[Any]]:
    """The methods of `rpc`."""
    from dlqueue.protocol.methods import METHODS

    return [_item(name, "") for name in METHODS if name.startswith(incomplete)]


def _asked(ctx: click.Context, method: str, **params: Any) -> list[dict[str, Any]]:
    session = ctx.find_object(Session)
    try:
        with Client(session.socket if session else None, timeout=_SECONDS) as client:
            items: list[dict[str, Any]] = client.call(method, params)["items"]
            return items
    except (DaemonUnreachable, RpcError, OSError):
        return []


def _item(value: str, said: str) -> CompletionItem[Any]:
    from click.shell_completion import CompletionItem

    return CompletionItem(value, help="".join(c if c.isprintable() else " " for c in said)[:60])
