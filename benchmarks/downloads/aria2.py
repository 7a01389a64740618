"""Looking after transfers of a real aria2, and how soon a finished one is in its place.

A daemon, an aria2c and a slow web server run in processes of their own, all on loopback.

- *watching*: so many slow transfers, looked at once a second. CPU is user + system time of the daemon, as a share of
  one core; requests are counted on the way to aria2. Against a poller that makes one aria2p call per transfer, on the
  same transfers in the same run: what one of its rounds costs.
- *delivered*: from aria2's notification that a download is complete until its file is in its place, for downloads that
  end one by one, ten in a second.

    python -m benchmarks.downloads.aria2 [--transfers 1000] [--seconds 60] [--deliveries 300]
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aria2p
import websocket

from benchmarks.downloads.daemon import Bench, cpu_of
from dlqueue.client import Client

SECRET = "benchmark"


class Counter:
    """Passes bytes on to a port and counts the requests in them."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.requests = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            far = socket.create_connection(("127.0.0.1", self._target))
            for connection in (near, far):  # what is passed on piece by piece must not wait for an acknowledgement
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, sink, counted in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._pass_on, args=(source, sink, counted), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        try:
            while received := source.recv(1 << 18):
                self.requests += received.count(b"POST /") if counted else 0
                sink.sendall(received)
        except OSError:
            pass
        sink.close()


@contextmanager
def running(folder: Path, at_once: int) -> Iterator[tuple[int, int]]:
    """The aria2c and the server: their ports."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["aria2c", "--no-conf", "--enable-rpc", f"--rpc-listen-port={port}", f"--rpc-secret={SECRET}", "--quiet"]
    command += [f"--max-concurrent-downloads={at_once}", f"--dir={folder}", "--max-download-result=10000"]
    server = [sys.executable, "-m", "benchmarks.downloads.drip"]
    with (
        subprocess.Popen(command, stdout=subprocess.DEVNULL) as aria2,
        subprocess.Popen(server, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as web,
    ):
        assert web.stdout is not None
        try:
            yield port, int(web.stdout.readline())
        finally:
            aria2.kill()
            web.kill()


def configure(bench: Bench, port: int, at_once: int) -> None:
    path = Path(bench.environ["XDG_CONFIG_HOME"]) / "dlqueue" / "dlqueue.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'[downloaders.http]\nkind = "http"\n[downloaders.aria2]\nkind = "aria2"\nurl = "http://127.0.0.1:{port}"\n'
        f'secret = "{SECRET}"\nmax_active = {at_once}\npoll = "1s"\n'
    )
    path.chmod(0o600)


def submit(client: Client, bench: Bench, urls: list[str]) -> list[int]:
    target = str(bench.fresh())
    params: dict[str, Any] = {"directory": target, "downloader": "aria2", "options": {"split": "1"}}
    ids: list[int] = []
    for start in range(0, len(urls), 500):
        tasks = [{"type": "remote_download", "params": params | {"url": url}} for url in urls[start : start + 500]]
        ids += [made["id"] for made in client.call("tasks.submit_many", {"tasks": tasks})]
    return ids


def watching(bench: Bench, daemon: int, aria2: aria2p.Client, counter: Counter, options: argparse.Namespace) -> None:
    count = options.transfers
    urls = [f"http://127.0.0.1:{bench.port}/1000000/3600/{number}" for number in range(count)]
    with Client(bench.socket) as client:
        ids = submit(client, bench, urls)
        while int(aria2.get_global_stat()["numActive"]) < count:
            time.sleep(0.5)
        time.sleep(5.0)  # everybody's name has been asked for
        requests, cpu = counter.requests, cpu_of(daemon)
        time.sleep(options.seconds)
        requests, cpu = counter.requests - requests, cpu_of(daemon) - cpu
        gids = [entry["gid"] for entry in aria2.tell_active(["gid"])]
        began, own = time.perf_counter(), time.process_time()
        for gid in gids:
            aria2.tell_status(gid)
        own, wall = time.process_time() - own, time.perf_counter() - began
        for number in ids:
            client.tasks.cancel(id=number)
        while int(aria2.get_global_stat()["numActive"]):
            time.sleep(0.5)
    share = cpu / options.seconds
    print(f"\nwatching {count} transfers of aria2 once a second, for {options.seconds} s")
    print(f"  dlqueue                   {100 * share:5.1f} % of a core (limit 5 %, goal 2 %)")
    print(f"  requests                  {requests / options.seconds:5.2f} a second")
    print(f"  one call per transfer     {own:5.2f} s of CPU and {wall:.2f} s for one round of {len(gids)}")
    print(f"  dlqueue / one call each   {share / own:5.3f}")


def delivered(bench: Bench, port: int, count: int) -> None:
    complete: dict[str, float] = {}
    listening = websocket.create_connection(f"ws://127.0.0.1:{port}/jsonrpc", http_no_proxy=["*"])

    def listen() -> None:
        while True:
            try:
                notice = json.loads(listening.recv())
            except websocket.WebSocketException:
                return
            if notice["method"] == "aria2.onDownloadComplete":
                complete[notice["params"][0]["gid"]] = time.time()

    threading.Thread(target=listen, daemon=True).start()
    urls = [f"http://127.0.0.1:{bench.port}/65536/{1 + number * 0.1:.1f}/f{number}" for number in range(count)]
    waits = []
    with Client(bench.socket) as client:
        for number in submit(client, bench, urls):
            download = client.tasks.wait(id=number, until="delivered")["download"]
            handle, at = download["handle"], download["delivered_at"]
            assert handle is not None
            assert at is not None
            waits.append(datetime.datetime.fromisoformat(at).timestamp() - complete[handle["id"]])
    waits.sort()
    print(f"\nfrom complete in aria2 until delivered, {count} downloads")
    print(
        f"  median {1000 * waits[count // 2]:.0f} ms   p99 {1000 * waits[count * 99 // 100 - 1]:.0f} ms (limit 300 ms)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transfers", type=int, default=1000)
    parser.add_argument(
        "--seconds", type=int, default=60, help="how long is measured; a task looks by itself once a minute"
    )
    parser.add_argument("--deliveries", type=int, default=300)
    options = parser.parse_args([] if sys.argv[0].endswith("__main__.py") else None)
    if shutil.which("aria2c") is None:
        raise SystemExit("this needs an aria2c: install the package aria2")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8 * options.transfers)), hard))
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="dlqueue-bench-") as name:
        folder = Path(name)
        with running(folder, options.transfers) as (port, web):
            counter = Counter(port)
            bench = Bench(folder, web)
            configure(bench, counter.port, options.transfers)
            with bench.daemon("1000/0/warm") as daemon:
                aria2 = aria2p.Client(port=port, secret=SECRET)
                watching(bench, daemon, aria2, counter, options)
                delivered(bench, port, options.deliveries)


if __name__ == "__main__":
    main()
