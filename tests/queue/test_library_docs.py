"""The Python in the documents runs as it is printed; the store in it passes the suite."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dlqueue.queue import StorageError
from dlqueue.queue.record import NewTask
from dlqueue.queue.testing.bench import NOW, Bench

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str) -> list[str]:
    """The Python of a page."""
    return re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


_names: dict[str, Any] = {"__name__": __name__}
_store, _proof = blocks("stores.md")
exec(compile(_store, "docs/stores.md", "exec"), _names)
exec(compile(_proof, "docs/stores.md", "exec"), _names)

TestFileStore = _names["TestFileStore"]
"""Collected and run like any other."""


@pytest.mark.parametrize(
    ("page", "number", "printed"),
    [
        ("library.md", 0, "hello world\n"),
        ("library.md", 1, "20\n"),
        ("getting-started.md", 0, "completed {'polls': 5}\n"),
    ],
)
def test_it_runs_as_it_is_printed(tmp_path: Path, page: str, number: int, printed: str) -> None:
    text = blocks(page)[number].replace("ResumeAfter(1.0)", "ResumeAfter(0.01)")
    program = tmp_path / "program.py"
    program.write_text(text, encoding="utf-8")
    for _ in range(2):  # there may be a database by then
        done = subprocess.run(
            [sys.executable, "-W", "error", program],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, printed), done.stderr


def test_ten_lines() -> None:
    lines = [line for line in blocks("library.md")[0].splitlines() if line]
    assert len(lines) <= 12
    assert max(map(len, lines)) <= 80


@pytest.mark.anyio
async def test_what_the_documented_store_cannot_write_has_not_happened(tmp_path: Path) -> None:
    bench = Bench(lambda: _names["FileStore"](tmp_path / "folder" / "tasks.json"))
    await bench.open()
    with pytest.raises(StorageError, match="cannot be written: No such file"):
        await bench.store.submit([NewTask(type="test", params=None)], NOW)
    assert (bench.told, await bench.store.events(0, 10)) == ([], [])
    (tmp_path / "folder").mkdir()
    record = await bench.submit()
    assert (record.id, [change.record.id for change in bench.told]) == (1, [1])
