"""What is due soon: a window on the store, so that a million waiting tasks are not a million objects.

Two kinds of heap. *ready*, one per queue: what may run now, best rank first. *later*: what has a wake time, earliest
first; when the time comes an entry moves to ready, so a delayed task blocks nobody. Each heap holds everything up to
its *edge*; beyond the edge there may be more in the store, and the heap is filled again before it is trusted further.
What became due beyond the edge of *later* was never seen here: then every lane is filled again, by rank.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable

from dlqueue.queue.record import Due, TaskRecord, due_of
from dlqueue.queue.status import WAITING

WINDOW = 5000
"""Entries that a heap is filled with."""

Key = tuple[float, int]
_BEFORE_ALL: Key = (-math.inf, 0)
_RESUMED = "\0"
"""Tells the second lane of a queue from the first; no name has it."""


class Lane:
    """The tasks of one queue that may run now."""

    __slots__ = ("edge", "fresh", "heap", "loading", "name")

    def __init__(self, name: str, fresh: bool | None = None) -> None:
        self.name = name
        self.fresh = fresh
        """Where a queue has a rate it has two lanes: what would be a start, and what would not; None = both."""
        self.heap: list[tuple[Key, Due]] = []
        self.edge: Key | None = None
        """Everything with a key up to this is in the heap; None = everything is."""
        self.loading = False


class Agenda:
    """Knows nothing of workers and limits: it answers which task is next."""

    def __init__(self) -> None:
        self._lanes: dict[str, Lane] = {}
        self._rated: frozenset[str] = frozenset()
        self._later: list[tuple[Key, Due]] = []
        self._later_edge: Key | None = None
        self._later_loading = False
        self.now = -math.inf
        """The latest time seen; what has its wake time up to this is ready."""
        self._entries: dict[int, Due] = {}
        """The entry that counts for an id; others of it in the heaps are leftovers, passed over when they come up."""

    def __len__(self) -> int:
        return len(self._entries)

    def lane(self, name: str, fresh: bool = True) -> Lane:
        key, kind = name, None
        if name in self._rated:
            key, kind = name if fresh else name + _RESUMED, fresh
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(name, kind)
        return lane

    def split(self, rated: Iterable[str]) -> None:
        """Only these queues have a rate: in each of them what may not start yet must not stand in the way of what has
        been started before."""
        rated = frozenset(rated)
        if rated != self._rated:
            names = {lane.name for lane in self._lanes.values()}
            self.forget()
            self._rated = rated
            self._lanes.clear()
            self.expect(names)

    def expect(self, queues: Iterable[str]) -> None:
        """Nothing that is known counts: these queues, all others, and what has a time must be read from the store."""
        self._later_edge = _BEFORE_ALL
        for name in queues:
            self.lane(name)
            self.lane(name, fresh=False)
        self._mistrust_lanes()

    def forget(self) -> None:
        """Nothing that was known is true any more, nor what is just being read. To be followed by `expect`."""
        self._entries.clear()
        self._later.clear()
        self._later_loading = False
        for lane in self._lanes.values():
            lane.heap.clear()
            lane.loading = False

    def _mistrust_lanes(self) -> None:
        for lane in self._lanes.values():
            lane.edge = _BEFORE_ALL

    # -- what the store says ------------------------------------------------------------------------------------------

    def note(self, record: TaskRecord) -> None:
        """A task has changed."""
        if record.status in WAITING and not record.cleanup and (record.hold is None or record.run_at is not None):
            self._put(due_of(record), force=False)
        else:
            self._entries.pop(record.id, None)

    def put_back(self, due: Due) -> None:
        """It was taken but could not be claimed."""
        self._put(due, force=True)

    def _put(self, due: Due, force: bool) -> None:
        self._entries.pop(due.id, None)
        lane = self.lane(due.queue, due.fresh)
        if due.run_at is None:
            self._put_ready(lane, due, force)
        else:
            key = (due.run_at, due.id)
            if force or self._later_loading or self._later_edge is None or key <= self._later_edge:
                heapq.heappush(self._later, (key, due))
                self._entries[due.id] = due

    def _put_ready(self, lane: Lane, due: Due, force: bool = False) -> None:
        key = (-due.rank, due.id)
        if force or lane.loading or lane.edge is None or key <= lane.edge:
            heapq.heappush(lane.heap, (key, due))
            self._entries[due.id] = due

    # -- what is next -------------------------------------------------------------------------------------------------

    def promote(self, now: float) -> None:
        """Move to ready what has become due."""
        self.now = max(self.now, now)
        while self._later and self._later[0][0][0] <= now:
            _, due = heapq.heappop(self._later)
            if self._entries.get(due.id) is due:
                del self._entries[due.id]
                self._put_ready(self.lane(due.queue, due.fresh), due)

    def next_time(self) -> float | None:
        """When the next entry becomes due; None = nothing has a time."""
        while self._later and self._entries.get(self._later[0][1].id) is not self._later[0][1]:
            heapq.heappop(self._later)
        return self._later[0][0][0] if self._later else None

    def nothing_ready(self, now: float) -> bool:
        """Is there certainly nothing that may run now, here or in the store?"""
        if any(lane.edge is not None or lane.loading or self._head(lane) is not None for lane in self._lanes.values()):
            return False
        if self._later_loading or (self._later_edge is not None and self._later_edge[0] <= now):
            return False
        next_time = self.next_time()
        return next_time is None or next_time > now

    def pop(self, admits: Callable[[str], bool], starts: Callable[[str], bool] = lambda queue: True) -> Due | None:
        """The best ready task over all lanes that ``admits`` (a queue name) lets through.

        :param starts: asked of the queues that have a rate: may they start one more?
        """
        best: tuple[tuple[int, int], Lane] | None = None
        for lane in self._lanes.values():
            head = self._head(lane)
            if head is None or not admits(lane.name) or (lane.fresh and not starts(lane.name)):
                continue
            order = (-head.priority, head.id)
            if best is None or order < best[0]:
                best = (order, lane)
        if best is None:
            return None
        due = heapq.heappop(best[1].heap)[1]
        del self._entries[due.id]
        return due

    def _head(self, lane: Lane) -> Due | None:
        while lane.heap:
            key, due = lane.heap[0]
            if self._entries.get(due.id) is due:
                # Beyond the edge there may be better ones in the store: fill first.
                return due if lane.edge is None or key <= lane.edge else None
            heapq.heappop(lane.heap)
        return None

    # -- filling ------------------------------------------------------------------------------------------------------

    def hungry(self) -> list[Lane]:
        """Lanes that must be filled from the store before they can answer."""
        return [lane for lane in self._lanes.values() if lane.edge and not lane.loading and self._head(lane) is None]

    def later_hungry(self) -> bool:
        """Must the later heap be filled before it can answer?"""
        if self._later_edge is None or self._later_loading:
            return False
        next_time = self.next_time()
        return next_time is None or (next_time, 0) > self._later_edge

    def start_filling(self, lane: Lane | None) -> None:
        """From here to `filled`, nothing that is noted is left out: the rows read may not show it yet."""
        if lane is None:
            self._later_loading = True
        else:
            lane.loading = True

    def filled(self, lane: Lane | None, rows: Iterable[Due], complete: bool) -> None:
        """What the store had. A row that is stale by now is harmless: claiming it fails."""
        if not (self._later_loading if lane is None else lane.loading):
            return  # forgotten meanwhile
        last: Key | None = None
        for due in rows:
            last = (-due.rank, due.id) if lane is not None else (due.run_at or 0.0, due.id)
            known = self._entries.get(due.id)
            # What was read for the other heap may be older: it must not stand in the way of what is true now.
            if known is None or known.revision < due.revision:
                heapq.heappush(lane.heap if lane is not None else self._later, (last, due))
                self._entries[due.id] = due
        edge = None if complete else last
        if lane is None:
            if self._later_edge is not None and self._later_edge[0] <= self.now:
                self._mistrust_lanes()
            self._later_edge, self._later_loading = edge, False
        else:
            lane.edge, lane.loading = edge, False

    def filling_failed(self, lane: Lane | None) -> None:
        """The store could not say; the heap stays hungry."""
        if lane is None:
            self._later_loading = False
        else:
            lane.loading = False
