"""The configured downloaders at work: a coordinator each, their slots, and what is broken and why."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from dlqueue.downloads.coordinator import Coordinator
from dlqueue.downloads.debts import Debts
from dlqueue.downloads.delivery import drop_staging
from dlqueue.downloads.meters import DownloaderMeters
from dlqueue.downloads.notices import DownloaderChange, DownloaderNotice, notice_of
from dlqueue.downloads.pathmap import PathMap
from dlqueue.downloads.pauses import Pause, Pauses
from dlqueue.downloads.policy import Policy, PolicyRefused
from dlqueue.downloads.request import DownloadParams
from dlqueue.downloads.room import Room
from dlqueue.downloads.routing import Choice, Condition, Route, Rule, Wanted, choose, facts_of, find_route
from dlqueue.downloads.shares import Shares
from dlqueue.downloads.slots import Slots
from dlqueue.downloads.space import Measure, measure
from dlqueue.downloads.state import DownloadState, Obligation
from dlqueue.downloads.uses import Uses
from dlqueue.queue import InvalidTask, StorageError
from dlqueue.runtime.bus import Bus
from dlqueue.runtime.clock import Clock
from dlqueue.runtime.files import write_whole
from dlqueue.sdk import Context, Downloader, DownloaderError, Handle, Rejected, TransferStatus, Unavailable

log = logging.getLogger(__name__)

_USES = ".uses"
_GROUPS = ".groups"
"""A file that no downloader's folder can be: names begin with a letter or digit."""


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """One downloader of the configuration."""

    name: str
    kind: type[Downloader]
    max_active: int = 5
    poll: float = 2.0
    options: Any = None
    stall: float | None = 1800.0
    failover_after: float | None = 600.0
    paths: PathMap = field(default_factory=PathMap)


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
        rules: Sequence[Rule] = (),
        keep_free: int | None = None,
        measure: Measure = measure,
        shares: Callable[[str], int | None] = lambda owner: None,
    ) -> None:
        """
        :param folder: private; each downloader gets a folder in it.
        :param wake: is given a hold, and how many of those who hold it.
        :param disabled: names that are configured and not to be used.
        :param keep_free: see `dlqueue.downloads.space.Ledger`.
        :param shares: of an owner, how many transfers may run at once; None = no limit.
        """
        self.configs = configs
        self.disabled = frozenset(disabled)
        self.rules = tuple(rules)
        self.slots = Slots()
        self.bus: Bus[DownloaderNotice] = Bus()
        self.meters: dict[str, DownloaderMeters] = {}
        """By downloader, also of those that are gone: who comes back goes on counting."""
        self.shares = Shares(shares, wake)
        self.uses = Uses(folder / _USES)
        self.room = Room(clock, wake, keep_free, measure)
        self._folder = folder
        self._debts = Debts(folder)
        self._paying: set[asyncio.Task[None]] = set()
        self._pauses = Pauses(folder)
        self._clock = clock
        self._policy = policy
        self._wake = wake
        self._report = report
        self._watched_live = watched_live
        self._coordinators: dict[str, Coordinator] = {name: self._made(config) for name, config in configs.items()}
        self._groups: tuple[str, ...] = ()
        self._find_groups()

    def _made(self, config: EndpointConfig) -> Coordinator:
        self.slots.define(config.name, config.max_active)
        made = Coordinator(
            config.name,
            config.kind(),
            config.poll,
            self._clock,
            self._told,
            self._reported,
            self._watched_live,
            config.stall,
            config.failover_after,
            config.paths,
            self.meters.setdefault(config.name, DownloaderMeters()),
            lambda turn: self._publish(made, turn),
        )
        return made

    def _publish(self, coordinator: Coordinator, kind: DownloaderChange) -> None:
        if self.bus.listened_to:
            self.bus.publish(notice_of(coordinator, kind))

    def _reported(self, task_id: int, owner: str, status: TransferStatus) -> None:
        self.room.progress(task_id, status)
        self._report(task_id, owner, status)

    async def _told(self, hold: str) -> None:
        what, _, name = hold.partition(":")
        if what != "downloader":
            await self._wake(hold, None)
            return
        # First what is owed: who comes next must not meet what was given up.
        task = asyncio.create_task(self._back(name), name=f"dlqueue-back-{name}")
        self._paying.add(task)
        task.add_done_callback(self._paying.discard)

    async def _back(self, name: str) -> None:
        await self._pay(name)
        for whose in self._waited_for_with(name):
            try:
                await self._wake(f"downloader:{whose}", None)
            except Exception as error:  # noqa: BLE001 - the tasks look by themselves later
                log.warning("could not wake who waits for %s: %s", whose, error)

    async def open(self) -> None:
        """Open all; one that cannot be opened is down, and the others work."""
        self.room.open()
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
            coordinator.broken(error)

    def _private_folder(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    async def close(self) -> None:
        for task in self._paying:
            task.cancel()
        await asyncio.gather(self.room.close(), *(coordinator.close() for coordinator in self._coordinators.values()))

    # -- another configuration while they are at work -----------------------------------------------------------------

    def prepare(self, names: Iterable[str]) -> None:
        """Before `reconfigure`, all that can fail of it. :raises OSError: the folder of one cannot be made."""
        for name in names:
            self._private_folder(name)

    async def reconfigure(
        self, configs: Mapping[str, EndpointConfig], disabled: Collection[str], rules: Sequence[Rule] = ()
    ) -> None:
        """Go over to these. What is new is opened; what is gone is closed, and its transfers wait; what has other
        options, or was refused our credentials, is closed and opened again, and its transfers are watched on."""
        gone = {name: c for name, c in self._coordinators.items() if name not in configs}
        self.configs = {name: config for name, config in self.configs.items() if name not in gone}
        self.disabled = frozenset(disabled)
        rerouted = tuple(rules) != self.rules or list(configs) != self.names()
        self.rules = tuple(rules)
        for name in gone:
            del self._coordinators[name]
        async with asyncio.TaskGroup() as group:
            for name, coordinator in gone.items():
                group.create_task(self._take_away(name, coordinator))
            for config in configs.values():
                group.create_task(self._adapt(config))
        self.configs = dict(configs)  # the order may be another one too
        if rerouted:
            self._find_groups()
            for hold in ("slot:*", "downloader:*", "paused:*"):  # they may be somebody else's now
                await self._woken(hold, None)
            await asyncio.to_thread(self.note_groups)
        for name in configs:
            await self.offer(name)
        await self._woken("route", None)

    async def _take_away(self, name: str, coordinator: Coordinator) -> None:
        self._publish(coordinator, "removed")
        await coordinator.close()
        await coordinator.dismiss()
        for hold in ("slot", "paused"):
            await self._woken(f"{hold}:{name}", None)

    async def _adapt(self, config: EndpointConfig) -> None:
        name, former = config.name, self._coordinators.get(config.name)
        before = self.configs.get(name)
        if former is not None and before is not None:
            same = before.kind is config.kind and before.options == config.options
            if same and former.opened and not former.auth_failed:
                self.slots.define(name, config.max_active)
                former.adapt(config.poll, config.stall, config.failover_after, config.paths)
                if config != before:
                    self._publish(former, "changed")
                return
            await former.close()
        coordinator = self._made(config)
        await self._open(coordinator, config)
        if former is not None:
            coordinator.take_over(former)
            coordinator.paused = former.paused
        if not coordinator.down:
            coordinator.turn = None  # who is told of it now is told as well when it has answered
        self._coordinators[name] = coordinator
        self.configs = {**self.configs, name: config}
        self._publish(coordinator, "added" if former is None else "changed")

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

    # -- routes -------------------------------------------------------------------------------------------------------

    def _kinds(self) -> dict[str, type[Downloader]]:
        return {name: config.kind for name, config in self.configs.items()}

    def route(
        self, params: DownloadParams, owner: str = "", labels: Mapping[str, Sequence[str]] | None = None
    ) -> Route:
        """Who may fetch this, in which order (`dlqueue.downloads.routing`)."""
        return find_route(facts_of(params, owner, labels), self.rules, self._kinds())

    def choice(self, names: Sequence[str], shares: bool, task_id: int) -> Choice:
        """See `dlqueue.downloads.routing.choose`."""
        return choose(names, {name: self.condition(name, task_id) for name in names}, shares)

    def condition(self, name: str, task_id: int | None = None) -> Condition:
        """Now, for this task."""
        return Condition(self[name].down, self[name].paused is not None, self.slots.free(name, task_id))

    def ready(self, names: Iterable[str]) -> bool:
        """Could any of them take a transfer now?"""
        now = [self.condition(name) for name in names]
        return any(not one.down and not one.paused and one.free for one in now)

    def hold(self, choice: Choice) -> str:
        """For a task that has to wait. What is waited for has the name of a downloader, or those of a group, any of
        which will do."""
        if not choice.names:
            return "route"
        groups = [group for group in self._groups if set(choice.names) <= set(group.split(","))]
        whose = choice.names[0] if len(choice.names) == 1 or not groups else min(groups, key=len)
        if choice.waits == "slot":
            self.slots.ask(whose)
        return f"{choice.waits}:{whose}"

    def _find_groups(self) -> None:
        """Downloaders that tasks may wait for together: whoever is in one of them wakes those who hold it. They follow
        from the configuration, so that a restart wakes them too; who is in none of them waits for one."""
        kinds = self._kinds()
        groups: dict[frozenset[str], str] = {}
        schemes = sorted({scheme for kind in kinds.values() for scheme in kind.schemes})
        wishes = [Wanted(frozenset({scheme}), ()) for scheme in schemes]
        wishes += [Wanted(frozenset({scheme}), (), names_torrent=True) for scheme in ("http", "https")]
        for wish in wishes:
            for rules in ((), *([Rule(rule.use)] for rule in self.rules)):
                names = find_route(wish, rules, kinds).names
                if len(names) > 1:
                    groups.setdefault(frozenset(names), ",".join(names))
        self._groups = tuple(groups.values())
        for group in self._groups:
            self.slots.ask(group)

    def groups_changed(self) -> bool:
        """Were they others when `note_groups` was called last? Then tasks may hold what nobody would wake."""
        try:
            return (self._folder / _GROUPS).read_text() != self._listed()
        except OSError:
            return True

    def note_groups(self) -> None:
        """For `groups_changed`, also after a restart."""
        try:
            write_whole(self._folder / _GROUPS, self._listed().encode())
        except OSError as error:  # no more is lost than some looks in vain at the next start
            log.warning("which downloaders are waited for together cannot be noted: %s", error)

    def _listed(self) -> str:
        return "\n".join([*sorted(self.configs), *self._groups])

    def _waited_for_with(self, name: str) -> list[str]:
        return [name, *(group for group in self._groups if name in group.split(","))]

    def check(self, params: DownloadParams) -> None:
        """:raises InvalidTask: the downloader that was named does not exist; `NoRoute`: nobody can fetch this."""
        wanted = params.downloader
        if wanted is not None and wanted not in self:
            if wanted in self.disabled:
                raise InvalidTask(f"downloader {wanted!r} {self.absence(wanted)}", "downloader")
            raise InvalidTask(f"no downloader {wanted!r} (configured: {', '.join(self.names())})", "downloader")
        # By the default order: the rules may look at what is not known yet.
        if not find_route(facts_of(params), (), self._kinds()).names:
            who = "none of the configured downloaders can" if wanted is None else f"downloader {wanted!r} cannot"
            what = " and ".join(sorted(params.schemes))
            raise NoRoute(f"{who} fetch {what} (configured: {', '.join(self.names()) or 'none'})", "url")

    async def pause(self, name: str, by: str) -> None:
        """Begin nothing new there until `resume`, also after a restart; what runs goes on. :raises OSError: that cannot
        be remembered."""
        if self[name].paused is None:
            pause = Pause(by, self._clock.time())
            await asyncio.to_thread(self._pauses.write, name, pause)
            self[name].paused = pause
            self._publish(self[name], "paused")

    async def resume(self, name: str) -> None:
        """Let those begin who waited. :raises OSError: it cannot be remembered."""
        await asyncio.to_thread(self._pauses.forget, name)
        if self[name].paused is not None:
            self[name].paused = None
            self._publish(self[name], "resumed")
        for whose in self._waited_for_with(name):
            await self._wake(f"paused:{whose}", None)
        await self._wake("downloader:*", None)  # who waits for another, which is down, may begin here
        await self.offer(name)

    async def offer(self, name: str) -> None:
        """Let those have its free slots who wait for one."""
        free = self.slots.free(name)
        for whose in self._waited_for_with(name) if free else ():
            asked = self.slots.asked(whose)
            if asked and not await self._woken(f"slot:{whose}", free):
                self.slots.nobody(whose, asked)

    async def _woken(self, hold: str, count: int | None) -> bool:
        """Was there anybody? In the middle of going over to other settings nothing must fail with it."""
        try:
            return bool(await self._wake(hold, count))
        except StorageError as error:  # it is done when the store works again
            log.warning("could not wake who waits for %s now: %s", hold, error)
            return True

    async def release(self, task_id: int) -> None:
        """Give up a task's slot, or its turn for one, and let the next one have it; its share of the transfers of its
        owner; and the space that it was promised and has not used."""
        self.room.release(task_id)
        await self.shares.release(task_id)
        downloader = self.slots.release(task_id)
        # Without a slot it may have been woken for one already; where, nobody remembers.
        for name in self.names() if downloader is None else (downloader,):
            await self.offer(name)

    def end_attempt(
        self, state: DownloadState, error_class: str | None, message: str | None, following: str | None
    ) -> None:
        """See `DownloadState.end_attempt`."""
        ended = state.end_attempt(self._clock.time(), error_class, message, following)
        if ended is not None and error_class is not None:
            self.meters.setdefault(ended.downloader, DownloaderMeters()).errors[error_class] += 1

    # -- what is owed to those who are away ---------------------------------------------------------------------------

    async def owe(self, owed: Obligation) -> None:
        """Remove this transfer when its downloader is back. :raises OSError: that cannot be remembered."""
        await asyncio.to_thread(self._debts.write, owed)
        if owed.downloader in self and not self[owed.downloader].down:
            await self._pay(owed.downloader)

    def owed(self, name: str) -> list[Obligation]:
        """Transfers that are still to be removed there. Blocks."""
        return self._debts.of(name)

    async def borrow(self, owed: Obligation) -> None:
        """It is about to be created; if nobody says that it was `returned`, it is removed when its downloader is seen
        next. :raises OSError: that cannot be remembered."""
        await asyncio.to_thread(self._debts.write, owed)

    async def returned(self, owed: Obligation) -> None:
        """It is removed. :raises OSError: that cannot be remembered."""
        await asyncio.to_thread(self._debts.forget, owed)

    async def _pay(self, name: str) -> None:
        for owed in await asyncio.to_thread(self._debts.of, name):
            drop = partial(drop_staging, Path(owed.staging)) if owed.staging else _nothing
            try:
                await self[name].remove(owed.key, Handle(owed.handle_id), owed.delete_data, drop)
            except (Unavailable, Rejected):
                continue  # another time
            except OSError as error:
                log.warning("%s cannot be removed: %s", owed.staging, error.strerror or error)
            log.info("removed from %s, which is back: transfer %s, which nobody needs any more", name, owed.key)
            await asyncio.to_thread(self._debts.forget, owed)


def _nothing() -> None:
    return None
