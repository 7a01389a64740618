"""Retry as a value: policy, number of failures and error in; a delay, or None for "give up", out. Pure."""

from __future__ import annotations

import random

import msgspec
from tenacity import RetryCallState
from tenacity.wait import wait_exponential

from dlqueue.queue.errors import CriticalError

JITTER = 0.2
"""A delay is spread by ± this share, so that what failed together does not come back together."""


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often and how fast. Seconds; ``retry_delay`` 0 means that back-off begins at 1 s."""

    max_retry: int = 0
    retry_delay: float = 0.0
    backoff_factor: float = 2.0
    backoff_max: float = 60.0

    def delay(self, failures: int, error: BaseException, random_: random.Random | None = None) -> float | None:
        """Seconds until the next try, or None when there is none.

        :param failures: failures counted so far against the budget, without this one.
        :param error: a `CriticalError` is never retried; a ``retry_after`` of the error is respected as the least.
        """
        if isinstance(error, CriticalError) or failures >= self.max_retry:
            return None
        wait = wait_exponential(multiplier=self.retry_delay or 1.0, exp_base=self.backoff_factor, max=self.backoff_max)(
            _at_attempt(failures + 1)
        )
        spread = (random_ or random).uniform(1 - JITTER, 1 + JITTER)
        asked: object = getattr(error, "retry_after", None)
        return max(wait * spread, float(asked) if isinstance(asked, (int, float)) else 0.0)


def _at_attempt(number: int) -> RetryCallState:
    """The one fact that tenacity's wait strategies look at."""
    state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
    state.attempt_number = number
    return state
