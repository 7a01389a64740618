"""A program of its own that is killed, or asked to stop, in the middle of its steps."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.queue.program import STEPS, TASKS

DEADLINE = 150.0
ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    started: list[subprocess.Popen[str]] = []

    def start(*mode: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.queue.program", str(tmp_path), *mode]
        program = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(program)
        return program

    yield start
    for program in started:
        program.kill()
        program.communicate()


def lines(folder: Path) -> list[str]:
    log = folder / "steps.log"
    return log.read_text().splitlines() if log.exists() else []


def saved(folder: Path) -> dict[int, int]:
    """How many steps of each task the database knows of."""
    with sqlite3.connect(f"file:{folder}/queue.db?mode=ro", uri=True) as connection:
        found = connection.execute("SELECT task_id, state FROM task_data").fetchall()
    connection.close()
    return {task_id: 0 if state is None else json.loads(state)["done"] for task_id, state in found}


def rows(folder: Path, columns: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(f"file:{folder}/queue.db?mode=ro", uri=True) as connection:
        found = connection.execute(f"SELECT {columns} FROM task ORDER BY id").fetchall()
    connection.close()
    return found


def test_five_kills_lose_no_step(tmp_path: Path, run: Run) -> None:
    before: dict[int, int] = {}
    for _ in range(5):
        program = run("steps", str(TASKS * STEPS // 7))
        _, err = program.communicate(timeout=DEADLINE)
        assert program.returncode == -signal.SIGKILL, err
        now = saved(tmp_path)
        assert {task_id: done for task_id, done in before.items() if now[task_id] < done} == {}, "it went back"
        assert len(now) == TASKS
        before = now
    assert 0 < sum(before.values()) < TASKS * STEPS
    program = run("steps")
    _, err = program.communicate(timeout=DEADLINE)
    assert program.returncode == 0, err
    assert rows(tmp_path, "status, retries, attempt") == [("completed", 0, 0)] * TASKS
    assert set(saved(tmp_path).values()) == {STEPS}
    found: dict[int, list[int]] = {}
    for line in lines(tmp_path):
        task_id, step = map(int, line.split())
        found.setdefault(task_id, []).append(step)
    assert len(found) == TASKS
    for steps in found.values():
        assert steps == sorted(steps), "a step saw an older state than the one before it"
        assert set(steps) == set(range(STEPS)), "a step was left out"
    again = sum(len(steps) - STEPS for steps in found.values())
    assert 0 < again <= 5 * 8, "only those that were in the middle of a step at a kill run it again"


def test_a_stop_in_long_steps_fails_nothing(tmp_path: Path, run: Run) -> None:
    program = run("long")
    assert program.stdout is not None
    for _ in range(4):
        assert program.stdout.readline() == "in a step\n"
    os.kill(program.pid, signal.SIGTERM)
    out, err = program.communicate(timeout=DEADLINE)  # the steps would take an hour
    assert (program.returncode, out.strip()) == (0, "stopped"), err
    assert rows(tmp_path, "status, retries, crashes, finished_at") == [("queued", 0, 0, None)] * 4
    assert "Traceback" not in err
    program = run("short")
    assert program.wait(DEADLINE) == 0
    assert rows(tmp_path, "status, retries") == [("completed", 0)] * 4
    with sqlite3.connect(f"file:{tmp_path}/queue.db?mode=ro", uri=True) as connection:
        kinds = Counter(kind for (kind,) in connection.execute("SELECT kind FROM task_event"))
    connection.close()
    assert kinds == {"submitted": 4, "claimed": 8, "released": 4, "completed": 4}
