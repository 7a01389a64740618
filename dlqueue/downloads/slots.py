"""`max_active`: transfers at once in one downloader. A slot is held over suspensions, not only while a step runs."""

from __future__ import annotations


class Slots:
    """Who holds the slots of each downloader. In memory: rebuilt at start from what the tasks remember."""

    def __init__(self) -> None:
        self._limits: dict[str, int] = {}
        self._held: dict[str, set[int]] = {}
        self._where: dict[int, str] = {}
        self._wanted: dict[int, str] = {}
        """Who waits, and where. If one goes away that has been woken for a slot already, the next one must be."""

    def define(self, downloader: str, limit: int) -> None:
        self._limits[downloader] = limit
        self._held.setdefault(downloader, set())

    def acquire(self, downloader: str, task_id: int) -> bool:
        """True if the task has a slot there now. It has one at most, anywhere."""
        if self._where.get(task_id) == downloader:
            return True
        if len(self._held[downloader]) >= self._limits[downloader]:
            self.want(downloader, task_id)
            return False
        self.adopt(downloader, task_id)
        return True

    def want(self, downloader: str, task_id: int) -> None:
        """It waits for a slot."""
        self._wanted[task_id] = downloader

    def adopt(self, downloader: str, task_id: int) -> None:
        """A transfer that runs already has a slot, whatever the limit says."""
        self.release(task_id)
        self._held.setdefault(downloader, set()).add(task_id)
        self._where[task_id] = downloader

    def release(self, task_id: int) -> str | None:
        """Give it up, or the wish for one; answers where."""
        wanted = self._wanted.pop(task_id, None)
        downloader = self._where.pop(task_id, None)
        if downloader is None:
            return wanted
        self._held[downloader].discard(task_id)
        return downloader

    def free(self, downloader: str) -> int:
        return max(self._limits.get(downloader, 0) - len(self._held.get(downloader, ())), 0)

    def active(self, downloader: str) -> int:
        return len(self._held.get(downloader, ()))
