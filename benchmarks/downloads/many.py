"""Looking after 10,000 transfers of one downloader, all of which move; the downloader is made up and costs nothing.

Queue (on SQLite), coordinator and tasks as the daemon has them, in this process; no sockets.

- *watching*: so many transfers, looked at once a second, each with new bytes at each look. CPU is that of the process
  without the made-up downloader, as a share of one core. Against a poller that makes one call per transfer through the
  same threads, in the same run: what one of its rounds costs.
- *delivered*: some of them become whole, one by one, while all others go on: from the moment in which the downloader
  would first have said so until the file is in its place.

    python -m benchmarks.downloads.many [--transfers 10000] [--seconds 20] [--deliveries 200]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlqueue.downloads.endpoints import EndpointConfig, Endpoints
from dlqueue.downloads.policy import Policy
from dlqueue.downloads.recovery import read_state
from dlqueue.downloads.task import RemoteDownload
from dlqueue.downloads.upload import Uploads
from dlqueue.queue import Queue, QueueSettings, Status, TaskRecord
from dlqueue.runtime.clock import SystemClock
from dlqueue.sdk import Context, Downloader, Handle, Request, TransferState, TransferStatus

POLL = 1.0
SIZE = 1 << 40


class Steady(Downloader):
    """Its transfers move as time passes; they become whole when they are told."""

    kind = "steady"
    schemes = frozenset({"http"})

    def __init__(self) -> None:
        self.folders: dict[str, Path] = {}
        self.whole: dict[str, float] = {}
        self.polls = 0
        self.cpu = 0.0

    def open(self, config: Any, context: Context) -> None:
        self.began = time.time()

    def test(self) -> str:
        return "1"

    def create(self, request: Request, key: str) -> Handle:
        self.folders[key] = Path(request.directory)
        return Handle(key)

    def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, TransferStatus]:
        began = time.thread_time()
        self.polls += 1
        come, state = int((time.time() - self.began) * 1e6), TransferState.DOWNLOADING
        seen = {handle: TransferStatus(state, handle.id, SIZE, come, 1_000_000) for handle in handles}
        for handle in [handle for handle in handles if handle.id in self.whole] if self.whole else ():
            path = self.folders[handle.id] / "file"
            seen[handle] = TransferStatus(TransferState.COMPLETED, "file", 4, 4, content=(str(path),))
        self.cpu += time.thread_time() - began
        return seen

    def finish(self, key: str) -> None:
        path = self.folders[key] / "file"
        path.write_bytes(b"done")
        self.whole[key] = time.time()

    def pause(self, handle: Handle) -> None:
        pass

    def resume(self, handle: Handle) -> None:
        pass

    def remove(self, handle: Handle, delete_data: bool) -> None:
        self.folders.pop(handle.id, None)

    def close(self) -> None:
        pass


async def watch(folder: Path, options: argparse.Namespace) -> None:
    count, clock = options.transfers, SystemClock()
    out = folder / "out"
    out.mkdir()
    policy = Policy(frozenset({"http"}), True, (out,))
    queues = {"downloads": QueueSettings(concurrency=16)}
    queue = Queue((), f"sqlite:///{folder}/queue.db", workers=8, queues=queues, clock=clock)
    config = EndpointConfig("steady", Steady, max_active=2 * count, poll=POLL)
    endpoints = Endpoints(
        {"steady": config}, folder / "state", policy, clock, queue.wake, lambda *_: None, lambda: False
    )
    staging = folder / "out" / ".dlqueue"
    queue.register(RemoteDownload(endpoints, policy, out, lambda _: staging, clock, Uploads(folder / "uploads")))
    await queue.open()
    await endpoints.open()
    queue.start()
    urls = [f"http://127.0.0.1/{number}" for number in range(count)]
    began = time.perf_counter()
    for start in range(0, count, 1000):
        await queue.submit_many([("remote_download", {"url": url}) for url in urls[start : start + 1000]])
    steady: Any = endpoints["steady"].downloader
    while await queue.count(status=[Status.QUEUED, Status.PROCESSING]):
        await asyncio.sleep(0.1)
    print(f"\n{count} transfers begun in {time.perf_counter() - began:.0f} s")
    await asyncio.sleep(2 * POLL)
    polls, cpu, own = steady.polls, time.process_time(), steady.cpu
    await asyncio.sleep(options.seconds)
    polls, cpu, own = steady.polls - polls, time.process_time() - cpu, steady.cpu - own
    keys = list(steady.folders)
    naive = time.process_time()
    for key in keys:
        await endpoints["steady"].call(steady.poll, [Handle(key)])
    naive = time.process_time() - naive
    share = (cpu - own) / options.seconds
    print(f"watching {count} transfers once a second, for {options.seconds} s")
    print(f"  dlqueue                   {100 * share:5.1f} % of a core (limit 10 %, goal 3 %)")
    print(f"  requests                  {polls / options.seconds:5.2f} a second")
    print(f"  one call per transfer     {naive:5.2f} s of CPU for one round: {share / naive:.3f} of it")
    for key in keys[:: max(1, count // options.deliveries)][: options.deliveries]:
        await asyncio.sleep(0.037)
        await asyncio.to_thread(steady.finish, key)
    ended: list[TaskRecord] = []
    while len(ended) < len(steady.whole):
        await asyncio.sleep(0.1)
        ended = (await queue.list(status=Status.COMPLETED, limit=options.deliveries)).items
    waits = sorted((record.delivered_at or 0.0) - steady.whole[key_of(record)] for record in ended)
    print(f"from whole until delivered, {len(waits)} transfers")
    median, last = waits[len(waits) // 2], waits[len(waits) * 99 // 100 - 1]
    print(f"  median {median:.2f} s   p99 {last:.2f} s (limit {1.5 * POLL} s)")
    await endpoints.close()
    await queue.shutdown(grace=0)


def key_of(record: TaskRecord) -> str:
    return str(read_state(record).attempts[-1].key)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transfers", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--deliveries", type=int, default=200)
    options = parser.parse_args([] if sys.argv[0].endswith("__main__.py") else None)
    gc.freeze()
    with tempfile.TemporaryDirectory(prefix="dlqueue-bench-") as name:
        asyncio.run(watch(Path(name), options))


if __name__ == "__main__":
    main()
