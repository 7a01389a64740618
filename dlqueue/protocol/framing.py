"""Lines with a limit: whole messages out of chunks of bytes."""

from __future__ import annotations

MAX_LINE = 4 * 1024 * 1024
"""Bytes of one message, without the newline."""


class LineSplitter:
    """Fed with chunks, gives whole lines. After a line over the limit it gives nothing any more: the tail of an
    over-long line must never be taken for a message.
    """

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._broken = False

    def feed(self, chunk: bytes) -> tuple[list[bytes], bool]:
        """The lines that ``chunk`` completes, and whether the line after them is too long (the end of it all)."""
        if self._broken:
            return [], False
        *complete, rest = chunk.split(b"\n")
        if complete:
            if self._parts:
                complete[0] = b"".join((*self._parts, complete[0]))
                self._parts.clear()
                self._size = 0
            for index, line in enumerate(complete):
                if len(line) > self._limit:
                    return self._break(complete[:index])
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
            if self._size > self._limit:
                return self._break(complete)
        return complete, False

    def _break(self, lines: list[bytes]) -> tuple[list[bytes], bool]:
        self._broken = True
        self._parts.clear()
        return lines, True

    def rest(self) -> bytes:
        """What came after the last newline: a last message whose sender closed without ending the line."""
        rest = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        return rest
