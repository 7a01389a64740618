"""`dlqueue stats`, asked of a real daemon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dlqueue.cli.table import cell_width
from tests.cli.test_with_a_daemon import lines_of, on_a_terminal
from tests.daemon.instance import Instance, as_json, fake_section


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Instance]:
    with Instance(tmp_path, fake_section(tmp_path)) as running:
        yield running.start()


def test_stats(daemon: Instance) -> None:
    nothing = daemon.cli("stats", "--since", "1h")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert "no task has ended in the last 1h" in nothing.stderr
    for number, queue in enumerate(("downloads", "downloads", "other")):
        task = daemon.call("downloads.add", url=f"http://host.invalid/{number}.bin", queue=queue)["id"]
        assert daemon.finished(task)["status"] == "completed"
    paused = daemon.call("downloads.add", url="http://host.invalid/9.bin", paused=True)["id"]
    daemon.call("tasks.cancel", id=paused)
    rows = [line.split("\t") for line in daemon.cli("stats").stdout.splitlines()]
    assert [row[:7] for row in rows] == [
        ["downloads", "remote_download", "3", "2", "0", "1", "100%"],
        ["other", "remote_download", "1", "1", "0", "0", "100%"],
    ]
    assert all(float(cell) >= 0 for row in rows for cell in row[7:])
    found = as_json(daemon.cli("stats", "--since", "1d", "--json"))
    assert (found["total"], found["completed"], len(found["groups"])) == (4, 3, 2)
    code, sent = on_a_terminal(daemon, 80, 24, "stats")
    table = lines_of(sent)
    assert code == 0
    assert all(cell_width(line) <= 80 for line in table)
    assert [table[0].split()[0], table[-1].split()[0]] == ["QUEUE", "all"]
    for title in ("TYPE", "DONE", "FAILED", "SUCCESS", "P50", "P99"):
        assert title in table[0], table[0]
    assert daemon.cli("stats", "--since", "soon").returncode == 2
