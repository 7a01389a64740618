"""Reading the configuration anew while the daemon works: all of it takes effect, or nothing does."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlqueue.config import Changed, Config, ConfigError, difference
from dlqueue.daemon import logs, settings
from dlqueue.daemon.owners import Owners
from dlqueue.daemon.systemd import Notifier
from dlqueue.downloads.endpoints import Endpoints
from dlqueue.downloads.policy import Policy
from dlqueue.downloads.task import RemoteDownload
from dlqueue.notify.postman import Postman
from dlqueue.protocol import messages
from dlqueue.protocol.errors import Conflict
from dlqueue.queue import Queue, QueueClosed, QueueError, StorageError
from dlqueue.runtime.threads import Threads
from dlqueue.sdk import Downloader
from dlqueue.service.access import Access

log = logging.getLogger(__name__)

_AT_START_ONLY = ("store.", "daemon.staging", "http.")
"""Settings that a running daemon cannot change: beginnings of their keys."""


class NeedsRestart(Exception):
    """Settings were changed that take effect only at the next start."""

    def __init__(self, changed: list[Changed]) -> None:
        self.problems = [f"{one.key} cannot change while the daemon runs" for one in changed]
        self.problems.append("nothing was changed: restart the daemon, or take that back and reload")
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class Parts:
    """What a configuration is given to."""

    kinds: Mapping[str, type[Downloader]]
    queue: Queue
    endpoints: Endpoints
    policy: Policy
    access: Access
    owners: Owners
    download: RemoteDownload
    postman: Postman


class Reloader:
    """Holds the configuration in force.

    :param read: reads the files; raises `ConfigError`.
    """

    def __init__(self, config: Config, read: Callable[[], Config], parts: Parts, notifier: Notifier) -> None:
        self.config = config
        self.refused = ""
        """Why the last reload changed nothing; empty if it went well, or there was none."""
        self._read = read
        self._parts = parts
        self._notifier = notifier
        self._thread = Threads(1, "dlqueue-config")  # a file may be on a disk that hangs
        self._lock = asyncio.Lock()
        self._started = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    def started(self) -> None:
        """The daemon is ready: from now on it may be changed."""
        self._started.set()

    async def stop(self) -> None:
        """Let go of a reload that is under way: what it has not done yet, the next start does."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._thread.close()

    def hang_up(self) -> None:
        """SIGHUP: reload; what came of it is in the log."""
        self._begin().add_done_callback(_expect_refusal)

    async def reload(self) -> list[Changed]:
        """Read the files and go over to what they say now; answers what is different. One at a time.

        :raises ConfigError: they cannot be used.
        :raises NeedsRestart: they change what cannot be changed now.
        :raises QueueError, OSError: what they ask for could not be done. In all these cases nothing has changed.
        """
        task = self._begin()
        try:
            # Shielded: who asked may go away, and half a reload must not stay behind.
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise QueueClosed("the daemon is stopping") from None
            raise

    async def answer(self) -> messages.Reloaded:
        """`daemon.reload`. :raises Conflict: the message has a line for every problem."""
        try:
            changed = await self.reload()
        except (ConfigError, NeedsRestart) as error:
            kind = "config" if isinstance(error, ConfigError) else "restart"
            raise Conflict(str(error), kind=kind) from error
        except OSError as error:
            raise Conflict(f"{error.filename}: {error.strerror}", kind="config") from error
        return {
            "changed": [{"key": one.key, "from": one.before, "to": one.after} for one in changed],
            "warnings": [str(warning) for warning in self.config.warnings],
        }

    def _begin(self) -> asyncio.Task[list[Changed]]:
        task = asyncio.create_task(self._alone(), name="dlqueue-reload")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _alone(self) -> list[Changed]:
        await self._started.wait()
        async with self._lock:
            self._notifier.reloading()
            said = ""
            try:
                changed = await self._reload()
            except (ConfigError, NeedsRestart) as error:
                said = f"not reloaded: {_one_of(error.problems)}; the former configuration is in force"
                log.error("the configuration was not reloaded, the former one stays in force:")  # noqa: TRY400
                for problem in error.problems:
                    log.error("%s", problem)  # noqa: TRY400 - it is no defect of ours
                raise
            except (QueueError, OSError) as error:
                said = f"not reloaded: {error}; the former configuration is in force"
                log.error("the configuration was not reloaded: %s", error)  # noqa: TRY400
                raise
            except Exception:
                said = "not reloaded, by a defect: see the log"
                log.exception("the configuration was not reloaded")
                raise
            else:
                return changed
            finally:
                self.refused = said
                self._notifier.ready(said or "reloaded")

    async def _reload(self) -> list[Changed]:
        new = await self._thread.run(self._read)
        changed = difference(self.config, new)
        frozen = [one for one in changed if one.key.startswith(_AT_START_ONLY)]
        if frozen:
            raise NeedsRestart(frozen)
        await self._apply(new)
        self.config = new
        for warning in new.warnings:
            log.warning("%s", warning)
        for one in changed:
            log.info("reloaded: %s: %s -> %s", one.key, json.dumps(one.before), json.dumps(one.after))
        if not changed:
            log.info("reloaded: nothing has changed")
        return changed

    async def _apply(self, new: Config) -> None:
        """What may fail comes first, and has then changed nothing."""
        parts, downloaders, plan = self._parts, settings.endpoints(new, self._parts.kinds), settings.plan(new)
        parts.endpoints.prepare(downloaders)
        await self._limit(new)
        try:
            await parts.queue.configure(new.daemon.workers, settings.queues(new))
        except BaseException:
            await self._limit(self.config)
            raise
        await parts.endpoints.reconfigure(downloaders, settings.disabled(new), settings.rules(new))
        parts.endpoints.room.adapt(new.daemon.keep_free)
        parts.queue.keep(new.retention.finished)
        settings.steer(parts.policy, new)
        logs.adapt(new.daemon.log, new.daemon.log_level)
        parts.postman.configure(plan)
        parts.download.default_directory = new.daemon.downloads
        parts.download.seed_rule = settings.seed_rule(new)
        try:
            await self._tell_who_waits(new)
        except StorageError as error:
            log.warning("who waits cannot be told now that the configuration is another one: %s", error)

    async def _limit(self, new: Config) -> None:
        """Also where no rule has changed: who is an admin, and so exempt, may be another one.

        :raises StorageError: nothing has changed.
        """
        parts = self._parts
        parts.access.appoint(new.daemon.admins)
        parts.owners.adapt(new)
        if new.owners or parts.queue.quotas.any:
            try:
                await parts.queue.quotas.limit(parts.owners.quota if new.owners else None)
            except BaseException:
                parts.access.appoint(self.config.daemon.admins)
                parts.owners.adapt(self.config)
                raise

    async def _tell_who_waits(self, new: Config) -> None:
        parts = self._parts
        if new.owners or self.config.owners:
            await parts.endpoints.shares.changed(parts.queue.quotas.owners())
            await parts.queue.quotas.look_again()
        if new.seeding != self.config.seeding:
            await parts.queue.wake("transfer:*")  # those that seed look whether it is enough now


def _one_of(problems: Sequence[object]) -> str:
    """For a line that has room for one."""
    return str(problems[0]) if len(problems) == 1 else f"{problems[0]} (and {len(problems) - 1} more, see the log)"


def _expect_refusal(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # is in the log already
