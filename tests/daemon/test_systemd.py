from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dlqueue.daemon.systemd import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """What systemd listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(10)
        yield receiver


def notifier(manager: socket.socket, **environ: str) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": manager.getsockname(), **environ})


def test_the_states(manager: socket.socket) -> None:
    notify = notifier(manager)
    assert notify.active
    notify.ready("3 tasks")
    assert manager.recv(4096) == b"READY=1\nSTATUS=3 tasks"
    notify.status("busy\nREADY=1")
    assert manager.recv(4096) == b"STATUS=busy READY=1"  # no second variable can be smuggled in
    notify.watchdog()
    assert manager.recv(4096) == b"WATCHDOG=1"
    notify.stopping()
    assert manager.recv(4096) == b"STOPPING=1"
    notify.reloading()
    reloading, _, usec = manager.recv(4096).partition(b"\n")
    assert reloading == b"RELOADING=1"
    assert usec.startswith(b"MONOTONIC_USEC=") and int(usec.partition(b"=")[2]) > 0


def test_the_abstract_namespace() -> None:
    name = f"dlqueue-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + name)
        receiver.settimeout(10)
        Notifier({"NOTIFY_SOCKET": "@" + name}).ready()
        assert receiver.recv(4096) == b"READY=1"


@pytest.mark.parametrize("value", [None, "", "vsock:2:1234", "relative"])
def test_without_a_manager_nothing_happens(value: str | None) -> None:
    notify = Notifier({} if value is None else {"NOTIFY_SOCKET": value, "WATCHDOG_USEC": "1000000"})
    assert not notify.active
    assert notify.watchdog_interval is None
    notify.ready()


def test_a_manager_that_is_gone_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()
    assert "systemd was not told READY=1" in caplog.text


def test_the_watchdog_interval_is_half_of_what_is_allowed(manager: socket.socket) -> None:
    assert notifier(manager).watchdog_interval is None
    assert notifier(manager, WATCHDOG_USEC="30000000").watchdog_interval == 15
    assert notifier(manager, WATCHDOG_USEC="30000000", WATCHDOG_PID=str(os.getpid())).watchdog_interval == 15
    assert notifier(manager, WATCHDOG_USEC="30000000", WATCHDOG_PID="1").watchdog_interval is None
    assert notifier(manager, WATCHDOG_USEC="nonsense").watchdog_interval is None
