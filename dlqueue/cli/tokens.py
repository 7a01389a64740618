"""`token`: who may come in through the HTTP gateway."""

from __future__ import annotations

from datetime import datetime

import click

from dlqueue.cli import exits
from dlqueue.cli.groups import Commands
from dlqueue.cli.named import put_each_named
from dlqueue.cli.session import Session, everywhere, pass_session
from dlqueue.cli.table import is_terminal, plain, put_json, put_table
from dlqueue.protocol.caller import ROLES


@click.group("token", cls=Commands)
@everywhere
def token_command() -> None:
    """Make and revoke tokens of the HTTP gateway."""


@token_command.command("new")
@click.argument("name", metavar="NAME")
@click.option("--role", type=click.Choice(ROLES), required=True, help="What it may do: each includes those before it.")
@click.option("-q", "quiet", is_flag=True, help="Print the token alone.")
@everywhere
@pass_session
def token_new(session: Session, /, name: str, role: str, quiet: bool) -> None:
    """Make a token that acts as you; it is shown this once."""
    made = session.client.tokens.create(name=name, role=role)
    if session.json:
        put_json(made)
        return
    print(made["token"] if quiet else f"{plain(made['name'])} ({made['role']}): {made['token']}")
    if not quiet:
        where = f"the gateway is {made['url']}" if made["url"] else "the gateway is off: set http.listen"
        exits.say(f"keep it: it is not shown again; {where}")


@token_command.command("ls")
@everywhere
@pass_session
def token_ls(session: Session, /) -> None:
    """List tokens: yours, for an admin all."""
    page = session.client.tokens.list()
    if session.json:
        put_json(page["items"])
        return
    rows = [(t["name"], t["role"], t["owner"], _time(t["created_at"]), _time(t["last_used"])) for t in page["items"]]
    put_table(("NAME", "ROLE", "OWNER", "CREATED", "LAST USED"), rows)


@token_command.command("revoke")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@everywhere
@pass_session
def token_revoke(session: Session, /, names: tuple[str, ...]) -> int:
    """End tokens, at once; open event streams too."""
    return put_each_named(session, names, lambda name: session.client.tokens.revoke(name=name), lambda _: "revoked")


def _time(instant: str | None) -> str | None:
    """For a person in their own time zone."""
    if instant is None or not is_terminal():
        return instant
    return datetime.fromisoformat(instant).astimezone().strftime("%Y-%m-%d %H:%M")
