"""`completions`: what a shell needs to complete our commands."""

from __future__ import annotations

import click

from dlqueue.cli.session import everywhere

PROGRAM = "dlqueue"


@click.command("completions")
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
@everywhere
@click.pass_context
def completions_command(ctx: click.Context, /, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash:  cd ~/.local/share/bash-completion/completions
           dlqueue completions bash > dlqueue
    zsh:   dlqueue completions zsh > a folder of $fpath, as _dlqueue
    fish:  dlqueue completions fish > ~/.config/fish/completions/dlqueue.fish
    """
    from click.shell_completion import ShellComplete, get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    made = kind(ctx.find_root().command, {}, PROGRAM, f"_{PROGRAM}_complete".upper())
    # Not the method of bash itself: that one runs bash to ask for its version.
    click.echo(ShellComplete.source(made))
