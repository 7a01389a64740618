"""Task types that other packages bring: found by entry point, run by the daemon, and missed without harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.daemon.instance import Instance, until

MODULE = """
from dlqueue.queue import Completed, ResumeAfter, Task


class Greeting(Task):
    type = "greeting"

    async def run(self, ctx):
        ctx.state["steps"] = ctx.state.get("steps", 0) + 1
        if ctx.state["steps"] < 3:
            return ResumeAfter(0.01)
        return Completed({"text": f"hello {ctx.params['name']}", "steps": ctx.state["steps"]})


class Misnamed(Task):
    type = "other"


class Taken(Task):
    type = "remote_download"


not_a_task = object()
"""
ENTRIES = """
[dlqueue.tasks]
greeting = greetings:Greeting
misnamed = greetings:Misnamed
remote_download = greetings:Taken
nothing = greetings:not_a_task
lacking = greetings_of_nobody:Greeting
broken = greetings:Absent
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder in which such a package is installed."""
    folder = tmp_path / "packages"
    info = folder / "greetings-1.dist-info"
    info.mkdir(parents=True)
    (folder / "greetings.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greetings\nVersion: 1\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    return folder


def test_a_type_of_another_package(tmp_path: Path, package: Path) -> None:
    with Instance(tmp_path) as daemon:
        daemon.environ["PYTHONPATH"] += f":{package}"
        daemon.start()
        made = daemon.call("tasks.submit", type="greeting", params={"name": "world"})
        done = daemon.call("tasks.wait", id=made["id"], timeout=20)
        assert (done["status"], done["result"]) == ("completed", {"text": "hello world", "steps": 3})
        assert daemon.stop() == 0
        log = daemon.log.read_text()
    for name, why in {
        "misnamed": "'other', not the name of its entry point",
        "remote_download": "two task types",
        "nothing": "not a subclass of dlqueue.queue.Task",
        "lacking": "needs the Python module greetings_of_nobody",
        "broken": "AttributeError",
    }.items():
        (line,) = [line for line in log.splitlines() if f"task type {name}:" in line]
        assert why in line
    assert "Traceback" not in log


def test_tasks_are_kept_while_their_package_is_missing(tmp_path: Path, package: Path) -> None:
    with Instance(tmp_path) as daemon:
        without = daemon.environ["PYTHONPATH"]
        daemon.environ["PYTHONPATH"] += f":{package}"
        daemon.start()
        made = daemon.call("tasks.submit", type="greeting", params={"name": "me"}, paused=True)
        daemon.kill()
        daemon.environ["PYTHONPATH"] = without
        daemon.start()
        daemon.call("tasks.resume", id=made["id"])
        assert daemon.call("tasks.why", id=made["id"])["reason"] == "unknown_type"
        daemon.kill()
        daemon.environ["PYTHONPATH"] += f":{package}"
        daemon.start()
        until(lambda: daemon.call("tasks.get", id=made["id"])["status"] == "completed", "it is run after all")
