"""How often a downloader is looked at, by what goes on in it."""

from __future__ import annotations

from typing import Any

import pytest

from dlqueue.downloads.cadence import next_look
from dlqueue.downloads.watch import Watch
from dlqueue.sdk import Handle, TransferState, TransferStatus


def seen(state: str = "downloading", *, still: float = 0.0, gone: bool = False, **fields: Any) -> Watch:
    status = TransferStatus(TransferState(state), **fields)
    return Watch(1, "me", Handle("k"), latest=status, still=still, gone=gone, looked=True)


MOVING: dict[str, Any] = {"total": 1000, "downloaded": 100}


@pytest.mark.parametrize(
    ("watches", "wait"),
    [
        ([Watch(1, "me", Handle("k"))], 2.0),  # not looked at yet
        ([seen(**MOVING, download_speed=10.0)], 2.0),  # 90 s to go
        ([seen(**MOVING, download_speed=900.0)], 1.0),  # 1 s to go
        ([seen(**MOVING, download_speed=9e6)], 0.5),  # a moment: four looks in an interval at most
        ([seen(**MOVING)], 2.0),
        ([seen("metadata")], 2.0),
        ([seen("unknown")], 2.0),
        ([seen("metadata", still=31.0)], 10.0),
        ([seen(**MOVING, still=31.0)], 10.0),
        ([seen("queued"), seen("paused"), seen("seeding"), seen("completed"), seen("error")], 10.0),
        ([seen(gone=True)], 10.0),
        ([seen("seeding"), seen(**MOVING)], 2.0),
        ([seen("seeding"), seen(**MOVING, download_speed=900.0), seen("checking")], 1.0),
    ],
)
def test_by_what_moves(watches: list[Watch], wait: float) -> None:
    assert next_look(watches, 2.0, live=False, took=0.0) == wait


def test_somebody_watches() -> None:
    for watch in (seen("seeding"), seen(**MOVING)):
        assert next_look([watch], 2.0, live=True, took=0.0) == 1.0
        assert next_look([watch], 0.3, live=True, took=0.0) == 0.3


def test_seldom_has_an_end() -> None:
    assert next_look([seen("seeding")], 30.0, live=False, took=0.0) == 60.0
    assert next_look([seen("seeding")], 300.0, live=False, took=0.0) == 300.0


def test_a_look_that_takes_long_is_not_taken_more_often() -> None:
    ends = seen(**MOVING, download_speed=9e6)
    assert next_look([ends], 2.0, live=False, took=0.1) == 1.0
    assert next_look([ends], 2.0, live=False, took=3.0) == 2.0
    assert next_look([ends], 0.1, live=False, took=0.0) == 0.1
