"""Commands that have commands of their own."""

from __future__ import annotations

import click

from dlqueue import __version__
from dlqueue.cli import exits
from dlqueue.protocol.errors import did_you_mean


class Commands(click.Group):
    """An unknown command is refused with the nearest name, one that will come by its own.

    :param later: commands of the contract that this version does not have.
    """

    later: frozenset[str] = frozenset()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args and not ctx.resilient_parsing and args[0] not in known and not args[0].startswith("-"):
            if args[0] in self.later:
                raise exits.Failed(f'"{args[0]}" is not supported yet by dlqueue {__version__}')
            meant = did_you_mean(args[0], known) or (f"; there is {', '.join(known)}" if len(known) < 8 else "")
            raise click.UsageError(f'no such command: "{args[0]}"{meant}', ctx)
        return super().resolve_command(ctx, args)
