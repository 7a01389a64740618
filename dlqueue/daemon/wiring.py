"""The only place that builds objects: from a configuration to a daemon ready to be started."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dlqueue.config import Config, QueueSection
from dlqueue.downloads.delivery import STAGING
from dlqueue.downloads.endpoints import EndpointConfig, Endpoints
from dlqueue.downloads.policy import Policy
from dlqueue.downloads.request import DownloadParams
from dlqueue.downloads.task import RemoteDownload, progress_of
from dlqueue.downloads.upload import Uploads
from dlqueue.queue import Progress, Queue, QueueSettings, Task
from dlqueue.queue.sql import SqlStore
from dlqueue.runtime.clock import Clock, SystemClock
from dlqueue.sdk import Downloader, TransferStatus
from dlqueue.service import Service
from dlqueue.service.access import Access
from dlqueue.transports.dispatch import Dispatcher


@dataclass(frozen=True, slots=True)
class House:
    """Everything that lives."""

    store: SqlStore
    queue: Queue
    endpoints: Endpoints
    downloads: RemoteDownload
    service: Service
    dispatcher: Dispatcher


def build(config: Config, kinds: Mapping[str, type[Downloader]], stop: Callable[[], None]) -> House:
    """
    :param kinds: the installed downloader kinds.
    :param stop: asks the daemon to stop.
    """
    clock: Clock = SystemClock()
    policy = Policy(
        schemes=frozenset(config.policy.schemes),
        private_addresses=config.policy.private_addresses,
        destinations=config.daemon.allow_destinations,
    )
    store = SqlStore(config.store.url, config.store.durability, config.store.namespace)
    tasks: list[Task] = []
    queue = Queue(
        tasks,
        store,
        workers=config.daemon.workers,
        queues={name: _settings(section) for name, section in config.queues.items()},
        clock=clock,
    )

    def report(task_id: int, owner: str, status: TransferStatus) -> None:
        queue.publish_progress(task_id, owner, Progress(**progress_of(status)))

    endpoints = Endpoints(
        {
            name: EndpointConfig(name, kinds[section.kind], section.max_active, section.poll, section.options)
            for name, section in config.downloaders.items()
            if section.enabled
        },
        config.places.state / "downloaders",
        policy,
        clock,
        queue.wake,
        report,
        lambda: queue.bus.listened_to,
    )
    uploads = Uploads(config.places.state / "uploads")
    downloads = RemoteDownload(endpoints, policy, config.daemon.downloads, staging_rule(config), clock, uploads)
    queue.register(downloads)
    service = Service(
        queue,
        endpoints,
        downloads,
        Access(config.daemon.admins),
        f"sqlite, durability {config.store.durability}",
        config.as_shown,
        stop,
        believes_cwd=config.mode == "user",
    )
    return House(store, queue, endpoints, downloads, service, Dispatcher(service))


def staging_rule(config: Config) -> Callable[[DownloadParams], Path]:
    """Where unfinished bytes go: always on the file system of the destination, so that delivery is a rename."""

    def rule(params: DownloadParams) -> Path:
        if config.daemon.staging is not None:
            return config.daemon.staging
        return Path(params.root if config.places.staging == "root" else params.directory) / STAGING

    return rule


def _settings(section: QueueSection) -> QueueSettings:
    return QueueSettings(
        concurrency=section.concurrency,
        max_retry=section.max_retry,
        retry_delay=section.retry_delay,
        backoff_factor=section.backoff_factor,
        backoff_max=section.backoff_max,
        ageing=section.ageing or 0.0,
    )
