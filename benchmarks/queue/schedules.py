"""How late schedules fire when there are many of them.

SQLite with `synchronous=FULL`; one process, no-op tasks that run as they come. *Lag* is from the moment at which a run
is due to the moment at which its task is stored and everybody has been told of it (the commit included). Percentiles
over all runs of the measured time; runs that are missing are counted and fail the benchmark.

- *spread*: every schedule is due once a minute, at a second of its own: `S * * * * *`.
- *at once*: all are due in the same second of the minute: the last one waits for all others.

    python -m benchmarks.queue.schedules [--schedules 10000] [--seconds 60] [--folder DIR]
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import tempfile
import time
from pathlib import Path

from dlqueue.queue import Completed, Context, Outcome, Queue, Task
from dlqueue.queue.notices import ScheduleNotice
from dlqueue.runtime.bus import Missed


class NoOp(Task):
    type = "no-op"

    async def run(self, ctx: Context) -> Outcome:
        return Completed()


async def _create(queue: Queue, crons: list[str]) -> float:
    began = time.perf_counter()
    for start in range(0, len(crons), 500):
        await asyncio.gather(
            *(
                queue.schedules.create(f"schedule {number:06}", NoOp.type, {"number": number}, cron=cron)
                for number, cron in enumerate(crons[start : start + 500], start)
            )
        )
    return time.perf_counter() - began


def percentile(values: list[float], share: float) -> float:
    return values[min(int(len(values) * share), len(values) - 1)]


async def measured(title: str, folder: Path, crons: list[str], seconds: float, per_minute: int) -> None:
    """Fill a new database, measure for so long from the next full minute, print a line."""
    async with Queue(tasks=[NoOp], store=f"sqlite:///{folder}/{title.replace(' ', '-')}.db", workers=8) as queue:
        made_in = await _create(queue, crons)
        begin = (time.time() // 60 + 1) * 60
        heard = queue.bus.subscribe(lambda notice: isinstance(notice, ScheduleNotice), size=1_000_000)
        end = begin + seconds
        await asyncio.sleep(begin - 0.5 - time.time())
        cpu = resource.getrusage(resource.RUSAGE_SELF)
        lags: list[float] = []
        expected = round(per_minute * seconds / 60)
        try:
            async with asyncio.timeout(end - time.time() + 30):
                async for notice in heard:
                    now = time.time()
                    if isinstance(notice, Missed):
                        raise SystemExit("the benchmark itself was too slow to listen")
                    assert isinstance(notice, ScheduleNotice)
                    if notice.run is not None and begin <= notice.run.due_at < end:
                        lags.append(now - notice.run.due_at)
                        if len(lags) == expected:
                            break
        except TimeoutError:
            pass
        after = resource.getrusage(resource.RUSAGE_SELF)
    lags.sort()
    used = after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime
    p50, p99, most = (percentile(lags, share) * 1e3 for share in (0.5, 0.99, 1.0))
    print(
        f"{title:<8} {len(crons):>6} schedules  {len(lags):>6} of {expected} runs  p50 {p50:6.1f} ms  p99 {p99:7.1f} ms"
        f"  max {most:7.1f} ms  {used / max(len(lags), 1) * 1e6:5.0f} CPU-µs a run with its task"
        f"  (created in {made_in:.1f} s)",
        flush=True,
    )
    if len(lags) != expected:
        raise SystemExit(f"{title}: {expected - len(lags)} runs are missing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--folder", type=Path)
    options, _ = parser.parse_known_args()
    print(__doc__)
    count = options.schedules
    print(f"Python {sys.version.split()[0]}")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        spread = [f"{number % 60} * * * * *" for number in range(count)]
        asyncio.run(measured("spread", Path(folder), spread, options.seconds, count))
        asyncio.run(measured("at once", Path(folder), ["0 * * * * *"] * count, 60.0, count))


if __name__ == "__main__":
    main()
