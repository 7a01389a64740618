"""The manual page: true, readable, and in the wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from dlqueue.cli.main import program
from docs.man import generate
from tests.test_docs import commands

ROOT = Path(__file__).parent.parent.parent


def test_it_says_what_the_program_says() -> None:
    assert generate.PAGE.read_text(encoding="utf-8") == generate.page(), "the commands have changed: make man"


@pytest.mark.skipif(shutil.which("man") is None, reason="needs man")
def test_it_renders_without_a_warning() -> None:
    environ = {**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80", "MANPAGER": "cat", "MANROFFSEQ": ""}
    done = subprocess.run(
        ["man", "--warnings=w", "-l", str(generate.PAGE)], capture_output=True, text=True, timeout=60, check=True,
        env=environ,
    )  # fmt: skip
    assert done.stderr == ""
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    for name, command in commands(program):
        if not command.hidden:
            assert f"\n   {name}" in done.stdout, name
    for line in ("       --on-exists [rename|skip|overwrite|fail]", "           dlqueue retry --failed"):
        assert line in done.stdout.splitlines()


def test_it_is_in_the_wheel(tmp_path: Path) -> None:
    # Only what the build reads: a hundred files fewer to look through.
    for name in ("dlqueue", "plugins", "docs/man", "systemd"):
        shutil.copytree(ROOT / name, tmp_path / "src" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / "src")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=tmp_path / "src", check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if name.endswith(".data/data/share/man/man1/dlqueue.1")]
    assert "dlqueue/cli/top/app.py" in names
    assert {"dlqueue/systemd/dlqueue.service", "dlqueue/systemd/user/dlqueue.socket"} <= set(names)
