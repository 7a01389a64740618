"""All checks, one after the other or beside each other: with a daemon, or of what can be seen without one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path

from dlqueue.config import Config
from dlqueue.daemon.doctor import database, disks, downloaders, files, machine, notices
from dlqueue.daemon.doctor.finding import SEVERITIES, Finding
from dlqueue.daemon.reading import Reader
from dlqueue.daemon.settings import path_map
from dlqueue.daemon.staging import staging_rule
from dlqueue.daemon.tasktypes import GROUP
from dlqueue.downloads.debts import Debts
from dlqueue.downloads.endpoints import Endpoints
from dlqueue.downloads.task import RemoteDownload
from dlqueue.protocol import doctor as messages
from dlqueue.queue import Queue, StorageError
from dlqueue.queue.sql import upkeep
from dlqueue.queue.sql.inspection import Due, Inspection
from dlqueue.runtime.threads import Threads
from dlqueue.sdk import Rejected

log = logging.getLogger(__name__)

PATIENCE = 20.0
"""Seconds that a check of files may take; a network share may hang for minutes."""
DOWNLOADERS_PATIENCE = 50.0
"""Seconds that all downloaders together may take: whoever asks waits for 60."""


@dataclass(frozen=True, slots=True)
class Living:
    """What only the daemon knows."""

    config: Callable[[], Config]
    """In force."""
    queue: Queue
    endpoints: Endpoints
    watch: machine.Stopwatch

    def runs(self, task_id: int) -> bool:
        return self.queue.runs(task_id)

    def free(self, due: Due) -> bool:
        """Could a worker take it now?"""
        queue = self.queue
        if due.type not in queue.types or queue.counters.busy_workers >= queue.workers:
            return False
        limited = queue.is_full(due.queue) or queue.lanes[due.queue].rate is not None
        return not limited and due.queue not in queue.lanes.paused


class Doctor:
    """The daemon's own. One examination at a time."""

    def __init__(self, read: Reader, living: Living) -> None:
        self._read = read
        self._living = living
        self._alone = asyncio.Lock()

    async def answer(self) -> messages.Diagnosis:
        """`daemon.doctor`."""
        async with self._alone:
            return {"findings": as_messages(await _examination(self._read, self._living))}


def offline(read: Reader) -> list[messages.Finding]:
    """What can be seen without a daemon."""
    return as_messages(asyncio.run(_examination(read, None)))


def as_messages(findings: Collection[Finding]) -> list[messages.Finding]:
    """The worst first; what is alike stays in the order in which it was looked at."""
    return [
        {"check": one.check, "severity": one.severity, "explanation": one.explanation, "cure": one.cure}
        for one in sorted(findings, key=lambda one: SEVERITIES.index(one.severity))
    ]


async def _examination(read: Reader, living: Living | None) -> list[Finding]:
    threads = Threads(6, "dlqueue-doctor")
    try:
        return await _Examination(read, living, threads).all()
    finally:
        threads.close()


class _Examination:
    def __init__(self, read: Reader, living: Living | None, threads: Threads) -> None:
        self._read = read
        self._living = living
        self._threads = threads

    async def all(self) -> list[Finding]:
        living, in_force = self._living, None if self._living is None else self._living.config()
        # Without the time limit of the others: nothing can be said before.
        says, found = await self._threads.run(partial(files.configuration, self._read, in_force))
        config = in_force or says
        places = self._read.places if config is None else config.places
        sources = [] if config is None else list(config.files)
        system = self._read.mode == "system"
        checks: list[Awaitable[list[Finding]]] = [
            self._guarded("permissions", partial(files.permissions, places, sources, system)),
            self._guarded("systemd", partial(machine.service, self._read.mode)),
        ]
        if config is None:
            text = "where downloads go and where the database is was not looked at: the configuration does not say it"
            found.append(Finding("config", "info", text, "correct it first"))
        else:
            checks += self._of(config)
            if living is not None:
                slots = sum(one.max_active for one in living.endpoints.configs.values())
                checks.append(self._guarded("limits", partial(machine.limits, slots)))
                checks.append(self._downloaders(config, living))
        for part in await asyncio.gather(*checks):
            found += part
        return found

    def _of(self, config: Config) -> list[Awaitable[list[Finding]]]:
        living = self._living
        file = upkeep.file_of(config.store.url)
        inspection = Inspection(file, config.store.namespace)
        pairs = disks.pairs(config, staging_rule(config))
        folders = [*pairs, *pairs.values(), file.parent]
        ledger = None if living is None else living.endpoints.room.ledger
        watch = None if living is None else living.watch
        debts = Debts(config.places.state / "downloaders")
        configured = [name for name, section in config.downloaders.items() if section.enabled]
        up = None if living is None else _answering(living.endpoints)

        def clock() -> list[Finding]:
            return machine.clock(config.places.state, _newest(inspection, file), watch)

        def mounts() -> list[Finding]:
            waits = inspection.holds("space:/") if file.exists() else {}
            return disks.mounts(folders, {f"/{mount}": count for mount, count in waits.items()})

        def leftovers() -> list[Finding]:
            return disks.leftovers([*pairs.values(), *_shared(config)], partial(_known, inspection, debts))

        def tasks() -> list[Finding]:
            if not file.exists():
                return []
            types = _types() if living is None else set(living.queue.types)
            runs, free = (None, None) if living is None else (living.runs, living.free)
            return database.tasks(inspection, types, runs, free)

        return [
            self._guarded("database", partial(database.file, file, living is not None)),
            self._guarded("tasks", tasks),
            self._guarded("notices", partial(notices.notices, config, inspection if file.exists() else None)),
            self._guarded("space", partial(disks.space, folders, config.daemon.keep_free, ledger)),
            self._guarded("rename", partial(disks.renames, pairs)),
            self._guarded("mounts", mounts),
            self._guarded("staging", leftovers),
            self._guarded("debts", partial(downloaders.debts, debts, configured, up)),
            self._guarded("clock", clock),
        ]

    async def _downloaders(self, config: Config, living: Living) -> list[Finding]:
        debts = Debts(config.places.state / "downloaders")
        inspection = Inspection(upkeep.file_of(config.store.url), config.store.namespace)
        remote = living.queue.types[RemoteDownload.type]
        assert isinstance(remote, RemoteDownload)
        folders = remote.staging_folders()
        try:
            async with asyncio.timeout(DOWNLOADERS_PATIENCE):
                return await downloaders.each(living.endpoints, folders, partial(_known, inspection, debts))
        except TimeoutError:
            text = f"the downloaders were not all looked at within {DOWNLOADERS_PATIENCE:g} s"
            return [Finding("downloaders", "warning", text, "ask them one by one: dlqueue downloader test NAME")]

    async def _guarded(self, name: str, look: Callable[[], list[Finding]]) -> list[Finding]:
        """A check that hangs, or is defective, must not hide the others."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._threads.run(look)
        except TimeoutError:
            text = f"this was not looked at to its end within {PATIENCE:g} s: a file system or a program hangs"
            return [Finding(name, "warning", text, "look at network shares first: ls hangs there too")]
        except Exception as error:
            log.exception("doctor: the check of %s failed", name)
            text = f"this could not be looked at: {type(error).__name__}: {error}"
            return [Finding(name, "warning", text, "please report this")]


def _answering(endpoints: Endpoints) -> list[str]:
    return [name for name in endpoints.names() if not endpoints[name].down]


def _newest(inspection: Inspection, file: Path) -> float | None:
    try:
        return inspection.newest() if file.exists() else None
    except StorageError:
        return None  # is told where the database is looked at


def _known(inspection: Inspection, debts: Debts, keys: Collection[str]) -> Collection[str]:
    """Which of these creation keys a task, or a debt, still knows. All of them if that cannot be told: nobody is to
    remove what is needed."""
    owed = {debt.key for name in debts.names() for debt in debts.of(name)}
    try:
        return inspection.mentioned(set(keys) - owed) | owed
    except StorageError:
        return keys


def _types() -> set[str]:
    """Those that a daemon would know."""
    return {RemoteDownload.type, *(entry.name for entry in entry_points(group=GROUP))}


def _shared(config: Config) -> Iterator[Path]:
    """Where downloaders write that have a folder of their own, as we see it; not where what they fetch is to stay."""
    for paths in map(path_map, config.downloaders.values()):
        with suppress(Rejected):
            if paths.folder is not None and not paths.in_place:
                yield paths.folder
