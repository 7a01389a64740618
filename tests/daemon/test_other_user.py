"""A user of the machine who is nobody special, for real: another uid on the other end of the socket. Needs root."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from dlqueue.protocol.errors import Code
from tests.daemon.instance import Instance, for_everybody, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="NOT RUN: to become another user takes root")

URL = "http://host.invalid/mine.bin?manual=1"


def free_uid() -> int:
    taken = {user.pw_uid for user in pwd.getpwall()}
    return next(uid for uid in range(54_321, 60_000) if uid not in taken)


class OtherUser:
    """Another user, who has connected."""

    def __init__(self, socket: Path, uid: int) -> None:
        self.name = str(uid)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.daemon.other_user", str(socket), str(uid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=30)

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """``{"result": …}`` or ``{"error": {"code", "message"}}``."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([method, params]) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def call(self, method: str, **params: Any) -> Any:
        answer = self.ask(method, **params)
        assert "result" in answer, answer
        return answer["result"]

    def refused(self, method: str, **params: Any) -> int:
        """The code of the error."""
        answer = self.ask(method, **params)
        assert "error" in answer, answer
        code: int = answer["error"]["code"]
        return code


@pytest.fixture
def daemon() -> Iterator[Instance]:
    """One whose socket everybody can reach, as that of a system's instance can be by its group."""
    with for_everybody() as instance:
        yield instance


@pytest.fixture
def stranger(daemon: Instance) -> Iterator[OtherUser]:
    with OtherUser(daemon.socket, free_uid()) as other:
        yield other


def test_a_stranger_sees_and_steers_nothing_of_others(daemon: Instance, stranger: OtherUser) -> None:
    mine = daemon.add(URL)
    for method in ("get", "why", "history", "progress", "result", "wait", "cancel", "pause", "retry", "remove"):
        assert stranger.refused(f"tasks.{method}", id=mine) == Code.NOT_FOUND, method
    assert stranger.refused("tasks.update", id=mine, priority=9) == Code.NOT_FOUND
    assert stranger.refused("downloads.files", id=mine) == Code.NOT_FOUND
    for method in ("daemon.config", "daemon.reload", "daemon.shutdown"):
        assert stranger.refused(method) == Code.FORBIDDEN, method
    assert stranger.call("tasks.list", count=True) == {"items": [], "next_cursor": None, "total": 0}
    assert stranger.call("tasks.count") == 0
    assert stranger.call("tasks.cancel", all=True) == {"count": 0}
    assert stranger.call("tasks.remove", all=True, delete_data=True) == {"count": 0}
    assert daemon.task(mine)["status"] not in ("canceled", "error")


def test_what_a_stranger_adds_is_his_whatever_he_says(daemon: Instance, stranger: OtherUser) -> None:
    assert stranger.refused("downloads.add", url=URL, owner="root") == Code.INVALID_PARAMS
    made = stranger.call("downloads.add", url=URL)
    assert made["owner"] == stranger.name and daemon.task(made["id"])["owner"] == stranger.name
    # Where he says that he stands is not believed: only who runs the daemon may write there.
    refused = stranger.refused("downloads.add", url=URL, cwd="/tmp", directory="/tmp")
    assert refused == Code.POLICY
    assert stranger.call("tasks.count") == 1
    assert stranger.call("tasks.cancel", id=made["id"])["status"] == "canceled"


def test_limits_of_a_stranger_follow_a_reload(daemon: Instance, stranger: OtherUser) -> None:
    def limit(section: str) -> None:
        daemon.config.write_text(before + section)
        assert daemon.process is not None
        lines = len(daemon.log_lines())
        daemon.process.send_signal(signal.SIGHUP)
        until(lambda: any("reloaded:" in line for line in daemon.log_lines()[lines:]), "it is reloaded")

    before = daemon.config.read_text()
    (daemon.destination / "his").mkdir()
    folder = daemon.destination / "his"
    limit(f'[owners."*"]\nmax_tasks = 2\nmax_active = 1\nlevel = 2\nallow_destinations = ["{folder}"]\n')
    first = stranger.call("downloads.add", url=URL, name="a")
    until(daemon.created, "the first has his only turn")
    second = stranger.call("downloads.add", url=URL, name="b")
    assert first["download"]["destination"] == str(folder)
    assert stranger.refused("downloads.add", url=URL, name="c") == Code.LIMIT
    elsewhere = {"url": URL, "name": "c", "directory": str(daemon.destination)}
    assert stranger.refused("downloads.add", **elsewhere) == Code.POLICY
    until(lambda: stranger.call("tasks.why", id=second["id"])["reason"] == "quota", "the second waits")
    for n in range(3):  # root is exempt
        daemon.add(URL, name=f"root{n}")
    limit(f'[owners.{stranger.name}]\nmax_tasks = 3\n[owners."*"]\nmax_tasks = 0\n')
    until(lambda: stranger.call("tasks.why", id=second["id"])["reason"] != "quota", "the second goes on")
    assert stranger.call("downloads.add", **elsewhere)["download"]["destination"] == str(daemon.destination)
    assert stranger.refused("downloads.add", url=URL, name="d") == Code.LIMIT
    limit("")
    stranger.call("downloads.add", url=URL, name="d")
