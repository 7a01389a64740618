"""`db backup` while the daemon works, what is restored from it, and `db upgrade`."""

from __future__ import annotations

import fcntl
import itertools
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dlqueue.cli import exits
from dlqueue.queue.sql import engine, migrate, tables
from tests.daemon.instance import DEADLINE, Instance, as_json, fake_section

_NUMBERS = itertools.count()


def paused() -> dict[str, Any]:
    """A task that nothing happens to."""
    url = f"http://host.invalid/{next(_NUMBERS)}.bin"
    return {"type": "remote_download", "params": {"url": url}, "paused": True}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Instance]:
    with Instance(tmp_path, fake_section(tmp_path)) as running:
        yield running


def database_of(instance: Instance) -> Path:
    return instance.folder / "state" / "dlqueue" / "dlqueue.db"


def schema_of(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def old_database(path: Path, revision: str) -> None:
    path.parent.mkdir(parents=True)
    made = engine.sqlite_engine(engine.parse_url(f"sqlite:///{path}"), "disk", read_only=False)
    with made.connect() as connection:
        migrate.upgrade(connection, revision)
    made.dispose()


def test_a_migration_does_not_fill_the_log(daemon: Instance) -> None:
    database = database_of(daemon)
    old_database(database, "0003")
    daemon.start()
    assert schema_of(database) == tables.SCHEMA
    assert not [line for line in daemon.log_lines() if "alembic.runtime.plugins" in line]


def test_what_a_backup_left_that_was_killed_goes_with_the_next_one(daemon: Instance, tmp_path: Path) -> None:
    daemon.start()
    left = [tmp_path / f".dlqueue-backup.{name}.part" for name in ("dead", "alive")]
    for part in left:
        part.touch()
    with left[1].open("rb") as working:
        fcntl.flock(working, fcntl.LOCK_EX)
        assert daemon.cli("db", "backup", str(tmp_path / "copy.db")).returncode == 0
    assert sorted(tmp_path.glob(".dlqueue-backup.*")) == [left[1]]


def test_a_backup_under_load_holds_all_that_was_accepted_before(daemon: Instance, tmp_path: Path) -> None:
    daemon.start()
    accepted: list[int] = []
    before: list[int] = []
    targets = [tmp_path / f"copy{number}.db" for number in range(3)]
    enough, done = threading.Event(), threading.Event()

    def submit() -> None:
        with daemon.client() as client:
            while not done.is_set():
                tasks = [paused() for _ in range(20)]
                accepted.extend(task["id"] for task in client.tasks.submit_many(tasks=tasks))
                if len(accepted) >= 1000:
                    enough.set()

    load = threading.Thread(target=submit)
    load.start()
    try:
        assert enough.wait(DEADLINE)
        for target in targets:
            before = list(accepted)
            made = daemon.cli("db", "backup", str(target))
            assert (made.returncode, made.stdout) == (0, f"{target}\n"), made.stderr
            assert stat.S_IMODE(target.stat().st_mode) == 0o600
            with closing(sqlite3.connect(f"file:{target}?mode=ro&immutable=1", uri=True)) as copy:
                held = {number for (number,) in copy.execute("SELECT id FROM task")}
            assert set(before) <= held
        assert len(accepted) > len(before), "nobody had to wait for a copy to be made"
    finally:
        done.set()
        load.join()
    assert sorted(tmp_path.glob("*copy*")) == targets

    with Instance(tmp_path / "other", fake_section(tmp_path / "other")) as other:
        database_of(other).parent.mkdir(parents=True)
        targets[-1].rename(database_of(other))
        other.start()
        assert other.call("tasks.count", status="paused") >= len(before)
        new = other.add("http://host.invalid/after.bin")
        assert new > max(before) and other.finished(new)["status"] == "completed"
        assert {other.task(number)["status"] for number in before[:3] + before[-3:]} == {"paused"}


def test_what_was_unfinished_in_a_backup_goes_on(daemon: Instance, tmp_path: Path) -> None:
    daemon.start()
    waiting = daemon.add("http://host.invalid/waits.bin", delay=3600)
    daemon.kill()
    assert database_of(daemon).with_name("dlqueue.db-wal").stat().st_size > 0, "what a kill leaves is copied too"
    copy = tmp_path / "copy.db"
    assert as_json(daemon.cli("db", "backup", str(copy), "--json"))["backup"] == str(copy)
    daemon.start()
    assert daemon.finished(daemon.add("http://host.invalid/lost.bin"))["id"] > waiting
    daemon.stop()
    # As docs/operations.md says it.
    for left in ("-wal", "-shm"):
        database_of(daemon).with_name(f"dlqueue.db{left}").unlink(missing_ok=True)
    database_of(daemon).write_bytes(copy.read_bytes())
    daemon.start()
    assert [task["id"] for task in daemon.call("tasks.list")["items"]] == [waiting]
    assert daemon.cli("edit", str(waiting), "--at", "now").returncode == 0
    assert daemon.finished(waiting)["status"] == "completed"


def test_what_is_there_is_not_replaced_unless_told_to(daemon: Instance, tmp_path: Path) -> None:
    daemon.start()
    copy = tmp_path / "copy.db"
    copy.write_text("precious")
    refused = daemon.cli("db", "backup", str(copy))
    assert (refused.returncode, copy.read_text()) == (exits.REFUSED, "precious") and "--force" in refused.stderr
    assert daemon.cli("db", "backup", str(copy), "--force").returncode == 0
    assert schema_of(copy) == tables.SCHEMA
    itself = daemon.cli("db", "backup", str(database_of(daemon)), "--force")
    assert itself.returncode == exits.FAILURE and "the database itself" in itself.stderr
    for ending in ("-wal", "-shm", ".lock"):
        beside = daemon.cli("db", "backup", f"{database_of(daemon)}{ending}", "--force")
        assert beside.returncode == exits.FAILURE and "belongs to the database" in beside.stderr
    assert daemon.call("tasks.count") == 0
    assert daemon.cli("db", "backup", str(tmp_path)).returncode == exits.USAGE
    assert daemon.cli("db", "backup", str(tmp_path / "no" / "x.db")).returncode == exits.NOT_FOUND


@pytest.mark.parametrize("content", [b"no database" * 100, b""], ids=["garbage", "empty"])
def test_what_is_no_database_makes_no_backup(daemon: Instance, tmp_path: Path, content: bytes) -> None:
    database_of(daemon).parent.mkdir(parents=True)
    database_of(daemon).write_bytes(content)
    daemon_less = daemon.cli("db", "backup", str(tmp_path / "copy.db"))
    assert daemon_less.returncode == exits.FAILURE and "dlqueue.db" in daemon_less.stderr, daemon_less.stderr
    assert "a defect" not in daemon_less.stderr
    assert [path.name for path in tmp_path.iterdir() if "copy" in path.name] == []


def test_a_damaged_database_makes_no_backup(daemon: Instance, tmp_path: Path) -> None:
    daemon.start()
    with daemon.client() as client:
        client.tasks.submit_many(tasks=[paused() for _ in range(500)])
    daemon.stop()
    with closing(sqlite3.connect(database_of(daemon))) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'task_data'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    content = bytearray(database_of(daemon).read_bytes())
    content[(page - 1) * size : (page - 1) * size + 200] = b"\x7f" * 200
    database_of(daemon).write_bytes(content)
    refused = daemon.cli("db", "backup", str(tmp_path / "copy.db"))
    assert refused.returncode == exits.FAILURE and "so would be its copy" in refused.stderr, refused.stderr
    assert [path.name for path in tmp_path.iterdir() if "copy" in path.name] == []


def test_upgrade_keeps_how_it_was(daemon: Instance) -> None:
    old_database(database_of(daemon), "0001")
    shown = as_json(daemon.cli("db", "version", "--json"))
    assert (shown["schema"], shown["program"], shown["state"]) == ("0001", tables.SCHEMA, "older")
    lock = engine.FileLock(database_of(daemon))
    lock.acquire()
    refused = daemon.cli("db", "upgrade")
    lock.release()
    assert refused.returncode == exits.REFUSED and "in use by process" in refused.stderr
    assert schema_of(database_of(daemon)) == "0001"
    done = as_json(daemon.cli("db", "upgrade", "--json"))
    assert (done["from"], done["to"]) == ("0001", tables.SCHEMA)
    assert (schema_of(Path(done["kept"])), schema_of(database_of(daemon))) == ("0001", tables.SCHEMA)
    again = daemon.cli("db", "upgrade")
    assert (again.returncode, again.stdout) == (0, "") and "nothing to do" in again.stderr
    assert daemon.start().finished(daemon.add("http://host.invalid/a.bin"))["status"] == "completed"


def test_a_newer_database_is_left_alone(daemon: Instance) -> None:
    old_database(database_of(daemon), "head")
    with closing(sqlite3.connect(database_of(daemon))) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    refused = daemon.cli("db", "upgrade")
    assert refused.returncode == exits.FAILURE and "a newer version made it" in refused.stderr
    assert list(database_of(daemon).parent.glob("*9999*")) == [], "nothing was changed, so no copy is kept"
    assert as_json(daemon.cli("db", "version", "--json"))["state"] == "newer"


def test_without_a_database(daemon: Instance) -> None:
    assert as_json(daemon.cli("db", "version", "--json"))["state"] == "none"
    for arguments in (["backup", "x.db"], ["upgrade"]):
        missing = daemon.cli("db", *arguments)
        assert missing.returncode == exits.NOT_FOUND and "dlqueue.db" in missing.stderr


def test_mistakes_in_the_configuration_are_told(daemon: Instance) -> None:
    daemon.config.write_text("[daemon]\nworkers = 0\n[strore]\n")
    told = daemon.cli("db", "version", "--config", str(daemon.config))
    assert told.returncode == exits.FAILURE and "strore" in told.stderr and "workers" in told.stderr


def test_moving_to_another_store_is_refused_by_name(daemon: Instance) -> None:
    refused = daemon.cli("db", "migrate-to", "postgresql://host/db")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert '"migrate-to" is not supported yet by dlqueue' in refused.stderr
