"""What a full-screen program shows, as lines of text."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from textual.app import App
from textual.pilot import Pilot

from tests.daemon.instance import DEADLINE


def lines_of(app: App[Any]) -> list[str]:
    """The screen, line by line."""
    return ["".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips()]


async def until_shown(pilot: Pilot[Any], condition: Callable[[str], object], what: str) -> str:
    """The screen as soon as it is so."""
    end = time.monotonic() + DEADLINE
    while True:
        await pilot.pause(0.02)
        text = "\n".join(lines_of(pilot.app))
        if condition(text):
            return text
        assert time.monotonic() < end, f"not within {DEADLINE:g} s: {what}\n{text}"
