"""What a check has found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["ok", "info", "warning", "error"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info", "ok")
"""The worst first."""


@dataclass(frozen=True, slots=True)
class Finding:
    """``error``: it does not work, or is not safe. ``warning``: it works, and will not always. ``info``: to be known.
    ``ok``: looked at, and nothing is wrong."""

    check: str
    """What was looked at: a word or two."""
    severity: Severity
    explanation: str
    cure: str | None = None
    """What to do; None = nothing has to be done."""


def listed(what: list[str], shown: int = 3) -> str:
    """The first of them, and how many more."""
    more = len(what) - shown
    return ", ".join(what[:shown]) + (f" and {more} more" if more > 0 else "")
