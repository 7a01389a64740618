"""What is wrong with a configuration, said so that a person can mend it in one go."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

Key = tuple[str | int, ...]
"""The place of a value: names of tables and keys, and indexes (from 0) of list items."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend. ``file`` and ``line`` are ``None`` where no file has a part in it."""

    file: Path | None
    line: int | None
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.line else f"{self.file}: " if self.file else ""
        return f"{place}{self.key}: {self.message}" if self.key else f"{place}{self.message}"


class ConfigError(Exception):
    """The configuration cannot be used; ``problems`` says why, all of it, in the order of the files."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def dotted(key: Key) -> str:
    """A key as people write it: ``downloaders.box.paths[0].local``."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = part and all(c.isascii() and (c.isalnum() or c in "-_") for c in part)
            text += ("." if text else "") + (part if bare else quoted(part))
    return text


def quoted(text: str, longest: int = 60) -> str:
    """Text from a file, safe to print on one line of a terminal."""
    shown = text if len(text) <= longest else text[: longest - 1] + "…"
    return f'"{shown}"' if shown.isprintable() else f'"{ascii(shown)[1:-1]}"'


def nearest(name: str, valid: Sequence[str]) -> str:
    """The hint that follows "unknown": the nearest valid name, or all of them when none is near."""
    close = difflib.get_close_matches(name.lower(), valid, n=1, cutoff=0.5)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"valid here: {', '.join(sorted(valid))}" if valid else "nothing is valid here"
