"""The counters in the database are what counting its rows would say: also after rollbacks, and after a kill."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dlqueue.queue import Filter, StorageError, transitions, wants
from dlqueue.queue.record import Change, NewTask, TaskRecord
from dlqueue.queue.sql import SqlStore
from dlqueue.queue.sql.rows import Driver
from dlqueue.queue.status import Status
from dlqueue.queue.testing.bench import NODE, NOW

pytestmark = pytest.mark.anyio
S = Status


def in_the_file(path: Path) -> tuple[dict[tuple[str, str], int], dict[tuple[str, str], int]]:
    """What the counters say, and what there is."""
    database = sqlite3.connect(path)
    counters = database.execute("SELECT queue, status, count FROM counter WHERE count <> 0").fetchall()
    counted = database.execute("SELECT queue, status, count(*) FROM task GROUP BY queue, status").fetchall()
    spans = database.execute("SELECT sum(count), sum(seconds) FROM task_hour GROUP BY span").fetchall()
    assert len(set(spans)) == 1, "hours, days and the whole are the same ends"
    database.close()
    return {row[:2]: row[2] for row in counters}, {row[:2]: row[2] for row in counted}


class Flaky:
    """Some transactions fail when everything has been written, as with a full disk."""

    def __init__(self, store: SqlStore, luck: random.Random) -> None:
        self.write = store._verbs.before_commit
        self.luck = luck
        self.failed = 0

    def __call__(self, driver: Driver) -> None:
        self.write(driver)
        if self.luck.random() < 0.25:
            self.failed += 1
            raise sqlite3.OperationalError("database or disk is full")


@pytest.mark.parametrize("seed", range(6))
async def test_counters_are_what_there_is(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    luck = random.Random(seed)
    path = tmp_path / "0.db"
    store = SqlStore(f"sqlite:///{path}")
    failed = 0

    async def begin() -> Flaky:
        flaky = Flaky(store, luck)
        monkeypatch.setattr(store._verbs, "before_commit", flaky)
        await store.open(lambda changes: None)
        return flaky

    flaky = await begin()
    ids: list[int] = []
    for step in range(150):
        try:
            if luck.random() < 0.35 or not ids:
                new = [
                    NewTask(
                        type="t",
                        params=None,
                        queue=luck.choice("ab"),
                        paused=luck.random() < 0.1,
                        depends_on=tuple(luck.sample(ids, 1)) if ids and luck.random() < 0.3 else (),
                    )
                    for _ in range(luck.randrange(1, 5))
                ]
                ids += [submission.record.id for submission in await store.submit(new, NOW)]
            else:
                chosen = luck.sample(ids, min(len(ids), 3))
                await store.transact([(task_id, partial(anything, luck=luck)) for task_id in chosen])
            if step % 40 == 39:
                expired = await store.expired(Filter(), NOW + 1, 5)
                await store.purge([task_id for _, task_id in expired], NOW + 1, (), NOW)
        except StorageError:
            pass
        ids = await store.ids(Filter(), 1000)
        if step % 50 == 49:
            failed += flaky.failed
            counters, counted = in_the_file(path)
            assert counters == counted
            # Killed: another process finds the files as they are.
            killed = tmp_path / f"{step}.db"
            for end in ("", "-wal"):
                if Path(f"{path}{end}").exists():
                    shutil.copy(f"{path}{end}", f"{killed}{end}")
            await store.close()
            path, store = killed, SqlStore(f"sqlite:///{killed}")
            flaky = await begin()
            assert {(q, str(s)): n for q in "ab" for s, n in (await store.tally(q)).items()} == counted
    await store.close()
    assert failed > 5


def anything(record: TaskRecord, *, luck: random.Random) -> Change | None:
    """One of the things that may become of it."""
    token = record.lease_token
    end = transitions.Settlement(target=luck.choice([S.COMPLETED, S.ERROR, S.SUSPENDING]), kind="completed")
    end.kind = {S.COMPLETED: "completed", S.ERROR: "error"}.get(end.target, "suspended")
    choices: Sequence[Any] = (
        partial(transitions.claim, node=NODE, now=NOW),
        partial(transitions.settle, token=token, end=end, now=NOW + 5),
        partial(transitions.settle, token=token, end=end, now=NOW + 5000),
        partial(transitions.rescue, now=NOW),
        partial(wants.pause, now=NOW, runs_step=False),
        partial(wants.resume, now=NOW),
        partial(wants.cancel, now=NOW, needs_cleanup=False),
        partial(wants.retry, now=NOW),
    )
    change: Change | None = luck.choice(choices)(record)
    return change
