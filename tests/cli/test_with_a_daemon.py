"""The newer commands as a person uses them: a real daemon in a folder of its own."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dlqueue.cli.table import cell_width
from tests.daemon.instance import DEADLINE, Instance, as_json, fake_section, until
from tests.webserver import WebServer, pattern

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Instance]:
    with Instance(tmp_path, fake_section(tmp_path)) as running:
        yield running.start()


def on_a_terminal(daemon: Instance, width: int, height: int, *arguments: str, **environ: str) -> tuple[int, str]:
    """Exit code, and everything that the terminal was sent."""
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    own = {**daemon.environ, "TERM": "xterm", **environ}
    process = subprocess.Popen(
        [sys.executable, "-m", "dlqueue", *arguments],
        env={name: value for name, value in own.items() if name not in ("COLUMNS", "LINES")},
        stdin=terminal, stdout=terminal, stderr=terminal, cwd=daemon.destination,
    )  # fmt: skip
    os.close(terminal)
    sent = b""
    while True:
        try:
            chunk = os.read(screen, 65536)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        sent += chunk
    os.close(screen)
    return process.wait(DEADLINE), sent.decode()


def lines_of(sent: str) -> list[str]:
    return [line for part in sent.split("\n") for line in _ESCAPE.sub("", part).split("\r") if line]


def test_events(daemon: Instance) -> None:
    first, second = daemon.add("http://host.invalid/1.bin"), daemon.add("http://host.invalid/2.bin")
    daemon.finished(first), daemon.finished(second)
    events = [json.loads(line) for line in daemon.cli("events").stdout.splitlines()]
    assert [event["sequence"] for event in events] == sorted(event["sequence"] for event in events)
    assert {event["task_id"] for event in events} == {first, second}
    assert next(event["data"]["kind"] for event in events if event["task_id"] == first) == "submitted"
    of_second = daemon.cli("events", str(second), "--since", "0").stdout.splitlines()
    assert {json.loads(line)["task_id"] for line in of_second} == {second}
    last = events[-1]["sequence"]
    following = daemon.begin_cli("events", "--follow", "--since", str(last), "--topic", "task")
    third = daemon.add("http://host.invalid/3.bin")
    assert following.stdout is not None
    event = json.loads(following.stdout.readline())
    assert (event["sequence"] > last, event["task_id"], event["data"]["kind"]) == (True, third, "submitted")
    following.terminate()
    following.communicate(timeout=DEADLINE)


def test_events_go_on_with_the_next_daemon(daemon: Instance) -> None:
    first = daemon.add("http://host.invalid/1.bin")
    daemon.finished(first)
    patient = "from dlqueue.cli import follow, main; follow._RECONNECT_SECONDS = 60.0; main.main()"
    following = subprocess.Popen(
        [sys.executable, "-c", patient, "events", "--follow", "--since", "0", "--topic", "task"],
        env=daemon.environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert following.stdout is not None
    seen = [json.loads(following.stdout.readline())]
    daemon.kill()
    daemon.start()
    second = daemon.add("http://host.invalid/2.bin")
    while seen[-1]["task_id"] != second:
        seen.append(json.loads(following.stdout.readline()))
    sequences = [event["sequence"] for event in seen]
    assert sequences == sorted(set(sequences)), "nothing twice, nothing left out of order"
    following.terminate()
    following.communicate(timeout=DEADLINE)


def test_edit(daemon: Instance) -> None:
    task = daemon.add("http://host.invalid/1.bin", paused=True, labels={"tag": ["old"], "mine": ["x"]})
    assert daemon.cli("edit", "@last", "--priority", "7", "--tag", "new").returncode == 0
    now = daemon.task(task)
    assert (now["priority"], now["labels"]) == (7, {"tag": ["new"], "mine": ["x"]})
    assert daemon.cli("ls", "--tag", "new").stdout.startswith(f"{task}\t")
    assert daemon.cli("ls", "--tag", "old").stdout == ""
    assert daemon.cli("cancel", str(task)).returncode == 0
    refused = daemon.cli("edit", str(task), "--priority", "1")
    assert refused.returncode == 7 and "is canceled" in refused.stderr
    assert daemon.cli("edit", "99", "--priority", "1").returncode == 4
    assert daemon.cli("edit", str(task), "--priority", "5000").returncode == 2


def test_rm_all_leaves_nothing_unfinished_behind(daemon: Instance) -> None:
    running = daemon.add("http://host.invalid/1.bin?manual=1")
    until(lambda: daemon.created(), "it has begun")
    later = daemon.add("http://host.invalid/2.bin", delay=3600)
    assert daemon.cli("edit", str(later), "--at", "now").returncode == 0
    assert daemon.finished(later)["status"] == "completed"
    assert daemon.cli("rm", "--all").stderr == "2 removed\n"
    assert daemon.cli("show", str(running)).returncode == daemon.cli("show", str(later)).returncode == 4
    until(lambda: [file.name for file in daemon.destination.iterdir()] == ["2.bin"], "only what was delivered stays")


def test_edit_of_a_running_download(daemon: Instance) -> None:
    task = daemon.add("http://host.invalid/1.bin?manual=1")
    until(lambda: daemon.created(), "it has begun")
    assert daemon.cli("edit", str(task), "--priority", "3", "--tag", "x").returncode == 0
    (daemon.fake_folder / f"{daemon.created()[0]}.finish").touch()
    done = daemon.finished(task)
    assert (done["status"], done["priority"], done["labels"]) == ("completed", 3, {"tag": ["x"]})


def test_downloader_pause_survives_a_kill(daemon: Instance) -> None:
    assert daemon.cli("downloader", "pause", "fake").stdout == "fake\tpaused\n"
    task = daemon.add("http://host.invalid/1.bin")
    until(lambda: daemon.task(task)["hold"] == "paused:fake", "it waits")
    daemon.kill()
    daemon.start()
    # A daemon that has just started lets everybody look anew.
    until(lambda: daemon.call("tasks.why", id=task)["reason"] == "paused", "it waits again")
    why = as_json(daemon.cli("why", str(task), "--json"))
    assert (why["reason"], why["blocking"]) == ("paused", "fake")
    assert "dlqueue downloader resume fake" in why["message"]
    assert daemon.cli("downloader", "ls").stdout.split("\t")[2] == "paused"
    assert daemon.created() == []
    assert daemon.cli("downloader", "resume", "fake").stdout == "fake\tresumed\n"
    assert daemon.finished(task)["status"] == "completed"


def test_downloader_test(daemon: Instance) -> None:
    good = daemon.cli("downloader", "test", "fake")
    assert good.returncode == 0 and [line.split("\t")[1:3] for line in good.stdout.splitlines()] == [
        ["ok", "reach"], ["ok", "credentials"], ["ok", "path map"],
    ]  # fmt: skip
    (daemon.fake_folder / "down").touch()
    bad = daemon.cli("downloader", "test", "fake")
    assert bad.returncode == 1 and "fake\tnot ok\treach\tthe fake is down\t" in bad.stdout
    answer = json.loads(daemon.cli("downloader", "test", "fake", "--json").stdout)
    assert answer["ok"] is False and [check["name"] for check in answer["checks"]][-1] == "path map"
    (daemon.fake_folder / "down").unlink()
    assert daemon.cli("downloader", "test", "fake").returncode == 0
    assert daemon.cli("downloader", "test", "none").returncode == 4
    assert list(daemon.destination.iterdir()) == []


def test_downloader_kinds(daemon: Instance) -> None:
    kinds = {kind["kind"]: kind for kind in as_json(daemon.cli("downloader", "kinds", "--json"))}
    assert kinds["fake"]["downloaders"] == ["fake"] and kinds["fake"]["usable"] is True
    assert kinds["http"]["downloaders"] == [] and "https" in kinds["http"]["schemes"]


def test_list_from_a_file_and_from_standard_input(tmp_path: Path) -> None:
    body, other = pattern(50_000), pattern(20_000)
    with WebServer() as server, Instance(tmp_path) as daemon:
        good, second = server.put("a.bin", body), server.put("b.bin", other)
        daemon.start()
        bad = server.put("gone.bin", b"", status=404)
        (daemon.destination / "list.txt").write_text(
            f"# files\n{bad}\t{good}\n  out=first.bin\n\n{second}\n  dir=sub\n"
        )
        done = daemon.cli("add", "--wait", "-q", "-i", "list.txt")
        assert done.returncode in (0, 5), done.stderr
        assert (daemon.destination / "sub" / "b.bin").read_bytes() == other
        piped = subprocess.run(
            [sys.executable, "-m", "dlqueue", "get", "-", "-d", "piped"],
            input=f"{good}\n# not this\n{second}\n", env=daemon.environ, cwd=daemon.destination,
            capture_output=True, text=True, timeout=DEADLINE * 2, check=False,
        )  # fmt: skip
        assert piped.returncode == 0, piped.stderr
        assert sorted(piped.stdout.splitlines()) == [str(daemon.destination / "piped" / n) for n in ("a.bin", "b.bin")]


def test_several_urls_of_which_one_is_refused(daemon: Instance) -> None:
    done = daemon.cli("add", "-q", "http://host.invalid/1", "gopher://host.invalid/2", "http://host.invalid/3")
    assert done.returncode == 7 and len(done.stdout.split()) == 2
    assert "argument 2: url: scheme 'gopher' is not allowed" in done.stderr and "2 added, 1 refused" in done.stderr


def test_ranges(daemon: Instance) -> None:
    ids = [daemon.add(f"http://host.invalid/{i}.bin", paused=True) for i in range(5)]
    assert daemon.cli("rm", str(ids[1])).returncode == 0
    done = daemon.cli("cancel", f"{ids[0]}-{ids[2]},{ids[4]}")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 3
    assert daemon.cli("rm", "1-9999").returncode == 0
    assert daemon.cli("ls").stdout == ""
    nothing = daemon.cli("rm", "1-9999")
    assert nothing.returncode == 4 and "there is no task in 1-9999" in nothing.stderr


def test_task_submit(daemon: Instance) -> None:
    params = json.dumps({"url": "http://host.invalid/1.bin", "directory": str(daemon.destination)})
    done = daemon.cli("task", "submit", "remote_download", "--params", params, "--label", "a=b", "--wait", "--json")
    task = as_json(done)
    assert (task["status"], task["labels"]) == ("completed", {"a": ["b"]})
    refused = daemon.cli("task", "submit", "nothing")
    assert refused.returncode == 2 and "no task type 'nothing'" in refused.stderr


# -- what would happen, and torrents -----------------------------------------------------------------------------------


def test_dry_run(daemon: Instance) -> None:
    done = daemon.cli("add", "--dry-run", "http://host.invalid/1.bin", "--json")
    answer = as_json(done)
    assert (answer["dry_run"], answer["downloader"]) == (True, "fake")
    shown = daemon.cli("get", "--dry-run", "http://host.invalid/1.bin")
    assert shown.returncode == 0 and "→ fake" in shown.stdout and "*\tfake\tfake\t" in shown.stdout
    for url, code in (("gopher://host.invalid/1", 7), ("magnet:?xt=urn:btih:" + "a" * 40, 7), ("http://", 2)):
        refused = daemon.cli("add", "--dry-run", url)
        assert (refused.returncode, refused.stdout) == (code, ""), refused.stderr
    daemon.cli("downloader", "pause", "fake")
    waits = daemon.cli("add", "--dry-run", "http://host.invalid/1.bin")
    assert waits.returncode == 0 and "would wait" in waits.stdout and "has paused it" in waits.stdout
    assert daemon.cli("ls").stdout == ""


def bencoded(value: Any) -> bytes:
    if isinstance(value, dict):
        return b"d" + b"".join(bencoded(key) + bencoded(value[key]) for key in sorted(value)) + b"e"
    if isinstance(value, list):
        return b"l" + b"".join(map(bencoded, value)) + b"e"
    if isinstance(value, int):
        return b"i%de" % value
    data = value if isinstance(value, bytes) else str(value).encode()
    return b"%d:%s" % (len(data), data)


@pytest.mark.live
@pytest.mark.skipif(shutil.which("aria2c") is None, reason="aria2c is not installed")
def test_files_of_a_torrent(tmp_path: Path) -> None:
    files = [{"path": [name], "length": 1000} for name in ("a.mkv", "b.nfo", "c.mkv")]
    info = {"name": "album", "files": files, "piece length": 16384, "pieces": b"x" * 20}
    with Instance(tmp_path, '[downloaders.aria]\nkind = "aria2"\n') as daemon:
        daemon.start()
        (daemon.destination / "album.torrent").write_bytes(bencoded({"info": info}))
        options = ["--paused", "--select", "1,3", "--seed-ratio", "1.5", "--seed-time", "1h"]
        added = daemon.cli("add", "album.torrent", "--json", *options)
        task = as_json(added)
        assert (task["params"]["select"], task["params"]["seed"]) == ([1, 3], {"ratio": 1.5, "time": 3600.0})
        rows = [line.split("\t") for line in daemon.cli("files", "@last").stdout.splitlines()]
        assert [(row[0], row[1], row[3], row[4].rpartition("/")[2]) for row in rows] == [
            ("1", "yes", "1000", "a.mkv"), ("2", "no", "1000", "b.nfo"), ("3", "yes", "1000", "c.mkv"),
        ]  # fmt: skip
        chosen = as_json(daemon.cli("files", "@last", "--match", "*.nfo", "--json"))
        assert [file["selected"] for file in chosen] == [False, True, False]
        again = as_json(daemon.cli("files", "@last", "--select", "2-3", "--json"))
        assert [file["selected"] for file in again] == [False, True, True]
        for arguments, code in ((["--select", "9"], 2), (["--match", "*.zip"], 2), (["--select", "x"], 2)):
            refused = daemon.cli("files", "@last", *arguments)
            assert (refused.returncode, refused.stdout) == (code, ""), refused.stderr
        assert daemon.cli("files", "99").returncode == 4
        url = daemon.cli("edit", "@last", "--url", "http://host.invalid/a")
        assert url.returncode == 7 and "is a torrent" in url.stderr
        assert daemon.stop() == 0


def test_another_url(daemon: Instance) -> None:
    task = daemon.add("http://host.invalid/old.bin", paused=True)
    done = as_json(daemon.cli("edit", str(task), "--url", "http://host.invalid/new.bin", "--priority", "2", "--json"))
    assert (done["download"]["url"], done["priority"]) == ("http://host.invalid/new.bin", 2)
    assert daemon.cli("edit", str(task), "--url", "gopher://host.invalid/x").returncode == 7
    assert daemon.cli("files", str(task)).stderr == f"the files of task {task} are not known yet\n"


# -- on a terminal ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 200])
def test_tables_fit_the_terminal(daemon: Instance, width: int) -> None:
    long = "x" * 150
    for name in (f"{long}.iso", "日本語のとても長いファイル名" * 4 + ".mkv", "short"):
        daemon.add("http://host.invalid/a", name=name, paused=True)
    for arguments in (["ls"], ["downloader", "ls"], ["downloader", "kinds"]):
        code, sent = on_a_terminal(daemon, width, 24, *arguments)
        assert code == 0 and max(cell_width(line) for line in lines_of(sent)) <= width, arguments
        assert "\x1b[3" not in sent, "NO_COLOR is honoured"
    assert ("…" in on_a_terminal(daemon, width, 24, "ls")[1]) is (width < 200)


def test_get_of_many_on_a_terminal(tmp_path: Path) -> None:
    count = 40
    with WebServer() as server, Instance(tmp_path) as daemon:
        urls = [server.put(f"{i:02}-{'long-name-' * 8}.bin", pattern(1000 + i)) for i in range(count)]
        (daemon.destination / "list").write_text("\n".join(urls))
        daemon.start()
        code, sent = on_a_terminal(daemon, 80, 24, "get", "-i", "list")
        assert code == 0
        assert not re.search(r"\x1b\[[0-9;]*m", sent), "NO_COLOR: no colour, nothing bold or faint"
        drawn = lines_of(sent)
        assert any(line.startswith(f"{count} of {count} done") for line in drawn)
        bars = [line for line in drawn if "━" in line or "─" in line]
        assert bars and max(cell_width(line) for line in bars) <= 80
        assert sum(line.startswith(str(daemon.destination)) for line in drawn) == count
        code, sent = on_a_terminal(daemon, 80, 24, "watch", "1-9999")
        assert code == 0 and f"{count} of {count} done" in sent


def test_get_of_many_without_a_terminal(tmp_path: Path) -> None:
    with WebServer() as server, Instance(tmp_path) as daemon:
        urls = [server.put(f"{i}.bin", pattern(1000 + i)) for i in range(12)]
        daemon.start()
        done = daemon.cli("get", *urls)
        assert done.returncode == 0 and len(done.stdout.splitlines()) == 12
        assert "of 12 done" in done.stderr and len(done.stderr.splitlines()) < 12, done.stderr


def test_filters_of_ls(daemon: Instance) -> None:
    first = daemon.add("http://host.invalid/find-me.bin", paused=True, labels={"tag": ["x"]})
    second = daemon.add("http://host.invalid/other.bin", paused=True, queue="slow")
    third = daemon.add("http://host.invalid/gone.bin?fail=request")
    daemon.finished(third)

    def listed(*arguments: str) -> list[int]:
        found: list[dict[str, Any]] = as_json(daemon.cli("ls", "--json", *arguments))
        return [task["id"] for task in found]

    owner = daemon.task(first)["owner"]
    assert listed() == [third, second, first]
    assert listed("--status", "error") == [third]
    assert listed("--status", "error,paused") == [third, second, first]
    assert listed("--status", "paused", "--status", "error", "--limit", "1") == [third]
    assert listed("--queue", "slow") == [second]
    assert listed("--tag", "x") == [first]
    assert listed("--text", "FIND-ME") == [first]
    assert listed("--owner", owner) == [third, second, first]
    assert daemon.cli("retry", "--failed").stderr == "1 queued again\n"
    assert daemon.cli("resume", "--all").stderr == "2 resumed\n"


def test_ten_thousand_lines(daemon: Instance) -> None:
    lines = "".join(f"http://host.invalid/{i}.bin\n  out={i}.bin\n" for i in range(10_000))
    (daemon.destination / "list.txt").write_text(lines)
    done = daemon.cli("add", "list.txt", "--paused", "-q")
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 10_000)
    assert daemon.call("tasks.count", status="paused") == 10_000
    again = daemon.cli("add", "list.txt", "--paused", "-q")
    assert (again.returncode, again.stdout) == (0, done.stdout), "what is there is joined"
    assert len(again.stderr.splitlines()) <= 21 and "and 9980 more that were there already" in again.stderr
