"""The configured downloaders at work: a coordinator each, their slots, and what is broken and why."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlqueue.downloads.coordinator import Coordinator
from dlqueue.downloads.pauses import Pause, Pauses
from dlqueue.downloads.policy import Policy, PolicyRefused
from dlqueue.downloads.registry import route
from dlqueue.downloads.request import DownloadParams
from dlqueue.downloads.slots import Slots
from dlqueue.queue import InvalidTask
from dlqueue.runtime.clock import Clock
from dlqueue.sdk import Context, Downloader, DownloaderError, Rejected, TransferStatus, Unavailable


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """One downloader of the configuration."""

    name: str
    kind: type[Downloader]
    max_active: int = 5
    poll: float = 2.0
    options: Any = None


class NoRoute(InvalidTask):
    """No configured downloader can do this."""


class NotConfigured(Unavailable):
    """A downloader that a task remembers has been taken out of the configuration, or disabled there."""


class Endpoints:
    """Found by name; opened and closed together; changed while they are at work."""

    def __init__(
        self,
        configs: Mapping[str, EndpointConfig],
        folder: Path,
        policy: Policy,
        clock: Clock,
        wake: Callable[[str, int | None], Awaitable[object]],
        report: Callable[[int, str, TransferStatus], None],
        watched_live: Callable[[], bool],
        disabled: Collection[str] = (),
    ) -> None:
        """
        :param folder: private; each downloader gets a folder in it.
        :param wake: is given a hold, and how many of those who hold it.
        :param disabled: names that are configured and not to be used.
        """
        self.configs = configs
        self.disabled = frozenset(disabled)
        self.slots = Slots()
        self._folder = folder
        self._pauses = Pauses(folder)
        self._clock = clock
        self._policy = policy
        self._wake = wake
        self._report = report
        self._watched_live = watched_live
        self._coordinators: dict[str, Coordinator] = {name: self._made(config) for name, config in configs.items()}

    def _made(self, config: EndpointConfig) -> Coordinator:
        self.slots.define(config.name, config.max_active)
        return Coordinator(
            config.name,
            config.kind(),
            config.poll,
            self._clock,
            lambda hold: self._wake(hold, None),
            self._report,
            self._watched_live,
        )

    async def open(self) -> None:
        """Open all; one that cannot be opened is down, and the others work."""
        for name, config in self.configs.items():
            await self._open(self._coordinators[name], config)

    async def _open(self, coordinator: Coordinator, config: EndpointConfig) -> None:
        coordinator.paused = self._pauses.read(config.name)
        context = Context(
            name=config.name,
            folder=self._private_folder(config.name),
            logger=logging.getLogger(f"dlqueue.downloader.{config.name}"),
            deadline=lambda: 0.0,  # replaced by the coordinator's own
            check_url=self._check_url,
            check_address=self._check_address,
        )
        try:
            await coordinator.open(config.options, context)
        except DownloaderError as error:
            coordinator.health, coordinator.last_error, coordinator.auth_failed = "down", str(error), True

    def _private_folder(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    async def close(self) -> None:
        await asyncio.gather(*(coordinator.close() for coordinator in self._coordinators.values()))

    # -- another configuration while they are at work -----------------------------------------------------------------

    def prepare(self, names: Iterable[str]) -> None:
        """Before `reconfigure`, all that can fail of it. :raises OSError: the folder of one cannot be made."""
        for name in names:
            self._private_folder(name)

    async def reconfigure(self, configs: Mapping[str, EndpointConfig], disabled: Collection[str]) -> None:
        """Go over to these. What is new is opened; what is gone is closed, and its transfers wait; what has other
        options, or was refused our credentials, is closed and opened again, and its transfers are watched on."""
        gone = {name: c for name, c in self._coordinators.items() if name not in configs}
        self.configs = {name: config for name, config in self.configs.items() if name not in gone}
        self.disabled = frozenset(disabled)
        for name in gone:
            del self._coordinators[name]
        async with asyncio.TaskGroup() as group:
            for name, coordinator in gone.items():
                group.create_task(self._take_away(name, coordinator))
            for config in configs.values():
                group.create_task(self._adapt(config))
        self.configs = dict(configs)  # the order may be another one too
        for name in configs:
            await self._wake(f"slot:{name}", self.slots.free(name))
        await self._wake("route", None)

    async def _take_away(self, name: str, coordinator: Coordinator) -> None:
        await coordinator.close()
        await coordinator.dismiss()
        for hold in ("slot", "paused"):
            await self._wake(f"{hold}:{name}", None)

    async def _adapt(self, config: EndpointConfig) -> None:
        name, former = config.name, self._coordinators.get(config.name)
        before = self.configs.get(name)
        if former is not None and before is not None:
            same = before.kind is config.kind and before.options == config.options
            if same and former.opened and not former.auth_failed:
                self.slots.define(name, config.max_active)
                former.poll_every(config.poll)
                return
            await former.close()
        coordinator = self._made(config)
        await self._open(coordinator, config)
        if former is not None:
            coordinator.take_over(former)
            coordinator.paused = former.paused
        self._coordinators[name] = coordinator
        self.configs = {**self.configs, name: config}

    def _check_url(self, url: str) -> None:
        try:
            self._policy.check_url(url)
        except InvalidTask as error:
            raise Rejected(
                f"redirected to a URL that is not allowed: {error.message}", "request", kind="policy"
            ) from error

    def _check_address(self, address: str) -> None:
        try:
            self._policy.check_address(address)
        except PolicyRefused as error:
            raise Rejected(error.message, "request", kind="policy") from error

    def __getitem__(self, name: str) -> Coordinator:
        """:raises NotConfigured: there is none of that name (any more)."""
        try:
            return self._coordinators[name]
        except KeyError:
            raise NotConfigured(f"{name} {self.absence(name)}") from None

    def absence(self, name: str) -> str:
        """Why a downloader that is not here is not here."""
        return "is disabled (enabled = false)" if name in self.disabled else "is not configured any more"

    def expects(self, name: str) -> bool:
        """Is it here, or disabled and so likely to come back?"""
        return name in self or name in self.disabled

    def __contains__(self, name: object) -> bool:
        return name in self._coordinators

    def names(self) -> list[str]:
        return list(self.configs)

    def route(self, params: DownloadParams) -> list[str]:
        """See `dlqueue.downloads.registry.route`."""
        kinds = {name: config.kind for name, config in self.configs.items()}
        return route(params.schemes, params.downloader, kinds)

    def check(self, params: DownloadParams) -> None:
        """:raises InvalidTask: the downloader that was named does not exist; `NoRoute`: nobody can fetch this."""
        wanted = params.downloader
        if wanted is not None and wanted not in self:
            if wanted in self.disabled:
                raise InvalidTask(f"downloader {wanted!r} {self.absence(wanted)}", "downloader")
            raise InvalidTask(f"no downloader {wanted!r} (configured: {', '.join(self.names())})", "downloader")
        if not self.route(params):
            who = f"downloader {wanted!r}" if wanted is not None else "none of the configured downloaders"
            what = " and ".join(sorted(params.schemes))
            raise NoRoute(f"{who} can fetch {what} (configured: {', '.join(self.names()) or 'none'})", "url")

    async def pause(self, name: str, by: str) -> None:
        """Begin nothing new there until `resume`, also after a restart; what runs goes on. :raises OSError: that cannot
        be remembered."""
        if self[name].paused is None:
            pause = Pause(by, self._clock.time())
            await asyncio.to_thread(self._pauses.write, name, pause)
            self[name].paused = pause

    async def resume(self, name: str) -> None:
        """Let those begin who waited. :raises OSError: it cannot be remembered."""
        await asyncio.to_thread(self._pauses.forget, name)
        self[name].paused = None
        await self._wake(f"paused:{name}", None)
        if free := self.slots.free(name):
            await self._wake(f"slot:{name}", free)

    async def release(self, task_id: int) -> None:
        """Give up a task's slot, or its turn for one, and let the next one have it."""
        downloader = self.slots.release(task_id)
        # Without a slot it may have been woken for one already; where, nobody remembers.
        for name in self.names() if downloader is None else (downloader,):
            asked, free = self.slots.asked(name), self.slots.free(name)
            if asked and free and not await self._wake(f"slot:{name}", free):
                self.slots.nobody(name, asked)
