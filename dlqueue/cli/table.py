"""Data on stdout: JSON, tab-separated columns for programs, an aligned table for people."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any


def is_terminal() -> bool:
    return sys.stdout.isatty()


def colours() -> bool:
    """Whether colours are welcome on stdout."""
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def put_json(value: Any, *, stream: bool = False) -> None:
    """One JSON value; as one line in a ``stream`` or for a program, indented for a person."""
    indent = 2 if is_terminal() and not stream else None
    print(json.dumps(value, ensure_ascii=False, indent=indent, separators=None if indent else (",", ":")), flush=stream)


def as_json(value: Any) -> str | None:
    """In one line; None = there is nothing."""
    return None if value is None else json.dumps(value, ensure_ascii=False)


def put_line(*cells: object) -> None:
    """One line of data."""
    print(("  " if is_terminal() else "\t").join(plain(cell) for cell in cells), flush=True)


def put_field(title: str, value: object, width: int) -> None:
    """One line of all that is known of one thing; titles take ``width`` columns on a terminal."""
    print(f"{title:<{width}} {plain(value)}" if is_terminal() else f"{title}\t{plain(value)}")


def put_section(title: str, rows: Iterable[Sequence[str]]) -> None:
    """Below such lines: rows under their title on a terminal, each with the title in front of it otherwise."""
    if not is_terminal():
        for row in rows:
            print("\t".join(plain(cell) for cell in (title, *row)))
        return
    for number, row in enumerate(rows):
        if not number:
            print(f"\n{title}")
        print("  " + plain("  ".join(cell for cell in row if cell)))


def put_paragraph(head: str, text: str) -> None:
    """``text`` beside ``head``, broken between words at the width of the terminal."""
    import shutil
    import textwrap

    width = max(shutil.get_terminal_size().columns, len(head) + 20)
    indent = " " * len(head)
    print(textwrap.fill(plain(text), width, initial_indent=head, subsequent_indent=indent, break_on_hyphens=False))


def put_table(
    titles: Sequence[str],
    rows: Iterable[Sequence[object]],
    right: frozenset[str] = frozenset(),
    expendable: Sequence[str] = (),
) -> None:
    """Rows with titles for a person, cut to the width of the terminal; tab-separated without titles otherwise.

    :param right: titles of columns with numbers.
    :param expendable: titles of columns that are left out where there is no room, first those that say nothing.
    """
    cells = [[plain(cell) for cell in row] for row in rows]
    if not is_terminal():
        for row in cells:
            print("\t".join(row))
        return
    if cells:
        import shutil

        width = shutil.get_terminal_size().columns
        for line in aligned(*fitting(titles, cells, expendable, width), right, width):
            print(line)


def fitting(
    titles: Sequence[str], cells: Sequence[Sequence[str]], expendable: Sequence[str], width: int
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Without the columns that would leave the last one no room worth having."""

    def room(columns: Sequence[int]) -> int:
        fixed = (max(cell_width(row[column]) for row in (titles, *cells)) + 2 for column in columns[:-1])
        return width - sum(fixed)

    kept = list(range(len(titles)))
    wanted = min(max(cell_width(row[-1]) for row in (titles, *cells)), _ROOM)
    silent = [title for title in expendable if all(row[titles.index(title)] in ("", "-") for row in cells)]
    for title in (*silent, *expendable):
        if room(kept) >= wanted:
            break
        if titles.index(title) in kept:
            kept.remove(titles.index(title))
    return [titles[column] for column in kept], [[row[column] for column in kept] for row in cells]


_ROOM = 24
"""Columns that a name should have."""


def aligned(titles: Sequence[str], cells: Sequence[Sequence[str]], right: frozenset[str], width: int) -> list[str]:
    """The lines of a table; the last column takes what is left of ``width``, and no line is longer."""
    widths = [max(cell_width(row[column]) for row in (titles, *cells)) for column in range(len(titles))]
    room = width - sum(widths[:-1]) - 2 * (len(widths) - 1)
    widths[-1] = max(min(widths[-1], room), 1)
    if room < 1:  # so narrow that the other columns have to give way too
        most = max((width - 2 * (len(widths) - 1)) // len(widths), 1)
        widths = [min(size, most) for size in widths]
    lines = []
    for row in (titles, *cells):
        parts = []
        for title, cell, size in zip(titles, row, widths, strict=True):
            shown = cut(cell, size)
            gap = " " * (size - cell_width(shown))
            parts.append(gap + shown if title in right else shown + gap)
        lines.append("  ".join(parts).rstrip())
    return lines


def plain(value: object) -> str:
    """Text without anything that steers a terminal or breaks a line: names come from strangers."""
    if value is None:
        return "" if not is_terminal() else "-"
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(value))


def cell_width(text: str) -> int:
    """Columns that ``text`` takes."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0
        if unicodedata.category(character) in ("Mn", "Me", "Cf")
        else 2
        if unicodedata.east_asian_width(character) in "WF"
        else 1
        for character in text
    )


def cut(text: str, width: int) -> str:
    """``text``, shortened in the middle to ``width`` columns: both ends of a name matter."""
    if cell_width(text) <= width:
        return text
    head, tail = text[: (width - 1) - (width - 1) // 3], text[-((width - 1) // 3) :]
    while cell_width(head) + cell_width(tail) > width - 1 and (head or tail):
        head, tail = (head[:-1], tail) if len(head) > len(tail) else (head, tail[1:])
    return f"{head}…{tail}"
