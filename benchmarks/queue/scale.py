"""A million rows: what start-up, memory, a page of a list and statistics cost.

    python -m benchmarks.queue.scale [ROWS ...]          (default: 100000 1000000)

For each number of rows two databases are made, row by row as dlqueue itself would write them, in bulk:

*queued*: tasks that have never begun, priorities -2 to 2, three owners.
*finished*: tasks of three types and owners that ended evenly over the last 30 days, 96 % completed, the others failed
or canceled, with times from 20 ms to some hours (log-normal).

**start-up**: from `Queue.open` to the moment at which the first task has been claimed (queued), or the queue is open
(finished), in a process of its own with an empty page cache of SQLite's. **RSS**: resident memory of that process then,
less that of the same process on an empty database. **list**: the median of 20 calls of `Queue.find` for a page of 100
without a total, after one that warms up, and the slowest of them. **stats**: the same of `Queue.stats`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from dlqueue.queue import Completed, Context, Filter, Outcome, Queue, Status, Task, TaskRecord
from dlqueue.queue.figures import Ledger
from dlqueue.queue.record import Change
from dlqueue.queue.sql import SqlStore, rows
from dlqueue.queue.sql.sums import Sums

DAY = 86400.0
CHUNK = 20_000
OWNERS = ("alice", "bob", "carol")
CALLS = 20


class Probe(Task):
    """The type that is run."""

    type = "probe"
    queue = "downloads"

    async def run(self, ctx: Context) -> Outcome:
        return Completed()


def records(kind: str, count: int, now: float) -> Iterator[TaskRecord]:
    """What is to be in the database, in the order of ids."""
    luck = random.Random(7)
    begun = now - 30 * DAY if kind == "finished" else now - DAY
    every = (now - begun) / max(count, 1)
    for task_id in range(1, count + 1):
        at = begun + task_id * every
        common: dict[str, Any] = {
            "id": task_id,
            "owner": OWNERS[luck.randrange(3)],
            "priority": luck.randrange(-2, 3),
            "params": {"url": f"https://example.org/{task_id}.iso"},
        }
        if kind == "queued":
            yield TaskRecord(type="probe", queue="downloads", status=Status.QUEUED, since=at, created_at=at, **common)
            continue
        dice, seconds = luck.random(), min(0.02 * math.exp(abs(luck.gauss(0, 4))), DAY)
        status = Status.COMPLETED if dice < 0.96 else Status.ERROR if dice < 0.99 else Status.CANCELED
        yield TaskRecord(
            type=("remote_download", "probe", "report")[luck.randrange(3)],
            queue=("downloads", "default")[luck.randrange(2)],
            status=status,
            since=at,
            created_at=at - seconds - 1,
            started_at=at - seconds,
            finished_at=at,
            delivered_at=at if status is Status.COMPLETED else None,
            lease_token=1,
            revision=3,
            executed_seconds=seconds,
            result={"path": f"/srv/{task_id}.iso"},
            **common,
        )


def build(path: Path, kind: str, count: int) -> None:
    """The rows, and the figures that the store would have kept of them."""

    async def empty() -> None:
        store = SqlStore(f"sqlite:///{path}")
        await store.open(lambda changes: None)
        await store.close()

    asyncio.run(empty())
    database: Any = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA synchronous = OFF")
    database.execute("BEGIN")
    ledger, sums = Ledger(), Sums("default")
    part: list[TaskRecord] = []

    def write() -> None:
        changes = [Change(record=r, source=None, kind="submitted", at=r.created_at, sequence=r.id) for r in part]
        rows.insert_tasks(database, "default", part)
        rows.insert_events(database, "default", changes)
        ledger.note(changes)
        for record in part:
            if record.final:
                ledger.ended(record)
        part.clear()

    for record in records(kind, count, time.time()):
        part.append(record)
        if len(part) == CHUNK:
            write()
    write()
    sums.counters, sums.hours = ledger.counters, ledger.hours
    sums.write(database)
    queues = {name for name, _ in ledger.counters} or {"downloads"}
    database.executemany("INSERT OR IGNORE INTO queue (namespace, name) VALUES ('default', ?)", [(q,) for q in queues])
    database.execute("COMMIT")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()


def resident() -> int:
    """Bytes of memory that this process has now."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


async def timed(call: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Milliseconds: the median, and the slowest."""
    await call()
    times = []
    for _ in range(CALLS):
        started = time.perf_counter()
        await call()
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times), max(times)


async def measure(path: Path, kind: str) -> dict[str, Any]:
    """In a process of its own."""
    claimed = asyncio.Event()

    class First(Probe):
        async def run(self, ctx: Context) -> Outcome:
            claimed.set()
            await asyncio.Event().wait()
            return Completed()

    started = time.perf_counter()
    queue = Queue(tasks=[First], store=f"sqlite:///{path}", workers=1, name="downloads")
    await queue.open()
    queue.start()
    if kind == "queued":
        await claimed.wait()
    found: dict[str, Any] = {"start": time.perf_counter() - started, "memory": float(resident())}
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "list": lambda: queue.find(Filter()),
        "list by finished_at": lambda: queue.find(Filter(), order="-finished_at"),
        "list by priority": lambda: queue.find(Filter(), order="-priority"),
        "list by created_at": lambda: queue.find(Filter(), order="-created_at"),
        "list of errors": lambda: queue.find(Filter(status=(Status.ERROR,))),
        "list of unfinished": lambda: queue.find(Filter(status=(Status.QUEUED, Status.PROCESSING))),
        "list of one owner": lambda: queue.find(Filter(owner="alice")),
        "list of nobody": lambda: queue.find(Filter(owner="nobody")),
        "list of no queue": lambda: queue.find(Filter(queue="none")),
        "list of no type": lambda: queue.find(Filter(type="none")),
        "list since an hour": lambda: queue.find(Filter(since=time.time() - 3600)),
        "list until long ago": lambda: queue.find(Filter(until=time.time() - 29 * DAY)),
        "count": queue.tally,
        "stats": lambda: queue.measure(Filter(), groups=False),
        "stats by queue and type": queue.stats,
        "stats since 7 days": lambda: queue.measure(Filter(since=time.time() - 7 * DAY), groups=False),
        "stats of a type": lambda: queue.stats(type="probe"),
    }
    for name, call in calls.items():
        found[name] = await timed(call)
    found["memory after that"] = float(resident())
    await queue.shutdown(0)
    return found


def measured(path: Path, kind: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.queue.scale", "--measure", kind, str(path)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        print(json.dumps(asyncio.run(measure(Path(options.measure[1]), options.measure[0]))))
        return
    print(__doc__)
    with tempfile.TemporaryDirectory(prefix="dlqueue-scale-") as folder:
        empty = Path(folder) / "empty.db"
        build(empty, "finished", 0)
        base = measured(empty, "finished")
        for count in options.rows:
            for kind in ("queued", "finished"):
                path = Path(folder) / f"{kind}.db"
                began = time.perf_counter()
                build(path, kind, count)
                size, took = path.stat().st_size / count, time.perf_counter() - began
                print(f"{count} {kind}: built in {took:.0f} s, {size:.0f} bytes a task", flush=True)
                found = measured(path, kind)
                print(f"  {'start-up':22}{found.pop('start'):10.2f} s")
                for name in ("memory", "memory after that"):
                    print(f"  {'RSS, ' + name:22}{(found.pop(name) - base[name]) / 2**20:10.1f} MiB over an empty one")
                for name, (median, slowest) in found.items():
                    print(f"  {name:22}{median:10.1f} ms   slowest {slowest:.1f} ms")
                path.unlink()


if __name__ == "__main__":
    main()
