"""The program: its commands, loaded when they are called, and its exit codes."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from dlqueue import __version__
from dlqueue.cli import exits
from dlqueue.cli.groups import Commands
from dlqueue.cli.session import Session, everywhere

_COMMANDS = {
    "get": "add",
    "add": "add",
    "ls": "show",
    "show": "show",
    "why": "show",
    "watch": "live",
    "wait": "steer",
    "pause": "steer",
    "resume": "steer",
    "cancel": "steer",
    "retry": "steer",
    "rm": "steer",
    "edit": "change",
    "files": "change",
    "events": "events",
    "stats": "stats",
    "top": "top",
    "downloader": "downloaders",
    "queue": "queues",
    "schedule": "schedules",
    "task": "tasks",
    "completions": "completions",
    "daemon": "admin",
    "rpc": "admin",
    "version": "admin",
    "config": "config",
    "setup": "setup",
    "token": "tokens",
    "db": "database",
    "doctor": "doctor",
    "notify": "notify",
}


_LATER = frozenset(
    {
        "node",
    }
)
"""Commands that will come: refused by name rather than as a typing mistake."""


class _Lazy(Commands):
    """Loads the module of a command only when it is needed."""

    later = _LATER

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        theme = _COMMANDS.get(cmd_name)
        if theme is None:
            return None
        command = getattr(importlib.import_module(f"dlqueue.cli.{theme}"), f"{cmd_name}_command")
        assert isinstance(command, click.Command)
        return command


def _show_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"dlqueue {__version__}")
        ctx.exit()


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
@everywhere
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="The version.")
def program() -> None:
    """One durable queue in front of every downloader you run."""


def run(arguments: Sequence[str]) -> int:
    """Run one command; answers the exit code. Nothing but bugs is raised."""
    session = Session()
    try:
        answered = program.main(list(arguments), prog_name="dlqueue", standalone_mode=False, obj=session)
        sys.stdout.flush()
        return answered if isinstance(answered, int) else exits.OK
    except BrokenPipeError:
        # Whoever reads our output has seen enough; what is still buffered must not raise once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.FAILURE
    except (click.Abort, KeyboardInterrupt):
        for line in session.on_interrupt:
            exits.say(line)
        return exits.INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)  # the help, as it is laid out
        return exits.USAGE
    except Exception as error:  # noqa: BLE001 - a person gets one line, never a traceback
        return exits.report(error)
    finally:
        session.close()


def main() -> NoReturn:
    """The entry point of the script and of `python -m dlqueue`."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us: the next file opened would take its place
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115 - for as long as we run
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a terminal may not know every name
    sys.exit(run(sys.argv[1:]))
