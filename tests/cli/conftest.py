"""For the tests of commands: a stub daemon behind a real socket, and the program as a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dlqueue.cli.main import run
from tests.transports.stub_service import StubDaemon, stub_daemon

Run = Callable[..., tuple[int, str, str]]
"""Arguments in; exit code, standard output and standard error out."""


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubDaemon]:
    monkeypatch.chdir(tmp_path)
    with stub_daemon(tmp_path / "s.sock") as running:
        monkeypatch.setenv("DLQUEUE_SOCKET", str(running.socket))
        yield running


@pytest.fixture
def dlqueue(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(arguments)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call
