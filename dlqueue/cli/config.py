"""`config check|show|path|reload`: what is configured, where, and whether it is right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from dlqueue.cli import exits
from dlqueue.cli.instance import Mode, of_instance, reader
from dlqueue.cli.session import Session, everywhere, pass_session
from dlqueue.cli.table import is_terminal, plain, put_json, put_table
from dlqueue.client import DaemonUnreachable, RpcError

if TYPE_CHECKING:
    from dlqueue.config import Problem
    from dlqueue.daemon.reading import Reader


@click.group("config", no_args_is_help=True)
@everywhere
def config_command() -> None:
    """The configuration: check it, show it, read it anew."""


@config_command.command("check")
@of_instance
@everywhere
@pass_session
def check_command(session: Session, /, mode: Mode | None) -> int:
    """Report every problem of the files at once. No daemon is needed, and none is asked."""
    from dlqueue.config import ConfigError

    read = reader(session, mode)
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    try:
        config = read()
        warnings, files = config.warnings, [str(file) for file in config.files]
    except ConfigError as error:
        problems, files = error.problems, [str(file) for file in _files(read) if file.exists()]
    if session.json:
        put_json(
            {
                "ok": not problems,
                "problems": [_as_json(problem) for problem in problems],
                "warnings": [_as_json(warning) for warning in warnings],
                "files": files,
            }
        )
    else:
        for problem in (*problems, *warnings):
            print(plain(problem if problem in problems else f"warning: {problem}"))
        said = _counted(len(problems), "problem") if problems else "no problem"
        if warnings:
            said += f", {_counted(len(warnings), 'warning')}"
        missing = f"there is no {_files(read)[0]}" + ("" if problems else ", so the defaults hold")
        where = ", ".join(files) or missing
        exits.say(f"{said} ({read.mode} instance; {where})")
    return exits.FAILURE if problems else exits.OK


@config_command.command("show")
@click.option("--files", "of_files", is_flag=True, help="What the files say now, whatever the daemon goes by.")
@of_instance
@everywhere
@pass_session
def show_command(session: Session, /, of_files: bool, mode: Mode | None) -> int:
    """Every setting in force, secrets as ***.

    Of the running daemon; of the files if none answers.
    """
    shown: dict[str, Any] | None = None
    if not (of_files or mode or session.config):
        try:
            shown = dict(session.client.daemon.config())
        except DaemonUnreachable:
            exits.say("no daemon answers; this is what the files say:")
        else:
            shown = {"source": "daemon", **shown}
            exits.say(f"in force in the daemon on {session.client.path}:")
    if shown is None:
        from dlqueue.config import ConfigError

        try:
            shown = {"source": "files", **reader(session, mode)().as_shown()}
        except ConfigError as error:
            return _refused([str(problem) for problem in error.problems])
    if session.json:
        put_json(shown)
    else:
        for line in _as_toml(shown):
            print(plain(line))
    return exits.OK


@config_command.command("path")
@of_instance
@everywhere
@pass_session
def path_command(session: Session, /, mode: Mode | None) -> int:
    """Where the files, the socket, the database and downloads are."""
    from dlqueue.config import ConfigError

    read = reader(session, mode)
    files = [{"path": str(file), "exists": file.exists()} for file in _files(read)]
    found: dict[str, Any] = {"instance": read.mode, "files": files}
    code = exits.OK
    try:
        config = read()
    except ConfigError as error:
        exits.say(f"{_counted(len(error.problems), 'problem')} in the files: see dlqueue config check")
        found |= {"socket": str(read.places.socket), "database": None, "downloads": None, "staging": None}
        code = exits.FAILURE
    else:
        shown = config.as_shown()
        found |= {"socket": shown["socket"], "database": shown["store"]["url"]}
        found |= {"downloads": shown["daemon"]["downloads"], "staging": shown["daemon"]["staging"]}
    if session.json:
        put_json(found)
        return code
    beside = "at the root of the destination" if read.mode == "system" else "beside the destination"
    unknown = "(unknown)" if code else None
    rows = [("config", file["path"], "" if file["exists"] else "not there") for file in files]
    rows += [
        ("socket", found["socket"], ""),
        ("database", found["database"] or unknown or "", ""),
        ("downloads", found["downloads"] or unknown or "the directory where the command is given", ""),
        ("staging", found["staging"] or unknown or f".dlqueue/ {beside}", ""),
    ]
    put_table(("WHAT", "WHERE", ""), rows)
    return code


@config_command.command("reload")
@everywhere
@pass_session
def reload_command(session: Session, /) -> int:
    """Let the daemon read its files anew; prints what has changed. A mistake in them changes nothing."""
    try:
        answer = session.client.daemon.reload()
    except RpcError as error:
        if error.kind not in ("config", "restart"):
            raise
        return _refused(error.message.splitlines())
    for warning in answer["warnings"]:
        exits.say(plain(f"warning: {warning}"))
    if session.json:
        put_json(answer)
    elif not answer["changed"]:
        exits.say("nothing has changed")
    else:
        rows = [(one["key"], *_before_and_now(one["from"], one["to"])) for one in answer["changed"]]
        if is_terminal():
            rows = [(key, before, f"-> {after}") for key, before, after in rows]
        put_table(("SETTING", "BEFORE", "NOW"), rows)
    return exits.OK


def _before_and_now(before: Any, now: Any) -> tuple[str, str]:
    """In short: of a section that came or went its keys are no news; of a secret that changed nothing is said."""
    if before == now:
        return "", "changed"
    if isinstance(before, dict) and now is None:
        return "", "removed"
    if isinstance(now, dict) and before is None:
        return "", f"added ({', '.join(str(now[key]) for key in ('kind', 'url') if now.get(key))})"
    return json.dumps(before), json.dumps(now)


def _files(read: Reader) -> list[Any]:
    """The main file, and what is in `conf.d` beside it."""
    places = read.places
    more = sorted(places.conf_d.glob("*.toml")) if places.conf_d.is_dir() else []
    return [places.config_file, *(file for file in more if not file.name.startswith("."))]


def _as_json(problem: Problem) -> dict[str, Any]:
    file = None if problem.file is None else str(problem.file)
    return {"file": file, "line": problem.line, "key": problem.key, "message": problem.message}


def _refused(problems: list[str]) -> int:
    for problem in problems:
        exits.say(f"dlqueue: {plain(problem)}")
    return exits.FAILURE


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _as_toml(shown: dict[str, Any]) -> Iterator[str]:
    """As it could stand in a file; what is not set, and what is no setting, as a comment."""
    for name in ("source", "mode", "files", "socket", "state"):
        if name in shown:
            yield f"# {name}: {json.dumps(shown[name], ensure_ascii=False)}"
    for name, section in shown.items():
        if isinstance(section, dict):
            yield from _section(name, section)


def _section(path: str, section: dict[str, Any]) -> Iterator[str]:
    tables = {name: value for name, value in section.items() if isinstance(value, dict)}
    if len(tables) < len(section):
        yield ""
        yield f"[{path}]"
    for name, value in section.items():
        if value is None and path != "seeding":
            yield f"# {name} is not set"
        elif name not in tables:
            # TOML has no null: where None is a choice, `false` says it.
            yield f"{name} = {_toml(False if value is None else value)}"
    for name, value in tables.items():
        bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
        yield from _section(f"{path}.{name if bare else json.dumps(name)}", value)


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{name} = {_toml(inner)}' for name, inner in value.items())} }}"
    return json.dumps(value, ensure_ascii=False)
