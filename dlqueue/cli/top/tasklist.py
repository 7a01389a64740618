"""The list of tasks: only the lines that are on the screen are ever built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from dlqueue.cli.top.rows import Row, columns, line_of, style_of, title_line


class TaskList(ScrollView, can_focus=True):
    """The cursor stays on its task while rows come, go and change places."""

    DEFAULT_CSS = "TaskList { overflow-x: hidden; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "A page up", show=False),
        Binding("pagedown", "page(1)", "A page down", show=False),
        Binding("home,g", "edge(-1)", "First task", show=False),
        Binding("end,G", "edge(1)", "Last task", show=False),
        Binding("space", "mark", "Mark: the next key is about all that are marked", show=False),
    ]

    class Selected(Message):
        """The cursor is on another task."""

    def __init__(self) -> None:
        super().__init__(id="tasks")
        self._rows: Sequence[Row] = ()
        self._order = ("activity", False)
        self._live = True
        self._index = 0
        self._digits = 4
        self.marked: set[int] = set()

    @property
    def selected(self) -> Row | None:
        return self._rows[self._index] if self._rows else None

    def show(self, rows: Sequence[Row], order: str, backwards: bool, live: bool) -> None:
        """Other rows, or the same ones changed. Where nothing is ``live``, they are greyed."""
        before = self.selected
        at = self._index - round(self.scroll_y)
        self._rows, self._order, self._live = rows, (order, backwards), live
        if before is not None and self._index > 0:
            again = next((index for index, row in enumerate(rows) if row["id"] == before["id"]), None)
            self._index = self._index if again is None else again
        self._index = max(min(self._index, len(rows) - 1), 0)
        self._digits = max(len(str(max((row["id"] for row in rows), default=0))), 4)
        if self.marked:
            self.marked &= {row["id"] for row in rows}
        self.virtual_size = Size(0, len(rows) + 1)
        # Where the cursor is on the screen stays, so that a list that is sorted anew does not jump.
        self.scroll_to(y=max(self._index - at, 0), animate=False, immediate=True)
        self._keep_in_sight()
        self.refresh()
        if (before and before["id"]) != (self.selected and self.selected["id"]):
            self.post_message(self.Selected())

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        layout = columns(width, self._digits)
        if y == 0:
            style = Style(bold=True, reverse=False, underline=True)
            return Strip([Segment(title_line(layout, *self._order), style)]).adjust_cell_length(width, style)
        index = round(self.scroll_y) + y - 1
        if index >= len(self._rows):
            return Strip.blank(width, self.rich_style)
        row = self._rows[index]
        style = self.rich_style + Style.parse(style_of(row) if self._live else "dim")
        if row["id"] in self.marked:
            style += Style(bold=True)
        if index == self._index:
            style += Style(reverse=True)
        line = line_of(row, layout, row["id"] in self.marked)
        return Strip([Segment(line, style)]).adjust_cell_length(width, style)

    def action_move(self, by: int) -> None:
        self._go(self._index + by)

    def action_page(self, by: int) -> None:
        self._go(self._index + by * max(self.size.height - 2, 1))

    def action_edge(self, end: int) -> None:
        self._go(0 if end < 0 else len(self._rows) - 1)

    def action_mark(self) -> None:
        if self.selected is not None:
            self.marked ^= {self.selected["id"]}
            self._go(self._index + 1)
            self.refresh()

    def on_click(self, event: Click) -> None:
        if event.y > 0:
            self._go(round(self.scroll_y) + event.y - 1)

    def _go(self, index: int) -> None:
        index = max(min(index, len(self._rows) - 1), 0)
        if index != self._index:
            self._index = index
            self._keep_in_sight()
            self.refresh()
            self.post_message(self.Selected())

    def _keep_in_sight(self) -> None:
        room = max(self.size.height - 1, 1)
        top = round(self.scroll_y)
        if not top <= self._index < top + room:
            wanted = self._index if self._index < top else self._index - room + 1
            self.scroll_to(y=wanted, animate=False, immediate=True)
