"""What all commands share: the options that are everywhere, and the connection to the daemon."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from dlqueue.client import Client

F = TypeVar("F", bound=Callable[..., Any])


class Session:
    """One run of the program."""

    def __init__(self) -> None:
        self.config: str | None = None
        self.socket: str | None = None
        self.json = False
        self.on_interrupt: list[str] = []
        """What to tell a person who presses Ctrl-C."""
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """The daemon, connected when first needed. Raises `DaemonUnreachable`."""
        if self._client is None:
            self._client = Client(self.socket)
        return self._client

    def use(self, client: Client) -> None:
        """Go on with this connection."""
        self.close()
        self._client = client

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def everything(self, method: str) -> list[Mapping[str, Any]]:
        """The items of all pages of a list."""
        items: list[Mapping[str, Any]] = []
        cursor: str | None = None
        while True:
            page = self.client.call(method, {"limit": 1000, **({} if cursor is None else {"cursor": cursor})})
            items += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return items

    @staticmethod
    def me() -> str:
        """The name under which the daemon knows this user."""
        import pwd

        try:
            return pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            return str(os.getuid())


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if isinstance(value, str) and value.startswith("~/"):  # a shell leaves it alone behind a `=`
        value = str(Path(value).expanduser())
    if value:
        setattr(ctx.ensure_object(Session), str(param.name), value)


def everywhere(command: F) -> F:
    """The options of every command; they may stand before or after its name."""
    path = click.Path(readable=False)  # a socket that is not ours to use is no wrong usage
    for option in (
        click.option("--json", is_flag=True, expose_value=False, callback=_remember, help="Data as JSON."),
        click.option(
            "--socket", type=path, metavar="PATH", expose_value=False, callback=_remember, help="The daemon's socket."
        ),
        click.option(
            "--config", type=path, metavar="FILE", expose_value=False, callback=_remember, help="The config file."
        ),
    ):
        command = option(command)
    return command


pass_session = click.make_pass_decorator(Session)
