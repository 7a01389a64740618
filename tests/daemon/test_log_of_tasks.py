"""What the log of a daemon says of tasks: which one, and what it belongs to, in each line."""

from __future__ import annotations

import json
from pathlib import Path

from tests.daemon.instance import Instance
from tests.webserver import WebServer

WEB = '[downloaders.web]\nkind = "http"\n'


def test_each_line_of_a_task_names_it_and_what_it_belongs_to(tmp_path: Path) -> None:
    with WebServer() as server, Instance(tmp_path, WEB) as daemon:
        daemon.environ["DLQUEUE_LOG"] = "json"
        daemon.start()
        good = daemon.add(server.put("a.bin", b"content"), correlation_id="nightly\n42")
        assert daemon.finished(good)["status"] == "completed"
        bad = daemon.add(server.url("missing.bin").replace("://", "://u:canary@"), correlation_id="other")
        assert daemon.finished(bad)["status"] == "error"
        assert daemon.stop() == 0
        assert "canary" not in daemon.log.read_text()
        lines = [json.loads(line) for line in daemon.log_lines()]
    told = {line["task_id"]: line for line in lines if "task_id" in line}
    assert all(line["correlation_id"] for line in told.values())
    assert told[good]["correlation_id"] == "nightly\n42"
    assert told[good]["message"] == f"delivered {daemon.destination}/a.bin (7 bytes, by web)"
    assert told[bad]["correlation_id"] == "other"
    assert told[bad]["message"].startswith("has failed: ")
