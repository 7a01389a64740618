"""The first example of the Python interface works as it is written."""

from __future__ import annotations

import asyncio
import textwrap
from pathlib import Path
from typing import Any

import pytest

from dlqueue.queue import queue as queue_module
from dlqueue.queue.testing import PATIENCE, FakeClock

pytestmark = pytest.mark.anyio

EXAMPLE = textwrap.dedent("""
    from dlqueue.queue import Queue, Task, Completed, ResumeAfter, Canceled, CriticalError

    class Probe(Task):
        type = "probe"                                   # how the row finds its class again
        async def run(self, ctx):                        # one step; a plain `def run` goes to a thread
            ctx.state["polls"] = ctx.state.get("polls", 0) + 1     # private state: saved with the outcome of this step
            ctx.progress(percent=20 * ctx.state["polls"], message="polling")
            if ctx.state["polls"] < 5:
                return ResumeAfter(1.0)                  # seconds; the worker is free meanwhile
            return Completed({"polls": ctx.state["polls"], "url": ctx.params["url"]})

    async def main(urls):
        async with Queue(tasks=[Probe], store="sqlite:///queue.db", workers=4,          # store=None: in memory
                         max_retry=5, retry_delay=0, backoff_factor=2, backoff_max=60,
                         max_execution=60 * 3600, capacity=None, name="default") as queue:
            task = await queue.submit("probe", {"url": "https://…"}, priority=5, delay=0, unique_key=None)
            tasks = await queue.submit_many([("probe", {"url": u}) for u in urls])      # all or nothing
            done = await queue.wait(task.id, timeout=60)     # a TaskRecord: .status .result .error .retries …
            others = [await queue.wait(other.id, timeout=60) for other in tasks]
            canceled = await queue.submit("probe", {"url": "https://…"}, delay=3600)
            await queue.cancel(canceled.id); await queue.retry(canceled.id); await queue.get(task.id)
            failed = await queue.list(status="error")
            again = await queue.wait(canceled.id, timeout=60)
            counters = queue.counters            # busy_workers submitted completed failed canceled suspending
            await queue.shutdown(grace=10)                   # also on leaving the block
        return done, others, again, failed, counters
""")


@pytest.mark.parametrize("store", ["sqlite:///queue.db", None])
async def test_the_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str | None) -> None:
    clock = FakeClock()
    monkeypatch.setattr(queue_module, "SystemClock", lambda: clock)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(EXAMPLE.replace('"sqlite:///queue.db"', repr(store)), "example", "exec"), names)
    running = asyncio.ensure_future(names["main"](["https://a", "https://b"]))
    async with asyncio.timeout(PATIENCE * 3):
        while not (await asyncio.wait({running}, timeout=0.005))[0]:
            # Only for the pauses between its steps: on a slow machine the time-outs would be over before it is.
            if clock.next_time is not None and clock.next_time - clock.time() < 1.5:
                clock.advance(0.25)
    done, others, again, failed, counters = await running
    assert done.status == "completed"
    assert (done.result, done.error, done.retries) == ({"polls": 5, "url": "https://…"}, None, 0)
    assert (done.progress.percent, done.progress.message) == (100.0, "polling")
    assert [other.result["url"] for other in others] == ["https://a", "https://b"]
    assert (again.status, again.retries) == ("completed", 1)
    assert (failed.items, failed.next_cursor, failed.total) == ([], None, None)
    assert (counters.submitted, counters.completed, counters.canceled, counters.failed) == (4, 4, 1, 0)
    assert (counters.busy_workers, counters.suspending) == (0, 0)
    assert (tmp_path / "queue.db").exists() == (store is not None)


async def test_real_time(tmp_path: Path) -> None:
    """Nothing is special about the clock of the tests."""
    names: dict[str, Any] = {}
    example = EXAMPLE.replace("sqlite:///queue.db", f"sqlite:///{tmp_path}/absolute.db").replace("(1.0)", "(0.01)")
    exec(compile(example, "example", "exec"), names)
    async with asyncio.timeout(PATIENCE * 3):
        done, *_ = await names["main"](["https://a"])
    assert done.result["polls"] == 5
