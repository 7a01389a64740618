"""Which bytes of a file are there, and who fetches which of the rest. No I/O, no locks: the owner brings those."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_COUNT = struct.Struct("<Q")
_RECORD = struct.Struct("<QQQ")


@dataclass(slots=True, eq=False)
class Segment:
    """Bytes ``start`` to ``end`` of the file, of which those before ``position`` are written and those before
    ``synced`` would survive a power cut. ``end`` is ``None`` while the size is unknown."""

    start: int
    position: int
    end: int | None
    synced: int
    busy: bool = False

    @property
    def done(self) -> bool:
        return self.end is not None and self.position >= self.end


class Segments:
    """The parts of one file, in order, without gaps."""

    def __init__(self, total: int | None) -> None:
        self._parts = [Segment(0, 0, total, 0)]

    @classmethod
    def of(cls, part: Segment, total: int | None) -> Segments:
        """Somebody is fetching everything as this one part."""
        self = cls(total)
        self._parts = [part]
        return self

    def __iter__(self) -> Iterator[Segment]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def downloaded(self) -> int:
        return sum(part.position - part.start for part in self._parts)

    @property
    def reach(self) -> int:
        """A file that is shorter than this cannot be ours."""
        return max((part.position for part in self._parts if part.position > part.start), default=0)

    @property
    def whole(self) -> bool:
        return all(part.done for part in self._parts)

    def idle(self) -> Segment | None:
        """The first part that has bytes to fetch and nobody to do it; now taken."""
        for part in self._parts:
            if not part.busy and not part.done:
                part.busy = True
                return part
        return None

    def split(self, minimum: int) -> Segment | None:
        """Take the second half of what is longest, if both halves have at least ``minimum`` bytes left."""
        left = [(part.end - part.position, index) for index, part in enumerate(self._parts) if part.end is not None]
        size, index = max(left, default=(0, 0))
        if size < 2 * minimum:
            return None
        part = self._parts[index]
        middle = part.position + size // 2
        new = Segment(middle, middle, part.end, middle, busy=True)
        part.end = middle
        self._parts.insert(index + 1, new)
        return new

    def trust(self) -> None:
        """All that is written has been synced."""
        for part in self._parts:
            part.synced = part.position

    def abandon(self) -> None:
        """Nobody works here any more."""
        for part in self._parts:
            part.busy = False

    def release(self, part: Segment) -> None:
        """Nobody works on this part any more. An untouched one goes back to its neighbour, whose answer may still
        cover it; finished neighbours become one."""
        part.busy = False
        index = self._parts.index(part)
        before = self._parts[index - 1] if index else None
        if before and part.position == part.start and before.busy and not before.done:
            before.end = part.end
            del self._parts[index]
            return
        merged = self._parts[:1]
        for following in self._parts[1:]:
            last = merged[-1]
            if last.done and not last.busy and last.synced == last.position:
                following.start = last.start
                merged[-1] = following
            elif last.done and not last.busy and following.done and not following.busy:
                last.position, last.end = following.position, following.end
            else:
                merged.append(following)
        self._parts = merged

    def pack(self) -> bytes:
        """The record that a restart reads."""
        records = b"".join(_RECORD.pack(part.start, part.position, part.synced) for part in self._parts)
        return _COUNT.pack(len(self._parts)) + records

    @classmethod
    def unpack(cls, record: bytes, total: int | None, *, only_synced: bool) -> Segments:
        """The parts as `pack` wrote them. After a power cut only what was synced counts. Raises `ValueError` when the
        record makes no sense."""
        try:
            (count,) = _COUNT.unpack_from(record)
            rows = [_RECORD.unpack_from(record, _COUNT.size + index * _RECORD.size) for index in range(count)]
        except struct.error as error:
            raise ValueError("the record of positions is cut short") from error
        bounds: list[int | None] = [start for start, _, _ in rows[1:]]
        ends = [*bounds, total]
        if not rows or rows[0][0] != 0:
            raise ValueError("the record of positions does not begin at 0")
        parts = []
        for (start, position, synced), end in zip(rows, ends, strict=True):
            if not start <= synced <= position or (end is not None and position > end):
                raise ValueError("the record of positions contradicts itself")
            trusted = synced if only_synced else position
            parts.append(Segment(start, trusted, end, synced))
        self = cls(total)
        self._parts = parts
        return self
