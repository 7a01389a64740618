"""A real daemon in a folder of its own, and the ways to start, ask, kill and stop it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dlqueue.client import Client, DaemonUnreachable

DEADLINE = 60.0
"""Seconds that a test waits for something that ought to happen soon, on a machine that has much else to do."""
PLUGIN = Path(__file__).parent / "plugin"
"""Where the fake downloader is found by entry point."""


class Instance:
    """Everything of it lies in ``folder``; the destination is ``folder/home/downloads``."""

    def __init__(self, folder: Path, config: str = "") -> None:
        self.folder = folder
        self.home = folder / "home"
        self.destination = self.home / "downloads"
        self.destination.mkdir(parents=True)
        self.fake_folder = folder / "fake"
        self.socket = folder / "run" / "dlqueue" / "dlqueue.sock"
        self.log = folder / "daemon.log"
        self.config = folder / "dlqueue.toml"
        self.config.write_text(f'[daemon]\ndownloads = "{self.destination}"\n{config}')
        self.environ = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("DLQUEUE_", "XDG_"))},
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(folder / "run"),
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "PYTHONPATH": str(PLUGIN),
            "NO_COLOR": "1",
        }
        self.process: subprocess.Popen[bytes] | None = None

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self, failpoint: str | None = None) -> Self:
        """Start it, and wait until it answers (or, with a failpoint, has died)."""
        environ = self.environ if failpoint is None else self.environ | {"DLQUEUE_FAILPOINT": failpoint}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dlqueue", "daemon", "--user", "--config", str(self.config)],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        until(lambda: self.answers() or self.died(), "the daemon answers")
        if failpoint is None:
            assert self.answers(), self.log.read_text()
        return self

    def answers(self) -> bool:
        try:
            Client(self.socket).close()
        except DaemonUnreachable:
            return False
        return True

    def died(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def wait_killed(self) -> None:
        """Until it has died at its failpoint."""
        assert self.process is not None
        assert self.process.wait(DEADLINE) == -signal.SIGKILL

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()

    # -- asking -------------------------------------------------------------------------------------------------------

    def client(self) -> Client:
        return Client(self.socket)

    def call(self, method: str, **params: Any) -> Any:
        with self.client() as client:
            return client.call(method, params)

    def add(self, url: str, **params: Any) -> int:
        """The id of a new download."""
        number: int = self.call("downloads.add", url=url, **params)["id"]
        return number

    def task(self, number: int) -> dict[str, Any]:
        found: dict[str, Any] = self.call("tasks.get", id=number)
        return found

    def finished(self, number: int, until: str = "final") -> dict[str, Any]:
        """The task once it is final (or delivered)."""
        done: dict[str, Any] = self.call("tasks.wait", id=number, until=until, timeout=DEADLINE)
        return done

    def cli(self, *arguments: str, cwd: Path | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a person would, in the destination folder."""
        return subprocess.run(
            [sys.executable, "-m", "dlqueue", *arguments],
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE * 2,
            cwd=cwd or self.destination,
            check=False,
        )

    def begin_cli(self, *arguments: str) -> subprocess.Popen[str]:
        """The same, without waiting for its end."""
        return subprocess.Popen(
            [sys.executable, "-m", "dlqueue", *arguments],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.destination,
        )

    # -- looking ------------------------------------------------------------------------------------------------------

    def delivered(self) -> dict[str, bytes]:
        """Everything under the destination, staging included: name → content."""
        found: dict[str, bytes] = {}
        for path in everything(self.destination):
            with contextlib.suppress(FileNotFoundError):
                found[str(path.relative_to(self.destination))] = path.read_bytes() if path.is_file() else b""
        return found

    def created(self) -> list[str]:
        """The keys of the creates that the fake has accepted. One that was killed in the middle of it, between this log
        and the transfer, accepts the key anew."""
        with contextlib.suppress(FileNotFoundError):
            lines = (self.fake_folder / "creates.log").read_text().split("\n")
            return list(dict.fromkeys(line.split()[0] for line in lines if line.endswith(" new")))
        return []

    def fake_transfers(self) -> list[str]:
        """Keys of the transfers that the fake has now."""
        return sorted(path.stem for path in self.fake_folder.glob("*.json"))

    def log_lines(self) -> list[str]:
        return self.log.read_text().splitlines()


def fake_section(folder: Path, more: str = "") -> str:
    """The config of a fake downloader."""
    return f'[downloaders.fake]\nkind = "fake"\nfolder = "{folder}/fake"\npoll = "100ms"\n{more}'


def everything(folder: Path) -> list[Path]:
    """All files and folders below it. Others may be at work there: `Path.rglob` fails at a folder that goes while it
    looks."""
    return sorted(Path(where, name) for where, folders, files in os.walk(folder) for name in (*folders, *files))


def counted(daemon: Instance, number: int) -> int:
    """Bytes that have come of a download, as far as its task knows."""
    progress = daemon.task(number)["progress"] or {}
    return int(progress.get("counters", {}).get("downloaded", 0))


def until(condition: Callable[[], object], what: str, deadline: float = DEADLINE) -> None:
    """Look until it is so; an outside view of another process has no event to wait for."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, f"not within {deadline:g} s: {what}"
        time.sleep(0.01)


def as_json(result: subprocess.CompletedProcess[str]) -> Any:
    """What a command with --json printed."""
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@contextmanager
def for_everybody(sections: str = "") -> Iterator[Instance]:
    """One whose socket everybody can reach, as that of a system's instance can be by its group."""
    with tempfile.TemporaryDirectory(prefix="dlqueue-open-") as made:
        folder = Path(made)
        folder.chmod(0o711)
        with Instance(folder, fake_section(folder, sections)) as instance:
            instance.start()
            for path in (folder / "run", instance.socket.parent):
                path.chmod(0o755)
            instance.socket.chmod(0o666)
            yield instance
