"""`rm --delete-data` with the real daemon."""

from __future__ import annotations

from pathlib import Path

from tests.daemon.instance import Instance
from tests.webserver import WebServer


def test_what_is_kept_is_said_on_stderr(tmp_path: Path) -> None:
    with WebServer() as server, Instance(tmp_path) as daemon:
        daemon.start()
        first = daemon.add(server.put("a.bin", b"content"))
        second = daemon.add(server.put("b.bin", b"more"))
        for number in (first, second):
            assert daemon.finished(number)["status"] == "completed"
        target = daemon.destination / "a.bin"
        target.write_bytes(b"edited since")
        kept = daemon.cli("rm", str(first), "--delete-data")
        assert kept.returncode == 0, kept.stderr
        assert f"task {first}: kept: {target}: it is not the file that was delivered" in kept.stderr
        gone = daemon.cli("rm", str(second), "--delete-data")
        assert (gone.returncode, gone.stderr) == (0, "")
        assert daemon.delivered() == {"a.bin": b"edited since"}
        assert any("deleted, but kept: " in line for line in daemon.log_lines())
