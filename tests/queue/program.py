"""A program with a queue of its own, to be killed: ``python -m tests.queue.program FOLDER steps|long|short [LAST]``.

``steps``: 400 tasks of four steps; ends when all are done, or kills itself in its step number LAST. ``long``: steps
that would take an hour; ends at SIGTERM. ``short``: the same tasks, whose steps take no time; ends when all are done.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from dlqueue.queue import Completed, Context, Outcome, Queue, ResumeAfter, Task

TASKS = 400
STEPS = 4


class Steps(Task):
    """Writes down what it found in its state at every step, outside of the database."""

    type = "steps"

    def __init__(self, folder: Path, last: int | None) -> None:
        self._log = os.open(folder / "steps.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._left = last

    async def run(self, ctx: Context) -> Outcome:
        found: int = ctx.state.get("done", 0)
        os.write(self._log, f"{ctx.task_id} {found}\n".encode())
        if self._left is not None:
            self._left -= 1
            if not self._left:
                # While others are at work and the writer writes; nobody outside could say when it has got so far.
                os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(0.003)
        ctx.state["done"] = found + 1
        return Completed(found + 1) if found + 1 == STEPS else ResumeAfter(0.001)


class Long(Task):
    type = "long"

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def run(self, ctx: Context) -> Outcome:
        os.write(1, b"in a step\n")  # one write: several threads say so
        await asyncio.sleep(self._seconds)
        return Completed("slept")


class LongBlocking(Task):
    """Looks at nothing while it works."""

    type = "long_blocking"

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def run(self, ctx: Context) -> Outcome:  # type: ignore[override]
        os.write(1, b"in a step\n")  # one write: several threads say so
        time.sleep(self._seconds)
        return Completed("slept")


async def main(folder: Path, mode: str, last: int | None = None) -> None:
    seconds = 3600 if mode == "long" else 0
    queue = Queue(
        tasks=[Steps(folder, last), Long(seconds), LongBlocking(seconds)],
        store=f"sqlite:///{folder}/queue.db",
        workers=8,
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await queue.open()
    queue.start()
    if await queue.count() == 0:
        kinds = ["steps"] * TASKS if mode == "steps" else ["long", "long_blocking"] * 2
        await queue.submit_many([(kind, number) for number, kind in enumerate(kinds)])
    if mode == "long":
        await stop.wait()
    else:
        for record in (await queue.list(limit=1000)).items:
            await queue.wait(record.id)
    await queue.shutdown(grace=0.2)
    print("stopped", flush=True)
    if mode == "long":
        os._exit(0)  # the threads of the blocking steps would be waited for


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])))
