"""Queue, downloaders and service wired as the daemon wires them, in one process, with a clock that stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dlqueue.downloads import task as download_task
from dlqueue.downloads.delivery import STAGING
from dlqueue.downloads.endpoints import EndpointConfig, Endpoints
from dlqueue.downloads.policy import Policy
from dlqueue.downloads.progress import progress_of
from dlqueue.downloads.recovery import adopt_transfers, look_again, read_state
from dlqueue.downloads.request import DownloadParams
from dlqueue.downloads.routing import Rule
from dlqueue.downloads.space import Measure, measure
from dlqueue.downloads.state import DownloadState
from dlqueue.downloads.task import RemoteDownload
from dlqueue.downloads.upload import Uploads
from dlqueue.notify.plan import Plan
from dlqueue.notify.postman import Postman
from dlqueue.protocol import messages
from dlqueue.protocol.caller import Caller
from dlqueue.queue import Progress, Queue, QueueSettings, Quota, Status, Store, Task, TaskRecord
from dlqueue.queue.notices import Notice
from dlqueue.queue.record import Change
from dlqueue.queue.testing import PATIENCE, FakeClock
from dlqueue.runtime.threads import Threads
from dlqueue.sdk import TransferStatus
from dlqueue.sdk.testing import FakeConfig, FakeDownloader
from dlqueue.service import Service
from dlqueue.service.access import Access
from dlqueue.service.tokens import Tokens
from dlqueue.service.views import task_view
from tests.downloads.puppet import Puppet, PuppetConfig

ME = Caller(uid=4001, gid=4001, name="me", trusted_cwd=True)
"""Nobody special, standing beside the daemon."""
QUEUE = QueueSettings(concurrency=16, max_retry=3, retry_delay=5.0, backoff_factor=2.0, backoff_max=600.0)


class Traffic:
    """Counts what is under way outside of the event loop: calls in threads and of stores."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        run, to_thread = Threads.run, asyncio.to_thread

        def counted_run(threads: Threads, function: Callable[[], Any]) -> asyncio.Future[Any]:
            future = run(threads, function)
            self.count += 1
            future.add_done_callback(lambda _: self._over())
            return future

        monkeypatch.setattr(Threads, "run", counted_run)
        monkeypatch.setattr(asyncio, "to_thread", self._counted(to_thread))

    def watch(self, store: Store) -> None:
        for name in ("transact", "wake", "submit", "get"):
            setattr(store, name, self._counted(getattr(store, name)))

    def _counted(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def counted(*arguments: Any, **named: Any) -> Any:
            self.count += 1
            try:
                return await function(*arguments, **named)
            finally:
                self._over()

        return counted

    def _over(self) -> None:
        self.count -= 1


class House:
    """Everything that lives. Transfers and files lie below ``folder``; the destination is ``folder/out``."""

    def __init__(
        self,
        folder: Path,
        downloaders: Mapping[str, EndpointConfig],
        *,
        store: Store | None = None,
        clock: FakeClock | None = None,
        policy: Policy | None = None,
        settings: QueueSettings = QUEUE,
        tasks: tuple[Task, ...] = (),
        admins: tuple[str, ...] = (),
        staging: Path | None = None,
        rules: tuple[Rule, ...] = (),
        measure: Measure = measure,
        quotas: Mapping[str, Quota] | None = None,
        shares: Mapping[str, int] | None = None,
        traffic: Traffic | None = None,
    ) -> None:
        self.folder = folder
        self._traffic = traffic
        self.destination = folder / "out"
        self.destination.mkdir(exist_ok=True)
        self.clock = clock or FakeClock()
        self.policy = policy or Policy(frozenset({"http", "https", "ftp", "magnet"}), True, (self.destination,))
        self.queue = Queue(
            tasks,
            store,
            workers=4,
            queues={"downloads": settings},
            clock=self.clock,
            quotas=None if quotas is None and shares is None else (quotas or {}).get,
        )
        if traffic is not None:
            traffic.watch(self.queue._store)
        self.endpoints = Endpoints(
            downloaders,
            folder / "downloaders",
            self.policy,
            self.clock,
            self.queue.wake,
            self._report,
            lambda: self.queue.bus.listened_to,
            rules=rules,
            measure=measure,
            shares=lambda owner: (shares or {}).get(owner),
        )

        def rule(params: DownloadParams) -> Path:
            return staging or Path(params.directory) / STAGING

        self.downloads = RemoteDownload(
            self.endpoints,
            self.policy,
            self.destination,
            rule,
            self.clock,
            Uploads(folder / "uploads"),
            quotas=self.queue.quotas,
        )
        self.queue.register(self.downloads)
        self.postman = Postman(self.queue, Plan(), lambda record: task_view(record, None))
        self.stops = 0
        access = Access(admins)
        self.tokens = Tokens(folder / "tokens.json", access, self.clock.time, lambda uid, name: True)
        self.service = Service(
            self.queue,
            self.endpoints,
            self.downloads,
            access,
            "a test",
            lambda: {"shown": True},
            self._count_stop,
            self._reloaded,
            self.postman,
            tokens=self.tokens,
        )

    def _report(self, task_id: int, owner: str, status: TransferStatus) -> None:
        self.queue.publish_progress(task_id, owner, Progress(**progress_of(status)))

    async def _reloaded(self) -> messages.Reloaded:
        return {"changed": [], "warnings": []}

    def _count_stop(self) -> None:
        self.stops += 1

    async def start(self) -> House:
        await self.queue.open()
        await self.endpoints.open()
        await adopt_transfers(self.queue, self.endpoints)
        self.queue.start()
        await look_again(self.queue, self.endpoints)
        return self

    async def stop(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.queue.shutdown(0)
            await self.endpoints.close()

    # -- doing --------------------------------------------------------------------------------------------------------

    async def add(self, url: str = "http://host.invalid/file.bin", **more: Any) -> int:
        """The id of a new download of mine."""
        options = {name: more.pop(name) for name in ("priority", "paused", "max_retry", "labels") if name in more}
        owner = more.pop("owner", ME.name)
        params = {"url": url, **more}
        return (await self.queue.submit("remote_download", params, owner=owner, **options)).id

    def puppet(self, name: str = "box") -> Puppet:
        downloader = self.endpoints[name].downloader
        assert isinstance(downloader, Puppet)
        return downloader

    # -- waiting ------------------------------------------------------------------------------------------------------

    async def when(self, task_id: int, wanted: Callable[[TaskRecord], object], what: str = "") -> TaskRecord:
        """The task as soon as it is as ``wanted``."""

        def mine(notice: Notice) -> bool:
            return isinstance(notice, Change) and notice.record.id == task_id

        subscription = self.queue.bus.subscribe(mine)
        record: TaskRecord | None = None
        try:
            async with asyncio.timeout(PATIENCE):
                record = await self.queue.get(task_id)
                if wanted(record):
                    return record
                async for notice in subscription:
                    assert isinstance(notice, Change)
                    record = notice.record
                    if wanted(record):
                        return record
        except TimeoutError:
            raise TimeoutError(f"waited for {what or 'a change'}, but it is {record}") from None
        finally:
            subscription.close()
        raise TimeoutError("the queue closed")

    async def reaches(self, task_id: int, *statuses: Status) -> TaskRecord:
        """The task when it has one of these statuses."""
        return await self.when(task_id, lambda record: record.status in statuses, "/".join(statuses))

    async def holds(self, task_id: int, hold: str) -> TaskRecord:
        """The task when it waits for ``hold`` (a prefix will do)."""
        return await self.when(task_id, lambda record: (record.hold or "").startswith(hold), f"hold {hold}")

    async def runs(self, task_id: int) -> str:
        """The key of its transfer, when that has been created and is watched."""
        record = await self.holds(task_id, "transfer:")
        assert record.hold is not None
        return record.hold.partition(":")[2]

    async def waits_for_retry(self, task_id: int) -> TaskRecord:
        """The task when it has failed and is to be tried again."""
        return await self.when(
            task_id,
            lambda r: r.status is Status.SUSPENDING and r.hold is None and r.run_at is not None and r.attempt > 0,
            "a wait for a retry",
        )

    def pass_time_until(self, record: TaskRecord) -> None:
        """Let it become due."""
        assert record.run_at is not None
        self.clock.advance(record.run_at - self.clock.time())

    async def in_time(self, look: Callable[[], object | Awaitable[object]], what: str) -> None:
        """Until it is so, while minutes pass: for what is tried again now and then."""

        async def later() -> object:
            self.clock.advance(60)
            await self.settled()
            answer = look()
            return await answer if isinstance(answer, Awaitable) else answer

        await self.eventually(later, what)

    async def eventually(self, look: Callable[[], object | Awaitable[object]], what: str) -> None:
        """Until it is so: for what happens behind a task's end, of which no event tells."""
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    answer = look()
                    if await answer if isinstance(answer, Awaitable) else answer:
                        return
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise TimeoutError(f"not so in time: {what}") from None

    async def cleaned(self, task_id: int) -> TaskRecord:
        """The final task when its clean-up is done."""

        async def done() -> bool:
            record = await self.queue.get(task_id)
            return record.final and not record.cleanup

        await self.eventually(done, f"the clean-up of task {task_id}")
        return await self.queue.get(task_id)

    async def settled(self) -> None:
        """Until nothing is running and nothing is due: what was to happen at once has happened."""
        quiet = looks = 0
        async with asyncio.timeout(PATIENCE):
            while quiet < 5:
                await asyncio.sleep(0.005)
                looks += 1
                quiet = 0 if self.queue.counters.busy_workers or self._hurries(looks) else quiet + 1

    def _hurries(self, looks: int) -> bool:
        """Is a call under way, or a word of a puppet not heard yet? What the test holds up is not waited for."""
        if looks > 100:
            return False
        downloaders = [coordinator.downloader for coordinator in self.endpoints._coordinators.values()]
        return bool(
            (self._traffic is not None and self._traffic.count)
            or any(isinstance(one, Puppet) and one.untold for one in downloaders)
        )

    # -- looking ------------------------------------------------------------------------------------------------------

    async def state(self, task_id: int) -> DownloadState:
        return read_state(await self.queue.get(task_id))

    async def download(self, task_id: int) -> dict[str, Any]:
        """The task's private state as plain values."""
        plain: dict[str, Any] = msgspec.to_builtins(await self.state(task_id))
        return plain

    def files(self) -> dict[str, bytes]:
        """Everything under the destination, staging included; folders end in ``/``."""
        while True:
            found: dict[str, bytes] = {}
            try:
                for path in sorted(self.destination.rglob("*")):
                    name = str(path.relative_to(self.destination))
                    found.update({f"{name}/": b""} if path.is_dir() else {name: path.read_bytes()})
            except FileNotFoundError:
                continue  # it is being removed: look again
            return found


class Builder:
    """Makes houses and closes them after the test."""

    def __init__(self, folder: Path, traffic: Traffic | None = None) -> None:
        self._folder = folder
        self._traffic = traffic
        self._houses: list[House] = []

    async def puppets(self, *names: str, max_active: int = 5, **more: Any) -> House:
        """A started house with puppets of these names (``box``)."""
        return await self.house({name: puppet_config(name, max_active) for name in names or ("box",)}, **more)

    async def fake(self, *, max_active: int = 5, **more: Any) -> House:
        """A started house with one file-backed fake, called ``fake``."""
        return await self.house({"fake": self.fake_config("fake", max_active)}, **more)

    def fake_config(self, name: str, max_active: int = 5) -> EndpointConfig:
        return EndpointConfig(name, FakeDownloader, max_active, 2.0, FakeConfig(str(self._folder / name)))

    async def house(self, downloaders: Mapping[str, EndpointConfig], **more: Any) -> House:
        house = House(self._folder, downloaders, traffic=self._traffic, **more)
        self._houses.append(house)
        return await house.start()

    async def close(self, house: House) -> None:
        """Before the end of the test: a stop of the daemon."""
        self._houses.remove(house)
        await house.stop()


def puppet_config(name: str, max_active: int = 5, **more: Any) -> EndpointConfig:
    return EndpointConfig(name, Puppet, max_active, 2.0, PuppetConfig(), **more)


@asynccontextmanager
async def builder(folder: Path, traffic: Traffic | None = None) -> AsyncIterator[Builder]:
    made = Builder(folder, traffic)
    try:
        yield made
    finally:
        for house in made._houses:
            for coordinator in house.endpoints._coordinators.values():
                if isinstance(coordinator.downloader, Puppet):
                    coordinator.downloader.free()
            (folder / "fake" / "hang").unlink(missing_ok=True)
            await house.stop()


@pytest.fixture
async def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Builder]:
    """For the conftest of every folder that tests in a house."""
    # The clock stands still, so that a step which lingers for a small file would linger for ever.
    monkeypatch.setattr(download_task, "LINGER", 0.0)
    async with builder(tmp_path, Traffic(monkeypatch)) as build:
        yield build
