"""Temporary folders: a task's own, kept over its steps, gone when it is over; never a byte of anybody else's."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from dlqueue.queue import Completed, Context, CriticalError, Outcome, Queue, ResumeAfter, TempFull
from dlqueue.queue.temporary import LOOK, SWEEP, remove
from dlqueue.queue.testing import PATIENCE
from tests.queue.rig import Gate, Rig, S, settled, task

pytestmark = pytest.mark.anyio


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "temp"


async def empty(root: Path) -> None:
    async with asyncio.timeout(PATIENCE):
        while root.exists() and os.listdir(root):
            await asyncio.sleep(0.001)


async def gone(path: Path) -> None:
    async with asyncio.timeout(PATIENCE):
        while path.exists() or path.is_symlink():
            await asyncio.sleep(0.001)


def writes(size: int, steps: int = 2) -> Any:
    """Adds so many bytes in every step, and waits a second between them."""

    async def run(ctx: Context) -> Outcome:
        folder = ctx.temp_folder()
        number = ctx.state["step"] = ctx.state.get("step", 0) + 1
        (folder / str(number)).write_bytes(b"x" * size)
        return Completed(sorted(os.listdir(folder))) if number == steps else ResumeAfter(1)

    return run


async def test_kept_over_steps_and_removed_at_the_end(rig: Rig, root: Path) -> None:
    queue = await rig.start(task(writes(3)), temp_root=root)
    record = await queue.submit("test")
    await rig.reached(record.id, S.SUSPENDING)
    folder = root / str(record.id)
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(root.stat().st_mode) == 0o700
    assert queue._folders.size == 3
    rig.clock.advance(1)
    assert (await rig.done(record.id)).result == ["1", "2"]
    await gone(folder)
    await empty(root)
    assert queue._folders.size == 0


@pytest.mark.parametrize("end", ["error", "cancel", "canceled by itself", "remove"])
async def test_removed_however_it_ends(rig: Rig, root: Path, end: str) -> None:
    async def run(ctx: Context) -> Outcome:
        (ctx.temp_folder("sub") / "file").write_text("x")
        if ctx.state.setdefault("waited", False) or end in ("cancel", "remove"):
            return ResumeAfter(1000)
        if end == "error":
            raise CriticalError("no")
        from dlqueue.queue import Canceled

        return Canceled()

    queue = await rig.start(task(run), temp_root=root)
    record = await queue.submit("test")
    if end in ("cancel", "remove"):
        await rig.reached(record.id, S.SUSPENDING)
        await getattr(queue, end)(record.id)
    else:
        await rig.reached(record.id, S.ERROR, S.CANCELED)
    await empty(root)


async def test_there_for_the_clean_up(rig: Rig, root: Path) -> None:
    seen: list[str] = []

    async def run(ctx: Context) -> Outcome:
        (ctx.temp_folder() / "file").write_text("x")
        raise CriticalError("no")

    async def cleanup(ctx: Context) -> None:
        seen.extend(os.listdir(ctx.temp_folder()))

    queue = await rig.start(task(run, cleanup=cleanup), temp_root=root)
    await rig.failed((await queue.submit("test")).id)
    await empty(root)
    assert seen == ["file"]


async def test_a_blocking_step_may_ask(rig: Rig, root: Path) -> None:
    def run(ctx: Context) -> Outcome:
        (ctx.temp_folder() / "file").write_text("x")
        return Completed(str(ctx.temp_folder()))

    queue = await rig.start(task(run), temp_root=root)
    record = await queue.submit("test")
    assert (await rig.done(record.id)).result == str(root / str(record.id))
    await empty(root)


async def test_a_retried_task_gets_a_new_one(rig: Rig, root: Path) -> None:
    async def run(ctx: Context) -> Outcome:
        found = os.listdir(ctx.temp_folder())
        (ctx.temp_folder() / "file").write_text("x")
        if ctx.record.retries:
            return Completed(found)
        raise CriticalError("no")

    queue = await rig.start(task(run), temp_root=root)
    record = await queue.submit("test")
    await rig.failed(record.id)
    await queue.retry(record.id)
    assert (await rig.done(record.id)).result == []
    await empty(root)


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc", "../x", "a\0b"])
async def test_names_do_not_lead_out(rig: Rig, root: Path, name: str) -> None:
    async def run(ctx: Context) -> Outcome:
        ctx.temp_folder(name)
        return Completed()

    queue = await rig.start(task(run), temp_root=root)
    failed = await rig.failed((await queue.submit("test")).id)
    assert failed.error is not None
    assert failed.error.kind == "ValueError"
    await empty(root)


async def test_nothing_is_reached_through_links(rig: Rig, root: Path, tmp_path: Path) -> None:
    """A link in the place of a folder is not entered, and what links lead to is not deleted."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")

    async def run(ctx: Context) -> Outcome:
        own = ctx.temp_folder()
        (own / "out").symlink_to(precious)
        (own / "file").symlink_to(precious / "file")
        try:
            ctx.temp_folder("out")
        except PermissionError as error:
            return Completed(str(error))
        return Completed("was let through")

    queue = await rig.start(task(run), temp_root=root)
    record = await queue.submit("test")
    assert "not a folder" in (await rig.done(record.id)).result
    await empty(root)
    assert (precious / "file").read_text() == "mine"
    (root / str(record.id + 1)).symlink_to(precious)
    other = await queue.submit("test")
    assert other.id == record.id + 1
    failed = await rig.failed(other.id)
    assert failed.error is not None
    assert "not a folder" in failed.error.message
    assert os.listdir(precious) == ["file"]


def test_removing_never_follows_a_link(tmp_path: Path) -> None:
    precious, folder = tmp_path / "precious", tmp_path / "folder"
    (precious / "sub").mkdir(parents=True)
    (precious / "file").write_text("mine")
    precious.chmod(0o500)
    (folder / "locked").mkdir(parents=True)
    (folder / "locked" / "file").write_text("x")
    (folder / "locked" / "out").symlink_to(precious)
    (folder / "locked").chmod(0o500)
    link = tmp_path / "link"
    link.symlink_to(precious)
    remove(link)
    remove(folder)
    remove(folder)
    assert sorted(os.listdir(tmp_path)) == ["precious"]
    assert sorted(os.listdir(precious)) == ["file", "sub"]
    assert stat.S_IMODE(precious.stat().st_mode) == 0o500
    precious.chmod(0o700)


async def test_a_root_that_others_may_write_to(rig: Rig, root: Path) -> None:
    root.mkdir()
    root.chmod(0o777)

    async def run(ctx: Context) -> Outcome:
        return Completed(str(ctx.temp_folder()))

    queue = await rig.start(task(run), temp_root=root)
    failed = await rig.failed((await queue.submit("test")).id)
    assert failed.error is not None
    assert f"others may write to {root}" in failed.error.message
    assert os.listdir(root) == []


# -- the cap ----------------------------------------------------------------------------------------------------------


async def test_over_the_cap_a_step_that_asks_fails_and_tries_again(rig: Rig, root: Path) -> None:
    queue = await rig.start(task(writes(60)), temp_root=root, temp_cap=50, max_retry=9, retry_delay=1)
    first = await queue.submit("test")
    await rig.reached(first.id, S.SUSPENDING)
    second = await queue.submit("test")
    waiting = await rig.reached(second.id, S.SUSPENDING)
    assert waiting.error is not None
    assert waiting.error.kind == "temp_full"
    assert f"task {second.id} gets no temporary folder: 60 B are in use of all tasks" in waiting.error.message
    await queue.cancel(first.id)
    await gone(root / str(first.id))
    rig.clock.advance(5)
    got_it = await rig.reached(second.id, S.SUSPENDING, newer_than=waiting)
    assert (got_it.attempt, queue._folders.size) == (0, 60)
    rig.clock.advance(1)
    over = await rig.reached(second.id, S.SUSPENDING, newer_than=got_it)
    assert over.attempt == 1, "it is over the cap by itself, and had not said so"


async def test_who_keeps_to_the_estimate_goes_on(rig: Rig, root: Path) -> None:
    gate = Gate()

    async def modest(ctx: Context) -> Outcome:
        (ctx.temp_folder() / "file").write_bytes(b"x" * 60)
        await gate.passing(ctx)
        return Completed(os.listdir(ctx.temp_folder()))

    queue = await rig.start(task(modest, "modest"), task(writes(500)), temp_root=root, temp_cap=200)
    first = await queue.submit("modest", estimate={"temp": 150})
    await gate.entered()
    greedy = await queue.submit("test")
    await rig.reached(greedy.id, S.SUSPENDING)
    gate.open()
    assert (await rig.done(first.id)).result == ["file"]
    rig.clock.advance(1)
    assert (await rig.failed(greedy.id)).error is not None


async def test_with_an_estimate_it_waits(rig: Rig, root: Path) -> None:
    """What is on disk counts, and what those that run have said."""
    gate = Gate()

    async def stands(ctx: Context) -> Outcome:
        await gate.passing(ctx)
        return Completed()

    queue = await rig.start(task(writes(60)), task(stands, "stands"), temp_root=root, temp_cap=100)
    first = await queue.submit("test")
    await rig.reached(first.id, S.SUSPENDING)
    second = await queue.submit("stands", estimate={"temp": 50})
    async with asyncio.timeout(PATIENCE):
        while (held := await queue.get(second.id)).hold != "resources":
            await asyncio.sleep(0.001)
    assert str(queue.lack(held)) == "temp: it needs 50 B, 40 B left"
    fits = await queue.submit("stands", estimate={"temp": 40})
    assert await gate.entered() == fits.id
    await queue.cancel(first.id)
    rig.clock.advance(5)
    assert await gate.entered() == second.id
    gate.open()


async def test_a_long_step_is_looked_at(rig: Rig, root: Path) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        (ctx.temp_folder() / "file").write_bytes(b"x" * 60)
        await gate.passing(ctx)
        return Completed()

    queue = await rig.start(task(run), temp_root=root)
    rig.clock.advance(0.5)  # so that the timer is not the pool's
    await queue.submit("test")
    await gate.entered()
    await rig.timer(LOOK)
    (root / "1" / "more").write_bytes(b"x" * 40)
    rig.clock.advance(LOOK)
    async with asyncio.timeout(PATIENCE):
        while queue._folders.size != 100:
            await asyncio.sleep(0.001)
    gate.open()
    await rig.done(1)


# -- what is left -----------------------------------------------------------------------------------------------------


async def test_a_crash_leaves_nothing_for_good(rig: Rig, root: Path) -> None:
    queue = await rig.start(task(writes(1)), temp_root=root)
    ended, waiting = await queue.submit("test"), await queue.submit("test")
    for record in (ended, waiting):
        await rig.reached(record.id, S.SUSPENDING)
    await queue.pause(waiting.id)
    rig.clock.advance(1)
    await rig.done(ended.id)
    await gone(root / str(ended.id))
    await rig.crash()
    for left in (str(ended.id), "4711", ".removed-0123abcd-9-1", "somebody else's", "007"):
        (root / left).mkdir()
        (root / left / "file").write_text("x")
    queue = await rig.start(task(writes(1)), temp_root=root)
    async with asyncio.timeout(PATIENCE):
        while sorted(os.listdir(root)) != ["007", str(waiting.id), "somebody else's"] or queue._folders.size != 1:
            await asyncio.sleep(0.001)
    await queue.resume(waiting.id)
    assert (await rig.done(waiting.id)).result == ["1", "2"]
    await gone(root / str(waiting.id))


async def test_untouched_for_too_long(rig: Rig, root: Path) -> None:
    gate = Gate()

    async def run(ctx: Context) -> Outcome:
        (ctx.temp_folder() / "file").write_text("x")
        if ctx.params:
            await gate.passing(ctx)
        return ResumeAfter(10**6)

    queue = await rig.start(task(run), temp_root=root, temp_age=1000)
    waiting, running = await queue.submit("test", False), await queue.submit("test", True)
    await rig.reached(waiting.id, S.SUSPENDING)
    await gate.entered()
    for record in (waiting, running):
        for path in (root / str(record.id) / "file", root / str(record.id)):
            os.utime(path, (rig.clock.time(), rig.clock.time()))
    async with asyncio.timeout(PATIENCE):
        while (root / str(waiting.id)).exists():
            rig.clock.advance(SWEEP)
            await settled(2)
    assert (root / str(running.id)).exists()
    gate.open()


async def test_without_a_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a SQLite file; else a folder of this run."""
    monkeypatch.chdir(tmp_path)

    async def run(ctx: Context) -> Outcome:
        (ctx.temp_folder() / "file").write_text("x")
        return Completed(str(ctx.temp_folder()))

    for store, namespace, where in (
        ("sqlite:///q.db", "default", tmp_path / "q.db.temp" / "1"),
        ("sqlite:///q.db", "a/../b", tmp_path / "q.db.a%2F..%2Fb.temp" / "2"),
        (None, "default", None),
    ):
        async with Queue(tasks=[task(run)], store=store, namespace=namespace) as queue:
            done = await queue.wait((await queue.submit("test")).id, timeout=PATIENCE)
            if where is not None:
                assert done.result == str(where)
            await gone(Path(done.result))
        assert Path(done.result).parent.exists() == (where is not None)


async def test_the_stop_does_not_take_folders_of_what_goes_on(rig: Rig, root: Path) -> None:
    queue = await rig.start(task(writes(1)), temp_root=root)
    record = await queue.submit("test")
    await rig.reached(record.id, S.SUSPENDING)
    await rig.stop()
    assert os.listdir(root) == [str(record.id)]
    await rig.start(task(writes(1)), temp_root=root)
    rig.clock.advance(1)
    await rig.done(record.id)
    await gone(root / str(record.id))


def test_temp_full_is_told_apart() -> None:
    assert TempFull.kind == "temp_full"
