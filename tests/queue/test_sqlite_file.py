"""The database file: how it is named, made, locked and refused, and what is in force on its connections."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dlqueue.queue import Filter, QueueClosed, StorageError
from dlqueue.queue.record import NewTask
from dlqueue.queue.sql import SqlStore
from dlqueue.queue.sql.tables import SCHEMA
from dlqueue.queue.testing import PATIENCE
from dlqueue.queue.testing.bench import NOW, Bench

pytestmark = pytest.mark.anyio


async def opened(url: str) -> SqlStore:
    store = SqlStore(url)
    await store.open(lambda changes: None)
    return store


async def test_relative_and_absolute_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = await opened("sqlite:///relative.db")
    await store.submit([NewTask(type="t", params=1)], NOW)
    await store.close()
    assert (tmp_path / "relative.db").is_file()
    store = await opened(f"sqlite:///{tmp_path}/relative.db")
    assert await store.count(Filter()) == 1
    await store.close()


async def test_missing_folders_are_made(tmp_path: Path) -> None:
    store = await opened(f"sqlite:///{tmp_path}/a/b/queue.db")
    await store.close()
    assert (tmp_path / "a/b/queue.db").is_file()


async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/queue.db cannot be made: (Not a directory|File exists)"):
        await opened(f"sqlite:///{tmp_path}/file/queue.db")


@pytest.mark.parametrize("url", ["", "queue.db", "sqlite:///", "sqlite://", "sqlite:///:memory:", "mysql://h/d"])
def test_bad_urls(url: str) -> None:
    with pytest.raises(StorageError, match=r"sqlite:///|store=None"):
        SqlStore(url)


def test_a_driver_that_would_not_work() -> None:
    with pytest.raises(StorageError, match=r"'sqlite\+aiosqlite' is not supported"):
        SqlStore("sqlite+aiosqlite:///queue.db")


def test_bad_durability() -> None:
    with pytest.raises(ValueError, match="durability 'none' is not one of disk, process"):
        SqlStore("sqlite:///queue.db", durability="none")


async def test_a_second_open_is_refused_and_the_first_undisturbed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/queue.db"
    first = await opened(url)
    for _ in range(2):
        with pytest.raises(StorageError, match=f"in use by process {os.getpid()} .*stop that one first"):
            await opened(url)
    await first.submit([NewTask(type="t", params=1)], NOW)
    assert await first.count(Filter()) == 1
    await first.close()
    second = await opened(url)
    assert await second.count(Filter()) == 1
    await second.close()


async def test_a_link_to_the_file_is_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link.db").symlink_to(tmp_path / "there" / "queue.db")
    first = await opened(f"sqlite:///{tmp_path}/there/queue.db")
    with pytest.raises(StorageError, match="in use by process"):
        await opened(f"sqlite:///{tmp_path}/link.db")
    await first.close()
    second = await opened(f"sqlite:///{tmp_path}/link.db")
    with pytest.raises(StorageError, match="in use by process"):
        await opened(f"sqlite:///{tmp_path}/there/queue.db")
    await second.close()


async def test_another_process_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/queue.db"
    store = await opened(url)
    program = (
        "import asyncio, sys; from dlqueue.queue import *\n"
        "try: asyncio.run(Queue(tasks=[], store=sys.argv[1]).open())\n"
        "except StorageError as error: sys.exit(str(error))"
    )
    run = subprocess.run([sys.executable, "-c", program, url], capture_output=True, text=True, timeout=60)
    assert f"in use by process {os.getpid()}" in run.stderr
    assert run.returncode == 1
    await store.close()


async def test_a_failed_open_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    path.write_text("not a database, but long enough to be looked at" * 100)
    for _ in range(2):
        with pytest.raises(StorageError, match="not a database"):
            await opened(f"sqlite:///{path}")
    assert path.read_text().startswith("not a database"), "never made anew"
    path.unlink()
    await (await opened(f"sqlite:///{path}")).close()


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    await (await opened(f"sqlite:///{path}")).close()
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchall() == [(SCHEMA,)]
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    with pytest.raises(StorageError, match=r"schema '9999'.*a newer version made it"):
        await opened(f"sqlite:///{path}")


@pytest.mark.parametrize("table", ["task", "queue", "task_event"])
async def test_a_foreign_table_is_refused(tmp_path: Path, table: str) -> None:
    path = tmp_path / "queue.db"
    with sqlite3.connect(path) as database:
        database.execute(f"CREATE TABLE {table} (mine TEXT)")
    with pytest.raises(StorageError, match=f"a table '{table}' that is not dlqueue's"):
        await opened(f"sqlite:///{path}")
    assert database.execute("SELECT name FROM sqlite_master").fetchall() == [(table,)]
    database.close()


@pytest.mark.parametrize(("durability", "synchronous"), [("disk", 2), ("process", 1)])
async def test_settings_in_force(tmp_path: Path, durability: str, synchronous: int) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/queue.db", durability)
    await store.open(lambda changes: None)

    names = ("journal_mode", "synchronous", "query_only", "wal_autocheckpoint")
    assert store._writer is not None
    written = await store._writer.do(
        lambda driver, payloads, changes: [[driver.execute(f"PRAGMA {name}").fetchone()[0] for name in names]], None
    )
    assert written == ["wal", synchronous, 0, 4000]
    read = await store._read(lambda connection: [connection.exec_driver_sql(f"PRAGMA {n}").scalar() for n in names])
    assert read[2:] == [1, 0], "readers neither write nor checkpoint"
    await store.close()


async def test_namespaces_share_a_file_and_see_only_their_own(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/queue.db"
    ids = {}
    for namespace in ("a", "b"):
        bench = Bench(lambda namespace=namespace: SqlStore(url, namespace=namespace))  # type: ignore[misc]
        await bench.open()
        ids[namespace] = (await bench.submit(params=namespace, unique_key="k", queue=namespace)).id
        assert await bench.store.ids(Filter(), 10) == [ids[namespace]]
        assert await bench.store.queues() == [namespace]
        assert [e.task_id for e in await bench.all_events()] == [ids[namespace]]
        assert [due.id for due in await bench.store.ready(namespace, {"test"}, NOW, 10)] == [ids[namespace]]
        await bench.store.close()
    assert ids["a"] != ids["b"]


async def test_close_writes_what_was_handed_over(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/queue.db"
    store = await opened(url)
    pending = [asyncio.ensure_future(store.submit([NewTask(type="t", params=i)], NOW)) for i in range(50)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*pending)
    store = await opened(url)
    assert await store.count(Filter()) == 50
    await store.close()


async def test_who_comes_while_it_closes_is_told_so(tmp_path: Path) -> None:
    store = await opened(f"sqlite:///{tmp_path}/queue.db")
    go_on = threading.Event()
    reading = asyncio.ensure_future(store._read(lambda connection: go_on.wait(PATIENCE)))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(store.close())  # waits for who is reading
    with pytest.raises(QueueClosed):
        while True:
            await store.count(Filter())
    go_on.set()
    assert await reading
    await closing
