"""What the process of yt-dlp may do and may not, what it goes on with, and how it ends."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dlqueue.downloads.registry import find_kinds
from dlqueue.sdk import Handle, Rejected, Request, TransferState, TransferStatus
from dlqueue_ytdlp import YtdlpConfig, YtdlpDownloader
from dlqueue_ytdlp.child import Parent, Report, options_of
from dlqueue_ytdlp.jobs import Job
from tests.plugins.ytdlp.conftest import opened
from tests.webserver import WebServer, pattern

KEY = "00c0ffee00c0ffee"
PATIENCE = 30.0
BODY = pattern(400_000)


def wait(
    downloader: YtdlpDownloader, is_right: Callable[[TransferStatus], bool], what: str, key: str = KEY
) -> TransferStatus:
    until = time.monotonic() + PATIENCE
    while True:
        status = downloader.poll([Handle(key)])[Handle(key)]
        if is_right(status):
            return status
        assert time.monotonic() < until, f"not {what}: {status}"
        time.sleep(0.01)


def failed(downloader: YtdlpDownloader) -> Rejected:
    error = wait(downloader, lambda status: status.state is TransferState.ERROR, "failed").error
    assert error is not None
    return error


def whole(downloader: YtdlpDownloader) -> TransferStatus:
    return wait(downloader, lambda status: status.whole or status.state is TransferState.ERROR, "whole")


def children(folder: Path) -> list[int]:
    """The processes of the transfers that are kept in this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                arguments = (entry / "cmdline").read_bytes()
                if b"dlqueue_ytdlp.child" in arguments and os.fsencode(folder) in arguments:
                    found.append(int(entry.name))
    return found


def gone(folder: Path) -> None:
    until = time.monotonic() + PATIENCE
    while children(folder):
        assert time.monotonic() < until, "its process runs on"
        time.sleep(0.01)


# -- going on ----------------------------------------------------------------------------------------------------------


def test_a_killed_process_is_told_and_goes_on_where_it_was(
    downloader: YtdlpDownloader, server: WebServer, tmp_path: Path
) -> None:
    gate = threading.Event()
    url = server.put("a.mp4", BODY, gate=gate, gate_at=200_000)
    request = Request(urls=(url,), directory=tmp_path / "transfer")
    downloader.create(request, KEY)
    part = tmp_path / "transfer/.parts/a.mp4.part"
    wait(downloader, lambda status: part.exists() and part.stat().st_size > 0, "begun")
    (process,) = children(tmp_path)
    os.kill(process, signal.SIGKILL)
    error = failed(downloader)
    assert (error.kind, error.final) == ("crash", None)
    gate.set()
    kept = part.stat().st_size
    downloader.create(request, KEY)
    status = whole(downloader)
    assert Path(status.content[0]).read_bytes() == BODY
    assert server.asked("a.mp4")[-1].headers["Range"] == f"bytes={kept}-"
    assert os.listdir(tmp_path / "transfer") == ["a.mp4"]
    gone(tmp_path)


def test_another_daemon_goes_on(server: WebServer, tmp_path: Path) -> None:
    gate = threading.Event()
    url = server.put("a.mp4", BODY, gate=gate, gate_at=200_000)
    first = opened(tmp_path / "control")
    first.create(Request(urls=(url,), directory=tmp_path / "transfer"), KEY)
    wait(first, lambda status: status.state is TransferState.DOWNLOADING, "begun")
    first.close()
    assert children(tmp_path) == []
    gate.set()
    second = opened(tmp_path / "control")
    assert Path(whole(second).content[0]).read_bytes() == BODY
    second.close()
    third = opened(tmp_path / "control")
    assert third.poll([Handle(KEY)])[Handle(KEY)].state is TransferState.COMPLETED
    assert [file.path for file in third.files(Handle(KEY))] == ["a.mp4"]
    third.close()
    (tmp_path / "control" / f"{KEY}.json").write_text("half of")
    fourth = opened(tmp_path / "control")
    assert fourth.poll([Handle(KEY)]) == {}
    fourth.close()


def test_it_ends_with_its_parent(server: WebServer, tmp_path: Path) -> None:
    url = server.put("a.mp4", BODY, gate=threading.Event(), gate_at=1000)
    program = f"""
import logging, os, sys, time
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
from dlqueue.sdk import Handle, Request
from tests.plugins.ytdlp.conftest import opened
made = opened(Path({str(tmp_path / "control")!r}))
made.create(Request(urls=({url!r},), directory=Path({str(tmp_path / "transfer")!r})), {KEY!r})
print("begun", flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"begun\n"
        until = time.monotonic() + PATIENCE
        while not server.requests:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert len(children(tmp_path)) == 1
        parent.kill()
    gone(tmp_path)


def test_one_process_at_a_time_even_if_one_was_orphaned(
    downloader: YtdlpDownloader, server: WebServer, tmp_path: Path
) -> None:
    with open(tmp_path / "control" / f"{KEY}.lock", "wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        downloader.create(Request(urls=(server.put("a.mp4", BODY),), directory=tmp_path / "transfer"), KEY)
        until = time.monotonic() + PATIENCE
        while not (running := children(tmp_path)):  # in the middle of `exec` a process has no arguments
            assert time.monotonic() < until
            time.sleep(0.01)
        (process,) = running
        waits = Path(f"/proc/{process}/wchan")
        until = time.monotonic() + 3.0  # not every kernel tells what a process waits for
        while "lock" not in waits.read_text() and time.monotonic() < until:
            time.sleep(0.01)
        assert not server.requests
    assert Path(whole(downloader).content[0]).read_bytes() == BODY


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_an_address_that_is_not_allowed(server: WebServer, tmp_path: Path) -> None:
    asked: list[str] = []

    def check(address: str) -> None:
        asked.append(address)
        raise Rejected("addresses of the local network are not allowed", "request", kind="policy")

    downloader = opened(tmp_path / "control", check_address=check)
    downloader.create(Request(urls=(server.put("a.mp4", BODY),), directory=tmp_path / "transfer"), KEY)
    error = failed(downloader)
    assert (error.message, error.final, error.kind) == (
        "addresses of the local network are not allowed",
        "request",
        "policy",
    )
    assert asked == ["127.0.0.1"]
    assert server.connections == 0
    downloader.close()


def test_no_configuration_and_no_cache_of_the_user(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    ran = tmp_path / "ran"
    for place in (home / ".config/yt-dlp", home / "yt-dlp"):
        place.mkdir(parents=True)
        (place / "config").write_text(f"--exec 'touch {ran}'\n-o elsewhere\n")
    plugin = home / ".config/yt-dlp/plugins/p/yt_dlp_plugins/extractor/evil.py"
    plugin.parent.mkdir(parents=True)
    plugin.write_text(f"open({str(ran)!r}, 'w')\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    downloader = opened(tmp_path / "control")
    downloader.create(Request(urls=(server.put("a.mp4", BODY),), directory=tmp_path / "transfer"), KEY)
    assert whole(downloader).name == "a.mp4"
    assert not ran.exists() and not (home / ".cache").exists()
    downloader.close()


def test_the_process_may_not_run_programs(tmp_path: Path) -> None:
    program = """
import io, subprocess, sys, os
from dlqueue_ytdlp.child import Parent, guard
guard(Parent(io.BytesIO(), io.BytesIO()))
for call in (lambda: subprocess.run(["touch", sys.argv[1]]), lambda: os.system("touch " + sys.argv[1]),
             lambda: os.execv("/bin/touch", ["touch", sys.argv[1]]),
             lambda: os.posix_spawn("/bin/touch", ["touch", sys.argv[1]], {})):
    try:
        call()
    except PermissionError:
        continue
    sys.exit(1)
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "ran")], check=True)
    assert not (tmp_path / "ran").exists()


def test_nothing_secret_is_in_its_arguments(downloader: YtdlpDownloader, server: WebServer, tmp_path: Path) -> None:
    url = server.put("a.mp4", BODY, gate=threading.Event(), gate_at=10) + "?token=s3cret"
    request = Request(urls=(url,), directory=tmp_path / "transfer", headers={"X-Key": "s3cret"})
    downloader.create(request, KEY)
    wait(downloader, lambda status: bool(server.requests), "begun")
    (process,) = children(tmp_path)
    assert b"s3cret" not in Path(f"/proc/{process}/cmdline").read_bytes()
    assert b"s3cret" not in Path(f"/proc/{process}/environ").read_bytes()
    assert server.requests[0].headers["X-Key"] == "s3cret"
    assert (tmp_path / "control" / f"{KEY}.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"exec": "touch x"}, "no option 'exec'"),
        ({"config-locations": "/etc"}, "no option 'config-locations'"),
        ({"format": "a\nb"}, "one line of text"),
        ({"limit-rate": "fast"}, "bytes per second"),
        ({"playlist": "maybe"}, "true or false"),
        ({"playlist-items": "/etc"}, "numbers and ranges"),
        ({"format-sort": "$(x)"}, "with commas"),
    ],
)
def test_options_that_are_refused(
    downloader: YtdlpDownloader, tmp_path: Path, options: dict[str, str], text: str
) -> None:
    with pytest.raises(Rejected, match=text) as caught:
        downloader.create(
            Request(urls=("http://127.0.0.1/x.mp4",), directory=tmp_path / "transfer", options=options), KEY
        )
    assert (caught.value.final, caught.value.kind) == ("request", "bad_option")


def test_requests_that_are_refused(downloader: YtdlpDownloader, tmp_path: Path) -> None:
    url, folder = "http://127.0.0.1/x.mp4", tmp_path / "transfer"
    for request, text in (
        (Request(urls=(url, url), directory=folder), "without mirrors"),
        (Request(urls=(), torrent=b"x", directory=folder), "one URL"),
        (Request(urls=("file:///etc/passwd",), directory=folder), "http and https"),
        (Request(urls=(url,), directory=folder, select=(2,)), "nothing can be selected"),
        (Request(urls=(url,), directory=folder, name="../x"), "not usable as the name"),
        (Request(urls=(url,), directory=folder, headers={"Authorization": "s3cret"}), "Authorization is not given"),
        (Request(urls=(url,), directory=folder, headers={"X": "a\nb"}), "one line"),
    ):
        with pytest.raises(Rejected, match=text) as caught:
            downloader.create(request, KEY)
        assert "s3cret" not in str(caught.value)
    with pytest.raises(ValueError, match="format must be"):
        YtdlpConfig(format="")


def test_options_reach_yt_dlp() -> None:
    report = Report(Parent(io.BytesIO(), io.BytesIO()))
    options = {"format": "b", "format-sort": "res:720,ext", "limit-rate": "1000", "playlist": "true"}
    told = options_of(Job("http://x/", "/d", options=options | {"playlist-items": "1-3"}), report)
    assert (told["format"], told["format_sort"], told["ratelimit"]) == ("b", ["res:720", "ext"], 1000)
    assert (told["noplaylist"], told["playlist_items"]) == (False, "1-3")
    plain = options_of(Job("http://x/", "/d", name="100%.mp4"), report)
    assert (plain["noplaylist"], plain["outtmpl"]) == (True, {"default": "100%%.mp4"})
    assert "format" not in plain


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "final", "kind"), [(404, "request", "http_404"), (403, "request", "http_403"), (503, None, "http_503")]
)
def test_what_a_server_refuses(
    downloader: YtdlpDownloader, server: WebServer, tmp_path: Path, status: int, final: str | None, kind: str
) -> None:
    downloader.create(Request(urls=(server.put("a.mp4", status=status),), directory=tmp_path / "transfer"), KEY)
    error = failed(downloader)
    assert (error.final, error.kind) == (final, kind)
    assert error.message.startswith(f"HTTP {status} (")


def test_a_page_without_anything(downloader: YtdlpDownloader, server: WebServer, tmp_path: Path) -> None:
    url = server.put("page.html", b"<html><body>nothing here</body></html>", headers={"Content-Type": "text/html"})
    downloader.create(Request(urls=(url,), directory=tmp_path / "transfer"), KEY)
    error = failed(downloader)
    assert (error.final, error.kind) == ("downloader", "unsupported")


def test_a_page_with_a_film(downloader: YtdlpDownloader, server: WebServer, tmp_path: Path) -> None:
    server.put("film.mp4", BODY)
    page = b'<html><head><title>../a: film/</title></head><body><video src="/film.mp4"></video></body></html>'
    url = server.put("page.html", page, headers={"Content-Type": "text/html"})
    downloader.create(Request(urls=(url,), directory=tmp_path / "transfer"), KEY)
    status = whole(downloader)
    (path,) = map(Path, status.content)
    assert path.parent == tmp_path / "transfer" and path.read_bytes() == BODY
    assert os.listdir(tmp_path / "transfer") == [path.name]


def test_nobody_there(downloader: YtdlpDownloader, tmp_path: Path) -> None:
    downloader.create(Request(urls=("http://127.0.0.1:9/s3cret.mp4",), directory=tmp_path / "transfer"), KEY)
    error = failed(downloader)
    assert (error.final, error.kind) == (None, "connection")
    assert "127.0.0.1:9/s3cret" not in error.message


# -- without the library -----------------------------------------------------------------------------------------------


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "dlqueue_ytdlp"]:
        monkeypatch.delitem(sys.modules, name)
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "yt_dlp" else find(name, *rest))
    kinds = find_kinds()
    assert kinds.broken["ytdlp"] == "needs the Python module yt_dlp: install dlqueue[ytdlp]"
    assert "ytdlp" not in kinds.usable and "http" in kinds.usable
