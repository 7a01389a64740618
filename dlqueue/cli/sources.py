"""What `add` is asked for: URLs, torrent and metalink files, lists in files and on standard input."""

from __future__ import annotations

import base64
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from dlqueue.cli.options import folder

MAX_FILE = 3_000_000
"""Bytes of a torrent or metalink file: as base64 it has to fit into one message of 4 MiB."""
MAX_LIST = 64 * 1024 * 1024
_SUFFIXES = {".torrent": "torrent", ".metalink": "metalink", ".meta4": "metalink"}
_LIST_OPTIONS = ("dir", "out", "checksum", "header")


@dataclass(frozen=True)
class Source:
    """One download: its own params of `downloads.add`, and where it stood if that was a list."""

    params: dict[str, Any]
    where: str | None = None


def sources(arguments: Iterable[str], lists: Iterable[str]) -> list[Source]:
    """Everything that is asked for, in order.

    :param arguments: URLs, torrent and metalink files, ``-`` for URLs on standard input.
    :param lists: files with URLs, mirrors and options, as aria2 reads them; ``-`` for standard input.

    Raises `click.UsageError` naming the file and the line for what can never be right.
    """
    found: list[Source] = []
    given = tuple(arguments)
    for place, argument in enumerate(given, 1):
        if argument == "-":
            found += _plain_lines(sys.stdin.buffer.read(MAX_LIST))
        else:
            found.append(Source(_params(argument), f"argument {place}" if len(given) > 1 else None))
    for name in lists:
        text = _text(sys.stdin.buffer.read(MAX_LIST) if name == "-" else _read(name, MAX_LIST), name)
        found += _list_lines(text, "standard input" if name == "-" else name)
    return found


def header(text: str) -> tuple[str, str]:
    """`Name: value` as a pair. Raises ``ValueError``, which does not repeat it: it may be a secret."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ValueError("a header is written as 'Name: value'")
    return name.strip(), value.strip(" ")


def is_url(text: str) -> bool:
    return bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", text))


def _params(argument: str) -> dict[str, Any]:
    if is_url(argument):
        return {"url": argument}
    path = Path(argument)
    kind = _SUFFIXES.get(path.suffix.lower())
    if kind is not None:
        return {kind: _upload(path, kind)}
    if argument and path.exists():
        raise click.UsageError(f"{argument} is no torrent or metalink file; if it is a list of URLs: -i {argument}")
    raise click.UsageError(f'not a URL: "{argument}"; write for example https://example.org/file')


def _upload(path: Path, kind: str) -> str:
    content = _read(str(path), MAX_FILE)
    # Only a glance: a torrent is a dictionary that has a dictionary `info`. The daemon reads it more closely.
    marks = {"torrent": content.startswith(b"d") and b"4:infod" in content, "metalink": b"<metalink" in content}
    if not marks[kind]:
        raise click.UsageError(f"{path} is not a {kind} file, or it is damaged")
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
        raise click.UsageError(f"{name} is not text in UTF-8; is it a list of URLs?") from None


def _plain_lines(content: bytes) -> Iterator[Source]:
    for number, line in enumerate(_text(content, "standard input").splitlines(), 1):
        url = line.strip()
        if url and not url.startswith("#"):
            where = f"standard input, line {number}"
            _check(url, where)
            yield Source({"url": url}, where)


def _list_lines(text: str, name: str) -> list[Source]:
    """The format of aria2's ``--input-file``: TAB-separated mirrors on a line, options on indented lines below it."""
    found: list[Source] = []
    for number, line in enumerate(text.split("\n"), 1):
        line, where = line.rstrip("\r"), f"{name}, line {number}"
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0] in " \t":
            if not found:
                raise click.UsageError(f"{where}: an option without a URL above it")
            _set(found[-1].params, line.strip(), where)
            continue
        mirrors = [part.strip() for part in line.split("\t") if part.strip()]
        for url in mirrors:
            _check(url, where)
        found.append(Source({"url": mirrors[0]} if len(mirrors) == 1 else {"urls": mirrors}, where))
    return found


def _set(params: dict[str, Any], option: str, where: str) -> None:
    key, equals, value = (part.strip() for part in option.partition("="))
    if not equals or key not in _LIST_OPTIONS:
        known = ", ".join(_LIST_OPTIONS)
        raise click.UsageError(f'{where}: the option "{key[:40]}" is not understood (known: {known})')
    match key:
        case "dir":
            params["directory"] = str(folder(value).absolute())
        case "out":
            params["name"] = value
        case "checksum":
            params["checksum"] = value
        case "header":
            try:
                field, content = header(value)
            except ValueError as error:
                raise click.UsageError(f"{where}: {error}") from None
            params.setdefault("headers", {})[field] = content


def _check(url: str, where: str) -> None:
    if not is_url(url):
        raise click.UsageError(f'{where}: not a URL: "{url[:60]}"')
