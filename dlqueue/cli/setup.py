"""`setup`: from an installed program to a service that runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dlqueue.cli import exits
from dlqueue.cli.instance import Mode, one_mode
from dlqueue.cli.session import Session, everywhere, pass_session
from dlqueue.cli.table import plain, put_json

if TYPE_CHECKING:
    from dlqueue.config import Config
    from dlqueue.install.recipe import Recipe
    from dlqueue.install.site import Step


def _ports(_ctx: click.Context, _param: click.Parameter, given: tuple[str, ...]) -> dict[str, int]:
    ports = {}
    for one in given:
        kind, _, port = one.partition("=")
        if not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65536:
            raise click.BadParameter(f"{one}: write KIND=PORT, such as qbittorrent=8081")
        ports[kind] = int(port)
    return ports


@click.command("setup")
@one_mode(user="For you alone: a service of yours.", system="For the machine: a service of its own user. Needs root.")
@click.option("--downloads", metavar="DIR", type=click.Path(path_type=Path), help="For downloads that name no place.")
@click.option("--yes", "-y", is_flag=True, help="Ask nothing: every question has its default answer.")
@click.option("--dry-run", is_flag=True, help="Do nothing; print what would be done.")
@click.option("--look", "ports", metavar="KIND=PORT", multiple=True, callback=_ports, help="Look for it there.")
@click.option(
    "--root", metavar="DIR", type=click.Path(path_type=Path), help="Install into the root of a machine to be."
)
@everywhere
@pass_session
def setup_command(
    session: Session,
    /,
    mode: Mode | None,
    downloads: Path | None,
    yes: bool,
    dry_run: bool,
    ports: dict[str, int],
    root: Path | None,
) -> int:
    """Make a service of it, with the downloaders that run here. May be given again at any time."""
    if mode is None:
        raise click.UsageError("say for whom: --user (for you alone) or --system (for the machine)")
    if session.config or session.socket:
        raise click.UsageError("setup has the places of the instance; --config and --socket do not belong here")
    if mode == "system" and root is None and not dry_run and os.geteuid() != 0:
        raise exits.Failed("setup --system needs root", exits.PERMISSION, "try: sudo dlqueue setup --system")

    from dlqueue.install.find import PORTS
    from dlqueue.install.recipe import Recipe
    from dlqueue.install.site import Site

    unknown = sorted(set(ports) - set(PORTS))
    if unknown:
        raise click.UsageError(f"--look knows {', '.join(PORTS)}, and not {', '.join(unknown)}")

    def tell(step: Step) -> None:
        if not session.json:
            print(plain(step.what), flush=True)

    person = _Person(yes or dry_run)
    site = Site((root or Path("/")).absolute(), dry_run, tell)
    recipe = Recipe(site, mode, os.environ)
    running = _work(recipe, downloads, PORTS | ports, person)
    if session.json:
        steps = [{"what": step.what, "changed": step.changed} for step in site.steps]
        put_json({"instance": mode, "ok": not recipe.failed, "running": running, "steps": steps})
    if not recipe.failed and not dry_run:
        _hints(mode, running)
    return exits.FAILURE if recipe.failed else exits.OK


def _work(recipe: Recipe, downloads: Path | None, ports: dict[str, int], person: _Person) -> bool:
    from dlqueue.install.find import look
    from dlqueue.install.offers import offer

    if recipe.mode == "system":
        # Asked before anything is changed, and again when there is a user; the plan is told in full all the same.
        seen = recipe.reachable()
        if seen or recipe.site.dry_run:
            recipe.account()
            seen = seen and recipe.reachable()
        if not (seen or recipe.site.dry_run):
            return False
    recipe.folders()
    config = _config(recipe)
    if config is not None:
        config = recipe.downloads(_folder(recipe, config, downloads, person), config)
        offer(recipe, config, look(ports), ports, person)
        if recipe.moved and recipe.site.is_real and not recipe.site.dry_run:
            config = _config(recipe)
    return recipe.service(config)


def _config(recipe: Recipe) -> Config | None:
    """As it is now; mistakes are told, and then nothing is started."""
    from dlqueue.config import ConfigError

    try:
        return recipe.read()
    except ConfigError as error:
        recipe.failed = True
        for problem in error.problems:
            recipe.site.note(f"FAILED: {problem}")
        recipe.site.note("the service is not started with such a configuration: mend it, and run setup again")
        return None


def _folder(recipe: Recipe, config: Config, named: Path | None, person: _Person) -> Path | None:
    if named is not None:
        return Path(os.path.normpath(named.expanduser().absolute()))
    if recipe.mode == "user" or config.daemon.downloads != recipe.places.downloads:
        return None  # yours go where you are; or somebody has said it already
    from dlqueue.install.recipe import SYSTEM_DOWNLOADS

    said = person.says("folder for downloads", str(SYSTEM_DOWNLOADS))
    return Path(os.path.normpath(Path(said).expanduser().absolute()))


def _hints(mode: Mode, running: bool) -> None:
    if mode == "system":
        who = os.environ.get("SUDO_USER") or "USER"
        exits.say(f"who may use it: members of the group dlqueue; gpasswd --add {who} dlqueue, then log in anew")
    elif running:
        exits.say("to have it run while you are not logged in: loginctl enable-linger")
    if running:
        exits.say("it runs; try: dlqueue downloader test, dlqueue get URL")


class _Person:
    """At the terminal. Questions go to stderr: stdout has what is done. Where standard input ends before the answer,
    nobody is there, and all that is left has its default, as with ``--yes``."""

    def __init__(self, silent: bool) -> None:
        self._silent = silent

    @property
    def answers(self) -> bool:
        return not self._silent

    def agrees(self, question: str) -> bool:
        return bool(self._asked(lambda: click.confirm(question, default=True, err=True), True))

    def says(self, question: str, default: str) -> str:
        return str(self._asked(lambda: click.prompt(question, default=default, err=True), default))

    def tells_secret(self, question: str) -> str:
        asked = f"{question} (nothing: leave it out)"
        return str(self._asked(lambda: click.prompt(asked, "", hide_input=True, show_default=False, err=True), ""))

    def _asked(self, ask: Callable[[], Any], default: Any) -> Any:
        if self._silent:
            return default
        try:
            return ask()
        except click.Abort as abort:
            if not isinstance(abort.__context__, EOFError):
                raise  # Ctrl-C
        self._silent = True
        exits.say(f"{default if default is not True else 'yes'} (nobody answers)")
        return default
