"""Reading the files: one table out of several, remembering which file and line each value came from."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlqueue.config.lines import key_lines
from dlqueue.config.problems import Key, Problem, dotted
from dlqueue.runtime.files import read_whole

_MERGED_DEPTH = 2
"""``[section]`` and ``[section.name]`` of several files are merged; a value below them is replaced as a whole."""

LARGEST_FILE = 1 << 20


@dataclass(slots=True)
class Sources:
    """The merged table, where its values came from, and what was wrong on the way."""

    data: dict[str, Any] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    _origin: dict[Key, tuple[Path, int]] = field(default_factory=dict)

    def read(self, file: Path, *, named: bool = True) -> None:
        """Lay one more file over what is there. What is wrong with it becomes a problem; only a file that nobody
        named may be missing."""
        try:
            text = _read_text(file)
        except _Unreadable as error:
            if error.missing and not named:
                return
            self.files.append(file)
            self.problems.append(Problem(file, error.line, "", str(error)))
            return
        self.files.append(file)
        try:
            data = tomllib.loads(text)
            lines = key_lines(text)
        except tomllib.TOMLDecodeError as error:
            message, line = _place(str(error), text)
            self.problems.append(Problem(file, line, "", f"not TOML: {_plainer(message)}"))
        except (RecursionError, ValueError):
            message = "cannot be read as TOML: nested too deeply, or a number too long"
            self.problems.append(Problem(file, None, "", message))
        else:
            self._lay(data, lines, file)

    def read_folder(self, folder: Path) -> None:
        """Lay the ``*.toml`` of a folder over what is there, in the order of their names."""
        try:
            files = sorted(folder.iterdir())
        except FileNotFoundError:
            return
        except OSError as error:
            self.problems.append(Problem(folder, None, "", f"cannot be read: {error.strerror or error}"))
            return
        for file in files:
            if file.suffix == ".toml" and not file.name.startswith("."):
                self.read(file)

    @property
    def broken(self) -> bool:
        """Is there a file whose content is unknown?"""
        return any(not problem.key for problem in self.problems)

    def origin(self, key: Key) -> tuple[Path | None, int | None]:
        """File and line of a value, else of the table that would hold it."""
        while key:
            if key in self._origin:
                return self._origin[key]
            key = key[:-1]
        return (self.files[0], None) if self.files else (None, None)

    def problem(self, key: Key, message: str) -> None:
        """Report a problem with the value at ``key``."""
        file, line = self.origin(key)
        self.problems.append(Problem(file, line, dotted(key), message))

    def _lay(self, data: dict[str, Any], lines: dict[Key, int], file: Path) -> None:
        def lay(below: dict[str, Any], above: dict[str, Any], path: Key) -> None:
            for name, value in above.items():
                there = below.get(name)
                if isinstance(value, dict) and isinstance(there, dict) and len(path) < _MERGED_DEPTH:
                    lay(there, value, (*path, name))
                else:
                    below[name] = value

        lay(self.data, data, ())
        self._origin.update({key: (file, line) for key, line in lines.items()})


class _Unreadable(Exception):
    def __init__(self, message: str, *, line: int | None = None, missing: bool = False) -> None:
        super().__init__(message)
        self.line = line
        self.missing = missing


def _read_text(file: Path) -> str:
    try:
        raw = read_whole(file, LARGEST_FILE)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise _Unreadable(f"cannot be read: {error.strerror or error}", missing=missing) from None
    if len(raw) > LARGEST_FILE:
        raise _Unreadable("larger than 1 MiB: not a configuration file")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _Unreadable("not UTF-8", line=raw.count(b"\n", 0, error.start) + 1) from None


def _place(message: str, text: str) -> tuple[str, int]:
    found = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", message, re.DOTALL)
    if not found:
        return message, 1
    return found[1], int(found[2]) if found[2] else text.rstrip().count("\n") + 1


def _plainer(message: str) -> str:
    """What `tomllib` says, where a person who writes TOML for the first time needs more."""
    twice = re.fullmatch(r"Cannot declare \((.*?),?\) twice", message)
    if twice:
        name = ".".join(re.findall(r"'([^']*)'", twice[1]))
        return f"the table [{name}] is there twice: put its keys together"
    if message == "Invalid value":
        return 'Invalid value: text stands in quotation marks ("…"), true and false are written small'
    return message
