"""Order as one static number, so that an index can keep it: higher first, then first in. Pure."""

from __future__ import annotations

LEVEL = 10.0
"""Points for each level of an owner."""
LONG = 3600.0
LONG_COSTS = 20.0
"""Points that a task gives away which is estimated at more than `LONG` seconds."""


def standing(level: float, seconds: float | None) -> float:
    """Points that a task has beside its priority: by the ``level`` of its owner, and by how long it may take."""
    return LEVEL * level - (LONG_COSTS if seconds is not None and seconds > LONG else 0.0)


def rank(priority: int, created_at: float, ageing: float, standing: float = 0.0) -> float:
    """Strict priority when ``ageing`` is 0; otherwise ``ageing`` points are gained per minute waited.

    :param standing: further points, see `standing`.

    Of two tasks of one queue the difference of ranks never changes as time passes, which is why the number can be
    stored: priority + ageing · (now − created) and priority − ageing · created differ by the same for all.
    """
    return priority + standing - (ageing * created_at / 60 if ageing else 0.0)


def is_ranked(stored: float, priority: int, created_at: float, ageing: float, standing: float = 0.0) -> bool:
    """Was this rank made with this ageing? Another one gives numbers that are far apart: the time is since 1970, and
    what was ranked a moment before it was stored differs little."""
    return abs(stored - rank(priority, created_at, ageing, standing)) <= 1 + ageing
