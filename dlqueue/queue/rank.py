"""Order as one static number, so that an index can keep it: higher first, then first in. Pure."""

from __future__ import annotations


def rank(priority: int, created_at: float, ageing: float) -> float:
    """Strict priority when ``ageing`` is 0; otherwise ``ageing`` points are gained per minute waited.

    Of two tasks of one queue the difference of ranks never changes as time passes, which is why the number can be
    stored: priority + ageing · (now − created) and priority − ageing · created differ by the same for all.
    """
    return priority - ageing * created_at / 60 if ageing else float(priority)


def is_ranked(stored: float, priority: int, created_at: float, ageing: float) -> bool:
    """Was this rank made with this ageing? Another one gives numbers that are far apart: the time is since 1970, and
    what was ranked a moment before it was stored differs little."""
    return abs(stored - rank(priority, created_at, ageing)) <= 1 + ageing
