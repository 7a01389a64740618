"""`notify`: does a message arrive?"""

from __future__ import annotations

from typing import Any

import click

from dlqueue.cli import exits
from dlqueue.cli.groups import Commands
from dlqueue.cli.session import Session, everywhere, pass_session
from dlqueue.cli.table import put_json, put_line


@click.group("notify", cls=Commands)
@everywhere
def notify_command() -> None:
    """Who is told of tasks: webhooks, messages, hooks."""


@notify_command.command("test")
@click.argument("name", metavar="NAME|URL")
@everywhere
@pass_session
def test(session: Session, /, name: str) -> int:
    """Send a test to a target, a hook or a webhook. Exit code 1 if it does not arrive."""
    answer: dict[str, Any] = {**session.client.notify.test(name=name)}
    if session.json:
        put_json(answer)
    else:
        put_line(answer["target"], "ok" if answer["ok"] else "not ok", answer["message"])
    return exits.OK if answer["ok"] else exits.FAILURE
