"""The outbox of the store in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from dlqueue.queue.outbox import BUNDLE, Address, Letter, Pending, Settled, post
from dlqueue.queue.record import Change


class MemoryOutbox:
    """A part of `MemoryStore`."""

    def __init__(self) -> None:
        super().__init__()
        self._letters: dict[int, Letter] = {}
        self._last_letter = 0
        self._address: Address | None = None

    def address(self, address: Address | None) -> None:
        self._address = address

    def _post(self, changes: Iterable[Change]) -> None:
        for letter in () if self._address is None else post(changes, self._address):
            self._last_letter += 1
            self._letters[self._last_letter] = msgspec.structs.replace(letter, id=self._last_letter)

    async def letters(self, limit: int, without: Collection[str] = ()) -> list[Letter]:
        lanes, bundles = frozenset(without), tuple(one for one in without if one.endswith(BUNDLE))
        found = [
            letter
            for letter in self._letters.values()
            if letter.lane not in lanes and not letter.lane.startswith(bundles)
        ]
        return sorted(found, key=lambda letter: (letter.due_at, letter.id))[:limit]

    async def letters_about(self, task_id: int) -> list[Letter]:
        found = [letter for letter in self._letters.values() if letter.task_id == task_id]
        return sorted(found, key=lambda letter: letter.id)

    async def letters_pending(self) -> Pending:
        return Pending(len(self._letters), min((letter.at for letter in self._letters.values()), default=None))

    async def settle_letters(self, settled: Sequence[Settled]) -> None:
        for one in settled:
            letter = self._letters.pop(one.id, None)
            if letter is not None and one.due_at is not None:
                self._letters[one.id] = msgspec.structs.replace(
                    letter, attempts=letter.attempts + 1, due_at=one.due_at, last_error=one.error
                )
