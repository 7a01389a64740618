from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlqueue.units import format_duration, format_size, parse_duration, parse_rate, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5), ("90s", 90), ("2h30m", 9000), ("7d", 604800), ("1.5h", 5400), ("90", 90), ("0", 0), (3, 3),
        (0.25, 0.25), ("1m 30s", 90), ("5m500ms", 300.5), ("2m", 120), ("3ms", 0.003), ("1d1h1m1s1ms", 90061.001),
    ],
)  # fmt: skip
def test_durations(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", " ", "h", "2x", "30m2h", "1h1h", "-1", "-5s", "nan", "inf", "1e3", "1,5s", "٣s", "1s\0", "9" * 5000,
     "36501d", True, None, -1, float("nan"), float("inf"), 10**400, [1]],
)  # fmt: skip
def test_what_is_no_duration_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "starts", "seconds"),
    [
        ("10/s", 10, 1), ("100/m", 100, 60), ("1000 / h", 1000, 3600), ("5/d", 5, 86400), ("0.5/s", 1, 2),
        ("2.5/s", 2, 0.8), ("0.001/s", 1, 1000),
    ],
)  # fmt: skip
def test_rates(text: str, starts: int, seconds: float) -> None:
    count, period = parse_rate(text)
    assert count == starts and period == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "10", "/s", "10/", "10/w", "10/min", "-1/s", "0/s", "0.0001/s", "1e3/s", "100001/s", "nan/s", "٣/s", 10, None],
)
def test_what_is_no_rate_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="rate"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2MiB", 2 * 1024**2), ("500k", 500_000), ("500K", 500_000), ("1.5G", 1_500_000_000), ("4096", 4096),
        ("1 B", 1), ("10mb", 10_000_000), (7, 7), ("0", 0), ("8Ti", 8 * 1024**4), ("9007199254740993", 2**53 + 1),
    ],
)  # fmt: skip
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "k", "-1", "1.5.2", "1 k k", "2MiBs", "nan", "9" * 30, "9" * 5000, "10000P", -1, 2**63, True, 1.5, None],
)
def test_what_is_no_size_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (0.0004, "0s"), (0.5, "500ms"), (0.9996, "1s"), (1, "1s"), (1.5, "1.5s"), (59.96, "1m"),
        (60, "1m"), (90, "1m30s"), (3661, "1h1m"), (7205, "2h"), (604800, "7d"), (-90, "-1m30s"),
    ],
)  # fmt: skip
def test_durations_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"), (1023, "1023 B"), (1023.7, "1.0 KiB"), (1024, "1.0 KiB"), (1536, "1.5 KiB"),
        (2**20 - 1, "1.0 MiB"), (2**60, "1024.0 PiB"),
    ],
)  # fmt: skip
def test_sizes_for_people(size: float, text: str) -> None:
    assert format_size(size) == text


@given(st.floats(0, 3_000_000_000))
def test_what_is_written_can_be_read(seconds: float) -> None:
    # Two units are kept, so at most one part in 24 is lost (just below 2 days), or half a millisecond.
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=0.05, abs=0.001)


@given(st.integers(0, 2**50))
def test_sizes_that_are_written_can_be_read(size: int) -> None:
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.05)
