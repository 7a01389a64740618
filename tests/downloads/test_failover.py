"""What comes after a failure."""

from __future__ import annotations

import pytest

from dlqueue.downloads.failover import ErrorClass, decide
from dlqueue.downloads.state import Attempt


def ledger(*lines: str) -> list[Attempt]:
    """``class bytes next``, the last one open."""
    made = []
    for line in lines:
        error, got, following = line.split(maxsplit=2)
        made.append(Attempt("x", "x", "key", 0.0, 1.0, int(got), error, None, following))
    return [*made, Attempt("x", "x", "key", 2.0)]


@pytest.mark.parametrize(
    ("error", "others", "left", "following"),
    [
        ("request", True, 9, "error"),
        ("space", True, 0, "wait"),
        ("passing", True, 1, "retry"),
        ("passing", True, 0, "error"),
        ("downloader", True, 0, "next downloader"),
        ("stalled", True, 0, "next downloader"),
        ("downloader", False, 9, "error"),
        ("stalled", False, 9, "from the top"),
        ("stalled", False, 0, "error"),
    ],
)
def test_by_its_class(error: ErrorClass, others: bool, left: int, following: str) -> None:
    assert decide(error, ledger(), 0, others, left) == following


@pytest.mark.parametrize(
    ("lines", "got", "following"),
    [
        (["passing 0 retry", "downloader 0 next downloader"], 0, "from the top"),
        (["stalled 0 next downloader"], 0, "from the top"),
        (["unavailable 0 next downloader"], 0, "from the top"),
        (["downloader 0 next downloader", "lost 0 create anew"], 0, "error"),
        (["passing 0 retry", "downloader 0 from the top", "passing 0 retry"], 0, "error"),
        (["passing 5 retry", "downloader 9 from the top", "passing 3 retry"], 9, "error"),
        (["passing 5 retry", "downloader 9 from the top", "passing 3 retry"], 10, "from the top"),
        (["passing 5 retry", "downloader 9 from the top", "passing 10 retry"], 0, "from the top"),
        (["passing 5 retry", "downloader 9 from the top"], 10, "error"),
        # What was before the end of a former life, which a person has brought back, does not count.
        (["passing 0 retry", "downloader 0 error"], 0, "error"),
        (["passing 0 retry", "downloader 9 from the top", "stalled 0 error", "passing 0 retry"], 0, "from the top"),
    ],
)
def test_a_route_that_is_exhausted(lines: list[str], got: int, following: str) -> None:
    assert decide("downloader", ledger(*lines), got, False, 5) == following


def test_what_was_passed_over_has_not_failed() -> None:
    skipped = Attempt("a", "x", "", 0.0, 0.0, 0, "unavailable", "it is down", "next downloader")
    assert decide("downloader", [skipped, *ledger()], 0, False, 5) == "error"
