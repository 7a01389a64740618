"""The gateway of a real daemon: configured, started, used from outside, stopped."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.instance import DEADLINE, Instance, until
from tests.webserver import WebServer, pattern

ON = '[http]\nlisten = "127.0.0.1:0"\n'


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Instance]:
    with Instance(tmp_path, ON) as daemon:
        yield daemon.start()


def port(daemon: Instance) -> int:
    return int(re.findall(r"http gateway: http://127\.0\.0\.1:(\d+)", daemon.log.read_text())[-1])


def token(daemon: Instance, name: str, role: str = "admin") -> str:
    made = daemon.cli("token", "new", name, "--role", role)
    assert made.returncode == 0, made.stderr
    return made.stdout.split()[-1]


def ask(daemon: Instance, verb: str, path: str, secret: str | None, body: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port(daemon), timeout=DEADLINE)
    try:
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        connection.request(verb, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_a_download_by_http(daemon: Instance) -> None:
    secret = token(daemon, "phone", "operate")
    data = pattern(100_000)
    with WebServer() as server:
        url = server.put("file.bin", data)
        status, task = ask(daemon, "POST", "/api/v1/downloads", secret, {"url": url})
        assert status == 201, task
        done = daemon.finished(task["id"])
    assert (done["status"], done["owner"]) == ("completed", daemon.task(task["id"])["owner"])
    assert daemon.delivered()["file.bin"] == data
    assert ask(daemon, "GET", f"/api/v1/tasks/{task['id']}", secret)[1]["download"]["name"] == "file.bin"
    assert ask(daemon, "GET", "/readyz", None) == (200, {"status": "ready"})
    assert ask(daemon, "POST", "/rpc", secret, {"jsonrpc": "2.0", "id": 1, "method": "daemon.shutdown"})[0] == 403


def test_tokens_take_effect_at_once_and_outlive_a_restart(daemon: Instance) -> None:
    secret = token(daemon, "phone")
    assert ask(daemon, "GET", "/api/v1/tasks", secret)[0] == 200
    assert secret not in daemon.log.read_text()
    assert daemon.stop() == 0
    daemon.start()
    assert ask(daemon, "GET", "/api/v1/tasks", secret)[0] == 200
    assert daemon.cli("token", "ls").stdout.startswith("phone\tadmin")
    assert daemon.cli("token", "revoke", "phone").returncode == 0
    assert ask(daemon, "GET", "/api/v1/tasks", secret)[0] == 401
    daemon.kill()
    daemon.start()
    assert ask(daemon, "GET", "/api/v1/tasks", secret)[0] == 401


def test_a_stop_does_not_wait_for_streams_and_idle_clients(daemon: Instance) -> None:
    secret = token(daemon, "phone")
    number = daemon.add("http://127.0.0.1:1/x", paused=True)
    streams = []
    for path, verb, body in (
        ("/rpc", "POST", json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tasks.wait", "params": {"id": number}})),
        ("/events", "GET", None),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", port(daemon), timeout=DEADLINE)
        connection.request(verb, path, body, {"Authorization": f"Bearer {secret}"})
        streams.append(connection)
    events = streams[1].getresponse()
    assert events.status == 200
    idle = socket.create_connection(("127.0.0.1", port(daemon)))
    assert ask(daemon, "GET", "/readyz", None)[0] == 200  # what came before it has been read by now
    assert daemon.stop() == 0
    assert "graceful shutdown exceeded" not in daemon.log.read_text(), "nobody had to be cut off"
    assert events.read().endswith(b"\n")
    assert json.loads(streams[0].getresponse().read())["error"]["code"] == -32009
    for one in streams:
        one.close()
    idle.close()
    assert "Traceback" not in daemon.log.read_text()


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        with Instance(tmp_path, f'[http]\nlisten = "{where}"\n') as daemon:
            with pytest.raises(AssertionError):
                daemon.start()
            assert daemon.process is not None
            assert daemon.process.wait(DEADLINE) == 1
            assert f"cannot listen on http://{where}" in daemon.log.read_text()
            assert "Traceback" not in daemon.log.read_text()


def test_a_listen_for_everybody_is_warned_of(tmp_path: Path) -> None:
    with Instance(tmp_path, '[http]\nlisten = "0.0.0.0:0"\n') as daemon:
        checked = daemon.cli("config", "check", "--config", str(daemon.config))
        assert "http.listen" in checked.stdout + checked.stderr
        assert "plain text" in checked.stdout + checked.stderr


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    with Instance(tmp_path, ON) as daemon:
        hide = "import sys; sys.modules['sse_starlette'] = None; import dlqueue.cli.main as m; m.main()"
        started = subprocess.run(
            [sys.executable, "-c", hide, "daemon", "--user", "--config", str(daemon.config)],
            env=daemon.environ,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
    assert started.returncode == 78
    assert "dlqueue[http]" in started.stderr
    assert "Traceback" not in started.stderr


def test_what_is_off_needs_nothing(tmp_path: Path) -> None:
    with Instance(tmp_path) as daemon:
        daemon.start()
        made = daemon.cli("token", "new", "x", "--role", "read")
        assert made.returncode == 0
        assert "http.listen" in made.stderr
        assert "http gateway" not in daemon.log.read_text()


def test_another_listen_needs_a_restart(daemon: Instance) -> None:
    daemon.config.write_text(daemon.config.read_text().replace("127.0.0.1:0", "127.0.0.1:1"))
    refused = daemon.cli("config", "reload")
    assert refused.returncode == 1
    assert "http.listen" in refused.stderr


def test_a_broken_file_of_tokens_stops_the_start(tmp_path: Path) -> None:
    with Instance(tmp_path) as daemon:
        state = tmp_path / "state" / "dlqueue"
        state.mkdir(parents=True)
        (state / "tokens.json").write_text("{")
        with pytest.raises(AssertionError):
            daemon.start()
        until(daemon.died, "it ends")
        assert "tokens.json" in daemon.log.read_text()
        assert "restore it" in daemon.log.read_text()
        assert "Traceback" not in daemon.log.read_text()
