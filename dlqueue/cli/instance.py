"""Which instance a command is about that asks no daemon: the user's or the machine's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from dlqueue.cli.session import Session

if TYPE_CHECKING:
    from dlqueue.daemon.reading import Reader

Mode = Literal["user", "system"]
F = TypeVar("F", bound=Callable[..., Any])


def of_instance(command: F) -> F:
    """``--user`` and ``--system``, as ``mode``."""
    for option in (
        click.option("--system", "mode", flag_value="system", help="Of the machine's instance."),
        click.option("--user", "mode", flag_value="user", help="Of your own instance."),
    ):
        command = option(command)
    return command


def reader(session: Session, mode: Mode | None) -> Reader:
    """What reads the files of that instance; where nobody says, of the one whose files are there."""
    from dlqueue.daemon.reading import Reader, likely_mode

    return Reader(session.config, session.socket, mode or likely_mode(session.config))
