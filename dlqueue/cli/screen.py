"""A part of the terminal that is drawn again and again. The only place that loads rich."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from dlqueue.cli.panel import panel


class Screen:
    """:param stderr: on standard error, because standard output is for data."""

    def __init__(self, stderr: bool) -> None:
        plain = bool(os.environ.get("NO_COLOR"))
        # Without any colour system rich writes no styles either: bold and faint are part of what is not wanted.
        self._console = Console(
            stderr=stderr, highlight=False, markup=False, color_system=None if plain else "auto", soft_wrap=True
        )
        self._tasks: list[Mapping[str, Any]] = []
        self._live = Live(
            self,
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,  # data is never to be turned into progress
            redirect_stderr=sys.stderr.isatty(),
        )
        self._live.start()

    def show(self, tasks: Iterable[Mapping[str, Any]]) -> None:
        """Draw these."""
        self._tasks = list(tasks)
        self._live.refresh()

    def say(self, line: str) -> None:
        """A line above."""
        self._console.print(Text(line))

    def close(self) -> None:
        """What was drawn last stays."""
        self._live.stop()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = console.size
        for line in panel(self._tasks, width, height, unicode=console.encoding.startswith("utf")):
            text = Text(no_wrap=True, overflow="crop", end="")
            for piece, style in line:
                text.append(piece, style)
            yield text
            yield Text()
