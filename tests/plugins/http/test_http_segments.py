"""Whatever is split, given back and merged: the parts stay in order, without gaps, and nothing counts twice."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlqueue_http.segments import Segment, Segments

TOTAL = 1000


def check(segments: Segments, written: set[int]) -> None:
    parts = list(segments)
    assert parts[0].start == 0
    assert parts[-1].end == TOTAL
    for left, right in itertools.pairwise(parts):
        assert left.end == right.start
    claimed = {byte for part in parts for byte in range(part.start, part.position)}
    assert claimed == written
    assert segments.downloaded == len(written)
    assert segments.whole == (len(written) == TOTAL)


@given(st.lists(st.tuples(st.sampled_from("tsfrwy"), st.integers(0, 400)), max_size=60))
def test_any_order_of_work(steps: list[tuple[str, int]]) -> None:
    segments = Segments(TOTAL)
    mine: list[Segment] = []
    written: set[int] = set()
    for step, number in steps:
        part = mine[number % len(mine)] if mine else None
        if (step == "t" and (taken := segments.idle())) or (step == "s" and (taken := segments.split(10))):
            mine.append(taken)
        elif step in "fw" and part is not None and part.end is not None:
            amount = part.end - part.position if step == "f" else min(number, part.end - part.position)
            written |= set(range(part.position, part.position + amount))
            part.position += amount
        elif step == "r" and part is not None:
            mine.remove(part)
            segments.release(part)
        elif step == "y":
            for each in segments:
                each.synced = each.position
        check(segments, written)
        again = Segments.unpack(segments.pack(), TOTAL, only_synced=False)
        check(again, written)
        careful = Segments.unpack(segments.pack(), TOTAL, only_synced=True)
        assert {b for part in careful for b in range(part.start, part.position)} <= written
    for part in mine:
        assert part.busy


def test_an_untouched_part_goes_back_to_a_working_neighbour() -> None:
    segments = Segments(TOTAL)
    first = segments.idle()
    assert first is not None
    first.position = 100
    second = segments.split(10)
    assert second is not None
    assert (first.end, second.start, second.end) == (550, 550, TOTAL)
    segments.release(second)
    assert (first.end, len(segments)) == (TOTAL, 1)


def test_a_split_leaves_enough_on_both_sides() -> None:
    segments = Segments(TOTAL)
    assert segments.split(501) is None
    assert segments.split(500) is not None


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"\x01" + bytes(7),
        bytes(8),
        b"\xff" * 8,
        b"\x01" + bytes(7) + b"\x05" + bytes(23),
        b"\x01" + bytes(7) + bytes(8) + b"\xff" * 8 + bytes(8),
        b"\x01" + bytes(7) + bytes(16) + b"\x01" + bytes(7),
    ],
)
def test_a_damaged_record_is_refused(record: bytes) -> None:
    with pytest.raises(ValueError, match="record"):
        Segments.unpack(record, TOTAL, only_synced=False)
