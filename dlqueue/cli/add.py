"""`add` and `get`: downloads in, files out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import click

from dlqueue.cli import exits
from dlqueue.cli.autostart import ensure_daemon, start_daemon
from dlqueue.cli.complete import complete_downloaders
from dlqueue.cli.delivery import goes_on, say_delivered, until_delivered
from dlqueue.cli.follow import Task
from dlqueue.cli.inputfile import header
from dlqueue.cli.options import FOLDER, dependencies, duration, folder, indexes, set_cwd, submission, submission_options
from dlqueue.cli.progress import display
from dlqueue.cli.session import Session, everywhere, pass_session
from dlqueue.cli.sources import Source, sources
from dlqueue.cli.submit import Request, add
from dlqueue.cli.table import put_json, put_line, put_table
from dlqueue.cli.taskrow import name_of, shown_state
from dlqueue.client import RpcError

F = TypeVar("F", bound=Callable[..., Any])

_ABOUT_ONE = {
    "name": "-o",
    "mirrors": "--mirror",
    "unique_key": "--unique-key",
    "checksum": "--checksum",
    "select": "--select",
}
"""Options that mean one download only."""


def _ratio(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        ratio = float(value)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio < 1e6:
        raise click.BadParameter(f'not a ratio: "{value}"; write for example 1.5, or 0 for no seeding', ctx, param)
    return ratio


def _options(command: F) -> F:
    """The options of a download."""
    for option in reversed(
        (
            click.argument("given", metavar="URL|FILE|-...", nargs=-1, type=click.Path()),
            click.option(
                "-i",
                "lists",
                metavar="FILE",
                type=click.Path(),
                multiple=True,
                help="A list of URLs; may be repeated.",
            ),
            click.option("-d", "directory", metavar="DIR", type=FOLDER, help="Where the file goes."),
            click.option("-o", "name", metavar="NAME", help="Its name there."),
            click.option(
                "--on", "downloader", metavar="DOWNLOADER", shell_complete=complete_downloaders, help="Use this one."
            ),
            click.option("--checksum", metavar="ALGORITHM=HEX", help="Such as sha-256=…; verified before delivery."),
            click.option(
                "--mirror", "mirrors", metavar="URL", multiple=True, help="The same file elsewhere; may be repeated."
            ),
            click.option(
                "--header", "headers", metavar="'K: V'", multiple=True, help="An HTTP header; may be repeated."
            ),
            click.option("--select", callback=indexes, metavar="1,3-5", help="Only these files of a torrent."),
            click.option(
                "--on-exists", type=click.Choice(["rename", "skip", "overwrite", "fail"]), help="If the file is there."
            ),
            click.option("--seed-ratio", callback=_ratio, metavar="R", help="Seed until this ratio; 0: do not seed."),
            click.option("--seed-time", callback=duration, metavar="DUR", help="Seed so long; 0: do not seed."),
            click.option("--dry-run", is_flag=True, help="Only say what would happen."),
            submission_options,
        )
    ):
        command = option(command)
    return command


@click.command("add")
@_options
@click.option("--wait", is_flag=True, help="Return when the files are delivered.")
@everywhere
@pass_session
def add_command(session: Session, /, wait: bool, quiet: bool, dry_run: bool, **options: Any) -> int:
    """Queue downloads: URLs, torrent or metalink files, lists.

    A list has a URL on each line; - is a list on standard input.

    \b
    dlqueue add https://example.org/file.iso -d ~/isos
    dlqueue add -i list.txt --tag work --priority 5
    dlqueue add film.torrent --select 1,3-5 --seed-ratio 1.5
    """
    requests = _requests(options)
    after = dependencies(session, options["after"])
    requests = [Request({**request.params, **after}, request.where) for request in requests]
    if dry_run:
        return _dry_run(session, requests)
    added, code = add(session, requests, partial(_show_added, session, quiet))
    if wait and added:
        session.on_interrupt = goes_on([task["id"] for task in added])
        shown = display(quiet=quiet or session.json)
        try:
            added, waited = until_delivered(session, added, shown, lambda task: say_delivered(shown, task))
        finally:
            shown.close()
        code = code or waited
    if session.json and added:
        put_json(added[0] if len(requests) == 1 else added)
    return code


@click.command("get")
@_options
@everywhere
@pass_session
def get_command(session: Session, /, quiet: bool, dry_run: bool, **options: Any) -> int:
    """Download, show the progress, return when the files are there.

    Prints where they are (with -q the ids). Starts a daemon of its own if none answers.
    """
    requests = _requests(options)
    ensure_daemon(session)
    after = dependencies(session, options["after"])
    requests = [Request({**request.params, **after}, request.where) for request in requests]
    if dry_run:
        return _dry_run(session, requests)
    added, code = add(session, requests, partial(_show_added, session, quiet) if quiet else lambda task: None)
    if not added:
        return code
    session.on_interrupt = goes_on([task["id"] for task in added])
    shown = display(quiet=quiet)

    def delivered(task: Task) -> None:
        location = (task.get("download") or {}).get("location")
        if location and not session.json and not quiet:
            shown.data(location)

    try:
        finished, waited = until_delivered(session, added, shown, delivered, revive=lambda: start_daemon(session))
    finally:
        shown.close()
    if session.json:
        put_json(finished[0] if len(requests) == 1 else finished)
    return code or waited


def _requests(options: dict[str, Any]) -> list[Request]:
    """What is asked for, as params of `downloads.add`. Nothing is asked of a daemon yet."""
    if not options["given"] and not options["lists"]:
        raise click.UsageError("give a URL, a torrent or metalink file, - for standard input, or -i FILE")
    common = submission(options)
    for name in ("name", "downloader", "checksum", "on_exists", "select"):
        if options[name] is not None:
            common[name] = options[name]
    if options["directory"] is not None:
        common["directory"] = str(folder(options["directory"]).absolute())
    set_cwd(common)
    try:
        headers = dict(header(text) for text in options["headers"])
    except ValueError as error:
        raise click.UsageError(f"--header: {error}") from None
    seed = {"ratio": options["seed_ratio"], "time": options["seed_time"]}
    if given := {name: value for name, value in seed.items() if value is not None}:
        common["seed"] = given
    found = sources(options["given"], options["lists"])
    if not found:
        raise click.UsageError("the list is empty: there is nothing to download")
    for name, option in _ABOUT_ONE.items():
        if options[name] and len(found) > 1:
            raise click.UsageError(f"{option} is about one file; give one URL with it")
    return [_request(source, common, headers, options["mirrors"]) for source in found]


def _request(source: Source, common: dict[str, Any], headers: dict[str, str], mirrors: tuple[str, ...]) -> Request:
    params = {**common, **source.params}
    if headers or "headers" in source.params:
        params["headers"] = {**headers, **source.params.get("headers", {})}
    if mirrors:
        first = params.pop("urls", None) or [params.pop("url", None)]
        if first == [None]:
            raise click.UsageError("--mirror belongs to a URL, not to a torrent or metalink file")
        params["urls"] = [*first, *mirrors]
    return Request(params, source.where)


def _show_added(session: Session, quiet: bool, task: Task) -> None:
    if session.json:
        return
    if quiet:
        put_line(task["id"])
    else:
        put_line(task["id"], shown_state(task), name_of(task))


def _dry_run(session: Session, requests: list[Request]) -> int:
    """What would happen to each; nothing is submitted."""
    code = exits.OK
    answers: list[dict[str, Any]] = []
    for request in requests:
        try:
            answer = dict(session.client.call("downloads.add", {**request.params, "dry_run": True}))
        except RpcError as error:
            if request.where is not None:
                error.message = f"{request.where}: {error.message}"
            refused = exits.report(error)
            code = code or refused
            continue
        answers.append(answer)
        if not session.json:
            _show_route(answer)
    if session.json and answers:
        put_json(answers[0] if len(requests) == 1 else answers)
    return code


def _show_route(answer: dict[str, Any]) -> None:
    params = answer["params"]
    what = params.get("url") or next(iter(params.get("urls") or ()), None) or params.get("name") or "the file sent"
    chosen, directory = answer["downloader"], params.get("directory")
    put_line(what, f"→ {chosen}" if chosen else "would wait", directory)
    rows = [["*" if one["chosen"] else "", one["downloader"], one["kind"], one["reason"]] for one in answer["route"]]
    put_table(("", "DOWNLOADER", "KIND", "WHY"), rows)
