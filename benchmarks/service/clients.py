"""The Unix socket of a real daemon with 1,000 clients that say nothing and 50 that ask and never read.

- *others*: 10 clients that ask one thing after the other: `daemon.info`, `tasks.get`, `tasks.list` (10 of 1,000 tasks)
  and every tenth time `tasks.submit`. p99 of all answers, in ms: alone, and beside the 1,050. The rounds alternate in
  one run, each side's median counts.
- *never read*: each asks for lists of all 1,000 tasks (2 MB an answer) over and over, half of them in batches,
  subscribes to events, and takes nothing. Whoever is dropped stays away; with ``--return`` he is there again at once
  and asks the same.
- *memory*: what the daemon's resident memory has more at its highest than before the 1,050 came.

    python -m benchmarks.service.clients [--idle 1000] [--deaf 50] [--seconds 15] [--rounds 3] [--return]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dlqueue.client import Client, DaemonUnreachable

OTHERS = 10
TASKS = 1000


def line(method: str, number: int = 1, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode() + b"\n"


def batch(count: int) -> bytes:
    one = json.loads(line("tasks.list", limit=TASKS))
    return json.dumps([{**one, "id": n} for n in range(count)]).encode() + b"\n"


class Daemon:
    """A daemon in a folder of its own, with tasks that wait for a year."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "s.sock"
        config = folder / "dlqueue.toml"
        (folder / "out").mkdir()
        config.write_text(f'[daemon]\ndownloads = "{folder}/out"\n')
        environ = {**os.environ, "HOME": str(folder), "XDG_STATE_HOME": str(folder / "state")}
        command = ["-m", "dlqueue", "--config", str(config), "--socket", str(self.socket), "daemon", "--user"]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen([sys.executable, *command], env=environ, stdout=log, stderr=log)
        end = time.monotonic() + 30
        while True:
            try:
                with Client(self.socket) as client:
                    params = {"url": "http://host.invalid/" + "x" * 500, "delay": 3e7}
                    self.ids = [client.call("downloads.add", {**params, "name": f"n{n}"})["id"] for n in range(TASKS)]
                return
            except DaemonUnreachable:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def memory(self) -> int:
        """Resident bytes."""
        status = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(status[1]) * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


async def idle(daemon: Daemon) -> None:
    reader, writer = await asyncio.open_unix_connection(str(daemon.socket))
    try:
        await reader.read()
    finally:
        writer.close()


async def deaf(daemon: Daemon, number: int, dropped: list[int], returns: bool) -> None:
    """Asks, and never reads. What it asks fits into the daemon's side of the socket, or stays unsent."""
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_unix_connection(str(daemon.socket))
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            try:
                writer.write(line("events.subscribe", topics=["task", "progress"]))
                writer.write(batch(100) if number % 2 else line("tasks.list", limit=TASKS) * 100)
                while not reader._transport.is_closing():  # type: ignore[attr-defined]
                    writer.write(line("daemon.info"))
                    await asyncio.sleep(0.5)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(1):
                            await writer.drain()
            except OSError:
                dropped.append(number)
                if not returns:
                    return
            finally:
                writer.transport.abort()


async def other(daemon: Daemon, end: float, times: list[float]) -> None:
    reader, writer = await asyncio.open_unix_connection(str(daemon.socket), limit=1 << 24)
    count = 0
    asks = [line("daemon.info"), line("tasks.get", id=daemon.ids[7]), line("tasks.list", limit=10)]
    submit = line("tasks.submit", type="remote_download", params={"url": "http://host.invalid/y"}, delay=3e7)
    while time.perf_counter() < end:
        began = time.perf_counter()
        writer.write(submit if count % 10 == 9 else asks[count % len(asks)])
        answer = json.loads(await reader.readline())
        times.append(time.perf_counter() - began)
        assert "result" in answer, answer
        count += 1
    writer.close()


async def round_of_others(daemon: Daemon, seconds: float) -> float:
    """p99 in ms."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    await asyncio.gather(*(other(daemon, end, times) for _ in range(OTHERS)))
    return 1000 * statistics.quantiles(times, n=100)[98]


async def crowd(arguments: argparse.Namespace, daemon: Daemon) -> tuple[list[float], int, int]:
    """With the 1,050: p99 of each round, most memory, and how many were dropped."""
    dropped: list[int] = []
    people = [asyncio.create_task(idle(daemon)) for _ in range(arguments.idle)]
    people += [asyncio.create_task(deaf(daemon, n, dropped, arguments.returns)) for n in range(arguments.deaf)]
    highest = 0

    async def watch() -> None:
        nonlocal highest
        while True:
            highest = max(highest, daemon.memory())
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    figures = []
    try:
        await asyncio.sleep(1.0)
        figures.append(await round_of_others(daemon, arguments.seconds))
        away = sum(task.done() for task in people[: arguments.idle])
        assert not away, f"{away} idle clients were not let in, or sent away"
    finally:
        watching.cancel()
        for task in people:
            task.cancel()
        await asyncio.gather(*people, watching, return_exceptions=True)
    return figures, highest, len(dropped)


async def measure(arguments: argparse.Namespace, daemon: Daemon) -> None:
    alone: list[float] = []
    beside: list[float] = []
    before, highest, dropped = 0, 0, 0
    await round_of_others(daemon, 1.0)
    for _ in range(arguments.rounds):
        alone.append(await round_of_others(daemon, arguments.seconds))
        before = before or daemon.memory()
        figures, most, gone = await crowd(arguments, daemon)
        beside += figures
        highest, dropped = max(highest, most), dropped + gone
        await asyncio.sleep(1.0)
    left, right = statistics.median(alone), statistics.median(beside)
    print(f"p99 of others, alone   {left:8.2f} ms   ({', '.join(f'{one:.2f}' for one in alone)})")
    print(f"p99 of others, beside  {right:8.2f} ms   ({', '.join(f'{one:.2f}' for one in beside)})")
    print(f"ratio                  {right / left:8.2f}      (at most 2)")
    print(f"memory, more by        {(highest - before) / 2**20:8.1f} MiB  (at most 128)")
    print(f"dropped                {dropped:8d}")


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--idle", type=int, default=1000)
    parser.add_argument("--deaf", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--return", dest="returns", action="store_true")
    arguments = parser.parse_args([] if given is None else given)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    with tempfile.TemporaryDirectory(prefix="dlqueue-bench-") as folder:
        daemon = Daemon(Path(folder))
        try:
            asyncio.run(measure(arguments, daemon))
        finally:
            daemon.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
