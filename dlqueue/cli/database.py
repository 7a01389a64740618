"""`db backup|upgrade|version`: the database as a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from dlqueue.cli import exits
from dlqueue.cli.groups import Commands
from dlqueue.cli.instance import Mode, of_instance, reader
from dlqueue.cli.session import Session, everywhere, pass_session
from dlqueue.cli.table import put_json, put_line, put_table

if TYPE_CHECKING:
    from dlqueue.daemon.reading import Reader

R = TypeVar("R")

_CODES = {"missing": exits.NOT_FOUND, "busy": exits.REFUSED, "denied": exits.PERMISSION}
_HINTS = {
    "missing": "see where it ought to be: dlqueue config path",
    "denied": "it belongs to the user under whom the daemon runs; do it as that user",
    "config": "see: dlqueue config check",
    "busy": "a daemon migrates its database itself when it starts",
}


class _Database(Commands):
    later = frozenset({"migrate-to"})


@click.group("db", cls=_Database, no_args_is_help=True)
@everywhere
def db_command() -> None:
    """The database: copy it, migrate it, see its schema."""


@db_command.command("backup")
@click.argument("file", metavar="FILE", type=click.Path())
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@of_instance
@everywhere
@pass_session
def backup_command(session: Session, /, file: str, force: bool, mode: Mode | None) -> None:
    """Copy the database to FILE, also while the daemon runs.

    The copy holds everything that was accepted before the command was given. It is checked before it gets its name.

    \b
    dlqueue db backup ~/backups/dlqueue-$(date +%F).db
    """
    target = Path(file).absolute()
    if target.is_dir():
        raise click.UsageError(f"{file} is a folder; name a file in it")
    if not target.parent.is_dir():
        raise exits.Failed(f"there is no folder {target.parent}", exits.NOT_FOUND)
    if target.exists() and not force:
        raise exits.Failed(f"{file} is there already", exits.REFUSED, "another name, or --force to replace it")
    from dlqueue.daemon import database

    source = _told(database.back_up, reader(session, mode), target)
    size = target.stat().st_size
    if session.json:
        put_json({"database": str(source), "backup": str(target), "size": size})
        return
    from dlqueue.units import format_size

    put_line(target)
    exits.say(f"a copy of {source}, {format_size(size)}, checked")


@db_command.command("upgrade")
@of_instance
@everywhere
@pass_session
def upgrade_command(session: Session, /, mode: Mode | None) -> None:
    """Migrate the database, and keep a copy of how it was.

    The daemon does the same when it starts, without a copy. While one runs on the database, this is refused.
    """
    from dlqueue.daemon import database

    read = reader(session, mode)
    before = _told(database.schema, read)
    kept = _told(database.upgrade, read)
    if session.json:
        shown = {"database": str(before.database), "from": before.found, "to": before.wanted}
        put_json({**shown, "kept": None if kept is None else str(kept)})
    elif kept is None:
        exits.say(f"nothing to do: {before.database} has schema {before.wanted}")
    else:
        put_line(kept)
        exits.say(f"{before.database}: schema {before.found} → {before.wanted}; how it was is kept in {kept}")


@db_command.command("version")
@of_instance
@everywhere
@pass_session
def schema_command(session: Session, /, mode: Mode | None) -> None:
    """The schema of the database, and that of this version."""
    from dlqueue.daemon import database

    found = _told(database.schema, reader(session, mode))
    if session.json:
        shown = {"database": str(found.database), "schema": found.found, "program": found.wanted}
        put_json({**shown, "state": found.state})
        return
    rows = [
        ("database", found.database),
        ("schema", found.found or ""),
        ("program", found.wanted),
        ("state", found.state),
    ]
    put_table(("WHAT", "IS"), rows)
    exits.say(_MEANINGS[found.state])


_MEANINGS = {
    "current": "the schema is the one of this version",
    "older": "an older version made it: the daemon migrates it when it starts, or now: dlqueue db upgrade",
    "newer": "a newer version made it: this one refuses it; install that version, or restore a backup",
    "none": "there is no database yet: the daemon makes it when it starts",
}


def _told(work: Callable[..., R], *arguments: Reader | Path) -> R:
    from dlqueue.daemon.database import DatabaseError

    try:
        return work(*arguments)
    except DatabaseError as error:
        for line in str(error).splitlines()[:-1]:
            exits.say(f"dlqueue: {line}")
        raise exits.Failed(
            str(error).splitlines()[-1], _CODES.get(error.kind, exits.FAILURE), _HINTS.get(error.kind)
        ) from error
