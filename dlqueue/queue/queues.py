"""Named queues at run time: create, change, pause, resume, look. What is set survives a restart.

What the program says of its queues (its configuration) comes first, what was set at run time lies over it, key by key.
With each such key the store keeps what the program said then: once the program says something else, it is the newer
word, and what was set at run time is dropped for good.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from dlqueue.names import NAME, NAME_RULE
from dlqueue.queue.errors import Conflict, InvalidSetting, QueueNotFound
from dlqueue.queue.notices import Notices
from dlqueue.queue.record import Json, QueueRow
from dlqueue.queue.settings import Lanes, QueueSettings
from dlqueue.queue.status import FINAL, Status
from dlqueue.queue.store import Store
from dlqueue.queue.submission import SECONDS_MAX
from dlqueue.runtime.clock import Clock
from dlqueue.units import parse_rate

log = logging.getLogger(__name__)

KEYS = QueueSettings.__struct_fields__
_WHOLE: dict[str, tuple[float, float]] = {
    "concurrency": (1, 10_000),
    "capacity": (1, 1_000_000_000),
    "max_retry": (0, 1_000_000),
}
_NUMBERS: dict[str, tuple[float, float]] = {
    "ageing": (0, 1_000_000),
    "retry_delay": (0, SECONDS_MAX),
    "backoff_factor": (1, 100),
    "backoff_max": (0, SECONDS_MAX),
}
"""Least and greatest values of what can be set; the rate has a form of its own."""


class NamedQueue(msgspec.Struct, frozen=True, kw_only=True):
    """One queue as it is now."""

    name: str
    settings: QueueSettings
    """What is in force: a value for every key but ``capacity`` and ``rate``, where None is no limit."""
    changed: tuple[str, ...]
    """The keys that were set at run time."""
    paused: bool
    pending: int
    """Unfinished tasks that are not in the middle of a step, whatever they wait for."""
    running: int
    """Steps that are running."""
    completed: int
    failed: int
    """Tasks that ended so and are still kept."""

    @property
    def size(self) -> int:
        """Unfinished tasks: what counts for the capacity."""
        return self.pending + self.running


class Queues:
    """The verbs; `Queue.queues`.

    :param apply: makes what the lanes say now take effect; raises `StorageError`.
    """

    def __init__(
        self,
        store: Store,
        lanes: Lanes,
        notices: Notices,
        clock: Clock,
        apply: Callable[[Iterable[str]], Awaitable[None]],
    ) -> None:
        self._store = store
        self._lanes = lanes
        self._notices = notices
        self._clock = clock
        self._apply = apply
        self._filed: Mapping[str, QueueSettings] = dict(lanes.named)
        self._rows: dict[str, QueueRow] = {}
        self._lock = asyncio.Lock()

    # -- look ---------------------------------------------------------------------------------------------------------

    async def list(self) -> list[NamedQueue]:
        """All queues, by name: those that the program names, those that were created, and those that had a task."""
        counts = await self._store.tallies()
        names = {*self._named(), *counts, *await self._store.queues()}
        return [self._seen(name, counts.get(name, {})) for name in sorted(names)]

    async def get(self, name: str) -> NamedQueue:
        """:raises QueueNotFound: there is none."""
        await self._require(name)
        return self._seen(name, await self._store.tally(name))

    def changed(self) -> dict[str, dict[str, Json]]:
        """What was set at run time, by queue."""
        return {row.name: dict(row.settings) for row in self._rows.values() if row.settings}

    def _named(self) -> set[str]:
        return {*self._filed, *self._rows, self._lanes.default}

    async def _require(self, name: str) -> None:
        if name not in self._named() and name not in await self._store.queues():
            raise QueueNotFound(name)

    def _seen(self, name: str, counts: Mapping[Status, int]) -> NamedQueue:
        running = counts.get(Status.PROCESSING, 0)
        return NamedQueue(
            name=name,
            settings=self._lanes.in_force(name),
            changed=tuple(sorted(self._rows[name].settings)) if name in self._rows else (),
            paused=name in self._lanes.paused,
            pending=sum(count for status, count in counts.items() if status not in FINAL) - running,
            running=running,
            completed=counts.get(Status.COMPLETED, 0),
            failed=counts.get(Status.ERROR, 0),
        )

    # -- steer --------------------------------------------------------------------------------------------------------

    async def create(self, name: str, **settings: Json) -> NamedQueue:
        """A queue that the program does not name. Settings are those of `QueueSettings`.

        :raises InvalidSetting: the name or a setting cannot be right.
        :raises Conflict: there is a queue of this name.
        """
        check_name(name)
        given = checked(settings)
        async with self._lock:
            if name in self._named() or name in await self._store.queues():
                raise Conflict(f"there is a queue {name!r} already: change it, or take another name")
            unsaid = QueueSettings()
            filed = {key: getattr(unsaid, key) for key in given}
            await self._keep(QueueRow(name, given, filed, False, self._clock.time()))
            self._notices.tell_of_queue(name, "created", given)
        return await self.get(name)

    async def update(self, name: str, *, reset: Collection[str] = (), **settings: Json) -> NamedQueue:
        """Other settings, from now on; what is not given stays. Steps that run are let through.

        :param reset: settings that shall be again as the program says.
        :raises InvalidSetting: a setting does not exist, or cannot be right.
        :raises QueueNotFound: there is no such queue.
        """
        given = checked(settings)
        for key in reset:
            if key not in KEYS or key in given:
                message = "is set and reset at once" if key in given else f"is not one of {', '.join(KEYS)}"
                raise InvalidSetting(f"{key[:100]!r} {message}", "reset")
        async with self._lock:
            await self._require(name)
            row = self._rows.get(name) or QueueRow(name, created_at=self._clock.time())
            filed = self._filed.get(name, QueueSettings())
            kept = {key: value for key, value in row.settings.items() if key not in reset} | given
            said = row.filed | {key: getattr(filed, key) for key in given}
            await self._keep(
                msgspec.structs.replace(row, settings=kept, filed={key: said[key] for key in kept}),
            )
            self._notices.tell_of_queue(name, "changed", {**dict.fromkeys(reset), **given})
        return await self.get(name)

    async def pause(self, name: str) -> NamedQueue:
        """Begin no step of it until `resume`, also after a restart; steps that run go on. Paused already is no error.

        :raises QueueNotFound: there is no such queue.
        """
        return await self._pause(name, True)

    async def resume(self, name: str) -> NamedQueue:
        """Go on, at once. Not paused is no error. :raises QueueNotFound: there is no such queue."""
        return await self._pause(name, False)

    async def _pause(self, name: str, paused: bool) -> NamedQueue:
        async with self._lock:
            await self._require(name)
            if paused is not (name in self._lanes.paused):
                row = self._rows.get(name) or QueueRow(name, created_at=self._clock.time())
                await self._keep(msgspec.structs.replace(row, paused=paused))
                self._notices.tell_of_queue(name, "paused" if paused else "resumed")
        return await self.get(name)

    async def _keep(self, row: QueueRow) -> None:
        async def save() -> None:
            await self._store.save_queues([row])

        await self._go_over(self._filed, {**self._rows, row.name: row}, save)

    # -- what the program says ----------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Take up what was set before. Nothing takes effect yet. :raises StorageError: it cannot be read."""
        self._rows = {row.name: row for row in await self._store.queue_rows()}
        rows, dropped = self._reconciled(self._filed)
        if dropped:
            await self._store.save_queues(dropped)
        self._rows = rows
        self._say()

    async def configure(self, filed: Mapping[str, QueueSettings]) -> None:
        """From now on the program says this. :raises StorageError: nothing has changed."""
        async with self._lock:
            rows, dropped = self._reconciled(filed)

            async def save() -> None:
                if dropped:
                    await self._store.save_queues(dropped)

            await self._go_over(dict(filed), rows, save)

    def _reconciled(self, filed: Mapping[str, QueueSettings]) -> tuple[dict[str, QueueRow], Sequence[QueueRow]]:
        """What was set at run time and still counts; and the rows that are others for that."""
        rows, others = dict(self._rows), []
        for row in self._rows.values():
            said = filed.get(row.name, QueueSettings())
            over = [key for key, before in row.filed.items() if key not in KEYS or getattr(said, key) != before]
            if over:
                log.info("queue %s: %s as configured again: the configuration is newer", row.name, ", ".join(over))
                rows[row.name] = msgspec.structs.replace(
                    row,
                    settings={key: value for key, value in row.settings.items() if key not in over},
                    filed={key: value for key, value in row.filed.items() if key not in over},
                )
                others.append(rows[row.name])
        return rows, others

    async def _go_over(
        self, filed: Mapping[str, QueueSettings], rows: dict[str, QueueRow], save: Callable[[], Awaitable[None]]
    ) -> None:
        """All of it, or nothing: if it cannot be kept, it is as it was."""
        before = self._filed, self._rows, {*self._lanes.named}
        self._filed, self._rows = filed, rows
        self._say()
        try:
            await self._apply(before[2] | {*self._lanes.named})
            await save()
        except BaseException:
            names = {*self._lanes.named}
            self._filed, self._rows = before[0], before[1]
            self._say()
            await self._apply_again(names)
            raise

    async def _apply_again(self, names: set[str]) -> None:
        try:
            await self._apply(names | {*self._lanes.named})
        except Exception as error:  # noqa: BLE001 - what failed before is what is told
            log.warning("queues: ranks will be put right at the next start (%s)", error)

    def _say(self) -> None:
        names = {*self._filed, *self._rows}
        self._lanes.named = {name: self._laid_over(name) for name in names}
        self._lanes.paused = {row.name for row in self._rows.values() if row.paused}

    def _laid_over(self, name: str) -> QueueSettings:
        filed = self._filed.get(name, QueueSettings())
        row = self._rows.get(name)
        return filed if row is None or not row.settings else msgspec.structs.replace(filed, **row.settings)


def check_name(name: str) -> None:
    """:raises InvalidSetting: no queue may be called so."""
    if not NAME.fullmatch(name):
        raise InvalidSetting(f"must be {NAME_RULE}", "name")


def checked(settings: Mapping[str, Any]) -> dict[str, Json]:
    """What is given: None is nothing. :raises InvalidSetting: there is no such setting, or it cannot be right."""
    given = {key: value for key, value in settings.items() if value is not None}
    for key, value in given.items():
        if key not in KEYS:
            raise InvalidSetting(f"no such setting; there is {', '.join(KEYS)}", key[:100])
        if key == "rate":
            try:
                parse_rate(value)
            except ValueError as error:
                raise InvalidSetting(str(error), key) from None
            continue
        least, most = _WHOLE.get(key) or _NUMBERS[key]
        right = isinstance(value, int) if key in _WHOLE else isinstance(value, (int, float))
        if isinstance(value, bool) or not right or not least <= value <= most:
            what = "a whole number between" if key in _WHOLE else "between"
            raise InvalidSetting(f"must be {what} {least:.0f} and {most:.0f}", key)
    return given
