"""The agenda by itself: heaps, edges and leftovers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from dlqueue.queue.agenda import Agenda
from dlqueue.queue.record import Due, TaskRecord
from dlqueue.queue.status import Status


def record(id: int, rank: float = 0.0, status: Status = Status.QUEUED, queue: str = "q", **fields: Any) -> TaskRecord:
    return TaskRecord(id=id, type="t", queue=queue, status=status, rank=rank, priority=int(rank), **fields)


def due(id: int, rank: float = 0.0, run_at: float | None = None, queue: str = "q") -> Due:
    return Due(id, queue, "t", int(rank), rank, run_at)


def take(agenda: Agenda, count: int = 100, shut: Iterable[str] = ()) -> list[int]:
    found: list[int] = []
    while len(found) < count and (next_ := agenda.pop(lambda queue: queue not in shut)) is not None:
        found.append(next_.id)
    return found


def test_best_first_over_all_lanes() -> None:
    agenda = Agenda()
    for number, rank in enumerate((0, 5, 0, 5, -1)):
        agenda.note(record(number, rank, queue=f"q{number % 2}"))
    assert len(agenda) == 5
    assert take(agenda, shut={"q1"}) == [0, 2, 4]
    assert take(agenda) == [1, 3]
    assert len(agenda) == 0


def test_the_latest_word_counts() -> None:
    agenda = Agenda()
    agenda.note(record(1, 1))
    agenda.note(record(1, 9))
    agenda.note(record(2, 5))
    agenda.note(record(3, 7))
    agenda.note(record(3, 7, Status.PROCESSING))
    agenda.note(record(4, 8))
    agenda.note(record(4, 8, run_at=50.0))
    assert take(agenda) == [1, 2], "each once, by its newest rank"
    assert agenda.next_time() == 50.0


@pytest.mark.parametrize("status", [s for s in Status if s not in (Status.QUEUED, Status.SUSPENDING)])
def test_only_what_waits_is_taken(status: Status) -> None:
    agenda = Agenda()
    agenda.note(record(1, status=status))
    agenda.note(record(2, status=Status.SUSPENDING, hold="h"))
    assert (len(agenda), take(agenda)) == (0, [])


def test_what_is_not_due_blocks_nobody() -> None:
    agenda = Agenda()
    agenda.note(record(1, 9, run_at=100.0))
    agenda.note(record(2, 0))
    agenda.note(record(3, 5, run_at=50.0, hold="h"))
    agenda.promote(49.0)
    assert take(agenda) == [2]
    assert agenda.next_time() == 50.0
    agenda.promote(100.0)
    assert take(agenda) == [1, 3]
    assert agenda.next_time() is None


def test_nothing_is_trusted_before_the_store_was_asked() -> None:
    agenda = Agenda()
    agenda.expect(["q"])
    agenda.note(record(7, 99))
    assert take(agenda) == []
    (lane,) = agenda.hungry()
    assert agenda.later_hungry()
    agenda.start_filling(lane)
    agenda.note(record(8, 1))  # comes while the store is being read
    agenda.filled(lane, [due(7, 99), due(5, 50), due(8, 1)], complete=True)
    assert take(agenda) == [7, 5, 8]
    assert agenda.hungry() == []


def test_a_window_is_refilled_at_its_edge() -> None:
    agenda = Agenda()
    agenda.expect(["q"])
    (lane,) = agenda.hungry()
    agenda.start_filling(lane)
    agenda.filled(lane, [due(1, 5), due(2, 5)], complete=False)
    agenda.note(record(10, 9))  # better than the window
    agenda.note(record(11, 1))  # beyond it: left to the store
    assert len(agenda) == 3
    assert take(agenda) == [10, 1, 2]
    assert agenda.hungry() == [lane]
    agenda.start_filling(lane)
    agenda.filling_failed(lane)
    assert agenda.hungry() == [lane], "a failed read is repeated"
    agenda.start_filling(lane)
    agenda.filled(lane, [due(3, 5), due(11, 1)], complete=True)
    assert take(agenda) == [3, 11]


def test_what_became_due_beyond_the_edge_makes_every_lane_doubtful() -> None:
    agenda = Agenda()
    agenda.expect(["q"])
    (lane,) = agenda.hungry()
    agenda.start_filling(lane)
    agenda.filled(lane, [due(1, 1)], complete=True)
    agenda.start_filling(None)
    agenda.filled(None, [due(2, 2, 10.0), due(3, 3, 20.0)], complete=False)
    agenda.note(record(4, 9, run_at=30.0))  # beyond the edge of what has a time
    agenda.promote(40.0)
    assert agenda.later_hungry()
    agenda.start_filling(None)
    agenda.filled(None, [], complete=True)
    assert agenda.hungry() == [lane], "task 4 is in the store only"
    agenda.start_filling(lane)
    agenda.filled(lane, [due(4, 9, 30.0), due(3, 3, 20.0), due(2, 2, 10.0), due(1, 1)], complete=True)
    assert take(agenda) == [4, 3, 2, 1]


def test_a_stale_row_does_not_replace_a_newer_word() -> None:
    agenda = Agenda()
    agenda.expect(["q"])
    (lane,) = agenda.hungry()
    agenda.start_filling(lane)
    agenda.note(record(1, 9))
    agenda.filled(lane, [due(1, 0), due(2, 5)], complete=True)
    assert take(agenda) == [1, 2]


def test_put_back() -> None:
    agenda = Agenda()
    agenda.note(record(1, 5))
    taken = agenda.pop(lambda _: True)
    assert taken is not None
    agenda.put_back(taken)
    assert take(agenda) == [1]


def test_what_was_read_too_early_does_not_hide_what_is_true() -> None:
    """The heap of times is read, then a task is woken, then its lane is read: the older row must give way."""
    agenda = Agenda()
    agenda.expect(["q"])
    agenda.start_filling(None)
    before = msgspec.structs.replace(due(1, run_at=60.0), revision=3)
    agenda.filled(None, [before], complete=True)
    (lane,) = agenda.hungry()
    agenda.start_filling(lane)
    agenda.filled(lane, [msgspec.structs.replace(due(1), revision=4)], complete=True)
    found = agenda.pop(lambda _: True)
    assert found is not None
    assert (found.id, found.run_at) == (1, None)
    assert agenda.next_time() is None


def test_two_entries_of_one_task_in_one_heap() -> None:
    agenda = Agenda()
    for revision in range(4):
        agenda.note(record(1, revision=revision, run_at=5.0 if revision % 2 else None))
        agenda.promote(10.0)
    assert take(agenda) == [1]


def test_what_is_forgotten_is_gone_also_if_it_was_just_being_read() -> None:
    agenda = Agenda()
    agenda.note(record(1, 1))
    agenda.note(record(2, run_at=50.0))
    lane = agenda.lane("q")
    agenda.start_filling(lane)
    agenda.start_filling(None)
    agenda.forget()
    agenda.expect(["q"])
    agenda.filled(lane, [due(3, 3)], complete=True)
    agenda.filled(None, [due(4, run_at=60.0)], complete=True)
    assert (len(agenda), take(agenda), agenda.next_time()) == (0, [], None)
    assert agenda.later_hungry()
    assert agenda.hungry() == [lane]
    agenda.start_filling(lane)
    agenda.filled(lane, [due(3, 3)], complete=True)
    assert take(agenda) == [3]
