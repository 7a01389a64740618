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


def one_mode(*, user: str, system: str) -> Callable[[F], F]:
    """``--user`` and ``--system``, of which one may be given, as ``mode``.

    :param user, system: what the help says of them.
    """

    def decorate(command: F) -> F:
        for name, told in (("system", system), ("user", user)):
            option = click.option(f"--{name}", is_flag=True, expose_value=False, callback=_choose, help=told)
            command = option(command)
        return command

    return decorate


def _choose(context: click.Context, option: click.Parameter, given: bool) -> None:
    # Not two options of one name: of those the last one would win, and nobody would be told.
    chosen = context.params.setdefault("mode", None)
    if given and chosen is not None:
        raise click.UsageError("--user and --system do not go together")
    if given:
        context.params["mode"] = option.name


of_instance = one_mode(user="Of your own instance.", system="Of the machine's instance.")


def reader(session: Session, mode: Mode | None) -> Reader:
    """What reads the files of that instance; where nobody says, of the one whose files are there."""
    from dlqueue.daemon.reading import Reader, likely_mode

    return Reader(session.config, session.socket, mode or likely_mode(session.config))
