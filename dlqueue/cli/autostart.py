"""Starting a daemon of one's own when none answers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from dlqueue.cli import exits
from dlqueue.cli.session import Session
from dlqueue.client import Client, DaemonForbidden, DaemonUnreachable
from dlqueue.places import places

_START_SECONDS = 15.0
_OTHER_SECONDS = 3.0
_LOG_BYTES = 1024 * 1024
BAD_CONFIG = 78
"""The exit code of a daemon that does not like its configuration."""


def ensure_daemon(session: Session) -> None:
    """Connect; start a user's daemon if none answers. Raises `DaemonUnreachable` or `exits.Failed`."""
    try:
        _ = session.client
    except DaemonForbidden:
        if session.socket or os.environ.get("DLQUEUE_SOCKET"):
            raise  # that very daemon is wanted
        start_daemon(session)
    except DaemonUnreachable:
        start_daemon(session)


def start_daemon(session: Session) -> None:
    """Start a user's daemon that outlives this program, and connect to it."""
    mine = places("user")
    socket = Path(session.socket).absolute() if session.socket else mine.socket
    log = mine.state / "daemon.log"
    mine.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    begin = log.stat().st_size if log.exists() else 0
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "wb") as output:
        process = subprocess.Popen(
            _command(session, socket),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,
        )
    session.use(_when_it_answers(process, socket, log, begin))


def _command(session: Session, socket: Path) -> list[str]:
    command = [sys.executable, "-m", "dlqueue", "daemon", "--user", "--ends-when-idle"]
    # It does not run in our directory: what a flag or the environment names may be relative to that.
    if session.socket or os.environ.get("DLQUEUE_SOCKET"):
        command += ["--socket", str(socket)]
    if session.config:
        command += ["--config", str(Path(session.config).absolute())]
    elif os.environ.get("DLQUEUE_CONFIG"):
        command += ["--config", str(places("user").config_file)]
    return command


def _when_it_answers(process: subprocess.Popen[bytes], socket: Path, log: Path, begin: int) -> Client:
    deadline = time.monotonic() + _START_SECONDS
    ended = False
    while True:
        try:
            return Client(socket)
        except DaemonUnreachable:
            pass
        if not ended and process.poll() is not None:
            # Perhaps only because another program has started one at the same moment: that one will answer soon.
            ended = True
            deadline = time.monotonic() + _OTHER_SECONDS
        if time.monotonic() > deadline:
            what = f"ended with exit code {process.returncode}" if ended else "does not answer"
            for line in _last_lines(log, begin):
                exits.say(f"  | {line}")
            code = exits.FAILURE if process.returncode == BAD_CONFIG else exits.UNREACHABLE
            raise exits.Failed(f"the daemon that was started {what}", code, f"its log: {log}")
        time.sleep(0.02)


def _last_lines(log: Path, begin: int) -> list[str]:
    with log.open("rb") as file:
        file.seek(begin)
        text = file.read()[-16_384:].decode(errors="replace")
    return text.splitlines()[-15:]
