"""The whole of dlqueue against curl and aria2c, and the two waits that a person notices.

A warm daemon (its own home, state and socket in a temporary folder) and a static server run in processes of their own.
Round after round in turn, the best of the rounds counts; CPU is user + system time of the client and its children,
for dlqueue of the daemon too.

- *large*: `dlqueue get` of one file of 512 MiB, against `curl -O` and `aria2c`.
- *small*: 1,000 files of 64 KiB, submitted in one call and waited for, against `aria2c -i` and `curl --parallel`.
- *cold get*: `dlqueue get` of a tiny file with no daemon running, until it has exited.
- *ls*: `dlqueue ls` with 1,000 tasks in the queue.

    python -m benchmarks.downloads.daemon [--rounds 3] [--size-mib 512] [--files 1000] [--folder DIR]
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.downloads.engine import AT_ONCE, Cost, serving
from dlqueue.client import Client, DaemonUnreachable

DLQUEUE = [sys.executable, "-m", "dlqueue"]
TICK = os.sysconf("SC_CLK_TCK")


class Bench:
    """A folder with a server, and the environment of a daemon in it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.home = folder / "home"
        self.home.mkdir()
        self.socket = folder / "run" / "dlqueue" / "dlqueue.sock"
        self.environ = os.environ | {
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(folder / "run"),
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        self._folders = 0

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"

    def fresh(self) -> Path:
        """A new empty folder to download into."""
        self._folders += 1
        target = self.home / f"target{self._folders}"
        target.mkdir()
        return target

    @contextmanager
    def daemon(self, first: str = "s0") -> Iterator[int]:
        """A warm daemon; gives its process id.

        :param first: what it downloads to get warm.
        """
        with subprocess.Popen(
            [*DLQUEUE, "daemon", "--user"], env=self.environ, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            while True:
                try:
                    Client(self.socket).close()
                    break
                except DaemonUnreachable:
                    time.sleep(0.05)
            self.run([*DLQUEUE, "get", "-q", self.url(first)])
            yield process.pid
            process.send_signal(signal.SIGTERM)

    def run(self, command: list[str], target: Path | None = None) -> Cost:
        """One command from start to end."""
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=target or self.fresh(),
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{command} ended with {process.returncode}")
        return Cost(time.perf_counter() - began, usage.ru_utime + usage.ru_stime)


def cpu_of(process_id: int) -> float:
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def with_daemon_cpu(process_id: int, work: Callable[[], Cost]) -> Cost:
    before = cpu_of(process_id)
    cost = work()
    return Cost(cost.wall, cost.cpu + cpu_of(process_id) - before)


def best(costs: list[Cost]) -> Cost:
    return Cost(min(cost.wall for cost in costs), min(cost.cpu for cost in costs))


def large(bench: Bench, process_id: int, rounds: int) -> dict[str, Cost]:
    url = bench.url("big")
    costs: dict[str, list[Cost]] = {}
    for _ in range(rounds):
        for name, command in {
            "dlqueue": [*DLQUEUE, "get", "-q", url],
            "curl": ["curl", "-s", "-O", url],
            "aria2c": ["aria2c", "-q", "--file-allocation=none", url],
        }.items():
            target = bench.fresh()

            def work(command: list[str] = command, target: Path = target) -> Cost:
                return bench.run(command, target)

            costs.setdefault(name, []).append(with_daemon_cpu(process_id, work) if name == "dlqueue" else work())
            (target / "big").unlink()
    return {name: best(some) for name, some in costs.items()}


def small(bench: Bench, process_id: int, rounds: int, files: int) -> dict[str, Cost]:
    urls = [bench.url(f"s{number}") for number in range(files)]
    (bench.folder / "list").write_text("\n".join(urls))
    ranged = bench.url(f"s[0-{files - 1}]")
    costs: dict[str, list[Cost]] = {}
    for _ in range(rounds):
        ours = with_daemon_cpu(process_id, lambda: through_queue(bench, urls))
        costs.setdefault("dlqueue", []).append(ours)
        aria2 = ["aria2c", "-q", "-i", str(bench.folder / "list")]
        costs.setdefault("aria2c -i", []).append(bench.run(aria2))
        curl = ["curl", "-s", "-Z", "--parallel-max", str(AT_ONCE), "--remote-name-all", ranged]
        costs.setdefault("curl --parallel", []).append(bench.run(curl))
    return {name: best(some) for name, some in costs.items()}


def through_queue(bench: Bench, urls: list[str]) -> Cost:
    target = bench.fresh()
    began, cpu = time.perf_counter(), time.process_time()
    with Client(bench.socket) as client:
        task = {"type": "remote_download"}
        ids = []
        for start in range(0, len(urls), 500):
            tasks = [{**task, "params": {"url": u, "directory": str(target)}} for u in urls[start : start + 500]]
            ids += [made["id"] for made in client.call("tasks.submit_many", {"tasks": tasks})]
        for number in ids:
            client.tasks.wait(id=number, until="delivered")
    cost = Cost(time.perf_counter() - began, time.process_time() - cpu)
    if len(list(target.iterdir())) < len(urls):
        raise SystemExit("not everything has arrived")
    return cost


def report(title: str, costs: dict[str, Cost]) -> None:
    print(f"\n{title}")
    for name, cost in costs.items():
        print(f"  {name:16} wall {cost.wall:6.3f} s   cpu {cost.cpu:6.3f} s")
    ours = costs["dlqueue"]
    for name, cost in costs.items():
        if name != "dlqueue":
            print(f"  dlqueue / {name:16} wall {ours.wall / cost.wall:5.2f}   cpu {ours.cpu / cost.cpu:5.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size-mib", type=int, default=512)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--folder", type=Path, default=None, help="where to work (default: the temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="dlqueue-bench-") as name:
        folder = Path(name)
        with serving(folder / "served", options.size_mib, options.files) as port:
            bench = Bench(folder, port)
            cold = []
            for _ in range(options.rounds):
                cold.append(bench.run([*DLQUEUE, "get", "-q", bench.url("s0")]))
                with Client(bench.socket) as client:
                    client.daemon.shutdown()
                while bench.socket.exists():
                    time.sleep(0.05)
            with bench.daemon() as process_id:
                report(f"1 file of {options.size_mib} MiB", large(bench, process_id, options.rounds))
                report(f"{options.files} files of 64 KiB", small(bench, process_id, options.rounds, options.files))
                listing = best([bench.run([*DLQUEUE, "ls"]) for _ in range(10)])
            print(f"\ncold `dlqueue get` of a tiny file: {best(cold).wall:.2f} s (limit 1.5 s)")
            print(f"`dlqueue ls` with {options.files} tasks or more: {listing.wall * 1000:.0f} ms (limit 150 ms)")


if __name__ == "__main__":
    main()
