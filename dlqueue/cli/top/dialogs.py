"""What is asked or told over the list: whether to cancel, and which keys there are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static


class Dialog(ModalScreen[str | None]):
    """A few lines in a box, and keys."""

    DEFAULT_CSS = """
    Dialog { align: center middle; }
    Dialog > Vertical {
        width: auto; max-width: 90%; height: auto; max-height: 100%; overflow-y: auto;
        border: round $primary; padding: 0 2; background: $surface;
    }
    Dialog Static { width: auto; }
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(self._text, markup=False)


class Cancel(Dialog):
    """Answers ``keep``, ``delete`` or nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,enter", "answer('keep')", "Cancel, keep what was fetched"),
        Binding("d", "answer('delete')", "Cancel and delete it"),
        Binding("n,escape,q", "answer('')", "Leave it"),
    ]

    def __init__(self, what: str) -> None:
        super().__init__(f"Cancel {what}?\n\n  y  yes\n  d  yes, and delete what was fetched\n  n  no")

    def action_answer(self, answer: str) -> None:
        self.dismiss(answer or None)


class Help(Dialog):
    """All keys. Any of them closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,enter,space", "close", "Close")]

    def __init__(self, keys: Iterable[tuple[str, str]]) -> None:
        super().__init__("\n".join(f"{key:<12} {what}" for key, what in keys))

    def action_close(self) -> None:
        self.dismiss(None)
