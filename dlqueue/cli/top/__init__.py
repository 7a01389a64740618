"""`top`: everything on one screen, live."""

from __future__ import annotations

import sys

import click

from dlqueue.cli import exits
from dlqueue.cli.session import Session, everywhere, pass_session
from dlqueue.cli.table import is_terminal


@click.command("top")
@everywhere
@pass_session
def top_command(session: Session, /) -> None:
    """All tasks on a full screen, live, to be steered by keys.

    Sort, filter, pause, resume, cancel, retry, give priority; ? shows the keys.

    Needs the extra tui: pip install 'dlqueue[tui]'.
    """
    # textual draws on standard error.
    if session.json or not (is_terminal() and sys.stdin.isatty() and sys.stderr.isatty()):
        raise exits.Failed("top needs a terminal", exits.USAGE, "for a program: dlqueue ls --json, or dlqueue events")
    # Who cannot be reached at all is told on the plain screen, not in an empty full one.
    path = session.client.path
    session.close()
    try:
        from dlqueue.cli.top.app import Top
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "textual":
            raise
        hint = "install it: pip install 'dlqueue[tui]'; without it there is dlqueue watch"
        raise exits.Failed("top needs the extra tui, which is not installed", exits.FAILURE, hint) from error
    Top(path).run()
