"""What `add` is given besides URLs: lists, uploads, standard input; and how it travels to the daemon."""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path
from typing import Any

import pytest

from dlqueue.cli import exits, sources, submit
from dlqueue.protocol.errors import Code, RpcError
from dlqueue.protocol.notify import Notify
from tests.cli.conftest import Run
from tests.transports.stub_service import StubDaemon

TORRENT = b"d8:announce0:4:infod6:lengthi5e4:name1:a12:piece lengthi16384e6:pieces0:ee"


def asked(daemon: StubDaemon, method: str) -> list[Any]:
    return [params for name, _, params in daemon.service.calls if name == method]


def stdin(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


# -- many at once -----------------------------------------------------------------------------------------------------


def test_many_urls_are_one_round_trip(daemon: StubDaemon, dlqueue: Run) -> None:
    code, out, _ = dlqueue("add", "-q", "http://h/1", "http://h/2", "http://h/3", "--priority", "4", "--tag", "x")
    assert (code, out) == (0, "1\n2\n3\n")
    (many,) = asked(daemon, "tasks.submit_many")
    assert [task.params["url"] for task in many.tasks] == ["http://h/1", "http://h/2", "http://h/3"]
    assert {(task.type, task.priority, str(task.labels)) for task in many.tasks} == {
        ("remote_download", 4, "{'tag': ['x']}")
    }
    assert all("cwd" in task.params and "priority" not in task.params for task in many.tasks)
    assert asked(daemon, "downloads.add") == []


def test_more_than_fit_go_in_parts(daemon: StubDaemon, dlqueue: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, "".join(f"http://h/{i}\n" for i in range(2001)))
    code, out, _ = dlqueue("add", "-q", "-")
    assert code == 0 and len(out.splitlines()) == 2001
    assert [len(many.tasks) for many in asked(daemon, "tasks.submit_many")] == [1000, 1000]
    monkeypatch.setattr(submit, "MAX_BYTES", 300)
    daemon.service.calls.clear()
    assert dlqueue("add", "-q", *(f"http://h/{'x' * 100}{i}" for i in range(4)))[0] == 0
    assert len(asked(daemon, "tasks.submit_many")) + len(asked(daemon, "downloads.add")) > 1


def test_one_refusal_does_not_keep_the_others_out(daemon: StubDaemon, dlqueue: Run) -> None:
    daemon.fail("tasks.submit_many", RpcError("url: scheme", code=Code.POLICY))
    code, out, err = dlqueue("add", "-q", "http://h/1", "http://h/2")
    assert (code, out, err) == (0, "1\n2\n", ""), "one by one, nobody was refused"
    daemon.fail("downloads.add", RpcError("url: scheme 'gopher' is not allowed", code=Code.POLICY))
    code, out, err = dlqueue("add", "-q", "http://h/1", "gopher://h/2")
    assert (code, out) == (exits.REFUSED, "")
    assert "dlqueue: argument 2: url: scheme 'gopher' is not allowed" in err and "0 added, 2 refused" in err


def test_many_refusals_are_not_many_lines(daemon: StubDaemon, dlqueue: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, "".join(f"http://h/{i}\n" for i in range(100)))
    for method in ("tasks.submit_many", "downloads.add"):
        daemon.fail(method, RpcError("the queue is full", code=Code.LIMIT))
    code, _, err = dlqueue("add", "-")
    assert code == exits.REFUSED and err.count("the queue is full") == submit.MOST_REFUSALS
    assert "standard input, line 1: the queue is full" in err and "and 80 more were refused" in err


def test_a_daemon_in_trouble_is_not_asked_again_and_again(daemon: StubDaemon, dlqueue: Run) -> None:
    daemon.fail("tasks.submit_many", RpcError("the disk is full", code=Code.STORAGE))
    code, _, err = dlqueue("add", "http://h/1", "http://h/2")
    assert code == exits.FAILURE and err.count("the disk is full") == 1
    assert asked(daemon, "downloads.add") == []


# -- standard input and lists -----------------------------------------------------------------------------------------


def test_standard_input(daemon: StubDaemon, dlqueue: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, "# a comment\n\n  http://h/1  \r\nhttp://h/2\n#http://h/3\n")
    assert dlqueue("add", "-q", "-")[1] == "1\n2\n"
    (many,) = asked(daemon, "tasks.submit_many")
    assert [task.params["url"] for task in many.tasks] == ["http://h/1", "http://h/2"]
    stdin(monkeypatch, "http://h/1\nnot a url\n")
    code, _, err = dlqueue("add", "-")
    assert code == exits.USAGE and 'standard input, line 2: not a URL: "not a url"' in err
    stdin(monkeypatch, "# nothing\n")
    code, _, err = dlqueue("add", "-")
    assert code == exits.USAGE and "nothing to download" in err


def test_list_with_mirrors_and_options(daemon: StubDaemon, dlqueue: Run, tmp_path: Path) -> None:
    Path("list.txt").write_text(
        "# two files\n"
        "http://h/a\thttp://mirror/a\n"
        "  out=name with spaces.iso\n"
        "\tdir=sub\n"
        "  checksum=sha-256=00ff\n"
        "  header=A: b\n"
        "  header=C: d: e\n"
        "\n"
        "http://h/b\r\n"
    )  # fmt: skip
    assert dlqueue("add", "-q", "-i", "list.txt", "--header", "A: x", "--header", "Z: z", "-d", "/srv")[0] == 0
    first, second = (task.params for task in asked(daemon, "tasks.submit_many")[0].tasks)
    assert first["urls"] == ["http://h/a", "http://mirror/a"] and "url" not in first
    assert (first["name"], first["checksum"]) == ("name with spaces.iso", "sha-256=00ff")
    assert first["directory"] == str(tmp_path / "sub")
    assert first["headers"] == {"A": "b", "C": "d: e", "Z": "z"}
    assert second["url"] == "http://h/b" and second["directory"] == "/srv"
    assert second["headers"] == {"A": "x", "Z": "z"}


def test_lists_and_arguments_together(daemon: StubDaemon, dlqueue: Run) -> None:
    Path("one").write_text("http://h/1\n")
    Path("two").write_text("\ufeffhttp://h/2\n", encoding="utf-8")
    assert dlqueue("add", "-q", "http://h/0", "-i", "one", "-i", "two")[0] == 0
    assert [t.params["url"] for t in asked(daemon, "tasks.submit_many")[0].tasks] == [
        "http://h/0", "http://h/1", "http://h/2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("http://h/a\n  all-proxy=http://p\n", 'list, line 2: the option "all-proxy" is not understood'),
        ("http://h/a\n  ouf=x\n", 'the option "ouf" is not understood; did you mean "out"?'),
        ("http://h/a\n  out\n", 'list, line 2: not a URL: "out"'),
        ("http://h/a\n  select-file=0\n", 'list, line 2: not the number of a file: "0"'),
        ("http://h/a\n  pause=yes\n", 'list, line 2: neither true nor false: "yes"'),
        ("http://h/a\n  seed-time=long\n", 'list, line 2: not a number: "long"'),
        ("missing.torrent\n", "list, line 1: missing.torrent cannot be read"),
        ("  out=x\n", "list, line 1: an option without a URL above it"),
        ("http://h/a\tmirror\n", 'list, line 1: not a URL: "mirror"'),
        ("http://h/a\n  header=secret\n", "list, line 2: a header is written as"),
        ("\x00\udcff", "list is not text"),
        ("", "the list is empty"),
    ],
)
def test_lists_that_cannot_be_right(daemon: StubDaemon, dlqueue: Run, content: str, words: str) -> None:
    Path("list").write_bytes(content.encode(errors="surrogateescape"))
    code, out, err = dlqueue("add", "-i", "list")
    assert (code, out) == (exits.USAGE, "") and words in err
    assert not daemon.service.tasks


def test_what_is_about_one_file_is_refused_for_a_list(daemon: StubDaemon, dlqueue: Run) -> None:
    Path("list").write_text("http://h/1\nhttp://h/2\n")
    for option in (["-o", "x"], ["--unique-key", "k"], ["--checksum", "md5=0"], ["--mirror", "http://h"]):
        code, _, err = dlqueue("add", "-i", "list", *option)
        assert code == exits.USAGE and f"{option[0]} is about one file" in err


def test_what_aria2_says_of_a_file(daemon: StubDaemon, dlqueue: Run) -> None:
    Path("list").write_text(
        "magnet:?xt=urn:btih:0123456789012345678901234567890123456789\n"
        " select-file=1,3-5\n seed-ratio=1.5\n seed-time=90\n pause=true\n allow-overwrite=true\n"
        "http://h/a\n\tuser-agent=me\n referer = http://h/page \n seed-ratio=0.0\n pause=false\n"
    )
    code, _, err = dlqueue("add", "-q", "list")
    assert (code, err) == (0, "")
    first, second = asked(daemon, "tasks.submit_many")[0].tasks
    assert first.params["select"] == [1, 3, 4, 5] and first.params["on_exists"] == "overwrite" and first.paused is True
    assert first.params["seed"] == {"ratio": 1.5, "time": 5400.0}
    assert second.params["headers"] == {"User-Agent": "me", "Referer": "http://h/page"} and not second.paused
    assert second.params["seed"] == {"ratio": None}, "aria2 means by 0.0: whatever the ratio is"


def test_what_is_not_used_is_told_once(daemon: StubDaemon, dlqueue: Run) -> None:
    Path("list").write_text("".join(f"http://h/{i}\n  split=5\n" for i in range(3)) + "  max-tries=2\n")
    code, out, err = dlqueue("add", "-q", "-i", "list")
    assert (code, out, len(err.splitlines())) == (0, "1\n2\n3\n", 2)
    assert "list, line 2 and 2 more: split is not used" in err and "list, line 7: max-tries is not used" in err


def test_all_mistakes_of_a_list_are_told_and_nothing_is_added(daemon: StubDaemon, dlqueue: Run) -> None:
    Path("list").write_text("http://h/good\n" + "no\n  out=of what is wrong nothing more is said\n" * 14)
    code, out, err = dlqueue("add", "-i", "list")
    assert (code, out, daemon.service.tasks) == (exits.USAGE, "", {})
    assert [line for line in (2, 4, 18, 20, 22) if f"list, line {line}: not a URL" in err] == [2, 4, 18, 20]
    assert "(and 4 more mistakes)" in err and err.count("not a URL") == 10


def test_standard_input_may_be_anything(daemon: StubDaemon, dlqueue: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for content, field in ((TORRENT, "torrent"), (b"<metalink/>", "metalink"), (b"http://h/a\n  out=b\n", "url")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        (found,) = sources.sources(["-"], [])
        assert field in found.params and (field != "url" or found.params["name"] == "b")


def test_files_in_a_list(daemon: StubDaemon, dlqueue: Run) -> None:
    Path("a.torrent").write_bytes(TORRENT)
    Path("list").write_text("a.torrent\n  select-file=2\nhttp://h/b\n")
    first, second = sources.sources([], ["list", "a.torrent"])[:2]
    assert set(first.params) == {"torrent", "select"} and second.params == {"url": "http://h/b"}
    assert set(sources.sources([], ["a.torrent"])[0].params) == {"torrent"}


def test_a_daemon_that_leaves_in_the_middle(daemon: StubDaemon, dlqueue: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("list").write_text("".join(f"http://h/{i}\n" for i in range(1500)))
    together = submit._together

    def leaves(session: Any, part: list[Any]) -> Any:
        if len(part) == 500:
            raise RpcError("the disk is full", code=Code.STORAGE)
        return together(session, part)

    monkeypatch.setattr(submit, "_together", leaves)
    code, out, err = dlqueue("add", "-q", "list")
    assert (code, len(out.splitlines())) == (exits.FAILURE, 1000)
    assert "1000 of 1500 were added before; the same command adds the others" in err


# -- torrent and metalink files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "field"),
    [
        ("a.torrent", TORRENT, "torrent"),
        ("a.TORRENT", TORRENT, "torrent"),
        ("a.metalink", b"<?xml?><metalink/>", "metalink"),
        ("a.meta4", b"<metalink xmlns='x'/>", "metalink"),
    ],
)
def test_upload(name: str, content: bytes, field: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    (found,) = sources.sources([str(path)], [])
    assert found.params == {field: base64.b64encode(content).decode()}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.torrent", b"junk", "is not a torrent file"),
        ("a.torrent", b"", "is not a torrent file"),
        ("a.metalink", b"<html>", "is not a metalink file"),
        ("a.torrent", TORRENT + b"0" * sources.MAX_FILE, "is too big: more than"),
        ("a.html", b"<html>\n<a href='x'>", 'a.html, line 1: not a URL: "<html>"'),
        ("a.bin", b"\xff\xfe", "a.bin is not text in UTF-8"),
        ("a", b"\n", "the list is empty"),
        ("a.torrent", None, "a.torrent cannot be read: No such file"),
        ("none", None, 'not a URL: "none"'),
    ],
)
def test_files_that_cannot_be_right(
    daemon: StubDaemon, dlqueue: Run, name: str, content: bytes | None, words: str
) -> None:
    if content is not None:
        Path(name).write_bytes(content)
    code, out, err = dlqueue("add", name)
    assert (code, out) == (exits.USAGE, "") and words in err


def test_folder_and_mirror_of_a_torrent(daemon: StubDaemon, dlqueue: Run) -> None:
    Path("x.torrent").mkdir()
    assert "x.torrent is a folder" in dlqueue("add", "x.torrent")[2]
    Path("a.torrent").write_bytes(TORRENT)
    code, _, err = dlqueue("add", "a.torrent", "--mirror", "http://h/a")
    assert code == exits.USAGE and "--mirror belongs to a URL" in err


def test_who_is_told(daemon: StubDaemon, dlqueue: Run) -> None:
    code, _, err = dlqueue("add", "http://h/a", "--webhook", "https://hooks.example/x", "--on-done", "unpack")
    assert (code, err) == (exits.OK, "")
    (given,) = asked(daemon, "downloads.add")
    assert given.notify == Notify(webhook="https://hooks.example/x", hook="unpack")
