"""`max_active`: transfers at once in one downloader. A slot is held over suspensions, not only while a step runs."""

from __future__ import annotations


class Slots:
    """Who holds the slots of each downloader. In memory: rebuilt at start from what the tasks remember."""

    def __init__(self) -> None:
        self._limits: dict[str, int] = {}
        self._held: dict[str, set[int]] = {}
        self._where: dict[int, str] = {}
        self._asked: dict[str, int] = {}
        """How often a slot was refused since nobody waited, by whose slot is waited for (see `Endpoints.hold`). Who
        waits is in the store only: they may be a million."""

    def define(self, downloader: str, limit: int) -> None:
        self.limit(downloader, limit)
        self._held.setdefault(downloader, set())
        self.ask(downloader)  # somebody may wait since before we were there

    def limit(self, downloader: str, limit: int) -> None:
        """It has so many from now on."""
        self._limits[downloader] = limit

    def acquire(self, downloader: str, task_id: int) -> bool:
        """True if the task has a slot there now. It has one at most, anywhere."""
        if self._where.get(task_id) == downloader:
            return True
        if len(self._held[downloader]) >= self._limits[downloader]:
            self.ask(downloader)
            return False
        self.adopt(downloader, task_id)
        return True

    def adopt(self, downloader: str, task_id: int) -> None:
        """A transfer that runs already has a slot, whatever the limit says."""
        self.release(task_id)
        self._held.setdefault(downloader, set()).add(task_id)
        self._where[task_id] = downloader

    def release(self, task_id: int) -> str | None:
        """Give it up; answers where, or None if it had none."""
        downloader = self._where.pop(task_id, None)
        if downloader is not None:
            self._held[downloader].discard(task_id)
        return downloader

    def ask(self, whose: str) -> None:
        """Somebody waits."""
        self._asked[whose] = self.asked(whose) + 1

    def asked(self, whose: str) -> int:
        """0 if nobody waits for a slot there, else a number that changes whenever one more does."""
        return self._asked.get(whose, 0)

    def nobody(self, whose: str, asked: int) -> None:
        """Nobody waited when `asked` was so."""
        if self.asked(whose) == asked:
            self._asked[whose] = 0

    def free(self, downloader: str, task_id: int | None = None) -> int:
        """
        :param task_id: who asks; what it has there already is free for it.
        """
        mine = task_id is not None and self._where.get(task_id) == downloader
        return max(self._limits.get(downloader, 0) - len(self._held.get(downloader, ())), 0) + mine

    def active(self, downloader: str) -> int:
        return len(self._held.get(downloader, ()))
