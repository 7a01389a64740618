"""What goes wrong in the world outside, seen by a user: each has a clear answer with its own code or kind, and nothing
is written outside."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dlqueue.protocol.errors import Code, RpcError
from tests.daemon.instance import Instance, as_json, until
from tests.serving import nobody
from tests.webserver import WebServer, pattern


@pytest.fixture(scope="module")
def server() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    # What has failed waits long enough for its next try to be looked at from all sides.
    with Instance(tmp_path_factory.mktemp("daemon"), "[queues.downloads]\nretry_delay = '2m'\n") as daemon:
        yield daemon.start()


def refused(daemon: Instance, **params: Any) -> RpcError:
    before = daemon.call("tasks.count")
    with pytest.raises(RpcError) as caught:
        daemon.call("downloads.add", **params)
    assert daemon.call("tasks.count") == before
    return caught.value


# -- refused at once --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["file:///etc/passwd", "javascript:alert(1)", "data:text/plain,x", "gopher://x/"])
def test_schemes(daemon: Instance, url: str) -> None:
    error = refused(daemon, url=url)
    assert (error.code, error.kind, error.field) == (Code.POLICY, "scheme", "url")
    assert daemon.cli("add", url).returncode == 7


@pytest.mark.parametrize(
    "url", ["http://x/a\r\nb", "http://x/a\tb", "http://x/a b", "no url at all", "http://", "http://x:y/"]
)
def test_urls_that_are_none(daemon: Instance, url: str) -> None:
    error = refused(daemon, url=url)
    assert (error.code, error.field) == (Code.INVALID_PARAMS, "url")
    shown = daemon.cli("add", url)
    assert shown.returncode == 2
    assert "url" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_header_with_a_line_break(daemon: Instance, server: WebServer) -> None:
    error = refused(daemon, url=server.url("x"), headers={"X-A": "b\r\nEvil: 1"})
    assert (error.code, error.field) == (Code.INVALID_PARAMS, "headers")
    assert daemon.cli("add", server.url("x"), "--header", "X-A: b\nEvil: 1").returncode == 2


@pytest.mark.parametrize("name", ["../up", "a/b", "nul\x00", "x" * 300, "..", ""])
def test_names(daemon: Instance, server: WebServer, name: str) -> None:
    error = refused(daemon, url=server.url("x"), name=name)
    assert error.code == Code.INVALID_PARAMS


@pytest.mark.parametrize("directory", ["/etc", "/", "/tmp/../etc/x"])
def test_destinations(daemon: Instance, server: WebServer, directory: str) -> None:
    error = refused(daemon, url=server.url("x"), directory=directory)
    assert (error.code, error.kind, error.field) == (Code.POLICY, "destination", "directory")
    assert daemon.cli("add", "-d", directory, server.url("x")).returncode == 7


def test_destination_through_a_link(daemon: Instance, server: WebServer, tmp_path: Path) -> None:
    link = daemon.destination / "link"
    link.symlink_to(tmp_path)
    try:
        assert refused(daemon, url=server.url("x"), directory=str(link)).code == Code.POLICY
    finally:
        link.unlink()


# -- found out while fetching -----------------------------------------------------------------------------------------


def ended(daemon: Instance, url: str, **params: Any) -> dict[str, Any]:
    return daemon.finished(daemon.add(url, **params))


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_final_statuses(daemon: Instance, server: WebServer, status: int) -> None:
    task = ended(daemon, server.put(f"s{status}", status=status))
    assert task["status"] == "error"
    assert task["retries"] == 0
    assert str(status) in task["error"]["message"]
    assert task["error"]["kind"] == f"http_{status}"
    shown = daemon.cli("get", server.url(f"s{status}"))
    assert shown.returncode == 5
    assert str(status) in shown.stderr
    assert "Traceback" not in shown.stderr


def retrying(daemon: Instance, url: str, **params: Any) -> dict[str, Any]:
    """The task once its passing error shows."""
    number = daemon.add(url, **params)
    until(lambda: daemon.task(number)["retries"] > 0, "it waits for its next try")
    task = daemon.task(number)
    assert task["status"] == "suspending"
    why = daemon.call("tasks.why", id=number)
    assert why["reason"] == "retry_wait"
    assert why["next_check_at"] is not None
    assert task["download"]["attempts"][-1]["error_class"] == "passing"
    assert task["error"]["message"] in why["message"]
    assert daemon.call("tasks.cancel", id=number, delete_data=True)["status"] == "canceled"
    return task


def test_too_many_requests(daemon: Instance, server: WebServer) -> None:
    task = retrying(daemon, server.put("s429", status=429, headers={"Retry-After": "400"}))
    assert "429" in task["error"]["message"]
    resume, at = (datetime.fromisoformat(text) for text in (task["resume_at"], task["error"]["at"]))
    assert resume - at >= timedelta(seconds=400), "later than by itself"


def test_refused_connection(daemon: Instance) -> None:
    with nobody() as address:
        assert retrying(daemon, f"http://{address}/x")["error"]["kind"] == "connection"


def test_name_that_does_not_resolve(daemon: Instance) -> None:
    assert retrying(daemon, "http://does-not-exist.invalid/x")["error"]["kind"] == "dns"


def test_truncated_body(daemon: Instance, server: WebServer) -> None:
    task = retrying(daemon, server.put("cut.bin", pattern(100_000), cut=1000))
    assert task["error"]["kind"] == "truncated"


def test_truncated_once_goes_on(tmp_path: Path, server: WebServer) -> None:
    body = pattern(100_000)
    url = server.put("once.bin", body, cut=70_000)
    with Instance(tmp_path, "[queues.downloads]\nretry_delay = '100ms'\n") as daemon:
        daemon.start()
        number = daemon.add(url)
        until(lambda: daemon.task(number)["retries"] > 0, "it failed once")
        server.pages["once.bin"].cut = None
        task = daemon.finished(number)
        assert task["status"] == "completed"
        assert daemon.delivered() == {"once.bin": body}
        assert any(asked.headers.get("Range") for asked in server.asked("once.bin"))


def test_hostile_names_from_the_server(daemon: Instance, server: WebServer) -> None:
    for number, hostile in enumerate(["../../evil", "/etc/evil", "..", "a\\..\\b", "x" * 400 + ".bin"]):
        url = server.put(f"cd{number}", b"data", headers={"Content-Disposition": f'attachment; filename="{hostile}"'})
        task = ended(daemon, url, directory=str(daemon.destination / "hostile"))
        assert task["status"] == "completed", task["error"]
        location = Path(task["download"]["location"])
        assert location.parent == daemon.destination / "hostile"
        assert location.read_bytes() == b"data"
        assert len(location.name.encode()) <= 255


def test_bad_checksum(daemon: Instance, server: WebServer) -> None:
    task = ended(daemon, server.put("sum.bin", b"data"), checksum="sha-256=" + "0" * 64)
    assert (task["status"], task["error"]["kind"]) == ("error", "checksum")
    assert not (daemon.destination / "sum.bin").exists()


@pytest.mark.parametrize(
    ("on_exists", "status"),
    [("rename", "completed"), ("skip", "completed"), ("overwrite", "completed"), ("fail", "error")],
)
def test_existing_file(daemon: Instance, server: WebServer, on_exists: str, status: str) -> None:
    folder = daemon.destination / on_exists
    folder.mkdir()
    (folder / "a.tar").write_bytes(b"old")
    task = ended(daemon, server.put("a.tar", b"new"), directory=str(folder), on_exists=on_exists)
    assert task["status"] == status
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".dlqueue"}
    expected = {
        "rename": {"a.tar": b"old", "a.1.tar": b"new"},
        "skip": {"a.tar": b"old"},
        "overwrite": {"a.tar": b"new"},
        "fail": {"a.tar": b"old"},
    }
    assert found == expected[on_exists]
    if on_exists == "fail":
        assert task["error"]["kind"] == "exists"
    else:
        assert task["download"]["location"] == str(folder / ("a.1.tar" if on_exists == "rename" else "a.tar"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_full_disk_is_waited_for(tmp_path: Path, server: WebServer) -> None:
    body = pattern(3_000_000)
    url = server.put("big.bin", body)
    with Instance(tmp_path) as daemon:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", daemon.destination], check=True)
        try:
            daemon.start()
            number = daemon.add(url)
            until(lambda: (daemon.task(number)["hold"] or "").startswith("space"), "it waits for space")
            until(lambda: daemon.call("tasks.why", id=number)["reason"] == "space", "why says so")
            task = daemon.task(number)
            assert task["retries"] == 0
            assert task["download"]["attempts"][-1]["error_class"] == "space"
            # Paused first: of the room it would be told, and be over before it can be paused.
            daemon.call("tasks.pause", id=number)
            until(lambda: daemon.task(number)["status"] == "paused", "it is paused")
            subprocess.run(["mount", "-o", "remount,size=16m", daemon.destination], check=True)
            daemon.call("tasks.resume", id=number)
            done = daemon.finished(number)
            assert (done["status"], done["retries"]) == ("completed", 0)
            assert daemon.delivered() == {"big.bin": body}
        finally:
            daemon.stop()
            subprocess.run(["umount", "-l", daemon.destination], check=True)


# -- secrets ----------------------------------------------------------------------------------------------------------


def test_secrets_stay_inside(daemon: Instance, server: WebServer) -> None:
    secret = "hunter2secret"
    url = server.put("private", status=403).replace("http://", f"http://user:{secret}@") + f"?token={secret}"
    number = daemon.add(url, headers={"Authorization": f"Bearer {secret}"})
    daemon.finished(number)
    with daemon.client() as client:
        for method in ("tasks.get", "tasks.history", "tasks.why"):
            assert secret not in str(client.call(method, {"id": number})), method
        assert secret not in str(client.call("tasks.list"))
    assert secret not in daemon.log.read_text()
    assert secret not in daemon.cli("show", str(number)).stdout
    assert secret not in daemon.cli("ls", "--json").stdout


def test_nothing_is_written_outside(daemon: Instance) -> None:
    """Runs last in this file: whatever the tests above did, only the destination and the state folder have files."""
    allowed = {"home", "state", "run", "daemon.log", "dlqueue.toml"}
    assert {path.name for path in daemon.folder.iterdir()} <= allowed
    assert as_json(daemon.cli("ls", "--json", "--status", "processing")) == []
    assert "Traceback" not in daemon.log.read_text()
