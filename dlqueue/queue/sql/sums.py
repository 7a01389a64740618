"""`dlqueue.queue.figures` in tables: written once per transaction, whatever gathered in it."""

from __future__ import annotations

from sqlalchemy import bindparam, delete
from sqlalchemy.dialects.sqlite import insert

from dlqueue.queue.figures import SPANS, Ledger
from dlqueue.queue.sql.rows import Driver, Statement
from dlqueue.queue.sql.tables import counter, task_hour

_new_count = insert(counter).values({column.name: bindparam(column.name) for column in counter.c})
_ADD_COUNT = Statement(
    _new_count.on_conflict_do_update(
        index_elements=list(counter.primary_key), set_={"count": counter.c.count + _new_count.excluded.count}
    )
)
_new_hour = insert(task_hour).values({column.name: bindparam(column.name) for column in task_hour.c})
_ADD_HOUR = Statement(
    _new_hour.on_conflict_do_update(
        index_elements=list(task_hour.primary_key),
        set_={
            "count": task_hour.c.count + _new_hour.excluded.count,
            "seconds": task_hour.c.seconds + _new_hour.excluded.seconds,
        },
    )
)
FORGET = Statement(
    delete(task_hour).where(
        task_hour.c.namespace == bindparam("of"),
        task_hour.c.span == bindparam("wide"),
        task_hour.c.hour < bindparam("before"),
    )
)


class Sums(Ledger):
    """The differences that one transaction makes."""

    def __init__(self, namespace: str) -> None:
        super().__init__()
        self._namespace = namespace

    def write(self, driver: Driver) -> None:
        """Add them up: the last thing before the commit."""
        namespace = self._namespace
        _ADD_COUNT.each(
            driver,
            (
                {"namespace": namespace, "queue": queue, "status": status.value, "count": difference}
                for (queue, status), difference in self.counters.items()
                if difference
            ),
        )
        if self.hours:
            _ADD_HOUR.each(
                driver,
                (
                    {
                        "namespace": namespace,
                        "span": span,
                        "hour": hour - hour % span if span else 0,
                        "queue": queue,
                        "type": type,
                        "outcome": outcome.value,
                        "bucket": bucket,
                        "count": count,
                        "seconds": seconds,
                    }
                    for (hour, queue, type, outcome, bucket), (count, seconds) in self.hours.items()
                    for span in SPANS
                ),
            )
        self.clear()
