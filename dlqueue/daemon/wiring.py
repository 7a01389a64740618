"""The only place that builds objects: from a configuration to a daemon ready to be started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dlqueue.config import Config
from dlqueue.daemon import settings
from dlqueue.daemon.reading import Reader
from dlqueue.daemon.reload import Parts, Reloader
from dlqueue.daemon.systemd import Notifier
from dlqueue.daemon.tasktypes import register_task_types
from dlqueue.downloads.delivery import STAGING
from dlqueue.downloads.endpoints import Endpoints
from dlqueue.downloads.policy import Policy
from dlqueue.downloads.request import DownloadParams
from dlqueue.downloads.task import RemoteDownload, progress_of
from dlqueue.downloads.upload import Uploads
from dlqueue.notify.postman import Postman
from dlqueue.queue import Progress, Queue, Task
from dlqueue.queue.sql import SqlStore
from dlqueue.runtime.clock import Clock, SystemClock
from dlqueue.sdk import TransferStatus
from dlqueue.service import Service
from dlqueue.service.access import Access
from dlqueue.service.views import task_view
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
    reloader: Reloader
    postman: Postman


def build(config: Config, read: Reader, stop: Callable[[], None], notifier: Notifier) -> House:
    """
    :param read: reads the configuration anew.
    :param stop: asks the daemon to stop.
    """
    clock: Clock = SystemClock()
    policy = Policy(frozenset(), private_addresses=False, destinations=())
    settings.steer(policy, config)
    store = SqlStore(config.store.url, config.store.durability, config.store.namespace)
    tasks: list[Task] = []
    queue = Queue(
        tasks,
        store,
        workers=config.daemon.workers,
        queues=settings.queues(config),
        clock=clock,
        retention=config.retention.finished,
        temp_root=config.places.state / "temp",
    )

    def report(task_id: int, owner: str, status: TransferStatus) -> None:
        queue.publish_progress(task_id, owner, Progress(**progress_of(status)))

    endpoints = Endpoints(
        settings.endpoints(config, read.usable),
        config.places.state / "downloaders",
        policy,
        clock,
        queue.wake,
        report,
        lambda: queue.bus.listened_to,
        settings.disabled(config),
        settings.rules(config),
        config.daemon.keep_free,
    )
    uploads = Uploads(config.places.state / "uploads")
    downloads = RemoteDownload(
        endpoints,
        policy,
        config.daemon.downloads,
        staging_rule(config),
        clock,
        uploads,
        settings.seed_rule(config),
    )
    queue.register(downloads)
    register_task_types(queue)
    access = Access(config.daemon.admins)
    postman = Postman(queue, settings.plan(config), lambda record: task_view(record, None))
    parts = Parts(read.usable, queue, endpoints, policy, access, downloads, postman)
    reloader = Reloader(config, read, parts, notifier)
    service = Service(
        queue,
        endpoints,
        downloads,
        access,
        f"sqlite, durability {config.store.durability}",
        lambda: settings.shown(reloader.config, queue),
        stop,
        reloader.answer,
        postman,
        believes_cwd=config.mode == "user",
    )
    return House(store, queue, endpoints, downloads, service, Dispatcher(service), reloader, postman)


def staging_rule(config: Config) -> Callable[[DownloadParams], Path]:
    """Where unfinished bytes go: always on the file system of the destination, so that delivery is a rename."""

    def rule(params: DownloadParams) -> Path:
        if config.daemon.staging is not None:
            return config.daemon.staging
        return Path(params.root if config.places.staging == "root" else params.directory) / STAGING

    return rule
