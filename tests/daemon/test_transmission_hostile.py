"""Torrents whose names want to be elsewhere, in a real Transmission. Nothing lands outside."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.daemon.hostile_names import add_all, is_tame, outside
from tests.daemon.transmission_world import world


def test_torrents(tmp_path: Path) -> None:
    with world(tmp_path, section="max_active = 300\n") as w:
        w.daemon.start()
        before = outside(w.daemon, "transmission")
        ended: Counter[str] = Counter()
        for number, folder in add_all(w.daemon, w.server).items():
            # One wait is for all that the downloader does before this one.
            done = w.daemon.call("tasks.wait", id=number, timeout=300)
            ended[(done["error"] or {}).get("kind", "completed")] += 1
            if done["status"] == "completed":
                is_tame(done, folder)
        assert set(ended) <= {"completed", "bad_torrent", "file"}, ended
        assert outside(w.daemon, "transmission") == before
        assert not list(w.transmission.home.rglob("*escaped*"))
        assert ended["completed"] > 150, "most are harmless once they have other names"
