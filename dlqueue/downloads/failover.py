"""What comes after a failure: the same again, the next of the route, once more from the top, or the end. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from dlqueue.downloads.state import Attempt

ErrorClass = Literal["passing", "downloader", "request", "space", "stalled"]
Next = Literal["retry", "next downloader", "from the top", "error", "wait"]

PASSING = ("passing", "stalled", "unavailable")
"""Classes of errors that another time need not meet."""


def decide(error: ErrorClass, ledger: Sequence[Attempt], got: int, others: bool, retries_left: int) -> Next:
    """
    :param ledger: of the download; the last one is the try that has just failed.
    :param got: bytes that it had then.
    :param others: is there a downloader in the route that has not been tried since its top?
    :param retries_left: by the policy of the queue.
    """
    match error:
        case "request":
            return "error"
        case "space":
            return "wait"
        case "passing":
            return "retry" if retries_left > 0 else "error"
    if others:
        return "next downloader"
    return "from the top" if retries_left > 0 and may_begin_again(error, ledger, got) else "error"


def may_begin_again(error: str, ledger: Sequence[Attempt], got: int) -> bool:
    """A route that is exhausted is begun once more if anything in it failed in a way that may pass: once, and again
    only when a try has come further than all before the last time."""
    start = max((n for n, attempt in enumerate(ledger, 1) if attempt.next == "error"), default=0)
    since = ledger[start:]
    top = max((n for n, attempt in enumerate(since, 1) if attempt.next == "from the top"), default=0)
    best = max([got, *(attempt.bytes for attempt in since[top:])])
    if top and best <= max(attempt.bytes for attempt in since[:top]):
        return False
    # What was passed over because it was down has no key: nothing was tried there.
    return error in PASSING or any(attempt.error_class in PASSING and attempt.key for attempt in since[top:])
