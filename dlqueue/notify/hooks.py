"""Hooks: commands of the configuration, started from their list of arguments and never through a shell. What is known
of the task comes on standard input; nothing of it is an argument or a variable, and no secret is in the environment."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import subprocess
import tempfile
import threading
import time

from dlqueue.notify.failure import Failed
from dlqueue.notify.plan import Hook
from dlqueue.places import PROGRAMS

log = logging.getLogger(__name__)

OUTPUT_MAX = 4000
"""Bytes of its output that go into the log."""
_PASSED_ON = ("HOME", "LANG", "LC_ALL", "TZ")
_BLOCK = 64 * 1024


class Hooks:
    """The hooks that run now. Once stopped, none begins and none is left."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def stop(self) -> None:
        """Kill what runs; it will be run again."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                _kill(process)

    def run(self, name: str, hook: Hook, event: str, task_id: int, key: str, document: bytes) -> None:
        """Blocks until it has ended.

        :param document: for its standard input.
        :raises Failed: it could not be started, took too long, or ended with another code than 0.
        """
        with tempfile.TemporaryFile() as given:
            given.write(document)
            given.seek(0)
            process = self._start(hook, environment(event, task_id, key), given.fileno())
        try:
            output, in_time = _until_end(process, hook.timeout)
            if not in_time:
                _kill(process)
            code = process.wait()
        finally:
            with self._lock:
                self._running.discard(process)
            if process.stdout is not None:
                process.stdout.close()
        said = output.decode(errors="replace").strip()
        if said:
            log.info("hook %s said: %s", name, said, extra={"task_id": task_id})
        if not in_time:
            raise Failed(f"it was killed after {hook.timeout:g} s (hooks.{name}.timeout)")
        if code:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            last = said.splitlines()[-1][:200] if said else ""
            raise Failed(f"it {how}" + (f": {last}" if last else ""))

    def _start(self, hook: Hook, environ: dict[str, str], stdin: int) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopped:
                raise Failed("the daemon is stopping")
            try:
                process = subprocess.Popen(
                    hook.command,
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    env=environ,
                    cwd="/",
                    start_new_session=True,  # a group of its own, to be killed with all that it started
                )
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                raise Failed(f"{hook.command[0]} cannot be started: {reason}") from error
            self._running.add(process)
            return process


def environment(event: str, task_id: int, key: str) -> dict[str, str]:
    """All that a hook gets."""
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {
        "PATH": PROGRAMS,
        **passed,
        "DLQUEUE_EVENT": event,
        "DLQUEUE_TASK_ID": str(task_id),
        "DLQUEUE_NOTICE_ID": key,
    }


def _until_end(process: subprocess.Popen[bytes], seconds: float) -> tuple[bytes, bool]:
    """The beginning of what it says, and whether it ended in time. Something that it leaves running in the background,
    with its output still open, is not waited for."""
    until = time.monotonic() + seconds
    kept = b""
    assert process.stdout is not None
    pipe = process.stdout.fileno()
    os.set_blocking(pipe, False)
    ended = os.pidfd_open(process.pid)
    try:
        poller = select.poll()
        poller.register(pipe, select.POLLIN)
        poller.register(ended, select.POLLIN)
        while True:
            left = until - time.monotonic()
            ready = [number for number, _ in poller.poll(max(left, 0.0) * 1000)]
            over = ended in ready
            while piece := _read(pipe):
                kept = (kept + piece)[:OUTPUT_MAX]
                if time.monotonic() >= until:
                    break
            if piece == b"" and pipe in ready:
                poller.unregister(pipe)  # it has closed its output
            if over or left <= 0:
                return kept, over
    finally:
        os.close(ended)


def _read(pipe: int) -> bytes | None:
    """None: nothing there now; empty: nothing will come any more."""
    try:
        return os.read(pipe, _BLOCK)
    except BlockingIOError:
        return None


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
