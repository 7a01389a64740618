"""Hooks: what they get, what they cannot do, and how they end."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dlqueue.notify.failure import Failed
from dlqueue.notify.hooks import OUTPUT_MAX, Hooks
from dlqueue.notify.plan import Hook

HOSTILE = [
    "$(touch pwned)", "`touch pwned`", "; touch pwned", "-rf", "a\nb", "'\"", "\u202egpj.exe", "../../etc", "%s%n",
]  # fmt: skip
REPORT = """
import json, os, sys
print("said", flush=True)
json.dump({"argv": sys.argv[1:], "environ": dict(os.environ), "given": json.load(sys.stdin), "cwd": os.getcwd(),
           "group": os.getpgid(0) == os.getpid()}, open(sys.argv[1], "w"))
"""


def run(command: list[str], document: Any = None, timeout: float = 30.0, hooks: Hooks | None = None) -> None:
    hook = Hook(tuple(command), timeout)
    (hooks or Hooks()).run("mine", hook, "delivered", 7, "msg_1", json.dumps(document).encode())


def failure(command: list[str], **more: Any) -> Failed:
    with pytest.raises(Failed) as raised:
        run(command, **more)
    return raised.value


def test_what_it_gets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("DLQUEUE_SECRET", "topsecret")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/topsecret")
    monkeypatch.setenv("HOME", "/home/me")
    out = tmp_path / "out.json"
    task = {"id": 7, "download": {"name": HOSTILE}}
    caplog.set_level("INFO")
    run([sys.executable, "-c", REPORT, str(out), "$HOME;{name}"], task)
    report = json.loads(out.read_text())
    assert report["given"] == task
    assert report["argv"] == [str(out), "$HOME;{name}"], "as it stands in the configuration"
    assert (report["cwd"], report["group"]) == ("/", True)
    environ = report["environ"]
    assert (environ["DLQUEUE_EVENT"], environ["DLQUEUE_TASK_ID"], environ["DLQUEUE_NOTICE_ID"]) == (
        "delivered", "7", "msg_1",
    )  # fmt: skip
    assert environ["HOME"] == "/home/me"
    assert "topsecret" not in str(environ)
    allowed = {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ"}
    assert {name for name in environ if not name.startswith("DLQUEUE_")} <= allowed
    assert "hook mine said: said" in caplog.text


def test_hostile_names_start_nothing(tmp_path: Path) -> None:
    for name in HOSTILE:
        run(["cat"], {"download": {"name": name, "location": f"{tmp_path}/{name}"}})
    assert list(tmp_path.iterdir()) == []
    assert not Path("/pwned").exists()


def test_exit_code_and_last_words() -> None:
    said = failure(["sh", "-c", "echo first; echo it broke >&2; exit 3"]).message
    assert said == "it ended with exit code 3: it broke"


def test_what_cannot_be_started() -> None:
    assert "No such file" in failure(["/nowhere/program"]).message
    assert "cannot be started" in failure(["/etc/passwd"]).message


def test_too_long_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    script = f"sleep 300 & echo $! > {tmp_path}/child; wait"
    # So long because it has to have started its child by then, on any machine.
    assert failure(["sh", "-c", script], timeout=3.0).message == "it was killed after 3 s (hooks.mine.timeout)"
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 30
    while _alive(child):
        assert time.monotonic() < deadline, "its child lives on"
        time.sleep(0.01)


def test_output_without_end_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    run(["sh", "-c", "head -c 5000000 /dev/zero | tr '\\0' x"])
    (record,) = [record for record in caplog.records if "hook mine said" in record.getMessage()]
    assert len(record.getMessage()) < OUTPUT_MAX + 100


def test_what_it_leaves_in_the_background_is_not_waited_for() -> None:
    worker = threading.Thread(target=lambda: run(["sh", "-c", "sleep 40 & exit 0"]), daemon=True)
    worker.start()
    worker.join(25)
    assert not worker.is_alive()


def test_a_closed_output_is_no_end(tmp_path: Path) -> None:
    run(["sh", "-c", f"exec >&- 2>&-; sleep 0.2; touch {tmp_path}/done"])
    assert (tmp_path / "done").exists()


def test_a_stop_kills_what_runs_and_begins_nothing(tmp_path: Path) -> None:
    hooks, said = Hooks(), list[str]()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def work() -> None:
        said.append(failure(["sh", "-c", f"echo up > {fifo}; sleep 300"], hooks=hooks).message)

    worker = threading.Thread(target=work)
    worker.start()
    assert fifo.read_text() == "up\n"
    hooks.stop()
    worker.join(30)
    assert said == ["it was killed by signal 9"]
    assert failure(["true"], hooks=hooks).message == "the daemon is stopping"


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
