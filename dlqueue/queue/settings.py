"""How each named queue is run: what it says itself, else what the `Queue` says."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from dlqueue.queue.record import TaskRecord
from dlqueue.queue.retry import RetryPolicy


class QueueSettings(msgspec.Struct, frozen=True):
    """How one named queue is run; None = as the `Queue` says."""

    concurrency: int | None = None
    """Steps at once."""
    capacity: int | None = None
    """Unfinished tasks at most."""
    rate: str | None = None
    """Starts per period (``10/s``, ``100/m``, ``1000/h``): of new tasks and of retries; a step that comes after
    `ResumeAfter` is no start."""
    max_retry: int | None = None
    retry_delay: float | None = None
    backoff_factor: float | None = None
    backoff_max: float | None = None
    ageing: float = 0.0
    """Points of priority gained per minute waited."""


class Lanes:
    """The settings of all queues, and the defaults behind them.

    :param default: the queue that a submit without ``queue`` goes to.
    :param workers: steps at once over all queues, and in a queue that sets no concurrency.
    """

    def __init__(
        self,
        named: Mapping[str, QueueSettings],
        default: str,
        workers: int,
        policy: RetryPolicy,
        max_execution: float | None,
        capacity: int | None,
    ) -> None:
        self.default = default
        self.workers = workers
        self.policy = policy
        self.max_execution = max_execution
        self.named = dict(named)
        """What is in force: what the program says, and over it what was set at run time."""
        self.paused: set[str] = set()
        """Nothing of these queues is claimed."""
        self._capacity = capacity
        self._silent = QueueSettings()

    def __getitem__(self, queue: str) -> QueueSettings:
        return self.named.get(queue, self._silent)

    def concurrency(self, queue: str) -> int:
        """Steps at once."""
        concurrency = self[queue].concurrency
        return self.workers if concurrency is None else concurrency

    def capacity(self, queue: str) -> int | None:
        """Unfinished tasks at most; None = no limit."""
        capacity = self[queue].capacity
        return self._capacity if capacity is None else capacity

    def in_force(self, queue: str) -> QueueSettings:
        """With what is meant where its settings say nothing."""
        settings, default = self[queue], self.policy

        def given(value: float | None, otherwise: float) -> float:
            return otherwise if value is None else value

        return QueueSettings(
            concurrency=self.concurrency(queue),
            capacity=self.capacity(queue),
            rate=settings.rate,
            max_retry=default.max_retry if settings.max_retry is None else settings.max_retry,
            retry_delay=given(settings.retry_delay, default.retry_delay),
            backoff_factor=given(settings.backoff_factor, default.backoff_factor),
            backoff_max=given(settings.backoff_max, default.backoff_max),
            ageing=settings.ageing,
        )

    def rates(self) -> dict[str, str]:
        """Of the queues that have one."""
        return {name: settings.rate for name, settings in self.named.items() if settings.rate is not None}

    def policy_of(self, record: TaskRecord) -> RetryPolicy:
        """How failures of this task are retried."""
        settings, default = self[record.queue], self.policy

        def first(*values: float | None) -> float:
            return next(value for value in values if value is not None)

        return RetryPolicy(
            record.max_retry,
            first(record.options.retry_delay, settings.retry_delay, default.retry_delay),
            first(settings.backoff_factor, default.backoff_factor),
            first(settings.backoff_max, default.backoff_max),
        )
