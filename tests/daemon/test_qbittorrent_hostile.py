"""Torrents whose names want to be elsewhere, in a real qBittorrent. Nothing lands outside."""

from __future__ import annotations

from pathlib import Path

from tests.daemon.hostile_names import add_all, is_tame, outside
from tests.daemon.qbittorrent_world import world


def test_torrents(tmp_path: Path) -> None:
    with world(tmp_path, section="max_active = 300\n") as w:
        w.daemon.start()
        before = outside(w.daemon, "qbittorrent")
        completed = 0
        for number, folder in add_all(w.daemon, w.server).items():
            # One wait is for all that the downloader does before this one.
            done = w.daemon.call("tasks.wait", id=number, timeout=300)
            if done["status"] == "completed":
                completed += 1
                is_tame(done, folder)
            else:
                assert done["error"]["kind"] == "refused", done["error"]
        assert completed > 150, "most are harmless once they have other names"
        assert outside(w.daemon, "qbittorrent") == before
        assert not list(w.qbittorrent.home.rglob("*escaped*"))
