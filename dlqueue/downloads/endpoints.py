"""The configured downloaders at work: a coordinator each, their slots, and what is broken and why."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlqueue.downloads.coordinator import Coordinator
from dlqueue.downloads.pauses import Pause, Pauses
from dlqueue.downloads.policy import Policy, PolicyRefused
from dlqueue.downloads.registry import route
from dlqueue.downloads.slots import Slots
from dlqueue.queue import InvalidTask
from dlqueue.runtime.clock import Clock
from dlqueue.sdk import Context, Downloader, DownloaderError, Rejected, TransferStatus


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


class Endpoints:
    """Found by name; opened and closed together."""

    def __init__(
        self,
        configs: Mapping[str, EndpointConfig],
        folder: Path,
        policy: Policy,
        clock: Clock,
        wake: Callable[[str, int | None], Awaitable[object]],
        report: Callable[[int, str, TransferStatus], None],
        watched_live: Callable[[], bool],
    ) -> None:
        """
        :param folder: private; each downloader gets a folder in it.
        :param wake: is given a hold, and how many of those who hold it.
        """
        self.configs = configs
        self.slots = Slots()
        self._folder = folder
        self._pauses = Pauses(folder)
        self._clock = clock
        self._policy = policy
        self._wake = wake
        self._coordinators: dict[str, Coordinator] = {}
        for name, config in configs.items():
            self.slots.define(name, config.max_active)
            self._coordinators[name] = Coordinator(
                name,
                config.kind(),
                config.poll,
                clock,
                lambda hold: wake(hold, None),
                report,
                watched_live,
            )

    async def open(self) -> None:
        """Open all; one that cannot be opened is down, and the others work."""
        for name, coordinator in self._coordinators.items():
            coordinator.paused = self._pauses.read(name)
            folder = self._folder / name
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            context = Context(
                name=name,
                folder=folder,
                logger=logging.getLogger(f"dlqueue.downloader.{name}"),
                deadline=lambda: 0.0,  # replaced by the coordinator's own
                check_url=self._check_url,
                check_address=self._check_address,
            )
            try:
                await coordinator.open(self.configs[name].options, context)
            except DownloaderError as error:
                coordinator.health, coordinator.last_error, coordinator.auth_failed = "down", str(error), True

    async def close(self) -> None:
        for coordinator in self._coordinators.values():
            await coordinator.close()

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
        return self._coordinators[name]

    def __contains__(self, name: object) -> bool:
        return name in self._coordinators

    def names(self) -> list[str]:
        return list(self._coordinators)

    def route(self, urls: tuple[str, ...], downloader: str | None) -> list[str]:
        """See `dlqueue.downloads.registry.route`."""
        return route(urls, downloader, {name: config.kind for name, config in self.configs.items()})

    def check(self, urls: tuple[str, ...], downloader: str | None) -> None:
        """:raises InvalidTask: the downloader that was named does not exist; `NoRoute`: nobody can fetch this."""
        if downloader is not None and downloader not in self:
            raise InvalidTask(f"no downloader {downloader!r} (configured: {', '.join(self.names())})", "downloader")
        if not self.route(urls, downloader):
            scheme = urls[0].partition(":")[0].lower()
            who = f"downloader {downloader!r}" if downloader is not None else "none of the configured downloaders"
            raise NoRoute(f"{who} can fetch {scheme} (configured: {', '.join(self.names()) or 'none'})", "url")

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
        if downloader is not None and (free := self.slots.free(downloader)):
            await self._wake(f"slot:{downloader}", free)
