"""Libraries that are installed only by those who want a feature."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class MissingExtra(Exception):
    """A feature is turned on whose libraries are not there; the message says what to install."""


@contextmanager
def needed(extra: str, setting: str) -> Iterator[None]:
    """Around imports. :raises MissingExtra: one of them is not there, which ``setting`` asks for."""
    try:
        yield
    except ModuleNotFoundError as error:
        cure = f"pip install 'dlqueue[{extra}]', or remove the setting"
        raise MissingExtra(f'{setting} needs the extra "{extra}" ({error.name} is not installed): {cure}') from error
