"""A real aria2c that somebody else has started, and plug-ins on it."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from dlqueue.sdk import Context, Handle, TransferStatus
from dlqueue_aria2 import Aria2Config, Aria2Downloader

PATIENCE = 30.0
_PORTS = itertools.count(random.SystemRandom().randrange(12_000))

T = TypeVar("T")

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class RpcError(Exception):
    pass


class Aria2:
    """An aria2c with a session, on loopback only and without any discovery of peers but by trackers."""

    def __init__(self, command: Path, home: Path, *options: str, secret: str = "t0p-s3cret") -> None:
        self.home = home
        self.secret = secret
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/jsonrpc"
        self._command = command
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        (self.home / "dl").mkdir(parents=True, exist_ok=True)
        (self.home / "session").touch()
        arguments = [
            "--no-conf=true", "--enable-rpc=true", "--rpc-listen-all=false", f"--rpc-listen-port={self.port}",
            f"--rpc-secret={self.secret}", f"--dir={self.home / 'dl'}", f"--listen-port={free_port()}",
            f"--save-session={self.home / 'session'}", f"--input-file={self.home / 'session'}",
            "--save-session-interval=1", "--auto-save-interval=1", "--interface=127.0.0.1", "--disable-ipv6=true",
            "--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false", "--enable-peer-exchange=false",
            "--async-dns=false", "--no-netrc=true", "--quiet=true", "--bt-tracker-interval=1", *self._options,
        ]  # fmt: skip
        self._process = subprocess.Popen(
            [self._command, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self.call("getVersion")
                return
            except OSError:
                assert self._process.poll() is None, "aria2c did not start"
                assert time.monotonic() < until
                time.sleep(0.01)

    def stop(self, number: int = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(PATIENCE)
            self._process = None

    def restart(self, number: int = signal.SIGKILL) -> None:
        self.stop(number)
        self.start()

    def call(self, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": f"aria2.{method}", "params": [f"token:{self.secret}", *params]}
        request = urllib.request.Request(self.url, json.dumps(body).encode())
        try:
            with _OPENER.open(request, timeout=PATIENCE) as answer:
                return json.load(answer)["result"]
        except urllib.error.HTTPError as error:
            with error:
                raise RpcError(json.load(error)["error"]["message"]) from None

    def gids(self) -> set[str]:
        lists = (self.call("tellActive"), self.call("tellWaiting", 0, 1000), self.call("tellStopped", 0, 1000))
        return {entry["gid"] for entries in lists for entry in entries}

    def wait(self, gid: str, *states: str) -> dict[str, Any]:
        def status() -> dict[str, Any] | None:
            found: dict[str, Any] = self.call("tellStatus", gid)
            return found if found["status"] in states else None

        return until(status, f"{gid} in {states}")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def until(probe: Callable[[], T | None], what: str) -> T:
    """Look until there is something."""
    limit = time.monotonic() + PATIENCE
    while True:
        found = probe()
        if found:
            return found
        assert time.monotonic() < limit, f"no {what}"
        time.sleep(0.01)


def wait(
    downloader: Aria2Downloader, handle: Handle, is_right: Callable[[TransferStatus], bool], what: str
) -> TransferStatus:
    """Poll until the status is as it should be."""

    def probe() -> TransferStatus | None:
        status = downloader.poll([handle]).get(handle)
        seen.append(status)
        return status if status is not None and is_right(status) else None

    seen: list[TransferStatus | None] = []
    try:
        return until(probe, what)
    except AssertionError:
        raise AssertionError(f"not {what}: {seen[-1]}") from None


def whole(downloader: Aria2Downloader, handle: Handle) -> TransferStatus:
    return wait(downloader, handle, lambda status: status.whole, "whole")


def opened(config: Aria2Config, folder: Path, deadline: Callable[[], float] = lambda: 20.0) -> Aria2Downloader:
    made = Aria2Downloader()
    context = Context(
        name="aria2",
        folder=folder,
        logger=logging.getLogger("test"),
        deadline=deadline,
        check_url=lambda url: None,
        check_address=lambda address: None,
    )
    made.open(config, context)
    return made


def free_port() -> int:
    """For another program. One that the kernel gives away could be somebody's by the time that it is used, at the
    other end of a connection even. These it gives to nobody, and each process of ours begins elsewhere."""
    for number in _PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", 20_000 + number % 12_000))
            port: int = probe.getsockname()[1]
            return port
    raise AssertionError("there is no end of numbers")
