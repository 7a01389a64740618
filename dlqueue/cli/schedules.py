"""`schedule`: tasks that come again and again, by the clock."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from dlqueue.cli import exits
from dlqueue.cli.complete import complete_downloaders, complete_queues, complete_schedules
from dlqueue.cli.groups import Commands
from dlqueue.cli.inputfile import header
from dlqueue.cli.named import put_each_named
from dlqueue.cli.options import DOWNLOAD, FOLDER, duration, folder, set_cwd, task_params
from dlqueue.cli.session import Session, everywhere, pass_session
from dlqueue.cli.sources import is_url
from dlqueue.cli.table import as_json, is_terminal, put_field, put_json, put_line, put_table
from dlqueue.units import format_duration

F = TypeVar("F", bound=Callable[..., Any])

_name = click.argument("name", metavar="NAME", shell_complete=complete_schedules)
_names = click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_schedules)
_DOWNLOAD_OPTIONS = {"directory": "-d", "name_": "-o", "downloader": "--on", "checksum": "--checksum",
                     "on_exists": "--on-exists", "headers": "--header"}  # fmt: skip
_ZONES = "/zoneinfo/"


@click.group("schedule", cls=Commands)
@everywhere
def schedule_command() -> None:
    """Tasks and downloads that come again and again, by the clock."""


def _definition(command: F) -> F:
    """What a schedule is made of."""
    for option in reversed(
        (
            click.option("--cron", metavar="EXPR", help="'0 3 * * *', '*/10 * * * * *', @daily, '@every 1h30m'."),
            click.option("--every", callback=duration, metavar="DUR", help="In place of --cron: every so often."),
            click.option("--timezone", metavar="ZONE", help="Of --cron: Europe/Berlin; default: of this machine."),
            click.option("--missed", type=click.Choice(["skip", "once", "all"]), help="Runs missed during a stop."),
            click.option(
                "--overlap", type=click.Choice(["allow", "skip", "replace"]), help="If the run before is not over."
            ),
            click.option("--queue", metavar="Q", shell_complete=complete_queues, help="The queue of its tasks."),
            click.option("--type", "type_", metavar="T", help="The type of its tasks, if they are no downloads."),
            click.option("--params", metavar="JSON", help="What the type takes; - reads it from standard input."),
            click.option("--url", "urls", metavar="URL", multiple=True, help="Download this; more are its mirrors."),
            click.option("-d", "directory", metavar="DIR", type=FOLDER, help="Where the file goes."),
            click.option("-o", "name_", metavar="NAME", help="Its name there."),
            click.option("--on", "downloader", metavar="DOWNLOADER", shell_complete=complete_downloaders,
                         help="Use this one."),
            click.option("--header", "headers", metavar="'K: V'", multiple=True, help="Send this header."),
            click.option("--checksum", metavar="ALG=HEX", help="Verify before delivery."),
            click.option("--on-exists", type=click.Choice(["rename", "skip", "overwrite", "fail"]),
                         help="If the file is there."),
        )
    ):  # fmt: skip
        command = option(command)
    return command


@schedule_command.command("ls")
@everywhere
@pass_session
def ls(session: Session, /) -> None:
    """The schedules: when they are due, what the last run brought."""
    items = session.everything("schedules.list")
    if session.json:
        put_json(items)
        return
    titles = ("NAME", "STATE", "NEXT", "LAST", "RUNS", "TYPE", "WHEN")
    put_table(titles, [_row(item) for item in items], frozenset({"RUNS"}), ("TYPE", "RUNS", "LAST"))
    if not items:
        exits.say("there is no schedule; make one: dlqueue schedule create NAME --cron '0 3 * * *' --url URL")


def _row(item: Mapping[str, Any]) -> list[object]:
    if not is_terminal():
        return [
            item["name"], _state(item), item["next_run"], item["last_status"], item["runs"], item["type"], _when(item),
            item["previous_run"], item["owner"],
        ]  # fmt: skip
    return [
        item["name"], _state(item), _ahead(item["next_run"]), item["last_status"] or "-", item["runs"],
        "download" if item["type"] == DOWNLOAD else item["type"], _when(item),
    ]  # fmt: skip


def _state(item: Mapping[str, Any]) -> str:
    return "active" if item["active"] else "paused"


def _when(item: Mapping[str, Any]) -> str:
    if item["every"] is not None:
        return f"every {format_duration(item['every'])}"
    cron = str(item["cron"])
    return cron if cron.startswith("@every") else f"{cron} {item['timezone']}"


def _ahead(instant: str | None) -> str:
    if instant is None:
        return "-"
    seconds = (datetime.fromisoformat(instant) - datetime.now(UTC)).total_seconds()
    return f"in {format_duration(round(max(seconds, 0)))}"


@schedule_command.command("show")
@_name
@click.option("--limit", type=click.IntRange(1, 1000), default=10, metavar="N", help="Runs to show (default 10).")
@everywhere
@pass_session
def show(session: Session, /, name: str, limit: int) -> None:
    """All that is known of one, and its last runs."""
    item: dict[str, Any] = {**session.client.schedules.get(name=name)}
    stats = session.client.schedules.stats(name=name, limit=limit)
    if session.json:
        put_json({**item, "stats": {**stats}})
        return
    outcomes = ("running", "completed", "failed", "canceled", "skipped", "refused")
    counted = ", ".join(f"{stats[word]} {word}" for word in outcomes if stats[word])  # type: ignore[literal-required]
    for title, value in (
        ("name", item["name"]),
        ("state", _state(item)),
        ("when", _when(item)),
        ("next run", item["next_run"]),
        ("last run", item["previous_run"]),
        ("missed", item["missed"]),
        ("overlap", item["overlap"]),
        ("type", item["type"]),
        ("params", as_json(item["params"])),
        ("queue", item["queue"]),
        ("owner", item["owner"]),
        ("runs", f"{item['runs']}" + (f" ({counted})" if counted else "")),
    ):
        if value is not None:
            put_field(title, value, 9)
    if stats["items"]:
        if is_terminal():
            print()
        rows = [_run_row(run) for run in stats["items"]]
        put_table(("DUE", "KIND", "TASK", "STATUS", "TOOK", "MESSAGE"), rows, frozenset({"TASK", "TOOK"}), ("KIND",))


def _run_row(run: Mapping[str, Any]) -> list[object]:
    seconds = run["seconds"]
    if not is_terminal():
        return [run["due_at"], run["kind"], run["task_id"], run["status"], seconds, run["message"]]
    took = "-" if seconds is None else format_duration(seconds)
    due = datetime.fromisoformat(run["due_at"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return [due, run["kind"], run["task_id"] or "-", run["status"], took, run["message"] or ""]


@schedule_command.command("create")
@click.argument("name", metavar="NAME")
@_definition
@everywhere
@pass_session
def create(session: Session, /, name: str, **options: Any) -> None:
    """A new schedule of downloads, or of any other task.

    \b
    dlqueue schedule create nightly --cron '0 3 * * *' \\
        --url https://example.org/dump.gz -d ~/dumps --on-exists overwrite
    dlqueue schedule create probe --every 10m \\
        --type probe --params '{"url": "https://example.org/"}'
    """
    asked = _asked(options)
    if asked.get("cron") is None and asked.get("every") is None:
        raise click.UsageError("say when: --cron '0 3 * * *' or --every 2h")
    if "type" not in asked:
        raise click.UsageError("say what: --url URL for a download, or --type T with --params JSON")
    asked.setdefault("params", {})
    if asked.get("cron") is not None and not asked["cron"].startswith("@every"):
        asked.setdefault("timezone", zone_here())
    _put(session, dict(session.client.schedules.create(name=name, **asked)))


@schedule_command.command("set")
@_name
@_definition
@everywhere
@pass_session
def set_(session: Session, /, name: str, **options: Any) -> None:
    """Change what is given. --url and --params replace everything that says what to fetch or do."""
    asked = _asked(options)
    if not asked:
        raise click.UsageError("nothing to change: give --cron, --every, --url …")
    _put(session, dict(session.client.schedules.update(name=name, **asked)))


def _asked(options: dict[str, Any]) -> dict[str, Any]:
    """What is given, as params of `schedules.create`."""
    if options["cron"] is not None and options["every"] is not None:
        raise click.UsageError("give either --cron or --every, not both")
    names = ("cron", "every", "timezone", "missed", "overlap", "queue")
    asked = {name: options[name] for name in names if options[name] is not None}
    if options["urls"]:
        if options["params"] is not None or options["type_"] not in (None, DOWNLOAD):
            raise click.UsageError("--url is a download: give it without --type and --params")
        return {**asked, "type": DOWNLOAD, "params": _download(options)}
    alone = next((option for name, option in _DOWNLOAD_OPTIONS.items() if options[name]), None)
    if alone is not None:
        raise click.UsageError(f"{alone} is about a download: give --url with it")
    if options["type_"] is not None:
        asked["type"] = options["type_"]
    if options["params"] is not None:
        asked["params"] = task_params(options["params"], options["type_"])
    return asked


def _download(options: dict[str, Any]) -> dict[str, Any]:
    """As params of `downloads.add`."""
    urls = list(options["urls"])
    for url in urls:
        if not is_url(url):
            raise click.UsageError(f'not a URL: "{url}"; write for example https://example.org/file')
    params: dict[str, Any] = {"url": urls[0]} if len(urls) == 1 else {"urls": urls}
    for option in ("downloader", "checksum", "on_exists"):
        if options[option] is not None:
            params[option] = options[option]
    if options["name_"] is not None:
        params["name"] = options["name_"]
    if options["directory"] is not None:
        params["directory"] = str(folder(options["directory"]).absolute())
    try:
        if options["headers"]:
            params["headers"] = dict(header(text) for text in options["headers"])
    except ValueError as error:
        raise click.UsageError(f"--header: {error}") from None
    set_cwd(params)
    return params


def _put(session: Session, item: dict[str, Any]) -> None:
    if session.json:
        put_json(item)
    else:
        put_line(item["name"], _state(item), item["next_run"] or "-", _when(item))


def zone_here() -> str:
    """The time zone of this machine, as far as its name can be found; else UTC."""
    named = os.environ.get("TZ", "").removeprefix(":")
    if "/" in named and not named.startswith("/"):
        return named
    with suppress(OSError):
        _, found, name = os.path.realpath("/etc/localtime").partition(_ZONES)
        if not named and found and name:
            return name
    return "UTC"


@schedule_command.command("pause")
@_names
@everywhere
@pass_session
def pause(session: Session, /, names: tuple[str, ...]) -> int:
    """No runs until it is resumed; tasks that are there go on."""
    return put_each_named(session, names, lambda name: session.client.schedules.pause(name=name), _state)


@schedule_command.command("resume")
@_names
@everywhere
@pass_session
def resume(session: Session, /, names: tuple[str, ...]) -> int:
    """Runs again, from the next time on."""
    return put_each_named(session, names, lambda name: session.client.schedules.resume(name=name), _state)


@schedule_command.command("run")
@_names
@everywhere
@pass_session
def run(session: Session, /, names: tuple[str, ...]) -> int:
    """Make its task now. When it is due next stays as it is."""
    return put_each_named(
        session,
        names,
        lambda name: session.client.schedules.run(name=name),
        lambda item: f"task {item['last_task_id']}",
    )


@schedule_command.command("rm")
@_names
@everywhere
@pass_session
def rm(session: Session, /, names: tuple[str, ...]) -> int:
    """Forget it, with its log. Its tasks stay."""
    return put_each_named(session, names, lambda name: session.client.schedules.delete(name=name), lambda _: "removed")
