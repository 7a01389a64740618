"""`downloader`: the programs that fetch, one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from dlqueue.cli import exits
from dlqueue.cli.complete import complete_downloaders
from dlqueue.cli.groups import Commands
from dlqueue.cli.named import paused_or_resumed, put_each_named
from dlqueue.cli.session import Session, everywhere, pass_session
from dlqueue.cli.table import is_terminal, put_field, put_json, put_line, put_paragraph, put_table
from dlqueue.client import RpcError
from dlqueue.units import format_size

_name = click.argument("name", metavar="NAME", shell_complete=complete_downloaders)
_names = click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_downloaders)


@click.group("downloader", cls=Commands)
@everywhere
def downloader_command() -> None:
    """Look at the downloaders, test them, pause them."""


@downloader_command.command("ls")
@everywhere
@pass_session
def ls(session: Session, /) -> None:
    """The configured downloaders."""
    items = session.client.downloaders.list()["items"]
    if session.json:
        put_json(items)
        return
    titles = ("NAME", "KIND", "STATE", "VERSION", "ACTIVE", "DOWN", "UP", "ERROR")
    put_table(titles, [_row(item) for item in items], frozenset({"DOWN", "UP"}), ("VERSION", "UP", "KIND"))
    if not items:
        exits.say("no downloader is configured; see which there could be: dlqueue downloader kinds")


def _row(item: Mapping[str, Any]) -> list[object]:
    state = "paused" if item["paused"] and item["health"] in ("up", "unknown") else item["health"]
    # Of one that is down, what it did when it was last seen says nothing.
    down, up = (0, 0) if item["health"] == "down" else (item["download_speed"], item["upload_speed"])
    if not is_terminal():
        return [
            item["name"], item["kind"], state, item["version"], item["active"], item["max_active"], down, up,
            item["last_error"],
        ]  # fmt: skip
    return [
        item["name"],
        item["kind"],
        state,
        item["version"] or "-",
        f"{item['active']}/{item['max_active']}",
        f"{format_size(down)}/s" if down else "-",
        f"{format_size(up)}/s" if up else "-",
        item["last_error"] or "",
    ]


@downloader_command.command("show")
@_name
@everywhere
@pass_session
def show(session: Session, /, name: str) -> None:
    """All that is known of one."""
    item: dict[str, Any] = {**session.client.downloaders.get(name=name)}
    if session.json:
        put_json(item)
        return
    breaker = item["breaker"]
    for title, value in (
        ("name", item["name"]),
        ("kind", item["kind"]),
        ("version", item["version"]),
        ("health", item["health"]),
        ("paused", "yes: nothing new begins there" if item["paused"] else "no"),
        ("transfers", f"{item['active']} of at most {item['max_active']}"),
        ("download", f"{format_size(item['download_speed'])}/s"),
        ("upload", f"{format_size(item['upload_speed'])}/s"),
        ("asked again", breaker["until"]),
        ("last error", item["last_error"]),
    ):
        if value is not None:
            put_field(title, value, 13)


@downloader_command.command("test")
@click.argument("names", metavar="[NAME...]", nargs=-1, shell_complete=complete_downloaders)
@everywhere
@pass_session
def test(session: Session, /, names: tuple[str, ...]) -> int:
    """Ask it (or all) now whether all is well.

    Does it answer, does it let us in, does it write where dlqueue looks? Exit code 1 if not.
    """
    names = names or tuple(item["name"] for item in session.client.downloaders.list()["items"])
    code = exits.OK
    answers: list[dict[str, Any]] = []
    for name in names:
        try:
            answer = dict(session.client.downloaders.test(name=name))
        except RpcError as error:
            refused = exits.report(error)
            code = code or refused
            continue
        answers.append(answer if len(names) == 1 else {"name": name, **answer})
        if not answer["ok"]:
            code = code or exits.FAILURE
        if not session.json:
            _put_checks(name.ljust(max(map(len, names))) if is_terminal() else name, answer)
    if session.json and answers:
        put_json(answers[0] if len(names) == 1 else answers)
    return code


def _put_checks(name: str, answer: dict[str, Any]) -> None:
    for check in answer["checks"]:
        verdict, cure = "ok" if check["ok"] else "not ok", check.get("cure")
        if is_terminal():
            put_paragraph(f"{name}  {verdict:<6}  {check['name']:<11}  ", check["message"])
            if cure:
                put_paragraph(" " * len(f"{name}  not ok  ") + "cure:        ", cure)
        else:
            put_line(name, verdict, check["name"], check["message"], *([cure] if cure else []))


@downloader_command.command("pause")
@_names
@everywhere
@pass_session
def pause(session: Session, /, names: tuple[str, ...]) -> int:
    """Begin nothing new there; what runs goes on. Lasts until it is resumed."""
    return put_each_named(session, names, lambda name: session.client.downloaders.pause(name=name), paused_or_resumed)


@downloader_command.command("resume")
@_names
@everywhere
@pass_session
def resume(session: Session, /, names: tuple[str, ...]) -> int:
    """Begin transfers there again."""
    return put_each_named(session, names, lambda name: session.client.downloaders.resume(name=name), paused_or_resumed)


@downloader_command.command("kinds")
@everywhere
@pass_session
def kinds(session: Session, /) -> None:
    """The kinds that are installed: what they fetch or lack."""
    items = session.client.downloaders.kinds()["items"]
    if session.json:
        put_json(items)
        return
    rows = [
        [
            item["kind"],
            "yes" if item["usable"] else "no",
            ",".join(item["downloaders"]) or ("-" if is_terminal() else ""),
            " ".join(item["schemes"]) or item["problem"],
        ]
        for item in items
    ]
    put_table(("KIND", "USABLE", "DOWNLOADERS", "FETCHES"), rows)
