"""The page about doctor names every check."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_every_check_is_explained_and_no_other() -> None:
    sources = [*(ROOT / "dlqueue" / "daemon" / "doctor").glob("*.py"), ROOT / "dlqueue" / "cli" / "doctor.py"]
    code = "\n".join(source.read_text() for source in sources)
    checks = set(re.findall(r'(?:Finding\(\s*|_guarded\(|"check": )"([^"]+)"', code))
    rows = re.findall(r"^\| `([a-z ]+)` \|", (ROOT / "docs" / "doctor.md").read_text(), re.MULTILINE)
    assert len(rows) > 15
    assert set(rows) == checks
