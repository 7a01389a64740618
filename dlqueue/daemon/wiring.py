"""The only place that builds objects: from a configuration to a daemon ready to be started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from dlqueue.address import parse_address
from dlqueue.config import Config
from dlqueue.daemon import extras, settings
from dlqueue.daemon.doctor.machine import Stopwatch
from dlqueue.daemon.owners import Owners
from dlqueue.daemon.reading import Reader
from dlqueue.daemon.reload import Parts, Reloader
from dlqueue.daemon.staging import staging_rule
from dlqueue.daemon.systemd import Notifier
from dlqueue.daemon.tasktypes import register_task_types
from dlqueue.downloads.endpoints import Endpoints
from dlqueue.downloads.policy import Policy
from dlqueue.downloads.progress import progress_of
from dlqueue.downloads.task import RemoteDownload
from dlqueue.downloads.upload import Uploads
from dlqueue.notify.postman import Postman
from dlqueue.queue import Filter, Progress, Queue, Task
from dlqueue.queue.sql import SqlStore
from dlqueue.runtime.clock import Clock, SystemClock
from dlqueue.runtime.users import is_user
from dlqueue.sdk import TransferStatus
from dlqueue.service import Service
from dlqueue.service.access import Access
from dlqueue.service.tokens import Tokens
from dlqueue.service.views import task_view
from dlqueue.transports.dispatch import Dispatcher

if TYPE_CHECKING:  # imported when they are needed
    from dlqueue.daemon.doctor.doctor import Doctor
    from dlqueue.transports.http import Gateway


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
    gateway: Gateway | None
    postman: Postman


def build(config: Config, read: Reader, stop: Callable[[], None], notifier: Notifier) -> House:
    """
    :param read: reads the configuration anew.
    :param stop: asks the daemon to stop.
    """
    clock: Clock = SystemClock()
    access = Access(config.daemon.admins)
    owners = Owners(access, config)
    policy = Policy(frozenset(), private_addresses=False, destinations=(), of_owner=owners.destinations)
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
        owner_level=owners.level,
        quotas=owners.quota if owners.any else None,
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
        shares=owners.max_active,
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
        queue.quotas,
    )
    queue.register(downloads)
    register_task_types(queue)
    tokens = Tokens(config.places.state / "tokens.json", access, clock.time, is_user)
    postman = Postman(queue, settings.plan(config), lambda record: task_view(record, None))
    parts = Parts(read.usable, queue, endpoints, policy, access, owners, downloads, postman)
    reloader = Reloader(config, read, parts, notifier)
    watch = Stopwatch()

    @cache
    def doctor() -> Doctor:
        # Only now: it is seldom asked, and importing it takes a twentieth of the start.
        from dlqueue.daemon.doctor.doctor import Doctor, Living

        return Doctor(read, Living(lambda: reloader.config, queue, endpoints, watch))

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
        tokens=tokens,
        doctor=lambda: doctor().answer(),
    )
    dispatcher = Dispatcher(service)
    gateway = _gateway(config, queue, dispatcher, tokens, endpoints, store, downloads, postman)
    return House(store, queue, endpoints, downloads, service, dispatcher, reloader, gateway, postman)


def _gateway(
    config: Config,
    queue: Queue,
    dispatcher: Dispatcher,
    tokens: Tokens,
    endpoints: Endpoints,
    store: SqlStore,
    downloads: RemoteDownload,
    postman: Postman,
) -> Gateway | None:
    """:raises MissingExtra: the configuration asks for it, and its libraries are not there."""
    if config.http.listen is None:
        return None
    with extras.needed("http", "http.listen"):
        from dlqueue.daemon.metrics import Metrics
        from dlqueue.transports.http import Gateway
    folders = [config.places.state]
    metrics = Metrics(queue, endpoints, store, lambda: [*folders, *downloads.staging_folders()], postman.sent)
    system = config.mode == "system"
    return Gateway(
        dispatcher,
        tokens,
        parse_address(config.http.listen),
        hosts=config.http.hosts,
        origins=config.http.origins,
        ready=lambda: queue.find(Filter(), limit=1),
        metrics=metrics,
        mode=0o660 if system else 0o600,
        group=settings.system_group() if system else None,
    )
