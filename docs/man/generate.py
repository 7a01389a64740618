"""Writes `dlqueue.1`, one page with all commands: what they say themselves, and the tables of exit codes and variables
in the documents. click-man makes a page for each command, and none of commands that are loaded when they are called.

    python docs/man/generate.py
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

from dlqueue import __version__
from dlqueue.cli.main import program

DOCS = Path(__file__).resolve().parent.parent
PAGE = DOCS / "man" / "dlqueue.1"


def page() -> str:
    """The whole page, in the language of man(7)."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield r".\" Made by docs/man/generate.py from the program itself; do not edit."
    yield f'.TH DLQUEUE 1 "" "dlqueue {__version__}" "User Commands"'
    yield ".SH NAME"
    yield r"dlqueue \- one durable queue in front of every downloader you run"
    yield ".SH SYNOPSIS"
    yield r".B dlqueue"
    yield r".RI [ OPTIONS ] " + '" "' + r" COMMAND " + '" "' + r" [ ARGUMENTS ]"
    yield ".SH DESCRIPTION"
    yield from _text(_INTRODUCTION)
    yield ".SH OPTIONS"
    yield "With every command, before or after its name:"
    yield from _options(program, click.Context(program, info_name="dlqueue"))
    yield ".SH COMMANDS"
    for context in _commands(program, click.Context(program, info_name="dlqueue")):
        yield from _command(context)
    yield ".SH EXIT STATUS"
    for code, meaning in _rows("cli.md", r"\d+"):
        yield from _entry(code, meaning)
    yield ".SH ENVIRONMENT"
    for name, meaning in _rows("configuration.md", r"`DLQUEUE_[A-Z_]+`"):
        if not meaning.startswith("for tests"):
            yield from _entry(name, meaning)
    yield from _entry("NO_COLOR", "if it is set, nothing has colours")
    yield ".SH EXAMPLES"
    for what, command in _EXAMPLES:
        yield from _text(what)
        yield from (".PP", ".RS 4", ".EX", _escaped(command), ".EE", ".RE", ".PP")
    yield ".SH SEE ALSO"
    yield r".BR aria2c (1),"
    yield r".BR systemctl (1)"


_INTRODUCTION = """\
dlqueue is one durable queue in front of every downloader you run: aria2, qBittorrent, Transmission, yt-dlp, and one of
its own for HTTP. Commands talk to a daemon; dlqueue get starts one if none answers.

Data goes to standard output, everything else to standard error. --json works with every command that prints data: one
JSON value, or one per line for streams. Tables are drawn on a terminal, and are tab-separated in a pipe. A command
returns when the thing has happened.

IDs may be given as 7, as 2,4-6, or as @last, your newest task. Durations are written 90s, 2h30m, 7d; sizes 500k,
2MiB."""

_EXAMPLES = (
    ("Download a file to this folder, and wait for it:", "dlqueue get https://example.org/file.iso"),
    ("Queue everything in a list, and look at it:", "dlqueue add -i list.txt -d ~/downloads\ndlqueue top"),
    ("What does the newest task wait for?", "dlqueue why @last"),
    ("Try all that failed again:", "dlqueue retry --failed"),
    ("The names of what is being downloaded, in a script:", "dlqueue ls --status downloading | cut -f 7"),
)


def _commands(group: click.Group, context: click.Context) -> Iterator[click.Context]:
    """Each command that does something, in the order of the help."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if command.hidden:
            continue
        below = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from _commands(command, below)
        else:
            yield below


def _command(context: click.Context) -> Iterator[str]:
    arguments = [
        parameter.make_metavar(context) for parameter in context.command.params if isinstance(parameter, click.Argument)
    ]
    yield f".SS {_escaped(' '.join([context.command_path, *arguments]))}"
    yield from _text(inspect.cleandoc(context.command.help or ""))
    yield from _options(context.command, context)


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    everywhere = {option for parameter in program.params for option in parameter.opts}
    for parameter in command.get_params(context):
        if isinstance(parameter, click.Option) and not parameter.hidden:
            if command is not program and everywhere & set(parameter.opts):
                continue
            if (record := parameter.get_help_record(context)) is not None and "--help" not in parameter.opts:
                yield from _entry(record[0], record[1])


def _entry(head: str, text: str) -> Iterator[str]:
    name, space, rest = head.partition(" ")
    yield ".TP"
    yield rf"\fB{_escaped(name)}\fP{space}{_escaped(rest)}"
    yield from _text(text)


def _text(text: str) -> Iterator[str]:
    """Paragraphs; one that begins with a line \\b keeps its lines, as click has it."""
    for number, paragraph in enumerate(text.split("\n\n")):
        if number:
            yield ".PP"
        if paragraph.startswith("\b\n"):
            yield from (".EX", _escaped(paragraph.removeprefix("\b\n")), ".EE")
        else:
            yield _escaped(" ".join(paragraph.split()))


def _rows(name: str, first: str) -> Iterator[tuple[str, str]]:
    """Of a table in the documents: the cells of the rows that begin so, as plain text."""
    text = (DOCS / name).read_text(encoding="utf-8")
    for row in re.findall(rf"^\| ({first}) \| (.*) \|$", text, re.MULTILINE):
        yield row[0].strip("`"), re.sub(r"\[([^]]*)\]\([^)]*\)|`", r"\1", row[1].rpartition(" | ")[2])


def _escaped(text: str) -> str:
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("^", r"\(ha").replace("~", r"\(ti")
    # What begins a line with a dot or a quote would be an order.
    return re.sub(r"^(?=[.'])", r"\\&", text, flags=re.MULTILINE)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
