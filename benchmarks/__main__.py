"""`make bench`: every benchmark, one after the other, each printing its definition first."""

from __future__ import annotations

from benchmarks.downloads import daemon, engine
from benchmarks.queue import schedules

for benchmark in (engine, daemon, schedules):
    print(f"== {benchmark.__name__}\n\n{benchmark.__doc__}")
    benchmark.main()
