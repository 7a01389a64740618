"""The example of the plug-in guide: it is short, it installs, it keeps its promises, and a real daemon uses it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemon.instance import Instance

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "docs" / "examples" / "dlqueue-copy"
LINES_MAX = 100


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip has put it into. Nothing is fetched: what builds it is here already."""
    folder = tmp_path_factory.mktemp("example")
    sources = shutil.copytree(EXAMPLE, folder / "source")
    target = folder / "installed"
    made = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps",
         "--no-build-isolation", "--target", target, sources],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return target


def test_it_is_short() -> None:
    lines = (EXAMPLE / "dlqueue_copy.py").read_text().splitlines()
    code = [line for line in lines if line.strip() and not line.strip().startswith(("#", '"""'))]
    assert len(code) < LINES_MAX


def test_it_passes_its_conformance_test(installed: Path, tmp_path: Path) -> None:
    test = shutil.copy(EXAMPLE / "test_dlqueue_copy.py", tmp_path)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", tmp_path, test],
        env={**os.environ, "PYTHONPATH": str(installed)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    assert re.search(r"^\d+ passed", ran.stdout, re.MULTILINE) and "skipped" not in ran.stdout, ran.stdout


def test_a_real_daemon_downloads_with_it(installed: Path, tmp_path: Path) -> None:
    share = tmp_path / "share"
    share.mkdir()
    (share / "a film.mkv").write_bytes(bytes(range(256)) * 10_000)
    config = f'[policy]\nschemes = ["copy"]\n[downloaders.share]\nkind = "copy"\nroot = "{share}"\npoll = "100ms"\n'
    with Instance(tmp_path / "instance", config) as daemon:
        daemon.environ["PYTHONPATH"] = str(installed)
        daemon.start()
        task = daemon.finished(daemon.add("copy:/a%20film.mkv"))
        assert (task["status"], task["download"]["downloader"]) == ("completed", "share"), task
        assert daemon.delivered() == {"a film.mkv": (share / "a film.mkv").read_bytes()}
        failed = daemon.finished(daemon.add("copy:/nothing.mkv"))
        assert failed["status"] == "error" and "No such file" in failed["error"]["message"]
        assert daemon.stop() == 0


def test_the_guide_shows_what_is_there() -> None:
    """Every sample of the guide that is said to be of the example is in it; how its lines are broken does not count."""
    guide = (ROOT / "docs" / "plugins.md").read_text()
    samples = re.findall(r"<!-- of (\S+) -->\n```\w+\n(.*?)```", guide, re.DOTALL)
    assert len(samples) > 5
    for name, sample in samples:
        found, wanted = (re.sub(r"[\s,]+", "", text) for text in ((EXAMPLE / name).read_text(), sample))
        assert wanted in found, f"{name} has no such lines:\n{sample}"
