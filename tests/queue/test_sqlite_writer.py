"""The writer: group commit, and what happens to work that the database refuses."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from dlqueue.queue import Filter, QueueClosed, StorageError
from dlqueue.queue.record import Change, NewTask
from dlqueue.queue.sql import SqlStore, engine
from dlqueue.queue.sql.rows import Driver
from dlqueue.queue.sql.writer import Writer
from dlqueue.queue.testing import PATIENCE
from dlqueue.queue.testing.bench import NOW, Bench

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(lambda: SqlStore(f"sqlite:///{tmp_path}/queue.db"))
    await bench.open()
    yield bench
    await bench.store.close()


def writer_of(bench: Bench) -> Writer:
    assert isinstance(bench.store, SqlStore)
    assert bench.store._writer is not None
    return bench.store._writer


class Groups:
    """A verb that notes which payloads came together, and fails for one of them."""

    def __init__(self, bad: object = None, error: Exception | None = None) -> None:
        self.groups: list[list[Any]] = []
        self.bad = bad
        self.error = error

    def __call__(self, driver: Driver, payloads: Sequence[Any], changes: list[Change]) -> list[Any]:
        self.groups.append(list(payloads))
        driver.execute("CREATE TABLE IF NOT EXISTS note (n INTEGER)")
        for payload in payloads:
            driver.execute("INSERT INTO note VALUES (?)", (payload,))
            if payload == self.bad and self.error is not None:
                raise self.error
        return [payload * 10 for payload in payloads]


def notes(driver: Driver, payloads: Sequence[Any], changes: list[Change]) -> list[Any]:
    return [[row[0] for row in driver.execute("SELECT n FROM note ORDER BY rowid")] for _ in payloads]


class Gate:
    """Keeps the writer busy, so that work gathers behind it."""

    def __init__(self, writer: Writer) -> None:
        self._open = threading.Event()
        self._job = asyncio.ensure_future(writer.do(self._wait, None))

    def _wait(self, driver: Driver, payloads: Sequence[Any], changes: list[Change]) -> list[None]:
        self._open.wait(PATIENCE)
        return [None] * len(payloads)

    async def open(self) -> None:
        self._open.set()
        await self._job


async def gathered(writer: Writer, *jobs: tuple[Any, Any]) -> list[Any]:
    """Hand over all of them while the writer is busy; what became of each."""
    gate = Gate(writer)
    await asyncio.sleep(0)
    pending = [asyncio.ensure_future(writer.do(verb, payload)) for verb, payload in jobs]
    await asyncio.sleep(0)
    await gate.open()
    return await asyncio.gather(*pending, return_exceptions=True)


async def test_what_gathers_is_one_transaction_in_order(bench: Bench) -> None:
    groups = Groups()
    answers = await gathered(writer_of(bench), *((groups, n) for n in range(100)))
    assert answers == [n * 10 for n in range(100)]
    assert len(groups.groups) <= 2, "not one transaction each"
    assert await writer_of(bench).do(notes, None) == list(range(100))


async def test_order_is_kept_between_different_verbs(bench: Bench) -> None:
    one, two = Groups(), Groups()
    await gathered(writer_of(bench), (one, 1), (one, 2), (two, 3), (one, 4))
    assert (one.groups[-2:], two.groups) == ([[1, 2], [4]], [[3]])
    assert await writer_of(bench).do(notes, None) == [1, 2, 3, 4]


async def test_one_bad_job_fails_alone(bench: Bench) -> None:
    groups = Groups(bad=3, error=ArithmeticError("injected"))
    answers = await gathered(writer_of(bench), *((groups, n) for n in range(6)))
    assert [a for a in answers if isinstance(a, int)] == [0, 10, 20, 40, 50]
    assert isinstance(answers[3], StorageError)
    assert "injected" in str(answers[3])
    assert await writer_of(bench).do(notes, None) == [0, 1, 2, 4, 5], "nothing of it was written, nothing twice"


async def test_ids_go_on_after_a_rolled_back_group(bench: Bench) -> None:
    groups = Groups(bad=1, error=ArithmeticError("injected"))
    gate = Gate(writer_of(bench))
    await asyncio.sleep(0)
    first = asyncio.ensure_future(bench.submit(params=1))
    bad = asyncio.ensure_future(writer_of(bench).do(groups, 1))
    second = asyncio.ensure_future(bench.submit(params=2))
    await asyncio.sleep(0)
    await gate.open()
    with pytest.raises(StorageError):
        await bad
    records = [await first, await second]
    assert records[0].id < records[1].id
    assert [(await bench.store.get(r.id)).params for r in records] == [1, 2]
    assert [c.record.id for c in bench.told] == [r.id for r in records]
    events = await bench.all_events()
    assert [e.sequence for e in events] == [c.sequence for c in bench.told]


async def test_a_cancelled_caller_does_not_stop_the_write(bench: Bench) -> None:
    gate = Gate(writer_of(bench))
    await asyncio.sleep(0)
    pending = asyncio.ensure_future(bench.submit())
    await asyncio.sleep(0)
    pending.cancel()
    await gate.open()
    await bench.submit()
    assert len(bench.told) == 2
    assert await bench.store.count(Filter()) == 2


async def test_closed_means_closed(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/queue.db")
    for _ in range(2):
        with pytest.raises(QueueClosed):
            await store.submit([NewTask(type="t", params=1)], NOW)
        with pytest.raises(QueueClosed):
            await store.count(Filter())
        await store.open(lambda changes: None)
        await store.close()


# -- a database in trouble --------------------------------------------------------------------------------------------


async def test_a_full_disk_loses_nothing_that_was_answered(bench: Bench) -> None:
    """SQLite's own limit stands in for the disk: the error is the same."""

    def limit(driver: Driver, payloads: Sequence[Any], changes: list[Change]) -> list[Any]:
        used = driver.execute("PRAGMA page_count").fetchone()[0]
        return [driver.execute(f"PRAGMA max_page_count = {used + payloads[0]}").fetchone()[0]]

    await bench.submit()
    await writer_of(bench).do(limit, 20)
    answered: list[int] = [bench.told[0].record.id]
    failures = 0
    while not failures:
        results = await asyncio.gather(*(bench.submit(params="x" * 3000) for _ in range(10)), return_exceptions=True)
        for result in results:
            if isinstance(result, StorageError):
                assert "full" in str(result)
                failures += 1
            else:
                assert not isinstance(result, BaseException)
                answered.append(result.id)
        assert len(answered) < 1000
    assert await bench.store.ids(Filter(), 2000) == sorted(answered)
    # It goes on as soon as there is room.
    await writer_of(bench).do(limit, 1000)
    answered.append((await bench.submit(params="x" * 3000)).id)
    await bench.reopen()
    assert await bench.store.ids(Filter(), 2000) == sorted(answered)
    assert [c.record.id for c in bench.told] == sorted(answered), "the listener heard of these and of no others"


async def test_a_database_locked_by_another(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LOCK_WAIT", 0.2)
    await bench.reopen()
    first = await bench.submit()
    other = sqlite3.connect(tmp_path / "queue.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    waits: list[int] = []
    attempt = Writer._attempt

    def counted(self: Writer, driver: Driver, group: Any) -> Any:
        waits.append(len(group))
        return attempt(self, driver, group)

    monkeypatch.setattr(Writer, "_attempt", counted)
    refused = await gathered_submits(bench, 30)
    assert {type(answer) for answer in refused} == {StorageError}
    assert "locked" in str(refused[0])
    assert waits == [30], "they wait for the lock together, not one after the other"
    assert await bench.store.get(first.id) == first, "reading goes on"
    other.execute("ROLLBACK")
    other.close()
    second = await bench.submit()
    assert await bench.store.ids(Filter(), 10) == [first.id, second.id]


async def test_who_comes_while_another_waits_for_a_lock_waits_no_longer(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LOCK_WAIT", 0.5)
    await bench.reopen()
    other = sqlite3.connect(tmp_path / "queue.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    attempt, came = Writer._attempt, threading.Event()

    def slowly(self: Writer, driver: Driver, group: Any) -> Any:
        try:
            return attempt(self, driver, group)
        except sqlite3.OperationalError:
            came.wait(PATIENCE)
            raise

    monkeypatch.setattr(Writer, "_attempt", slowly)
    first = asyncio.ensure_future(bench.submit())
    async with asyncio.timeout(PATIENCE):
        while not writer_of(bench)._jobs:  # handed over
            await asyncio.sleep(0)
        while writer_of(bench)._jobs:  # and taken: it waits for the lock
            await asyncio.sleep(0.001)
    second = asyncio.ensure_future(bench.submit())
    while not writer_of(bench)._jobs:
        await asyncio.sleep(0)
    came.set()
    done, waiting = await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
    assert (done, waiting) == ({first, second}, set()), "one verdict for all who wait"
    assert all("locked" in str(refused.exception()) for refused in done)
    other.execute("ROLLBACK")
    other.close()
    assert (await bench.submit()).id == 1


async def gathered_submits(bench: Bench, count: int) -> list[Any]:
    return await asyncio.gather(*(bench.submit() for _ in range(count)), return_exceptions=True)


async def test_a_short_lock_is_waited_for(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LOCK_WAIT", PATIENCE)
    await bench.reopen()
    other = sqlite3.connect(tmp_path / "queue.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    pending = asyncio.ensure_future(bench.submit())
    done, _ = await asyncio.wait({pending}, timeout=0.05)
    assert not done
    other.execute("ROLLBACK")
    other.close()
    record = await pending
    assert await bench.store.get(record.id) == record


CHILD = """
import asyncio, sys
from dlqueue.queue import Queue, Task

class Nothing(Task):
    type = "nothing"

async def main():
    queue = Queue(tasks=[Nothing], store=sys.argv[1])
    await queue.open()
    async def submitter(number):
        while True:
            record = await queue.submit("nothing", {"n": number})
            print(record.id, flush=True)
    await asyncio.gather(*(submitter(n) for n in range(5)))

asyncio.run(main())
"""


@pytest.mark.parametrize("after", [1, 37, 200])
async def test_kill_9_while_submitting(tmp_path: Path, after: int) -> None:
    url = f"sqlite:///{tmp_path}/queue.db"
    with subprocess.Popen([sys.executable, "-c", CHILD, url], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        answered = [int(child.stdout.readline()) for _ in range(after)]
        child.kill()
        answered += [int(line) for line in child.stdout.read().split("\n")[:-1]]  # the last may be cut off
    store = SqlStore(url)
    await store.open(lambda changes: None)
    found = await store.ids(Filter(), 1_000_000)
    assert set(answered) <= set(found)
    assert len(answered) == len(set(answered))
    await store.close()
