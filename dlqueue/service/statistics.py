"""`tasks.stats` and `tasks.purge`."""

from __future__ import annotations

from dlqueue.protocol import messages, statistics
from dlqueue.protocol.times import instant_text
from dlqueue.queue import Filter, Queue, Status
from dlqueue.queue.statistics import Seconds, Summary


class Statistics:
    """What has ended, and when it is forgotten."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    async def stats(self, wanted: Filter | None, params: statistics.Stats) -> statistics.Statistics:
        """:param wanted: None = nothing can match."""
        measured = await self._queue.measure(
            wanted if wanted is not None else Filter(ids=(0,)), groups=bool(params.groups)
        )
        view: statistics.Statistics = {
            "since": None if measured.since is None else instant_text(measured.since),
            "until": instant_text(measured.until),
            "total": measured.total,
            "completed": measured.completed,
            "failed": measured.failed,
            "canceled": measured.canceled,
            "success_rate": _rate(measured),
            "seconds": _seconds(measured.seconds),
        }
        if params.groups:
            view["groups"] = [
                {
                    "queue": group.queue,
                    "type": group.type,
                    "total": group.total,
                    "completed": group.completed,
                    "failed": group.failed,
                    "canceled": group.canceled,
                    "success_rate": _rate(group),
                    "seconds": _seconds(group.seconds),
                }
                for group in measured.groups
            ]
        return view

    async def purge(self, owner: str | None, params: statistics.Purge) -> messages.Count:
        """:param owner: whose tasks; None = everybody's."""
        wanted = Filter(status=tuple(Status(name) for name in params.statuses()), owner=owner)
        return {"count": await self._queue.purge_matching(wanted, params.older_than)}


def _rate(summary: Summary) -> float | None:
    return None if summary.success_rate is None else round(summary.success_rate, 6)


def _seconds(seconds: Seconds) -> statistics.Durations:
    def rounded(value: float | None) -> float | None:
        return None if value is None else round(value, 6)

    return {
        "avg": rounded(seconds.avg),
        "p50": rounded(seconds.p50),
        "p95": rounded(seconds.p95),
        "p99": rounded(seconds.p99),
    }
