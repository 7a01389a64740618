"""Bytes that are there are not fetched again, unless they cannot be proven to belong to the file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dlqueue.sdk import Handle, TransferState
from dlqueue_http import fetch
from dlqueue_http.control import SLACK, Journal
from dlqueue_http.web import Stopped, Wire
from tests.plugins.http.conftest import KEY, PATIENCE, Bench
from tests.webserver import WebServer, pattern

SIZE = 2_000_000
CONTENT = pattern(SIZE)
OTHER = pattern(SIZE, seed=1)

VICTIM = """
import json, logging, sys
from pathlib import Path
from dlqueue.sdk import Context, Handle, Request
from dlqueue_http import HttpConfig, HttpDownloader

told = json.loads(sys.argv[1])
nothing = lambda value: None
engine = HttpDownloader()
folder = Path(told["control"])
engine.open(HttpConfig(**told["config"]), Context("http", folder, logging.getLogger(), lambda: 9.0, nothing, nothing))
handle = engine.create(Request((told["url"],), Path(told["directory"])), told["key"])
while (got := engine.poll([handle])[handle].downloaded) < told["until"]:
    pass
print(got, flush=True)
sys.stdin.read()
"""


def kill_after(bench: Bench, url: str, until: int, **config: object) -> None:
    """Another process fetches until it has that much, and is killed."""
    told = {
        "control": str(bench.control),
        "config": config,
        "url": url,
        "directory": str(bench.request(url).directory),
        "key": KEY,
        "until": until,
    }
    with subprocess.Popen(
        [sys.executable, "-c", VICTIM, json.dumps(told)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as victim:
        assert victim.stdout is not None
        assert int(victim.stdout.readline()) >= until
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait()


def test_goes_on_after_kill_9_with_the_bytes_it_had(bench: Bench, server: WebServer) -> None:
    for until in (600_000, 1_200_000):
        # It comes no further than that, however long the kill takes.
        url = server.put("f.bin", CONTENT, rate=1_500_000, gate=threading.Event(), gate_at=600_000)
        kill_after(bench, url, until)
    server.put("f.bin", CONTENT)
    engine = bench.open()
    assert engine.poll([Handle(KEY)])[Handle(KEY)].downloaded >= 1_100_000
    assert bench.content(bench.end()) == CONTENT
    assert server.served("f.bin") <= SIZE * 1.05
    assert [("Range" in asked.headers) for asked in server.asked("f.bin")] == [False, True, True]
    assert all(asked.headers["If-Range"].startswith('"') for asked in server.asked("f.bin")[1:])


@pytest.mark.parametrize(("body", "kept"), [(CONTENT, True), (OTHER, False)], ids=["the same", "another"])
def test_another_url_in_the_middle_keeps_the_bytes_of_the_same_content(
    bench: Bench, server: WebServer, body: bytes, kept: bool
) -> None:
    engine = bench.open()
    url = server.put("f.bin", CONTENT, rate=1_500_000, gate=threading.Event(), gate_at=600_000)
    handle = engine.create(bench.request(url, name="f.bin"), KEY)
    had = bench.until(lambda status: status.downloaded >= 300_000).downloaded
    request = bench.request(server.put("moved.bin", body), name="f.bin")
    assert engine.create(request, KEY) == handle
    assert bench.content(bench.end()) == body
    (asked, *_) = server.asked("moved.bin")
    begun = int(asked.headers["Range"].removeprefix("bytes=").partition("-")[0])
    assert begun >= had and "If-Range" in asked.headers
    assert (server.served("moved.bin") <= SIZE - had) is kept


def test_several_segments_go_on_after_kill_9(bench: Bench, server: WebServer) -> None:
    size = 8 * 1024 * 1024
    content = pattern(size)
    # A million on each of four connections, and no more: none is on its way when it is killed.
    url = server.put("f.bin", content, rate=1_500_000, gate=threading.Event(), gate_at=1_000_000)
    kill_after(bench, url, 4_000_000, split_after=0.0, min_segment=1024 * 1024)
    assert len(server.asked("f.bin")) >= 4
    server.put("f.bin", content)
    bench.open()
    assert bench.content(bench.end()) == content
    assert server.served("f.bin") <= size * 1.1


def half(bench: Bench, server: WebServer, **how: object) -> str:
    """A transfer that has gone some way, and whose process has ended."""
    url = server.put("f.bin", CONTENT, gate=threading.Event(), gate_at=600_000, **how)
    bench.open().create(bench.request(url), KEY)
    bench.until(lambda status: status.downloaded > 500_000)
    bench.close()
    server.put("f.bin", CONTENT, **how)
    server.requests.clear()
    return url


def test_begins_anew_when_the_content_has_changed(bench: Bench, server: WebServer) -> None:
    half(bench, server)
    server.put("f.bin", OTHER)
    bench.open()
    assert bench.content(bench.end()) == OTHER
    assert [asked.headers["Range"] is not None for asked in server.asked("f.bin")] == [True]


def test_begins_anew_when_a_changed_file_comes_without_if_range(bench: Bench, server: WebServer) -> None:
    half(bench, server)
    server.put("f.bin", OTHER, if_range=False)
    bench.open()
    assert bench.content(bench.end()) == OTHER


def test_begins_anew_when_the_server_sends_another_part(bench: Bench, server: WebServer) -> None:
    half(bench, server)
    server.pages["f.bin"].shift = 1000
    bench.open()
    assert bench.content(bench.end()) == CONTENT
    assert [asked.headers["Range"] is not None for asked in server.asked("f.bin")] == [True, False]


def test_begins_anew_when_the_file_has_become_shorter(bench: Bench, server: WebServer) -> None:
    half(bench, server)
    server.put("f.bin", OTHER[:1000], if_range=False)
    bench.open()
    assert bench.content(bench.end()) == OTHER[:1000]


def test_begins_anew_when_the_server_sends_everything(bench: Bench, server: WebServer) -> None:
    half(bench, server)
    server.put("f.bin", CONTENT, ranges=False)
    bench.open()
    assert bench.content(bench.end()) == CONTENT
    assert server.served("f.bin") >= SIZE


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_takes_last_modified_when_there_is_no_strong_etag(bench: Bench, server: WebServer, etag: str | None) -> None:
    half(bench, server, etag=etag)
    bench.open()
    assert bench.content(bench.end()) == CONTENT
    (asked,) = server.asked("f.bin")
    assert asked.headers["If-Range"].endswith("GMT")
    assert asked.headers["Range"]


def test_without_a_validator_nothing_is_believed(bench: Bench, server: WebServer) -> None:
    half(bench, server, etag=None, modified=False)
    bench.open()
    assert bench.content(bench.end()) == CONTENT
    assert [asked.headers["Range"] for asked in server.asked("f.bin")] == [None]


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_begins_anew_when_the_partial_file_is_not_what_was_noted(bench: Bench, server: WebServer, damage: str) -> None:
    half(bench, server)
    path = bench.folder / "transfer" / "f.bin"
    if damage == "missing":
        path.unlink()
    else:
        os.truncate(path, 1000)
    bench.open()
    assert bench.content(bench.end()) == CONTENT
    assert [asked.headers["Range"] for asked in server.asked("f.bin")] == [None]


def test_a_power_cut_leaves_only_what_was_synced(
    bench: Bench, server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    half(bench, server)
    monkeypatch.setattr("dlqueue_http.transfer.boot_id", lambda: "another boot")
    bench.open()
    assert bench.content(bench.end()) == CONTENT
    assert [asked.headers["Range"] for asked in server.asked("f.bin")] == [None]


def test_what_was_synced_outlives_a_power_cut(bench: Bench, server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "SYNC_EVERY", 0.1)
    engine = bench.open()
    engine.create(bench.request(server.put("f.bin", CONTENT, rate=200_000)), KEY)  # which takes ten seconds
    bench.until(lambda _: sum(segment.synced for segment in engine.transfers[KEY].segments) > 100_000)
    bench.close()
    server.put("f.bin", CONTENT)
    server.requests.clear()
    monkeypatch.setattr("dlqueue_http.transfer.boot_id", lambda: "another boot")
    bench.open()
    assert bench.content(bench.end()) == CONTENT
    (asked,) = server.asked("f.bin")
    assert int(asked.headers["Range"].removeprefix("bytes=").partition("-")[0]) > 100_000


def test_a_finished_file_is_fetched_again_after_a_power_cut(
    bench: Bench, server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.put("f.bin", CONTENT)
    bench.fetch(url)
    bench.reopen()
    assert bench.end().state is TransferState.COMPLETED
    assert len(server.requests) == 1
    bench.close()
    monkeypatch.setattr("dlqueue_http.transfer.boot_id", lambda: "another boot")
    bench.open()
    assert bench.content(bench.end()) == CONTENT
    assert len(server.requests) == 2


def test_what_was_linked_elsewhere_stays_as_it_is(
    bench: Bench, server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = bench.fetch(server.put("f.bin", CONTENT))
    delivered = bench.folder / "delivered"
    delivered.hardlink_to(status.content[0])
    bench.close()
    server.put("f.bin", OTHER)
    monkeypatch.setattr("dlqueue_http.transfer.boot_id", lambda: "another boot")
    bench.open()
    assert bench.content(bench.end()) == OTHER
    assert delivered.read_bytes() == CONTENT


def test_a_pause_outlives_a_restart(bench: Bench, server: WebServer) -> None:
    url = server.put("f.bin", CONTENT, gate=threading.Event(), gate_at=400_000)
    engine = bench.open()
    handle = engine.create(bench.request(url), KEY)
    bench.until(lambda status: status.downloaded > 300_000)
    engine.pause(handle)
    engine = bench.reopen()
    paused = engine.poll([handle])[handle]
    assert paused.state is TransferState.PAUSED
    assert paused.downloaded > 300_000
    server.put("f.bin", CONTENT)
    engine.resume(handle)
    assert bench.content(bench.end()) == CONTENT
    assert server.served("f.bin") <= SIZE * 1.2


def test_an_error_outlives_a_restart_and_keeps_the_bytes(bench: Bench, server: WebServer) -> None:
    url = server.put("f.bin", CONTENT, cut=700_000)
    error = bench.error(url)
    assert (error.kind, error.final) == ("truncated", None)
    engine = bench.reopen()
    status = engine.poll([Handle(KEY)])[Handle(KEY)]
    assert status.state is TransferState.ERROR
    assert status.error is not None
    assert (status.error.kind, status.error.message) == (error.kind, error.message)
    server.pages["f.bin"].cut = None
    assert bench.content(bench.fetch(url)) == CONTENT
    assert server.served("f.bin") == SIZE


def test_a_torn_line_in_the_journal_harms_nobody_else(bench: Bench, server: WebServer) -> None:
    url = server.put("f.bin", CONTENT)
    bench.fetch(url)
    bench.close()
    with (bench.control / "transfers.jsonl").open("ab") as journal:
        journal.write(b'\n{"key": "00000000000000bb", "request": {"urls": ["http://127.0.')
    engine = bench.open()
    assert bench.end().state is TransferState.COMPLETED
    assert engine.poll([Handle("00000000000000bb")]) == {}


def test_the_journal_is_private_and_does_not_grow_for_ever(bench: Bench, server: WebServer) -> None:
    url = server.put("f.bin", b"x")
    engine = bench.open()
    bench.fetch(url, headers={"Cookie": "secret"})
    journal = bench.control / "transfers.jsonl"
    assert journal.stat().st_mode & 0o777 == 0o600
    for number in range(10):
        key = f"{number:016x}"
        engine.create(bench.request(url, headers={"X-Long": "x" * 200_000}), key)
        bench.end(Handle(key))
        engine.remove(Handle(key), delete_data=True)
    assert journal.stat().st_size < 1_500_000
    bench.reopen()
    assert bench.end().state is TransferState.COMPLETED
    assert journal.stat().st_size < 1000


def test_the_journal_loses_nothing_when_it_is_written_anew(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    for number in range(300):
        journal.put("kept", {"number": number, "padding": "x" * 5000})
        journal.put(f"{number}", {"padding": "x" * 5000})
        journal.drop(f"{number}")
        copy = tmp_path / "copy"
        copy.write_bytes((tmp_path / "journal").read_bytes())
        later = Journal(copy)
        later.close()
        assert later.records.keys() == {"kept"}
        assert later.records["kept"]["number"] == number
    journal.close()
    assert (tmp_path / "journal").stat().st_size < 2 * SLACK


def test_remove_waits_for_the_piece_that_is_being_written(
    bench: Bench, server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, go = threading.Event(), threading.Event()
    pieces: list[int] = []
    write = os.pwrite

    def slow_disk(file: int, piece: bytes, offset: int) -> int:
        if len(piece) > 1000:  # the content, not the note of positions
            inside.set()
            assert go.wait(20)
            pieces.append(len(piece))
        return write(file, piece, offset)

    engine = bench.open()
    monkeypatch.setattr("dlqueue_http.fetch.os.pwrite", slow_disk)
    handle = engine.create(bench.request(server.put("f.bin", CONTENT)), KEY)
    assert inside.wait(20)
    remover = threading.Thread(target=engine.remove, args=(handle, True))
    remover.start()
    remover.join(0.1)
    assert remover.is_alive()
    go.set()
    remover.join(20)
    assert not remover.is_alive()
    assert len(pieces) == 1
    assert list((bench.folder / "transfer").iterdir()) == []


def test_a_run_that_was_stopped_writes_nothing(bench: Bench, server: WebServer) -> None:
    engine = bench.open(connections=1)
    url = server.put("f.bin", CONTENT, gate=threading.Event(), gate_at=100_000)
    handle = engine.create(bench.request(url), KEY)
    bench.until(lambda status: status.downloaded > 0)
    transfer = engine.transfers[KEY]
    run = transfer._run
    assert run is not None
    (segment,) = transfer.segments
    engine.pause(handle)
    with pytest.raises(Stopped):
        run._write(Wire(), segment, b"late")


def test_close_is_quick_while_a_server_says_nothing(bench: Bench, server: WebServer) -> None:
    gate = threading.Event()
    url = server.put("f.bin", CONTENT, gate=gate, gate_at=100_000)
    silent = server.put("silent.bin", CONTENT, hang=True)
    engine = bench.open(read_timeout=60.0, connections=1)
    engine.create(bench.request(url), KEY)
    engine.create(bench.request(silent), "00000000000000bb")
    bench.until(lambda status: status.downloaded == 100_000)
    while not server.asked("silent.bin"):
        pass
    threads = [thread for thread in threading.enumerate() if thread.name == "http-http"]
    assert len(threads) == 2
    bench.close()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_the_file_stays_under_its_name_in_the_folder(bench: Bench, server: WebServer) -> None:
    status = bench.fetch(server.put("d/f%20g.bin".replace("%20", " "), CONTENT).replace(" ", "%20"))
    assert status.content == (str(Path(bench.folder, "transfer", "f g.bin")),)
