"""What `add` is asked for: URLs, torrent and metalink files, lists in files and on standard input."""

from __future__ import annotations

import base64
import re
import stat
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from dlqueue.cli import exits
from dlqueue.cli.inputfile import read_list

MAX_FILE = 3_000_000
"""Bytes of a torrent or metalink file: as base64 it has to fit into one message of 4 MiB."""
MAX_LIST = 64 * 1024 * 1024
_SUFFIXES = {".torrent": "torrent", ".metalink": "metalink", ".meta4": "metalink"}
_TOLD = 10
"""Mistakes of a list that are told one by one."""


@dataclass(frozen=True)
class Source:
    """One download: its own params of `downloads.add`, and where it stood if that was a list."""

    params: dict[str, Any]
    where: str | None = None


def sources(arguments: Iterable[str], lists: Iterable[str]) -> list[Source]:
    """Everything that is asked for, in order. A list with a mistake brings nothing at all.

    :param arguments: URLs, torrent and metalink files, lists, ``-`` for a list on standard input.
    :param lists: the same, but no URLs.

    Raises `click.UsageError` naming the file and the line for what can never be right.
    """
    found: list[Source] = []
    given = tuple(arguments)
    for place, argument in enumerate(given, 1):
        if is_url(argument):
            found.append(Source({"url": argument}, f"argument {place}" if len(given) > 1 else None))
        elif argument == "-" or (argument and Path(argument).exists()) or _kind(argument):
            found += _file(argument, f"argument {place}" if len(given) > 1 else None)
        else:
            raise click.UsageError(f'not a URL: "{argument}"; write for example https://example.org/file')
    for name in lists:
        found += _file(name, name)
    return found


def is_url(text: str) -> bool:
    return bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", text))


def _kind(name: str) -> str | None:
    """``torrent`` or ``metalink``, by the name of the file."""
    return _SUFFIXES.get(Path(name).suffix.lower())


def _file(name: str, where: str | None) -> list[Source]:
    """A torrent or metalink file, else a list."""
    if (kind := _kind(name)) is not None:
        return [Source({kind: _upload(Path(name), kind)}, where)]
    content = sys.stdin.buffer.read(MAX_LIST) if name == "-" else _read(name, MAX_LIST)
    for kind, begins in _MARKS.items():
        if begins(content):
            return [Source({kind: _encoded(content, name)}, where)]
    return _list(_text(content, name), "standard input" if name == "-" else name)


# Only a glance: a torrent is a dictionary that has a dictionary `info`. The daemon reads it more closely.
_MARKS: dict[str, Callable[[bytes], bool]] = {
    "torrent": lambda content: content.startswith(b"d") and b"4:infod" in content,
    "metalink": lambda content: b"<metalink" in content,
}


def _upload(path: Path, kind: str) -> str:
    content = _read(str(path), MAX_FILE)
    if not _MARKS[kind](content):
        raise click.UsageError(f"{path} is not a {kind} file, or it is damaged")
    return _encoded(content, str(path))


def _encoded(content: bytes, name: str) -> str:
    if len(content) > MAX_FILE:
        raise click.UsageError(f"{name} is too big: more than {MAX_FILE // 1024} KiB")
    return base64.b64encode(content).decode()


def _read(name: str, most: int) -> bytes:
    try:
        with open(name, "rb") as file:
            if stat.S_ISDIR(Path(name).stat().st_mode):
                raise click.UsageError(f"{name} is a folder")
            content = file.read(most + 1)
    except IsADirectoryError:
        raise click.UsageError(f"{name} is a folder") from None
    except OSError as error:
        raise click.UsageError(f"{name} cannot be read: {error.strerror}") from None
    if len(content) > most:
        raise click.UsageError(f"{name} is too big: more than {most // 1024} KiB")
    return content


def _text(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        shown = "standard input" if name == "-" else name
        raise click.UsageError(f"{shown} is not text in UTF-8; is it a list of URLs?") from None


def _list(text: str, name: str) -> list[Source]:
    read = read_list(text, _links)
    for number, problem in read.problems[: _TOLD - 1 if len(read.problems) > 1 else 0]:
        exits.say(f"dlqueue: {name}, line {number}: {problem}")
    if read.problems:
        number, problem = read.problems[min(len(read.problems), _TOLD) - 1]
        more = f" (and {len(read.problems) - _TOLD} more mistakes)" if len(read.problems) > _TOLD else ""
        raise click.UsageError(f"{name}, line {number}: {problem}{more}")
    for option, lines in read.unused.items():
        times = f"and {len(lines) - 1} more" if len(lines) > 1 else ""
        said = f"{name}, line {lines[0]} {times}".rstrip()
        exits.say(f"{said}: {option} is not used; such things are set for a downloader, in its configuration")
    return [Source(params, f"{name}, line {number}") for params, number in read.entries]


def _links(links: list[str]) -> dict[str, Any]:
    for link in links:
        if len(links) == 1 and not is_url(link) and (kind := _kind(link)) is not None:
            try:
                return {kind: _upload(Path(link), kind)}
            except click.UsageError as error:
                raise ValueError(error.message) from None
        if not is_url(link):
            raise ValueError(f'not a URL: "{link[:60]}"')
    return {"url": links[0]} if len(links) == 1 else {"urls": links}
