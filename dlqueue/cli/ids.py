"""Task ids as people give them: `7`, `2,4-6`, `@last`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import click

from dlqueue.cli import exits
from dlqueue.cli.session import Session
from dlqueue.protocol.errors import NotFound, RpcError

R = TypeVar("R")

MOST = 10_000
"""Tasks that one command is about at most."""
_WIDE = 20
"""From so many on, it pays to ask where the ids end."""


class TaskIds:
    """The ids, each once, in the order given. One that is named has to exist; of a range, those that do are meant."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = tuple(words)
        self._ids: dict[int, bool] = {}

    def name(self, number: int) -> None:
        self._ids[number] = True

    def span(self, low: int, high: int) -> None:
        for number in range(low, high + 1):
            self._ids.setdefault(number, low == high)

    def forget_above(self, last: int) -> None:
        """What only a range brought in, and is newer than all there is."""
        self._ids = {number: named for number, named in self._ids.items() if named or number <= last}

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[int]:
        return iter(self._ids)

    def named(self, number: int) -> bool:
        """Was it given by itself, not only as a part of a range?"""
        return self._ids[number]

    def single(self) -> bool:
        """Is it about one task, by its name?"""
        return list(self._ids.values()) == [True]

    def each(self, ask: Callable[[int], R]) -> Iterator[tuple[int, R | Exception]]:
        """What ``ask`` answers for each; a refusal (`RpcError`, `exits.Failed`) as a value.

        :raises exits.Failed: only ranges were given, and nothing is in them.
        """
        found = False
        for number, named in self._ids.items():
            try:
                answer: R | Exception = ask(number)
            except NotFound as error:
                if not named:
                    continue
                answer = error
            except (RpcError, exits.Failed) as error:
                answer = error
            found = True
            yield number, answer
        if not found:
            raise exits.Failed(f"there is no task in {', '.join(self.words)}", exits.NOT_FOUND, "see: dlqueue ls")

    def existing(self, session: Session) -> list[int]:
        """Those that are there. :raises RpcError: one that was named is not."""
        if all(self._ids.values()):
            return list(self._ids)
        found = []
        for number, answer in self.each(lambda number: session.client.tasks.progress(id=number)):
            if isinstance(answer, Exception):
                raise answer
            found.append(number)
        return found


def task_ids(session: Session, words: Iterable[str]) -> TaskIds:
    """What ``words`` stand for. Raises `click.UsageError` for what is not an id."""
    found = TaskIds(words)
    for word in found.words:
        for part in word.split(","):
            _read(session, part.strip(), found)
            if len(found) > MOST:
                raise click.UsageError(f"more than {MOST} tasks at once; use a filter or --all")
    if len(found) > _WIDE:
        newest = session.client.tasks.list(order="-id", limit=1)["items"]
        found.forget_above(newest[0]["id"] if newest else 0)
    return found


def task_id(session: Session, word: str) -> int:
    """The one id that ``word`` stands for."""
    found = list(task_ids(session, [word]))
    if len(found) != 1:
        raise click.UsageError(f'one task is wanted, and "{word}" is {len(found)}')
    return found[0]


def numbers(text: str, what: str, most: int) -> list[int]:
    """`1,3-5` as numbers from 1, each once. Raises ``ValueError``."""
    found: dict[int, None] = {}
    for part in text.split(","):
        low, high = span(part.strip(), what)
        if high - low >= most or len(found) >= most:
            raise ValueError(f'"{_short(text)}" is more than {most} at once')
        found |= dict.fromkeys(range(low, high + 1))
    return list(found)


def as_ranges(ids: Iterable[int]) -> str:
    """The other way round: ``2,4-6``."""
    parts: list[list[int]] = []
    for number in sorted(ids):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)


def span(part: str, what: str) -> tuple[int, int]:
    """`7` or `4-6` as first and last. Raises ``ValueError``."""
    first, dash, last = part.partition("-")
    if not _is_number(first) or (dash and not _is_number(last)):
        raise ValueError(f'not {what}: "{_short(part)}"')
    low, high = int(first), int(last or first)
    if high < low:
        raise ValueError(f'the range "{part}" runs backwards')
    return low, high


def _read(session: Session, part: str, found: TaskIds) -> None:
    if part == "@last":
        found.name(_last(session))
        return
    try:
        low, high = span(part, "a task id")
    except ValueError as error:
        hint = "; write 7, or 2,4-6, or @last" if str(error).startswith("not") else ""
        raise click.UsageError(f"{error}{hint}") from None
    if high - low >= MOST:
        raise click.UsageError(f'the range "{part}" holds more than {MOST} tasks')
    found.span(low, high)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18 and int(text) > 0


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"


def _last(session: Session) -> int:
    found = session.client.tasks.list(owner=session.me(), order="-id", limit=1)["items"]
    if not found:
        raise exits.Failed("@last: you have no task yet", exits.NOT_FOUND, "add one: dlqueue add URL")
    return found[0]["id"]
