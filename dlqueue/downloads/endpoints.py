"""The configured downloaders at work: a coordinator each, their slots, and what is broken and why."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlqueue.downloads.coordinator import Coordinator
from dlqueue.downloads.policy import Policy, PolicyRefused
from dlqueue.downloads.registry import route
from dlqueue.downloads.request import DownloadParams
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

    def route(self, params: DownloadParams) -> list[str]:
        """See `dlqueue.downloads.registry.route`."""
        kinds = {name: config.kind for name, config in self.configs.items()}
        return route(params.schemes, params.downloader, kinds)

    def check(self, params: DownloadParams) -> None:
        """:raises InvalidTask: the downloader that was named does not exist; `NoRoute`: nobody can fetch this."""
        wanted = params.downloader
        if wanted is not None and wanted not in self:
            raise InvalidTask(f"no downloader {wanted!r} (configured: {', '.join(self.names())})", "downloader")
        if not self.route(params):
            who = f"downloader {wanted!r}" if wanted is not None else "none of the configured downloaders"
            what = " and ".join(sorted(params.schemes))
            raise NoRoute(f"{who} can fetch {what} (configured: {', '.join(self.names()) or 'none'})", "url")

    async def release(self, task_id: int) -> None:
        """Give up a task's slot, or its turn for one, and let the next one have it."""
        downloader = self.slots.release(task_id)
        if downloader is not None and (free := self.slots.free(downloader)):
            await self._wake(f"slot:{downloader}", free)
