"""The built-in HTTP engine alone against curl and aria2c: one large file, and a thousand small ones.

Every client runs in a process of its own against the same server (its own process too), round after round in turn,
each into a folder of its own. Small files are deleted at the end only: some file systems are slow for seconds after.
A figure is the best of the rounds: on a shared machine the smallest is the least disturbed.
CPU is user + system time of the client process and its children, from wait4(2).

    python -m benchmarks.downloads.engine [--rounds 3] [--size-mib 512] [--files 1000] [--folder DIR]
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SMALL = 64 * 1024
AT_ONCE = 16


@dataclass(frozen=True)
class Cost:
    wall: float
    cpu: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size-mib", type=int, default=512)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--folder", type=Path, default=None, help="where to work (default: the temporary folder)")
    parser.add_argument("--fetch", nargs=3, metavar=("PORT", "FOLDER", "FILES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fetch:
        fetch(int(options.fetch[0]), Path(options.fetch[1]), int(options.fetch[2]))
        return
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="dlqueue-bench-") as name:
        folder = Path(name)
        with serving(folder / "served", options.size_mib, options.files) as port:
            report(f"1 file of {options.size_mib} MiB", compare(big_commands(port), folder, options.rounds, 1))
            few = compare(small_commands(port, options.files), folder, options.rounds, options.files)
            report(f"{options.files} files of {SMALL // 1024} KiB, {AT_ONCE} at once", few)


@contextmanager
def serving(folder: Path, mib: int, files: int) -> Iterator[int]:
    """A server in a process of its own with ``big`` and ``s0``, ``s1`` …; gives its port."""
    served = make_files(folder, mib, files)
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.downloads.server", str(served)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None and server.stdin is not None
        yield int(server.stdout.readline())
        server.stdin.close()


def make_files(folder: Path, mib: int, files: int) -> Path:
    folder.mkdir()
    block = os.urandom(1024 * 1024)
    with (folder / "big").open("wb") as big:
        for _ in range(mib):
            big.write(block)
    for number in range(files):
        (folder / f"s{number}").write_bytes(block[:SMALL])
    return folder


def big_commands(port: int) -> dict[str, list[str]]:
    url = f"http://127.0.0.1:{port}/big"
    return {
        "engine": engine_command(port, 0),
        "curl": ["curl", "-s", "-O", url],
        "aria2c": ["aria2c", "-q", "--file-allocation=none", url],
        "aria2c -x4": ["aria2c", "-q", "--file-allocation=none", "-x4", "-s4", url],
    }


def small_commands(port: int, files: int) -> dict[str, list[str]]:
    every = f"http://127.0.0.1:{port}/s[0-{files - 1}]"
    return {
        "engine": engine_command(port, files),
        "aria2c -i": ["aria2c", "-q", "-i", "../list"],
        f"aria2c -i -j{AT_ONCE}": ["aria2c", "-q", f"-j{AT_ONCE}", "-i", "../list"],
        "curl --parallel": ["curl", "-s", "-Z", "--parallel-max", str(AT_ONCE), "--remote-name-all", every],
    } | {"": [f"http://127.0.0.1:{port}/s{number}" for number in range(files)]}


def engine_command(port: int, files: int) -> list[str]:
    return [sys.executable, "-m", "benchmarks.downloads.engine", "--fetch", str(port), ".", str(files)]


def compare(commands: dict[str, list[str]], folder: Path, rounds: int, files: int) -> dict[str, Cost]:
    (folder / "list").write_text("\n".join(commands.pop("", [])))
    costs: dict[str, list[Cost]] = {}
    for turn in range(rounds):
        for name, command in commands.items():
            if shutil.which(command[0]):
                target = folder / f"{files}-{turn}-{name}"
                costs.setdefault(name, []).append(measure(command, target, files))
                if files == 1:
                    shutil.rmtree(target)
    return {name: Cost(min(c.wall for c in some), min(c.cpu for c in some)) for name, some in costs.items()}


def measure(command: list[str], target: Path, files: int) -> Cost:
    target.mkdir()
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    began = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=target, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    got = sum(1 for path in target.rglob("*") if path.is_file() and path.name[0] in "bs")
    if process.returncode or got != files:
        raise SystemExit(f"{command[0]} ended with {process.returncode} and {got} of {files} files")
    return Cost(wall, usage.ru_utime + usage.ru_stime)


def report(title: str, costs: dict[str, Cost]) -> None:
    best_wall = min(cost.wall for name, cost in costs.items() if name != "engine")
    best_cpu = min(cost.cpu for name, cost in costs.items() if name != "engine")
    print(f"\n{title}")
    for name, cost in costs.items():
        print(f"  {name:16} wall {cost.wall:6.3f} s   cpu {cost.cpu:6.3f} s")
    ours = costs["engine"]
    print(f"  engine / best other: wall {ours.wall / best_wall:.2f}   cpu {ours.cpu / best_cpu:.2f}")


def fetch(port: int, folder: Path, files: int) -> None:
    """What the core does with the engine, without the core: a bounded number at once, woken by events."""
    from dlqueue.sdk import Context, Handle, Request, TransferState
    from dlqueue_http import HttpConfig, HttpDownloader

    folder = folder.resolve()
    engine = HttpDownloader()
    context = Context(
        "bench", folder / ".control", logging.getLogger("bench"), lambda: 10.0, lambda url: None, lambda address: None
    )
    engine.open(HttpConfig(), context)
    names = iter(enumerate([f"s{number}" for number in range(files)] or ["big"]))
    running: set[Handle] = set()

    def fill() -> None:
        while len(running) < AT_ONCE and (item := next(names, None)):
            key = f"{item[0]:016x}"
            running.add(engine.create(Request((f"http://127.0.0.1:{port}/{item[1]}",), folder / key), key))

    fill()
    for _ in engine.events():
        for handle, status in engine.poll(list(running)).items():
            if status.state in (TransferState.COMPLETED, TransferState.ERROR):
                if status.error:
                    raise SystemExit(str(status.error))
                engine.remove(handle, delete_data=False)
                running.discard(handle)
        fill()
        if not running:
            break
    engine.close()


if __name__ == "__main__":
    main()
