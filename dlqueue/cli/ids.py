"""Task ids as people give them: `7`, `2,4-6`, `@last`."""

from __future__ import annotations

from collections.abc import Iterable

import click

from dlqueue.cli import exits
from dlqueue.cli.session import Session

_MOST = 10_000


def task_ids(session: Session, words: Iterable[str]) -> list[int]:
    """The ids, each once, in the order given. Raises `click.UsageError` for what is not an id."""
    found: dict[int, None] = {}
    for word in words:
        for part in word.split(","):
            found.update(dict.fromkeys(_numbers(session, part.strip())))
            if len(found) > _MOST:
                raise click.UsageError(f"more than {_MOST} tasks at once; use a filter or --all")
    return list(found)


def task_id(session: Session, word: str) -> int:
    """The one id that ``word`` stands for."""
    found = task_ids(session, [word])
    if len(found) != 1:
        raise click.UsageError(f'one task is wanted, and "{word}" is {len(found)}')
    return found[0]


def _numbers(session: Session, part: str) -> Iterable[int]:
    if part == "@last":
        return [_last(session)]
    first, dash, last = part.partition("-")
    if not _is_id(first) or (dash and not _is_id(last)):
        raise click.UsageError(f'not a task id: "{part}"; write 7, or 2,4-6, or @last')
    low, high = int(first), int(last or first)
    if high < low:
        raise click.UsageError(f'the range "{part}" runs backwards')
    if high - low >= _MOST:
        raise click.UsageError(f'the range "{part}" holds more than {_MOST} tasks')
    return range(low, high + 1)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18 and int(text) > 0


def _last(session: Session) -> int:
    found = session.client.tasks.list(owner=session.me(), order="-id", limit=1)["items"]
    if not found:
        raise exits.Failed("@last: you have no task yet", exits.NOT_FOUND, "add one: dlqueue add URL")
    return found[0]["id"]
