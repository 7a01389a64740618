"""`dlqueue doctor` of somebody whom the daemon does not let in."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run


def test_a_stranger_is_told_by_the_doctor_how_to_be_let_in(
    dlqueue: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine's folder of configuration is closed to them, as its socket is."""
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.delenv("DLQUEUE_CONFIG", raising=False)
    found, connect = os.stat, socket.socket.connect

    def closed(path: Any, *arguments: Any, **named: Any) -> os.stat_result:
        if str(path).startswith("/etc/dlqueue/"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return found(path, *arguments, **named)

    def refused(self: socket.socket, address: Any) -> None:
        if str(address).startswith(str(tmp_path)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        connect(self, address)

    monkeypatch.setattr(os, "stat", closed)
    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setenv("DLQUEUE_SOCKET", str(tmp_path / "theirs.sock"))
    _, out, err = dlqueue("doctor")
    [line] = [line for line in out.splitlines() if "\tdaemon\t" in line]
    assert "not allowed to use the socket" in line and line.endswith("become a member of the group that owns it")
    assert "Permission denied" not in err
