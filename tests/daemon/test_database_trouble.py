"""The disk under the database is full, or somebody else has locked it: a clear answer, nothing that was acknowledged is
lost, and the work goes on by itself."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from dlqueue.protocol.errors import Code, RpcError
from tests.daemon.instance import DEADLINE, Instance, fake_section, until

SIZES = (1000, 2500, 3500)
"""Characters of a row. What is left of the disk when no more fits is enough for the wake of a task, the claim of its
step, or neither: another write is the first that is refused."""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Instance]:
    with Instance(tmp_path, fake_section(tmp_path)) as daemon:
        yield daemon


def begun(daemon: Instance) -> int:
    """A download that runs until it is told to finish."""
    number = daemon.add("http://host.invalid/file.bin?manual=1")
    until(lambda: daemon.task(number)["download"]["state"] == "downloading", "it is downloading")
    return number


def finish(daemon: Instance) -> None:
    (daemon.fake_folder / f"{daemon.created()[0]}.finish").touch()


def untold(daemon: Instance) -> bool:
    log = daemon.log.read_text()
    said = ("could not wake transfer:", "cannot read or write its store", "not written yet")
    return any(what in log for what in said)


def submit(daemon: Instance, number: int, size: int = 3000) -> int:
    """A row of some size."""
    return daemon.add(f"http://host.invalid/{number}.bin?" + "x" * size, paused=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
@pytest.mark.parametrize("size", SIZES)
def test_a_full_disk(daemon: Instance, size: int) -> None:
    state = daemon.folder / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", state], check=True)
    try:
        daemon.start()
        running = begun(daemon)
        filler = state / "filler"
        with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        acknowledged = []
        with pytest.raises(RpcError) as refused:
            for number in range(2000):
                acknowledged.append(submit(daemon, number, size))
        assert refused.value.code == Code.STORAGE
        assert "full" in refused.value.message
        finish(daemon)
        for number in range(3):
            with pytest.raises(RpcError) as refused:
                submit(daemon, 5000 + number, size)
            assert refused.value.code == Code.STORAGE
        assert daemon.task(running)["status"] != "error", "it can still be asked"
        # What has been written and is not needed any more may leave just enough room for so little.
        until(
            lambda: untold(daemon) or daemon.task(running)["status"] == "completed",
            "the end of the transfer, or a step's begin or end, could not be written",
        )
        filler.unlink()
        until(lambda: daemon.task(running)["status"] == "completed", "it goes on by itself")
        assert daemon.task(running)["retries"] == 0
        for number in acknowledged:
            assert daemon.task(number)["status"] == "paused"
        assert daemon.call("tasks.count") == len(acknowledged) + 1
        assert submit(daemon, 9999) > running
        assert daemon.log.read_text().count("cannot read or write its store") <= 1, "it is said once"
        assert "Traceback" not in daemon.log.read_text()
        assert daemon.stop() == 0
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.kill()
        subprocess.run(["umount", "-l", state], check=True)


def test_a_database_that_somebody_else_has_locked(daemon: Instance) -> None:
    daemon.start()
    running = begun(daemon)
    first = submit(daemon, 1)
    database = daemon.folder / "state" / "dlqueue" / "dlqueue.db"
    other = sqlite3.connect(database, isolation_level=None, timeout=DEADLINE)
    other.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(RpcError) as refused:
            submit(daemon, 2)
        assert refused.value.code == Code.STORAGE
        assert "locked" in refused.value.message
        assert daemon.task(first)["status"] == "paused", "it can still be asked"
        finish(daemon)
        until(lambda: untold(daemon), "the end of the transfer, or of a step, could not be written")
        assert daemon.task(running)["status"] in ("suspending", "processing")
    finally:
        other.execute("ROLLBACK")
        other.close()
    until(lambda: daemon.task(running)["status"] == "completed", "it goes on by itself")
    assert daemon.task(running)["retries"] == 0
    assert submit(daemon, 3) > first
    assert daemon.call("tasks.count") == 3
    assert "Traceback" not in daemon.log.read_text()
    assert daemon.stop() == 0


def test_a_database_that_is_locked_in_the_moment_after_the_socket_answers(tmp_path: Path) -> None:
    locked_once = """
        import sys
        from dlqueue.daemon import run
        from dlqueue.queue import StorageError

        look_again, asked = run.look_again, []

        async def locked(queue, endpoints):
            asked.append(1)
            if len(asked) == 1:
                raise StorageError("database is locked")
            await look_again(queue, endpoints)

        run.look_again = locked
        run.main(config=sys.argv[1], socket=None, mode="user")
    """
    daemon = Instance(tmp_path, fake_section(tmp_path))
    command = [sys.executable, "-c", dedent(locked_once), str(daemon.config)]
    with daemon, daemon.log.open("wb") as log:
        daemon.process = subprocess.Popen(command, env=daemon.environ, stdout=log, stderr=log, cwd=tmp_path)
        until(lambda: daemon.died() or "ready: " in daemon.log.read_text(), "it is ready")
        number = daemon.add("http://host.invalid/file.bin")
        assert daemon.finished(number)["status"] == "completed"
        assert "(database is locked); trying again" in daemon.log.read_text()
        assert daemon.stop() == 0
