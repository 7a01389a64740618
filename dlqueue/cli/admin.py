"""`daemon`, `rpc`, `version`."""

from __future__ import annotations

import signal
import sys
from typing import Any

import click

from dlqueue import __version__
from dlqueue.cli import exits
from dlqueue.cli.complete import complete_methods
from dlqueue.cli.instance import Mode, one_mode
from dlqueue.cli.options import json_object
from dlqueue.cli.session import Session, everywhere, pass_session
from dlqueue.cli.table import put_json
from dlqueue.client import Client, DaemonUnreachable, RpcError


@click.command("daemon")
@one_mode(user="For this user, with files in the home directory.", system="For the machine; systemd runs this.")
@click.option("--ends-when-idle", is_flag=True, hidden=True, help="For a daemon that `get` starts.")
@everywhere
@pass_session
def daemon_command(session: Session, /, mode: Mode | None, ends_when_idle: bool) -> int:
    """Run the daemon in the foreground."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # Until it handles them itself: loading it takes a moment, and there is nothing to be stopped yet.
        signal.signal(number, lambda *_: sys.exit(exits.OK))
    signal.signal(signal.SIGHUP, lambda *_: None)  # nor to be read again
    from dlqueue.daemon.run import main

    return main(config=session.config, socket=session.socket, mode=mode, ends_when_idle=ends_when_idle)


@click.command("rpc")
@click.argument("method", shell_complete=complete_methods)
@click.argument("params", metavar="[JSON]", default="{}")
@everywhere
@pass_session
def rpc_command(session: Session, /, method: str, params: str) -> None:
    """A raw call; prints the result as JSON. The params are a JSON object, or - for standard input."""
    put_json(session.client.call(method, json_object(params, "the params")))


@click.command("version")
@everywhere
@pass_session
def version_command(session: Session, /) -> None:
    """The version of this program, and of the daemon."""
    daemon, path = _daemon(session)
    if session.json:
        put_json({"version": __version__, "daemon": daemon, "socket": path})
        return
    print(f"dlqueue {__version__}")
    if daemon is not None:
        print(f"daemon {daemon['version']} on {path}")


def _daemon(session: Session) -> tuple[dict[str, Any] | None, str | None]:
    try:
        with Client(session.socket, timeout=5) as client:
            return dict(client.daemon.info()), str(client.path)
    except DaemonUnreachable:
        return None, None
    except RpcError as error:
        exits.say(f"the daemon says: {error.message}")
        return None, None
