"""Looking after torrents of a real qBittorrent, and how soon a finished one is in its place.

A daemon, a qbittorrent-nox and a slow web server that seeds run in processes of their own, all on loopback.

- *watching*: so many slow torrents, looked at once a second. CPU is user + system time of the daemon, as a share of
  one core; requests are counted on the way to qBittorrent. Against a poller that makes one call per torrent, on the
  same torrents in the same run: what one of its rounds costs.
- *delivered*: from when qBittorrent shows that a torrent is whole (it is asked 20 times a second) until its file is in
  its place, for torrents that end one by one.

    python -m benchmarks.downloads.qbittorrent [--torrents 500] [--seconds 60] [--deliveries 100]
"""

from __future__ import annotations

import argparse
import base64
import datetime
import hashlib
import os
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

import bencode2
import qbittorrentapi

from benchmarks.downloads.aria2 import Counter
from benchmarks.downloads.daemon import Bench, cpu_of
from dlqueue.client import Client

PIECE = 1 << 15
_WHOLE = ("stalledUP", "uploading", "pausedUP", "stoppedUP")
_CONFIG = """\
[LegalNotice]
Accepted=true
[BitTorrent]
Session\\DHTEnabled=false
Session\\LSDEnabled=false
Session\\PeXEnabled=false
Session\\InterfaceAddress=127.0.0.1
Session\\QueueingSystemEnabled=false
[Network]
PortForwardingEnabled=false
[Preferences]
WebUI\\Address=127.0.0.1
WebUI\\Port={port}
WebUI\\LocalHostAuth=false
WebUI\\HostHeaderValidation=false
"""


@contextmanager
def running(folder: Path) -> Iterator[tuple[int, int]]:
    """The qBittorrent and the server: their ports."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "qBittorrent" / "config" / "qBittorrent.conf"
    config.parent.mkdir(parents=True)
    config.write_text(_CONFIG.format(port=port))
    with (
        subprocess.Popen(["qbittorrent-nox", f"--profile={folder}"], stdout=subprocess.DEVNULL) as qbittorrent,
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.downloads.drip"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as web,
    ):
        assert web.stdout is not None
        try:
            yield port, int(web.stdout.readline())
        finally:
            qbittorrent.kill()
            web.kill()


def configure(bench: Bench, port: int, at_once: int, poll: float) -> None:
    path = Path(bench.environ["XDG_CONFIG_HOME"]) / "dlqueue" / "dlqueue.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'[downloaders.http]\nkind = "http"\n[downloaders.box]\nkind = "qbittorrent"\nurl = "http://127.0.0.1:{port}"\n'
        f'max_active = {at_once}\npoll = "{poll:g}s"\n'
    )
    path.chmod(0o600)


def torrent(name: str, size: int, url: str) -> str:
    """Of zeros, as base64."""
    pieces = hashlib.sha1(bytes(PIECE)).digest() * (size // PIECE)
    info = {"name": name, "length": size, "piece length": PIECE, "pieces": pieces}
    return base64.b64encode(bencode2.bencode({"info": info, "url-list": [url]})).decode()


def submit(client: Client, bench: Bench, torrents: list[str]) -> list[int]:
    target = str(bench.fresh())
    return [client.call("downloads.add", {"torrent": one, "directory": target, "seed": 0})["id"] for one in torrents]


def watching(
    bench: Bench, daemon: int, qbittorrent: qbittorrentapi.Client, counter: Counter, options: argparse.Namespace
) -> None:
    count, size = options.torrents, 1024 * PIECE
    torrents = [torrent(f"w{n}", size, bench.url(f"{size}/7200/w{n}")) for n in range(count)]
    with Client(bench.socket) as client:
        ids = submit(client, bench, torrents)
        while len(qbittorrent.torrents_info(status_filter="downloading")) < count:
            time.sleep(0.5)
        time.sleep(5.0)
        requests, cpu = counter.requests, cpu_of(daemon)
        time.sleep(options.seconds)
        requests, cpu = counter.requests - requests, cpu_of(daemon) - cpu
        names = [one.hash for one in qbittorrent.torrents_info()]
        moving = sum(one.dlspeed > 0 for one in qbittorrent.torrents_info())
        began, own = time.perf_counter(), time.process_time()
        for name in names:
            qbittorrent.torrents_info(torrent_hashes=name)
        own, wall = time.process_time() - own, time.perf_counter() - began
        for number in ids:
            client.tasks.cancel(id=number)
        while qbittorrent.torrents_info():
            time.sleep(0.5)
    share = cpu / options.seconds
    print(f"\nwatching {count} torrents of qBittorrent once a second ({moving} of them move), for {options.seconds} s")
    print(f"  dlqueue                   {100 * share:5.1f} % of a core (limit 10 %, goal 3 %)")
    print(f"  requests                  {requests / options.seconds:5.2f} a second")
    print(f"  one call per torrent      {own:5.2f} s of CPU and {wall:.2f} s for one round of {len(names)}")
    print(f"  dlqueue / one call each   {share / own:5.3f}")


def delivered(bench: Bench, qbittorrent: qbittorrentapi.Client, count: int, poll: float) -> None:
    whole: dict[str, float] = {}
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            changed: Any = qbittorrent.sync.maindata.delta().get("torrents", {})
            for name, one in changed.items():
                if one.get("state") in _WHOLE:
                    whole.setdefault(str(name), time.time())

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    size = 4 * PIECE
    torrents = [torrent(f"d{n}", size, bench.url(f"{size}/{2 + n * 0.2:.1f}/d{n}")) for n in range(count)]
    waits = []
    with Client(bench.socket) as client:
        for number in submit(client, bench, torrents):
            download: Any = client.tasks.wait(id=number, until="delivered")["download"]
            at = datetime.datetime.fromisoformat(download["delivered_at"]).timestamp()
            waits.append((at, download["handle"]["hash"] if download["handle"] else None))
    over.set()
    watcher.join()
    took = sorted(at - whole[name] for at, name in waits if name in whole)
    print(f"\nfrom whole in qBittorrent until delivered, {len(took)} of {count} torrents, poll {poll:g} s")
    print(
        f"  median {1000 * took[len(took) // 2]:.0f} ms   p99 {1000 * took[len(took) * 99 // 100 - 1]:.0f} ms"
        f" (limit {1500 * poll:.0f} ms)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torrents", type=int, default=500)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--deliveries", type=int, default=100)
    options = parser.parse_args([] if sys.argv[0].endswith("__main__.py") else None)
    if shutil.which("qbittorrent-nox") is None:
        raise SystemExit("this needs a qbittorrent-nox: install the package of that name")
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="dlqueue-bench-") as name:
        folder = Path(name)
        with running(folder / "qbittorrent") as (port, web):
            counter = Counter(port)
            bench = Bench(folder, web)
            configure(bench, counter.port, options.torrents, 1.0)
            with bench.daemon("1000/0/warm") as daemon:
                qbittorrent = qbittorrentapi.Client(host=f"http://127.0.0.1:{port}")
                watching(bench, daemon, qbittorrent, counter, options)
                delivered(bench, qbittorrent, options.deliveries, 1.0)


if __name__ == "__main__":
    main()
