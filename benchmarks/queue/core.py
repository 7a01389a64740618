"""The queue as a library against huey and against SQLite itself, all with a flush to disk for each commit.

Everything runs in turn in one run, on files in one folder, with ``journal_mode=WAL`` and ``synchronous=FULL``; the best
of the rounds counts. A *task* does nothing.

- *one at a time*: submits, each awaited before the next. huey: `enqueue`. SQLite: one INSERT and COMMIT each.
- *50 at once*: submits by 50 coroutines (huey: 50 threads). SQLite: INSERTs in commits of 64.
- *bulk*: submits in calls of 1,000 (huey has none: `enqueue`). SQLite: `executemany` in commits of 1,000.
- *drain*: tasks that are there are run, and their ends are committed (huey: its consumer with 8 threads, results kept
  as for us). SQLite: for each task two UPDATEs (taken, done) and two INSERTs (their events), in commits of 64.
- *idle*: from the call of submit to the first line of the task, with nothing else to do, in ms. SQLite: one INSERT and
  COMMIT.
- *suspends*: 1,000 tasks that each suspend 5 times for 1 s; the ideal is 5 s. CPU as a share of one core.

    python -m benchmarks.queue.core [--tasks 5000] [--rounds 3] [--folder DIR]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from huey import SqliteHuey

from dlqueue.queue import Completed, Context, Outcome, Queue, ResumeAfter, Task

WORKERS = 64
SUSPENDS = 5


class Nothing(Task):
    type: ClassVar[str] = "nothing"
    limited: ClassVar[bool] = False

    async def run(self, ctx: Context) -> Outcome:
        return Completed()


class Stamp(Task):
    type: ClassVar[str] = "stamp"
    at: ClassVar[float] = 0.0

    async def run(self, ctx: Context) -> Outcome:
        Stamp.at = time.perf_counter()
        return Completed()


class Sleeper(Task):
    type: ClassVar[str] = "sleeper"

    async def run(self, ctx: Context) -> Outcome:
        ctx.state["n"] = ctx.state.get("n", 0) + 1
        return ResumeAfter(1.0) if ctx.state["n"] <= SUSPENDS else Completed()


class Files:
    """A new database file for each try."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def __call__(self) -> Path:
        self._count += 1
        return self._folder / f"{self._count}.db"


# -- dlqueue ----------------------------------------------------------------------------------------------------------


async def ours(tasks: int, files: Files) -> dict[str, float]:
    """Tasks per second."""
    rates: dict[str, float] = {}
    few = max(tasks // 10, 100)
    queue = Queue(tasks=[Nothing], store=f"sqlite:///{files()}", workers=WORKERS, max_execution=None)
    await queue.open()

    async def several(count: int) -> None:
        for _ in range(count):
            await queue.submit("nothing", {})

    began = time.perf_counter()
    await several(few)
    rates["one at a time"] = few / (time.perf_counter() - began)
    began = time.perf_counter()
    await asyncio.gather(*(several(tasks // 50) for _ in range(50)))
    rates["50 at once"] = tasks // 50 * 50 / (time.perf_counter() - began)
    await queue.shutdown()

    queue = Queue(tasks=[Nothing], store=f"sqlite:///{files()}", workers=WORKERS, max_execution=None)
    await queue.open()
    began = time.perf_counter()
    last = None
    for start in range(0, tasks, 1000):
        last = (await queue.submit_many([("nothing", {}) for _ in range(start, min(start + 1000, tasks))]))[-1]
    rates["bulk"] = tasks / (time.perf_counter() - began)
    began = time.perf_counter()
    queue.start()
    assert last is not None
    await queue.wait(last.id)
    while await queue.count(status=["queued", "processing"]):
        await asyncio.sleep(0.001)
    rates["drain"] = tasks / (time.perf_counter() - began)
    await queue.shutdown()
    return rates


async def idle(files: Files, count: int) -> list[float]:
    """Seconds from submit to start."""
    seen = []
    async with Queue(tasks=[Stamp], store=f"sqlite:///{files()}", workers=4) as queue:
        for _ in range(count):
            began = time.perf_counter()
            task = await queue.submit("stamp")
            await queue.wait(task.id)
            seen.append(Stamp.at - began)
            await asyncio.sleep(0.002)
    return seen


async def suspends(files: Files) -> tuple[float, float]:
    """Wall seconds, CPU seconds."""
    async with Queue(tasks=[Sleeper], store=f"sqlite:///{files()}", workers=WORKERS, max_execution=None) as queue:
        began, cpu = time.perf_counter(), time.process_time()
        made = await queue.submit_many([("sleeper", {}) for _ in range(1000)])
        await asyncio.gather(*(queue.wait(task.id) for task in made))
        return time.perf_counter() - began, time.process_time() - cpu


# -- the others -------------------------------------------------------------------------------------------------------


def hueys(tasks: int, files: Files) -> dict[str, float]:
    """Tasks per second."""
    rates: dict[str, float] = {}
    huey: Any = SqliteHuey(filename=str(files()), fsync=True, results=True, store_none=True)
    done = threading.Semaphore(0)

    @huey.task()  # type: ignore[untyped-decorator]
    def nothing() -> None:
        done.release()

    few = max(tasks // 10, 100)
    began = time.perf_counter()
    for _ in range(few):
        nothing()
    rates["one at a time"] = rates["bulk"] = few / (time.perf_counter() - began)

    def several() -> None:
        for _ in range(max(few // 50, 2)):
            nothing()

    threads = [threading.Thread(target=several) for _ in range(50)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rates["50 at once"] = max(few // 50, 2) * 50 / (time.perf_counter() - began)
    there = huey.pending_count()
    consumer = huey.create_consumer(
        workers=8, worker_type="thread", periodic=False, initial_delay=0.001, max_delay=0.001
    )
    began = time.perf_counter()
    consumer.start()
    for _ in range(there):
        done.acquire()
    while huey.result_count() < there:
        time.sleep(0.001)
    rates["drain"] = there / (time.perf_counter() - began)
    consumer.stop(graceful=True)
    return rates


def raw_connection(files: Files) -> sqlite3.Connection:
    connection = sqlite3.connect(files(), isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE task (id INTEGER PRIMARY KEY, type TEXT, status TEXT, params TEXT, at REAL)")
    connection.execute("CREATE TABLE event (id INTEGER PRIMARY KEY, task INTEGER, kind TEXT, at REAL)")
    return connection


_INSERT = "INSERT INTO task (type, status, params, at) VALUES (?, ?, ?, ?)"


def raw(tasks: int, files: Files) -> dict[str, float]:
    """Tasks per second."""
    rates: dict[str, float] = {}
    row = ("nothing", "queued", "{}", 1.0)
    connection = raw_connection(files)

    def commits(name: str, size: int, count: int) -> None:
        began = time.perf_counter()
        for _ in range(0, count, size):
            connection.execute("BEGIN IMMEDIATE")
            if size == 1000:
                connection.executemany(_INSERT, [row] * size)
            else:
                for _ in range(size):
                    connection.execute(_INSERT, row)
            connection.execute("COMMIT")
        rates[name] = count / (time.perf_counter() - began)

    commits("one at a time", 1, max(tasks // 10, 100))
    commits("50 at once", 64, tasks)
    commits("bulk", 1000, tasks)
    began = time.perf_counter()
    for start in range(1, tasks + 1, 64):
        for status, kind in (("processing", "claimed"), ("completed", "completed")):
            connection.execute("BEGIN IMMEDIATE")
            for number in range(start, min(start + 64, tasks + 1)):
                connection.execute("UPDATE task SET status = ?, at = ? WHERE id = ?", (status, 2.0, number))
                connection.execute("INSERT INTO event (task, kind, at) VALUES (?, ?, ?)", (number, kind, 2.0))
            connection.execute("COMMIT")
    rates["drain"] = tasks / (time.perf_counter() - began)
    connection.close()
    return rates


def raw_commits(files: Files, count: int) -> list[float]:
    """Seconds for one INSERT and COMMIT."""
    connection, seen = raw_connection(files), []
    for _ in range(count):
        began = time.perf_counter()
        connection.execute(_INSERT, ("nothing", "queued", "{}", 1.0))
        seen.append(time.perf_counter() - began)
        time.sleep(0.002)
    connection.close()
    return seen


# -- the table --------------------------------------------------------------------------------------------------------


def best(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: max(one[name] for one in rounds) for name in rounds[0]}


def of(seen: list[float]) -> tuple[float, float]:
    """Median and 99th percentile, in ms."""
    cuts = statistics.quantiles(seen, n=100)
    return cuts[49] * 1000, cuts[98] * 1000


def measure(tasks: int, rounds: int, folder: Path, say: Callable[[str], None]) -> None:
    files = Files(folder)
    found: dict[str, list[dict[str, float]]] = {"dlqueue": [], "huey": [], "sqlite": []}
    for _ in range(rounds):
        found["dlqueue"].append(asyncio.run(ours(tasks, files)))
        found["huey"].append(hueys(tasks, files))
        found["sqlite"].append(raw(tasks, files))
    rates = {name: best(some) for name, some in found.items()}
    say(f"{'tasks/s':16}{'dlqueue':>10}{'huey':>10}{'sqlite':>10}{'x huey':>10}{'x sqlite':>10}")
    for name in ("one at a time", "50 at once", "bulk", "drain"):
        mine, huey, sqlite = (rates[who][name] for who in ("dlqueue", "huey", "sqlite"))
        say(f"{name:16}{mine:10.0f}{huey:10.0f}{sqlite:10.0f}{mine / huey:10.2f}{mine / sqlite:10.2f}")
    latencies = [(of(asyncio.run(idle(files, 300))), of(raw_commits(files, 300))) for _ in range(rounds)]
    (p50, p99), (raw50, raw99) = min(latencies)
    say(f"\nidle: p50 {p50:.2f} ms, p99 {p99:.2f} ms; one raw commit p50 {raw50:.2f}, p99 {raw99:.2f} ms")
    say(f"      p99 of ours by p99 of the raw commit in the same round: {min(a[1] / b[1] for a, b in latencies):.2f}")
    wall, cpu = min(asyncio.run(suspends(files)) for _ in range(rounds))
    say(f"suspends: {wall:.2f} s, {wall / SUSPENDS:.3f} x the ideal; {100 * cpu / wall:.0f} % of a core")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    given, _ = parser.parse_known_args()
    gc.freeze()  # nobody's collector of cycles looks through what the imports have made (docs/library.md)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        measure(given.tasks, given.rounds, Path(folder), print)


if __name__ == "__main__":
    main()
