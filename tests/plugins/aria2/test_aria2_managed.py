"""An aria2c of our own: when it runs, what survives, and that nothing is left."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dlqueue.sdk import Handle, Request, TransferState, Unavailable
from dlqueue_aria2 import Aria2Config, Aria2Downloader, config, managed
from dlqueue_aria2.managed import Managed
from tests.plugins.aria2.live import opened, until, wait, whole
from tests.webserver import WebServer, pattern

KEY = "00c0ffee00c0ffee"
CONTENT = pattern(300_000)


@pytest.fixture
def control(tmp_path: Path) -> Path:
    return tmp_path / "control"


@pytest.fixture
def open_one(one_command: Path, control: Path) -> Iterator[Callable[[], Aria2Downloader]]:
    made: list[Aria2Downloader] = []

    def one() -> Aria2Downloader:
        made.append(opened(Aria2Config(command=one_command, dht=False), control))
        return made[-1]

    yield one
    for downloader in made:
        downloader.close()


def processes(control: Path) -> dict[int, list[str]]:
    """aria2c processes that work in this folder, with their arguments."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                arguments = (folder / "cmdline").read_bytes().decode().split("\0")
                dead = (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            except OSError:
                continue
            if f"--conf-path={control / 'aria2.conf'}" in arguments and not dead:
                found[int(folder.name)] = arguments
    return found


def only(control: Path) -> int:
    (pid,) = processes(control)
    return pid


def test_it_starts_when_it_is_needed(open_one: Callable[[], Aria2Downloader], control: Path, tmp_path: Path) -> None:
    downloader = open_one()
    assert downloader.test().startswith("aria2 1.3")
    assert downloader.poll([]) == {}
    assert processes(control) == {}
    with WebServer() as server:
        request = Request(urls=(server.put("file.bin", CONTENT),), directory=tmp_path / "transfer")
        whole(downloader, downloader.create(request, KEY))
    pid = only(control)
    assert os.getsid(pid) == pid
    # Everybody can read arguments; the file is ours alone.
    settings = control / "aria2.conf"
    (secret,) = (line for line in settings.read_text().split("\n") if line.startswith("rpc-secret="))
    assert len(secret) > 40
    assert secret.partition("=")[2] not in " ".join(processes(control)[pid])
    assert f"--stop-with-process={os.getpid()}" in processes(control)[pid]
    assert stat.S_IMODE(settings.stat().st_mode) == 0o600
    assert stat.S_IMODE(control.stat().st_mode) == 0o700
    downloader.close()
    assert processes(control) == {}
    with pytest.raises(Unavailable):
        downloader.create(request, KEY)
    assert processes(control) == {}


def test_it_listens_on_loopback_only(open_one: Callable[[], Aria2Downloader], control: Path) -> None:
    downloader = open_one()
    downloader.poll([Handle(KEY)])
    port = next(
        int(line.partition("=")[2])
        for line in (control / "aria2.conf").read_text().split("\n")
        if line.startswith("rpc-listen-port=")
    )
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().split("\n")[1:] if " 0A " in line]
    assert [address for address in listening if address.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]


def test_a_download_goes_on_with_the_next_daemon(
    open_one: Callable[[], Aria2Downloader], control: Path, tmp_path: Path
) -> None:
    gate = threading.Event()
    with WebServer() as server:
        url = server.put("file.bin", CONTENT, gate=gate, gate_at=150_000)
        request = Request(urls=(url,), directory=tmp_path / "transfer")
        first = open_one()
        handle = first.create(request, KEY)
        wait(first, handle, lambda status: status.downloaded > 0, "moving")
        first.close()
        assert processes(control) == {}
        second = open_one()
        assert second.poll([handle])[handle].state in (TransferState.DOWNLOADING, TransferState.QUEUED)
        gate.set()
        assert second.create(request, KEY) == handle
        whole(second, handle)
        assert [path.read_bytes() for path in (tmp_path / "transfer").iterdir()] == [CONTENT]


DAEMON = """
import logging, sys, time
from pathlib import Path
from dlqueue.sdk import Context, Request
from dlqueue_aria2 import Aria2Config, Aria2Downloader
control, command, url, target = sys.argv[1:]
downloader = Aria2Downloader()
downloader.open(Aria2Config(command=Path(command), dht=False), Context("aria2", Path(control),
    logging.getLogger(), lambda: 20.0, lambda url: None, lambda address: None))
downloader.create(Request(urls=(url,), directory=Path(target)), "00c0ffee00c0ffee")
print("created", flush=True)
time.sleep(60)
"""


def test_a_killed_daemon_takes_it_along_and_the_next_one_waits(
    open_one: Callable[[], Aria2Downloader], one_command: Path, control: Path, tmp_path: Path
) -> None:
    gate = threading.Event()
    with WebServer() as server:
        url = server.put("file.bin", CONTENT, gate=gate, gate_at=150_000)
        target = tmp_path / "transfer"
        arguments = [sys.executable, "-c", DAEMON, str(control), str(one_command), url, str(target)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as daemon:
            assert daemon.stdout is not None
            assert daemon.stdout.readline() == b"created\n"
            old = only(control)
            until(lambda: KEY in (control / "session").read_text(), "saved session")
            daemon.kill()
        # At once: the old one has not noticed yet, and both would write into one session.
        downloader = open_one()
        handle = Handle(KEY)
        downloader.poll([handle])
        assert old not in processes(control)
        assert len(processes(control)) == 1
        gate.set()
        whole(downloader, handle)
        assert [path.read_bytes() for path in target.iterdir()] == [CONTENT]


def test_a_child_that_dies_is_started_again(
    open_one: Callable[[], Aria2Downloader], control: Path, tmp_path: Path
) -> None:
    gate = threading.Event()
    with WebServer() as server:
        url = server.put("file.bin", CONTENT, gate=gate, gate_at=150_000)
        request = Request(urls=(url,), directory=tmp_path / "transfer")
        downloader = open_one()
        heard = threading.Semaphore(0)

        def listen() -> None:
            for _ in downloader.events():
                heard.release()

        threading.Thread(target=listen, daemon=True).start()
        handle = downloader.create(request, KEY)
        assert heard.acquire(timeout=20)
        before = downloader.instance()
        until(lambda: KEY in (control / "session").read_text(), "saved session")
        pid = only(control)
        os.kill(pid, signal.SIGKILL)

        def look() -> object:
            try:
                return downloader.poll([handle])
            except Unavailable as error:
                assert "aria2" in str(error)
                return None

        until(look, "aria2c again")
        assert downloader.instance() not in (None, before)
        assert only(control) != pid
        gate.set()
        whole(downloader, handle)
        assert heard.acquire(timeout=20)  # the notices follow it to its new port


def test_one_that_cannot_run_is_not_tried_all_the_time(
    control: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(managed, "BACKOFF_FIRST", 60.0)  # longer than this test takes anywhere
    count = tmp_path / "count"
    command = tmp_path / "aria2c"
    command.write_text(f"#!/bin/sh\necho once >>{count}\necho 'there is something wrong' >&2\nexit 3\n")
    command.chmod(0o700)
    downloader = opened(Aria2Config(command=command, dht=False), control)
    for _ in range(20):
        with pytest.raises(Unavailable, match="something wrong"):
            downloader.poll([Handle(KEY)])
    assert len(count.read_text().split()) == managed.ATTEMPTS
    downloader.close()


def test_without_any_aria2c(control: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlqueue_aria2.managed.find_command", lambda: None)
    monkeypatch.setattr("dlqueue_aria2.downloader.find_command", lambda: None)
    assert Aria2Downloader.default_config() is None
    downloader = opened(Aria2Config(), control)
    with pytest.raises(Unavailable, match=r"dlqueue\[bundled\]"):
        downloader.test()
    with pytest.raises(Unavailable, match=r"dlqueue\[bundled\]"):
        downloader.poll([Handle(KEY)])
    downloader.close()


def test_where_it_is_looked_for(tmp_path: Path, one_command: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert config.find_command() == one_command
    # The script of the wheel would start a second process, which has neither our lock nor our signals.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert config.find_command() == one_command
    own = tmp_path / "aria2c"
    own.write_text("")
    own.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert config.find_command() == own
    assert Aria2Downloader.default_config() == Aria2Config()


def test_what_it_says_does_not_grow_for_ever(one_command: Path, control: Path) -> None:
    import logging

    control.mkdir(mode=0o700)
    own = Managed(one_command, control, logging.getLogger("test"), lambda: 20.0, dht=False)
    own.rpc()
    with open(control / "aria2.out", "ab") as output:
        output.write(b"x" * 300_000)
    own.rpc()
    assert (control / "aria2.out").stat().st_size == 0
    own.close()


def test_two_threads_start_one(open_one: Callable[[], Aria2Downloader], control: Path) -> None:
    downloader = open_one()
    barrier = threading.Barrier(4)

    def look() -> None:
        barrier.wait(20)
        downloader.poll([Handle(KEY)])

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(processes(control)) == 1


def test_close_does_not_wait_for_trackers(
    open_one: Callable[[], Aria2Downloader], control: Path, tmp_path: Path
) -> None:
    downloader = open_one()
    with WebServer() as server:
        server.put("announce", hang=True)
        magnet = f"magnet:?xt=urn:btih:{'1' * 40}&tr={server.url('announce')}"
        downloader.create(Request(urls=(magnet,), directory=tmp_path / "transfer"), KEY)
        until(lambda: server.asked("announce"), "announce")
        began = time.monotonic()
        downloader.close()
        # The core gives it three seconds, the tracker a minute.
        assert time.monotonic() - began < 20
    assert processes(control) == {}
