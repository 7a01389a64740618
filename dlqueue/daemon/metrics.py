"""`/metrics`: what the rooms have counted, as Prometheus samples. Made when somebody asks; nothing is counted here.

How many series there are depends on the configuration and the task types, never on how many tasks there are: no ids, no
URLs, no owners; of names that users may make up only so many are told apart.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

import dlqueue
from dlqueue.downloads.endpoints import Endpoints
from dlqueue.downloads.room import Disk
from dlqueue.notify.sender import Sent
from dlqueue.queue import Queue, QueueError, Status
from dlqueue.queue.outbox import Pending
from dlqueue.queue.sql import SqlStore
from dlqueue.runtime.meters import NAMES, OTHER, Histogram

DISKS_TIMEOUT = 2.0
"""Seconds that all file systems together have for their answer; those that hang are left out."""
_HEALTH = {"up": 3, "degraded": 2, "unknown": 1, "down": 0}


@dataclass
class _Snapshot:
    """What had to be waited for."""

    depth: Mapping[str, Mapping[Status, int]] = field(default_factory=dict)
    disks: Collection[Disk] = ()
    schedules: Mapping[str, int] = field(default_factory=dict)
    late: float = 0.0
    notices: Pending = field(default_factory=lambda: Pending(0, None))
    store_up: bool = False
    debts: Mapping[str, int] = field(default_factory=dict)


class Metrics:
    """
    :param store: None = the queue is not on SQL.
    :param folders: answers those whose file systems are told.
    :param sent: the notices.
    """

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(
        self,
        queue: Queue,
        endpoints: Endpoints,
        store: SqlStore | None,
        folders: Callable[[], Iterable[Path]],
        sent: Sent,
    ) -> None:
        self._queue = queue
        self._endpoints = endpoints
        self._folders = folders
        self._samples = _Samples(queue, endpoints, store, sent)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self._samples)
        ProcessCollector(namespace="dlqueue", registry=self._registry)
        self._one_at_a_time = asyncio.Lock()

    async def render(self) -> bytes:
        """The text that Prometheus reads. Never raises because a part of the daemon is in trouble: then the samples of
        that part are missing, and ``dlqueue_store_up`` says so."""
        async with self._one_at_a_time:
            self._samples.take(await self._look())
            # In a thread: some hundred series take milliseconds.
            return await asyncio.to_thread(generate_latest, self._registry)

    async def _look(self) -> _Snapshot:
        seen = _Snapshot()
        try:
            seen.depth = await self._queue.tallies()
            schedules = await self._queue.schedules.stats()
            seen.schedules = {"active": schedules.active, "paused": schedules.paused}
            seen.late = await self._queue.schedules.lateness()
            seen.notices = await self._queue.outbox.pending()
            seen.store_up = True
        except QueueError:
            pass
        disks = await self._endpoints.room.survey(self._folders(), DISKS_TIMEOUT)
        seen.disks = [disk for disk in disks if disk.now]
        names = self._endpoints.names()
        seen.debts = await asyncio.to_thread(lambda: {name: len(self._endpoints.owed(name)) for name in names})
        return seen


class _Samples(Collector):
    def __init__(self, queue: Queue, endpoints: Endpoints, store: SqlStore | None, sent: Sent) -> None:
        self._queue = queue
        self._endpoints = endpoints
        self._store = store
        self._sent = sent
        self._began = time.monotonic()
        self._queues: set[str] = set()
        """Those that are told apart."""
        self._snapshot = _Snapshot()
        self._taken: list[Metric] = []

    def take(self, snapshot: _Snapshot) -> None:
        """Now, in the loop, where nothing changes meanwhile."""
        self._snapshot = snapshot
        self._taken = list(self._all())

    def collect(self) -> Iterable[Metric]:
        return self._taken

    def _all(self) -> Iterator[Metric]:
        yield from self._daemon()
        yield from self._tasks()
        yield from self._writes()
        yield from self._downloaders()
        yield from self._disks()
        yield from self._schedules()
        yield from self._notices()

    def _daemon(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("dlqueue_build_info", "Always 1; the version is a label.", labels=["version"])
        build.add_metric([dlqueue.__version__], 1)
        yield build
        yield _gauge("dlqueue_uptime_seconds", "Seconds since the daemon was started.", time.monotonic() - self._began)
        yield _gauge("dlqueue_workers", "Steps that may run at once.", self._queue.workers)
        busy = self._queue.counters.busy_workers
        yield _gauge("dlqueue_busy_workers", "Workers in the middle of a step.", busy)

    def _tasks(self) -> Iterator[Metric]:
        meters = self._queue.meters
        depth = GaugeMetricFamily("dlqueue_tasks", "Tasks that are kept.", labels=["queue", "status"])
        for queue, counts in self._capped(self._snapshot.depth).items():
            for status in Status:
                depth.add_metric([queue, status.value], counts.get(status, 0))
        yield depth
        paused = GaugeMetricFamily("dlqueue_queue_paused", "1 if no step of its tasks begins.", labels=["queue"])
        for queue in sorted(self._queues):
            paused.add_metric([queue], queue in self._queue.lanes.paused)
        yield paused
        yield _histograms("dlqueue_step_duration_seconds", "How long steps took.", "type", meters.steps)
        lag = "From when a task could begin, or its wait was over, to when a worker had it."
        yield _histograms("dlqueue_lag_seconds", lag, "queue", meters.lags)
        finished = CounterMetricFamily("dlqueue_tasks_finished", "Tasks that ended.", labels=["type", "outcome"])
        for (type, outcome), count in meters.finished.items():
            finished.add_metric([type, outcome], count)
        yield finished
        retries = CounterMetricFamily("dlqueue_retries", "Steps that failed and are tried again.", labels=["type"])
        for type, (count,) in meters.retries.items():
            retries.add_metric([type], count)
        yield retries
        yield _counter("dlqueue_tasks_submitted", "New tasks.", self._queue.counters.submitted)
        yield _counter("dlqueue_crashes", "Steps whose worker died.", meters.crashes)
        stale = "Ends of steps that came too late and were dropped."
        yield _counter("dlqueue_stale_writes", stale, meters.stale)
        yield _counter("dlqueue_events", "Events written to the store.", meters.events)

    def _capped(self, depth: Mapping[str, Mapping[Status, int]]) -> dict[str, Mapping[Status, int]]:
        """The queues that were seen first one by one, and the others together."""
        for queue in depth:
            if len(self._queues) < NAMES:
                self._queues.add(queue)
        found = {queue: counts for queue, counts in depth.items() if queue in self._queues}
        rest = [counts for queue, counts in depth.items() if queue not in self._queues]
        if rest:
            found[OTHER] = {status: sum(counts.get(status, 0) for counts in rest) for status in Status}
        return found

    def _writes(self) -> Iterator[Metric]:
        up = "1 if the store could be read for this answer; without that there is no depth of the queues."
        yield _gauge("dlqueue_store_up", up, self._snapshot.store_up)
        commits = None if self._store is None else self._store.commits
        if commits is not None:
            sizes, seconds = commits
            group = "Changes that were written in one transaction."
            yield _histogram("dlqueue_store_commit_changes", group, sizes)
            yield _histogram("dlqueue_store_commit_duration_seconds", "How long these transactions took.", seconds)

    def _downloaders(self) -> Iterator[Metric]:
        endpoints = self._endpoints
        labels = ["downloader", "kind"]

        def gauge(name: str, text: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(f"dlqueue_downloader_{name}", text, labels=labels)

        def counter(name: str, text: str) -> CounterMetricFamily:
            return CounterMetricFamily(f"dlqueue_downloader_{name}", text, labels=labels)

        up = gauge("up", "1 if it answers.")
        health = gauge("health", "3 = up, 2 = degraded, 1 = not known yet, 0 = down.")
        breaker = gauge("breaker_open", "1 if it is not asked for a while, because it did not answer.")
        paused = gauge("paused", "1 if a person wants nothing new to begin there.")
        active = gauge("transfers", "Transfers that take one of its slots.")
        slots = gauge("max_active", "Its slots.")
        down = gauge("receive_bytes_per_second", "Bytes per second that its transfers receive.")
        sent = gauge("transmit_bytes_per_second", "Bytes per second that its transfers send.")
        owed = gauge("debts", "Transfers that are to be removed there as soon as it answers.")
        received = counter("received_bytes", "Bytes that transfers received while dlqueue watched.")
        transmitted = counter("transmitted_bytes", "Bytes that transfers sent while dlqueue watched.")
        openings = counter("breaker_openings", "How often it went down.")
        failed = counter("poll_failures", "Looks at its transfers that it did not answer.")
        polls = HistogramMetricFamily(
            "dlqueue_downloader_poll_duration_seconds", "How long it took to answer a look.", labels=labels
        )
        errors = CounterMetricFamily(
            "dlqueue_download_errors", "Tries of downloads that ended in an error.", labels=[*labels, "class"]
        )
        for name, config in list(endpoints.configs.items())[:NAMES]:
            if name not in endpoints:
                continue
            coordinator, meters, at = endpoints[name], endpoints.meters[name], [name, config.kind.kind]
            speeds = coordinator.speeds()
            up.add_metric(at, not coordinator.down)
            health.add_metric(at, _HEALTH[coordinator.health])
            breaker.add_metric(at, coordinator.down)
            paused.add_metric(at, coordinator.paused is not None)
            active.add_metric(at, endpoints.slots.active(name))
            slots.add_metric(at, config.max_active)
            down.add_metric(at, 0 if coordinator.down else speeds[0])
            sent.add_metric(at, 0 if coordinator.down else speeds[1])
            owed.add_metric(at, self._snapshot.debts.get(name, 0))
            received.add_metric(at, meters.downloaded)
            transmitted.add_metric(at, meters.uploaded)
            openings.add_metric(at, meters.openings)
            failed.add_metric(at, meters.failed_polls)
            polls.add_metric(at, _buckets(meters.polls), meters.polls.total)
            for error_class, count in meters.errors.items():
                errors.add_metric([*at, error_class], count)
        yield from (up, health, breaker, paused, active, slots, down, sent, owed)
        yield from (received, transmitted, openings, failed, polls, errors)

    def _disks(self) -> Iterator[Metric]:
        def gauge(name: str, text: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(f"dlqueue_disk_{name}", text, labels=["mount"])

        size = gauge("size_bytes", "Of a file system that downloads are written to.")
        free = gauge("free_bytes", "What the daemon may still write there.")
        reserved = gauge("reserved_bytes", "What running transfers will still write there.")
        floor = gauge("floor_bytes", "What is to stay free there.")
        low = gauge("low", "1 if transfers are paused and nothing begins there, because it runs low.")
        for disk in list({disk.mount: disk for disk in self._snapshot.disks}.values())[:NAMES]:
            at = [disk.mount]
            size.add_metric(at, disk.size)
            free.add_metric(at, disk.free)
            reserved.add_metric(at, disk.reserved)
            floor.add_metric(at, disk.floor)
            low.add_metric(at, disk.low)
        yield from (size, free, reserved, floor, low)

    def _schedules(self) -> Iterator[Metric]:
        schedules = GaugeMetricFamily("dlqueue_schedules", "Schedules.", labels=["state"])
        for state, count in self._snapshot.schedules.items():
            schedules.add_metric([state], count)
        yield schedules
        lag = "Seconds for which the most overdue schedule has been due."
        yield _gauge("dlqueue_schedules_lag_seconds", lag, self._snapshot.late)

    def _notices(self) -> Iterator[Metric]:
        pending, now = self._snapshot.notices, self._queue.clock.time()
        yield _gauge("dlqueue_notices_pending", "Notices that have not arrived yet.", pending.count)
        age = 0.0 if pending.oldest is None else max(now - pending.oldest, 0.0)
        yield _gauge("dlqueue_notices_oldest_seconds", "Since what the oldest of them tells.", age)
        sent = CounterMetricFamily("dlqueue_notices_sent", "Notices that have arrived.", labels=["kind"])
        put_off = CounterMetricFamily("dlqueue_notices_retried", "Attempts in vain, tried again.", labels=["kind"])
        failed = CounterMetricFamily("dlqueue_notices_failed", "Notices that were given up.", labels=["kind"])
        counts = (self._sent.arrived, self._sent.put_off, self._sent.given_up)
        for family, counted in zip((sent, put_off, failed), counts, strict=True):
            for kind, count in counted.items():
                family.add_metric([kind], count)
            yield family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(name, text, buckets=_buckets(histogram), sum_value=histogram.total)


def _histograms(name: str, text: str, label: str, histograms: Mapping[str, Histogram]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=[label])
    for key, histogram in histograms.items():
        family.add_metric([key], _buckets(histogram), histogram.total)
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus wants them; of one copy, since another thread may be counting."""
    buckets, sum_ = [], 0
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts.copy(), strict=True):
        sum_ += count
        buckets.append(("+Inf" if bound == float("inf") else repr(float(bound)), float(sum_)))
    return buckets
