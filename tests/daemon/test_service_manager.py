"""The daemon as a service: what a service manager asks of it, and what it hears."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from dlqueue.client import Client
from dlqueue.daemon.systemd import inherited_sockets
from tests.daemon.instance import DEADLINE, Instance, until
from tests.daemon.manager import Manager

SILENCE = 1.5
"""Seconds in which a watchdog of 0.4 s would have been fed several times."""


def hangs(manager: Manager, failpoint: str) -> None:
    until(lambda: f"failpoint {failpoint} reached" in manager.log(), "it hangs there")


def is_stopping(state: dict[str, str]) -> bool:
    return state.get("STOPPING") == "1"


def test_ready_means_that_the_socket_answers(tmp_path: Path) -> None:
    with Manager(Instance(tmp_path)) as manager:
        manager.start()
        ready = manager.ready()
        assert manager.daemon.answers(), "at once"
        assert ready["STATUS"].endswith("clients: 0")
        first = manager.states[0]
        assert int(first["EXTEND_TIMEOUT_USEC"]) >= 30_000_000, "a start that migrates asks for time"
        assert not any("READY" in state for state in manager.states[:-1]), "once, at the end of the start"


def test_not_ready_before_the_store_is_open(tmp_path: Path) -> None:
    """Another program holds the database: there is nothing to be ready with."""
    import sqlite3

    with Manager(Instance(tmp_path)) as manager:
        database = tmp_path / "state" / "dlqueue" / "dlqueue.db"
        database.parent.mkdir(parents=True)
        with sqlite3.connect(database) as other:
            other.execute("PRAGMA journal_mode = WAL")
            other.execute("BEGIN EXCLUSIVE")
            manager.start()
            manager.heard(lambda state: "EXTEND_TIMEOUT_USEC" in state, "it begins")
            with pytest.raises(TimeoutError):
                while True:
                    assert "READY" not in manager.receive(1.0)
            assert not manager.daemon.answers()
            other.rollback()
        if "database is locked" in manager.log():  # it waits some seconds for that, and this machine is slow
            assert manager.daemon.process is not None and manager.daemon.process.wait(DEADLINE) == 1
            manager.start()
        manager.ready()


def test_a_stop_is_announced_and_ends_in_time(tmp_path: Path) -> None:
    with Manager(Instance(tmp_path), watchdog=60) as manager:
        manager.start()
        manager.ready()
        begun = time.monotonic()
        assert manager.daemon.stop() == 0
        assert time.monotonic() - begun < 15
        manager.heard(is_stopping, "STOPPING=1")


def test_the_watchdog_is_fed_and_the_status_kept(tmp_path: Path) -> None:
    with Manager(Instance(tmp_path), watchdog=0.4) as manager:
        manager.start()
        manager.ready()
        for _ in range(3):
            manager.fed()
        with Client(manager.daemon.socket) as client:
            client.daemon.info()
            manager.heard(lambda state: "clients: 1" in state.get("STATUS", ""), "the status tells of the client")


@pytest.mark.parametrize("failpoint", ["tick:hang", "probed:hang"])
def test_the_watchdog_is_not_fed_when_the_loop_or_the_database_hangs(tmp_path: Path, failpoint: str) -> None:
    with Manager(Instance(tmp_path), watchdog=0.4) as manager:
        manager.start(failpoint)
        manager.ready()
        hangs(manager, failpoint)
        with pytest.raises(TimeoutError):
            manager.receive(SILENCE)
        assert not any("WATCHDOG" in state for state in manager.states)
        if failpoint.startswith("probed"):
            assert manager.daemon.answers(), "the loop itself still turns"
        # What the manager does then; the log says where it was.
        assert manager.daemon.stop(signal.SIGABRT) == -signal.SIGABRT
        assert "Fatal Python error: Aborted" in manager.log()
        assert "failpoint.py" in manager.log()


def test_it_is_started_again_after_that_and_goes_on(tmp_path: Path) -> None:
    with Manager(Instance(tmp_path), watchdog=0.4, activated=True) as manager:
        manager.start("tick:hang")
        manager.ready()
        hangs(manager, "tick:hang")
        manager.daemon.stop(signal.SIGABRT)
        manager.start()
        manager.ready()
        manager.fed()
        assert manager.daemon.call("tasks.count") == 0


def test_a_daemon_that_is_halted_feeds_nothing(tmp_path: Path) -> None:
    with Manager(Instance(tmp_path), watchdog=0.4) as manager:
        manager.start()
        manager.ready()
        manager.fed()
        assert manager.daemon.process is not None
        manager.daemon.process.send_signal(signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            while True:  # what was sent before
                manager.receive(SILENCE)
        manager.daemon.process.send_signal(signal.SIGCONT)
        manager.fed()


def test_a_reload_is_announced_and_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    with Manager(Instance(tmp_path)) as manager:
        daemon = manager.daemon
        manager.start()
        manager.ready()
        process = daemon.process
        assert process is not None
        good = daemon.config.read_text()
        before = daemon.call("daemon.config")

        daemon.config.write_text(good + "[queues.downloads]\nconcurrency = 3\nmax_retries = 2\n")
        process.send_signal(signal.SIGHUP)
        reloading = manager.heard(lambda state: "RELOADING" in state, "RELOADING=1")
        assert int(reloading["MONOTONIC_USEC"]) > 0
        done = manager.ready()
        assert "not reloaded" in done["STATUS"] and "max_retries: unknown key" in done["STATUS"]
        assert 'max_retries: unknown key; did you mean "max_retry"?' in manager.log()
        assert daemon.call("daemon.config") == before, "the former one is in force, as a whole"

        daemon.config.write_text(good + "[queues.downloads]\nconcurrency = 3\n")
        process.send_signal(signal.SIGHUP)
        manager.heard(lambda state: "RELOADING" in state, "RELOADING=1")
        done = manager.ready()
        assert done["STATUS"] == "reloaded"
        assert "reloaded: queues.downloads.concurrency: 16 -> 3" in manager.log()
        assert daemon.call("daemon.config")["queues"]["downloads"]["concurrency"] == 3
        assert daemon.stop() == 0


# -- socket activation ------------------------------------------------------------------------------------------------


def ask(connection: socket.socket) -> None:
    connection.sendall(b'{"jsonrpc":"2.0","id":1,"method":"tasks.count"}\n')


def answer(connection: socket.socket) -> bytes:
    connection.settimeout(DEADLINE)
    got = b""
    while not got.endswith(b"\n"):
        part = connection.recv(65536)
        assert part, "hung up"
        got += part
    return got


def test_a_client_that_came_before_the_daemon_is_answered(tmp_path: Path) -> None:
    with Manager(Instance(tmp_path), activated=True) as manager:
        with socket.socket(socket.AF_UNIX) as early:
            early.connect(str(manager.daemon.socket))
            ask(early)
            manager.start()
            manager.ready()
            assert b'"result":0' in answer(early)
        assert manager.daemon.call("daemon.config")["socket"] == str(manager.daemon.socket)


def test_the_socket_stays_at_a_stop_and_wakes_the_next(tmp_path: Path) -> None:
    with Manager(Instance(tmp_path), activated=True) as manager:
        socket_file = manager.daemon.socket
        made = socket_file.stat().st_ino
        manager.start()
        manager.ready()
        assert manager.daemon.stop() == 0
        assert socket_file.stat().st_ino == made, "it is systemd's"
        with socket.socket(socket.AF_UNIX) as between:
            between.connect(str(socket_file))
            ask(between)
            manager.start()
            manager.ready()
            assert b'"result":0' in answer(between)
        assert manager.daemon.stop() == 0
        assert socket_file.exists()


def test_what_comes_during_a_stop_is_left_to_the_next(tmp_path: Path) -> None:
    with Manager(Instance(tmp_path), activated=True) as manager:
        manager.start()
        manager.ready()
        process = manager.daemon.process
        assert process is not None
        process.send_signal(signal.SIGSTOP)  # so that it gets both at once: the signal, and a client
        with socket.socket(socket.AF_UNIX) as late:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGCONT)
            manager.heard(is_stopping, "STOPPING=1")
            late.connect(str(manager.daemon.socket))
            ask(late)
            assert process.wait(DEADLINE) == 0
            manager.start()
            manager.ready()
            assert b'"result":0' in answer(late) or b"-32009" in answer(late)


def test_a_second_daemon_beside_it_is_refused(tmp_path: Path) -> None:
    with Manager(Instance(tmp_path), activated=True) as manager:
        manager.start()
        manager.ready()
        first = manager.daemon.process
        manager.start()
        assert manager.daemon.process is not None
        assert manager.daemon.process.wait(DEADLINE) == 75
        manager.daemon.process = first
        assert manager.daemon.answers()


def test_a_socket_of_another_kind_is_not_used(tmp_path: Path) -> None:
    with Manager(Instance(tmp_path)) as manager:
        with socket.socket(socket.AF_INET) as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            manager.listening = other
            manager.start()
            manager.ready()
            assert manager.daemon.answers()
            assert "the inherited socket dlqueue.socket is not used" in manager.log()
            until(lambda: manager.daemon.stop() == 0, "it stops")
        manager.listening = None


def test_what_was_announced_and_is_not_there_is_told(tmp_path: Path) -> None:
    with Manager(Instance(tmp_path)) as manager:
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            with socket.socket(socket.AF_UNIX) as unbound:
                os.dup2(nothing, unbound.fileno())
                manager.listening = unbound
                manager.start()
                assert manager.daemon.process is not None
                assert manager.daemon.process.wait(DEADLINE) == 1
        finally:
            os.close(nothing)
            manager.listening = None
        assert "the sockets that LISTEN_FDS announces cannot be used" in manager.log()


@pytest.mark.parametrize(
    "environ",
    [{}, {"LISTEN_FDS": "1"}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_PID": str(os.getpid())}],
)
def test_sockets_for_somebody_else_are_left_alone(environ: dict[str, str]) -> None:
    assert inherited_sockets(environ) == {}
    assert environ == {}, "no child of ours takes them for its own"
