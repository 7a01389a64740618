"""`add` and `get`: downloads in, files out."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from dlqueue.cli import exits
from dlqueue.cli.autostart import ensure_daemon, start_daemon
from dlqueue.cli.delivery import goes_on, say_delivered, until_delivered
from dlqueue.cli.follow import Task
from dlqueue.cli.ids import task_ids
from dlqueue.cli.options import duration, moment
from dlqueue.cli.progress import display
from dlqueue.cli.session import Session, everywhere, pass_session
from dlqueue.cli.table import put_json, put_line
from dlqueue.cli.taskrow import name_of
from dlqueue.client import RpcError

F = TypeVar("F", bound=Callable[..., Any])


def _options(command: F) -> F:
    """The options of a download."""
    for option in reversed(
        (
            click.argument("urls", metavar="URL...", nargs=-1, required=True),
            click.option("-d", "directory", metavar="DIR", help="Where the file goes."),
            click.option("-o", "name", metavar="NAME", help="Its name there."),
            click.option("--on", "downloader", metavar="DOWNLOADER", help="The downloader to use."),
            click.option("--priority", type=int, metavar="N", help="Higher goes first (default 0)."),
            click.option("--queue", metavar="Q", help="The queue (default downloads)."),
            click.option("--tag", "tags", metavar="T", multiple=True, help="A tag; may be repeated."),
            click.option("--checksum", metavar="ALGORITHM=HEX", help="Such as sha-256=…; verified before delivery."),
            click.option(
                "--mirror", "mirrors", metavar="URL", multiple=True, help="The same file elsewhere; may be repeated."
            ),
            click.option(
                "--header", "headers", metavar="'K: V'", multiple=True, help="An HTTP header; may be repeated."
            ),
            click.option("--after", metavar="ID", multiple=True, help="Start when this task is done."),
            click.option("--at", "run_at", callback=moment, metavar="TIME", help="Start at this time."),
            click.option("--delay", callback=duration, metavar="DUR", help="Start after this time."),
            click.option("--max-retry", type=click.IntRange(min=0), metavar="N", help="Tries after a passing error."),
            click.option("--unique-key", metavar="K", help="At most one task with this key."),
            click.option("--paused", is_flag=True, help="Do not start yet."),
            click.option(
                "--on-exists", type=click.Choice(["rename", "skip", "overwrite", "fail"]), help="If the file is there."
            ),
            click.option("-q", "quiet", is_flag=True, help="Ids only."),
        )
    ):
        command = option(command)
    return command


@click.command("add")
@_options
@click.option("--wait", is_flag=True, help="Return when the files are delivered.")
@everywhere
@pass_session
def add_command(session: Session, /, urls: tuple[str, ...], wait: bool, quiet: bool, **options: Any) -> int:
    """Queue downloads."""
    requests = _requests(session, urls, options)
    show = partial(_show_added, session, quiet, wait)
    added, code = _add(session, requests, show)
    shown = None
    if wait and added:
        shown = display(quiet=quiet or session.json)
        try:
            finished, waited = until_delivered(session, added, shown, lambda task: say_delivered(shown, task))
        finally:
            shown.close()
        added, code = finished, code or waited
    if session.json and added:
        put_json(added[0] if len(urls) == 1 else added)
    return code


@click.command("get")
@_options
@everywhere
@pass_session
def get_command(session: Session, /, urls: tuple[str, ...], quiet: bool, **options: Any) -> int:
    """Download, show the progress, return when the files are there.

    Prints where they are. Starts a daemon of its own if none answers.
    """
    requests = _requests(session, urls, options, local=True)
    ensure_daemon(session)
    requests = _with_dependencies(session, requests, options["after"])
    added, code = _add(session, requests, lambda task: None)
    if not added:
        return code
    session.on_interrupt = goes_on([task["id"] for task in added])
    shown = display(quiet=quiet)

    def delivered(task: Task) -> None:
        location = (task.get("download") or {}).get("location")
        if location and not session.json:
            shown.data(location)

    try:
        finished, waited = until_delivered(session, added, shown, delivered, revive=lambda: start_daemon(session))
    finally:
        shown.close()
    if session.json:
        put_json(finished[0] if len(urls) == 1 else finished)
    return code or waited


# ------------------------------------------------------------------------------------------------------ what is asked


def _requests(
    session: Session, urls: tuple[str, ...], options: dict[str, Any], local: bool = False
) -> list[dict[str, Any]]:
    """The params of `downloads.add` for each URL. With ``local`` nothing is asked of a daemon yet."""
    for url in urls:
        _check_url(url)
    if len(urls) > 1:
        for name, option in (
            ("name", "-o"),
            ("mirrors", "--mirror"),
            ("unique_key", "--unique-key"),
            ("checksum", "--checksum"),
        ):
            if options[name]:
                raise click.UsageError(f"{option} is about one file; give one URL with it")
    if options["run_at"] is not None and options["delay"] is not None:
        raise click.UsageError("give either --at or --delay, not both")
    names = (
        "name",
        "downloader",
        "priority",
        "queue",
        "checksum",
        "run_at",
        "delay",
        "max_retry",
        "unique_key",
        "on_exists",
    )
    common: dict[str, Any] = {name: options[name] for name in names if options[name] is not None}
    if options["directory"] is not None:
        common["directory"] = str(Path(options["directory"]).absolute())
    with suppress(FileNotFoundError):  # a folder that was removed under our feet: the daemon has a default of its own
        common["cwd"] = str(Path.cwd())
    if options["tags"]:
        common["labels"] = {"tag": list(options["tags"])}
    if options["headers"]:
        common["headers"] = dict(_header(text) for text in options["headers"])
    if options["paused"]:
        common["paused"] = True
    mirrors = list(options["mirrors"])
    requests = [{**common, **({"urls": [url, *mirrors]} if mirrors else {"url": url})} for url in urls]
    return requests if local else _with_dependencies(session, requests, options["after"])


def _with_dependencies(
    session: Session, requests: list[dict[str, Any]], after: tuple[str, ...]
) -> list[dict[str, Any]]:
    if not after:
        return requests
    ids = task_ids(session, after)
    return [{**request, "depends_on": ids} for request in requests]


def _check_url(url: str) -> None:
    if url == "-":
        raise click.UsageError("reading from standard input is not supported yet by this version")
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", url):
        if url and Path(url).exists():
            raise click.UsageError(
                f"{url} is a file: torrent, metalink and list files are not supported yet by this version"
            )
        raise click.UsageError(f'not a URL: "{url}"; write for example https://example.org/file')


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.UsageError("a --header is written as 'Name: value'")  # not repeated here: it may be a secret
    return name.strip(), value.strip(" ")


# ------------------------------------------------------------------------------------------------------ what is done


def _add(session: Session, requests: list[dict[str, Any]], show: Callable[[Task], None]) -> tuple[list[Task], int]:
    """The tasks that were accepted, and the exit code of the first refusal."""
    added: list[Task] = []
    code = exits.OK
    for request in requests:
        try:
            task = dict(session.client.downloads.add(**request))
        except RpcError as error:
            refused = exits.report(error)
            code = code or refused
            continue
        added.append(task)
        if not task["created"]:
            exits.say(f"joined task {task['id']}, which was there already ({task['status']})")
        show(task)
    return added, code


def _show_added(session: Session, quiet: bool, wait: bool, task: Task) -> None:
    if session.json:
        return
    if quiet:
        put_line(task["id"])
    else:
        put_line(task["id"], task["status"], name_of(task))
