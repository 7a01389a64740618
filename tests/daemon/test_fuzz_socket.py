"""10,000 requests that nobody should send, over the Unix socket: no answer is a defect, the daemon lives and stays
small. As another user where that is possible, else as the daemon's own."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.fuzzing import Fuzzer
from tests.daemon.instance import Instance, for_everybody

REQUESTS = 10_000
SECONDS = 25.0
"""What has not been sent by then is not, but for the first `ENOUGH`, however slow the machine is."""
ENOUGH = 2_000
PATIENCE = 300.0
MEMORY = 64 * 2**20
SEED = int(os.environ.get("DLQUEUE_FUZZ_SEED", "0")) or int(time.time())
STRANGER = 54_320


@pytest.fixture
def daemon() -> Iterator[Instance]:
    with for_everybody('[owners."*"]\nmax_tasks = 200\nmax_active = 2\nmax_bytes = "1GiB"\n') as instance:
        yield instance


def memory(daemon: Instance) -> int:
    """Resident bytes."""
    assert daemon.process is not None
    return int(Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_ten_thousand_requests(daemon: Instance) -> None:
    print(f"DLQUEUE_FUZZ_SEED={SEED}")
    mine = daemon.add("http://host.invalid/mine?manual=1", name="kanarie")
    before = memory(daemon)
    command = [sys.executable, "-m", "tests.daemon.test_fuzz_socket", str(daemon.socket), str(SEED)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, check=False, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, f"seed {SEED}: {done.stderr}"
    told: dict[str, Any] = json.loads(done.stdout)
    print(told["requests"], told["answers"], told["codes"], memory(daemon) - before)
    assert told["defects"] == [], f"seed {SEED}"
    assert told["leaks"] == [], f"seed {SEED}"
    assert told["answers"] > 1000, told
    assert {"-32700", "-32600", "-32601", "-32602", "-32003", "0"} <= told["codes"].keys(), told
    log = daemon.log.read_text()
    assert "Traceback" not in log and "defect" not in log, f"seed {SEED}: {log[-5000:]}"
    assert memory(daemon) - before < MEMORY, f"seed {SEED}"
    assert daemon.task(mine)["status"] not in ("canceled", "error"), f"seed {SEED}"
    assert daemon.stop() == 0


# -- the other side: a process of its own, that may be another user's -------------------------------------------------


class Tally:
    """What was answered."""

    def __init__(self) -> None:
        self.lines = 0
        self.codes: Counter[str] = Counter()
        self.defects: list[str] = []
        self.leaks: list[str] = []

    def take(self, line: bytes) -> None:
        answer = json.loads(line)
        self.lines += 1
        for one in answer if isinstance(answer, list) else [answer]:
            code = one.get("error", {}).get("code", 0)
            self.codes[str(code)] += 1
            if code == -32603:
                self.defects.append(json.dumps(one)[:500])
        if b"kanarie" in line:
            self.leaks.append(line[:500].decode())


def read(connection: socket.socket, tally: Tally, over: threading.Event) -> None:
    with contextlib.suppress(OSError), connection.makefile("rb") as answers:
        for line in answers:
            tally.take(line)
    over.set()


def fuzz(path: str, seed: int) -> None:
    """On connections of 500 requests each: some messages end theirs."""
    tally, lines = Tally(), Fuzzer(seed).lines(REQUESTS)
    end = time.monotonic() + SECONDS
    left, sent = True, 0

    def is_late() -> bool:
        return sent >= ENOUGH and time.monotonic() > end

    while left and not is_late():
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            connection.settimeout(30)
            over = threading.Event()
            reader = threading.Thread(target=read, args=(connection, tally, over), daemon=True)
            reader.start()
            left = False
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for _, line in zip(range(500), lines, strict=False):
                    left, sent = True, sent + 1
                    connection.sendall(line + b"\n")
                    if over.is_set() or is_late():
                        break
                connection.shutdown(socket.SHUT_WR)
            # A subscription goes on for ever: the end is when no more answers come.
            before = -1
            while before != (before := tally.lines) and not over.wait(0.3):
                pass
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        reader.join(10)
    answers = sum(tally.codes.values())
    told = {"requests": sent, "answers": answers, "codes": tally.codes, "defects": tally.defects, "leaks": tally.leaks}
    print(json.dumps(told))


if __name__ == "__main__":
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(STRANGER, STRANGER, STRANGER)
        os.setresuid(STRANGER, STRANGER, STRANGER)
    fuzz(sys.argv[1], int(sys.argv[2]))
