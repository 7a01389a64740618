"""`make bench`: every benchmark, one after the other, each printing its definition first."""

from __future__ import annotations

from benchmarks.downloads import aria2, daemon, engine, many, qbittorrent
from benchmarks.queue import core, scale, schedules
from benchmarks.service import clients

for benchmark in (engine, daemon, aria2, qbittorrent, many, core, schedules, clients):
    print(f"== {benchmark.__name__}\n\n{benchmark.__doc__}")
    benchmark.main()
print(f"== {scale.__name__}\n")
scale.main([])
