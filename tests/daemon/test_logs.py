from __future__ import annotations

import io
import json
import logging
import os
import socket
import struct
from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlqueue.daemon import journal, logs
from dlqueue.runtime.logcontext import task_context
from dlqueue.runtime.redaction import hide_userinfo

LOG = logging.getLogger("dlqueue.test_logs")


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Where a log set up by `logs.configure` goes; afterwards everything is as before."""
    root = logging.getLogger()
    level = root.level
    monkeypatch.setattr(logs, "_handler", None)
    yield io.StringIO()
    if logs._handler is not None:
        root.removeHandler(logs._handler)
    root.setLevel(level)
    logging.getLogger("dlqueue").setLevel(logging.NOTSET)
    logging.captureWarnings(False)


def test_a_record_is_one_line_whatever_is_in_it(stream: io.StringIO) -> None:
    logs.configure(stream=stream, environ={})
    LOG.info("name %s", "a\r\n2024-01-01T00:00:00Z error forged\x1b[2J\u2028\u202e\ud800")
    [line] = stream.getvalue().splitlines()
    assert line.endswith("name a\\r\\n2024-01-01T00:00:00Z error forged\\x1b[2J\\u2028\\u202e\\ud800")
    assert " info     dlqueue.test_logs: " in line


def test_a_traceback_is_on_the_same_line(stream: io.StringIO) -> None:
    logs.configure(stream=stream, environ={}, secrets=["canary"])
    try:
        raise ValueError("a\nb canary http://u:p@h/")
    except ValueError:
        LOG.exception("failed")
    [line] = stream.getvalue().splitlines()
    assert "failed\\nTraceback" in line
    assert line.endswith("ValueError: a\\nb *** http://***@h/")


def test_json_has_one_object_a_line(stream: io.StringIO) -> None:
    logs.configure(stream=stream, environ={"DLQUEUE_LOG": "json"})
    with task_context(7, "corr"):
        LOG.warning("new\nline")
    try:
        raise KeyError("x")
    except KeyError:
        LOG.exception("failed")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first.pop("at").endswith("Z")
    assert first == {
        "level": "warning",
        "logger": "dlqueue.test_logs",
        "message": "new\nline",
        "task_id": 7,
        "correlation_id": "corr",
    }
    assert "KeyError" in second["traceback"]
    assert "task_id" not in second


def test_the_style_follows_the_environment_and_then_the_wish() -> None:
    assert logs.style_for("text", {"DLQUEUE_LOG": "json"}) == "json"
    assert logs.style_for("json", {}) == "json"
    assert logs.style_for("json", {"DLQUEUE_LOG": "auto"}) == "text"
    assert logs.style_for("auto", {}) == "text"
    assert logs.style_for("auto", {}, terminal=True) == "terminal"
    assert logs.style_for("text", {}, terminal=True) == "text"
    assert logs.style_for("journal", {}) == "journal"
    status = os.fstat(2)
    mine = f"{status.st_dev}:{status.st_ino}"
    assert logs.style_for("auto", {"JOURNAL_STREAM": mine}) == "journal"
    assert logs.style_for("auto", {"JOURNAL_STREAM": mine, "DLQUEUE_LOG": "text"}) == "text"
    # The variable of a parent whose stderr is not ours.
    assert logs.style_for("auto", {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"}) == "text"
    assert logs.style_for("auto", {"JOURNAL_STREAM": "nonsense"}) == "text"


@pytest.mark.parametrize(("level", "priority"), [(10, 7), (20, 6), (30, 4), (40, 3), (50, 2)])
def test_the_journal_gets_priorities(level: int, priority: int) -> None:
    formatter = logs.LineFormatter("journal", logs.Redaction())
    record = logging.LogRecord("dlqueue.x", level, "f", 1, "m\n", None, None)
    record.task_id = 3
    assert formatter.format(record) == f"<{priority}>dlqueue.x: task 3: m\\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("environ", [{}, {"NO_COLOR": "1"}])
def test_at_a_terminal_it_is_for_a_person(stream: io.StringIO, environ: dict[str, str]) -> None:
    logs.configure(stream=(terminal := Terminal()), environ=environ)
    LOG.warning("look\x1b[2J")
    LOG.info("calm")
    first, second = terminal.getvalue().splitlines()
    word = "warning " if environ else "\x1b[33mwarning \x1b[0m"
    assert first[8:] == f" {word} dlqueue.test_logs: look\\x1b[2J", "colours are ours, and none of anybody else"
    assert second[8:] == " info     dlqueue.test_logs: calm"


def test_the_configuration_is_gone_over_to(stream: io.StringIO) -> None:
    logs.configure(stream=stream, environ={})
    logs.adapt("json", "debug", {})
    LOG.debug("details")
    logging.getLogger("urllib3").debug("GET /?token=secret")
    logs.adapt("text", "error", {})
    LOG.warning("not of interest")
    logs.adapt("text", "info", {"DLQUEUE_LOG": "json"})
    LOG.info("the environment wins")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["message"], second["message"]) == ("details", "the environment wins")


# -- the journal ------------------------------------------------------------------------------------------------------


def decode(raw: bytes) -> dict[str, bytes]:
    """As journald reads it."""
    fields, rest = {}, raw
    while rest:
        line, _, after = rest.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", after[:8])
            value, after = after[8 : 8 + length], after[8 + length + 1 :]
        assert name.decode() not in fields
        fields[name.decode()] = value
        rest = after
    return fields


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "journal"))
        receiver.settimeout(10)
        yield receiver


def test_the_journal_gets_fields(stream: io.StringIO, journald: socket.socket) -> None:
    logs.configure(stream=stream, environ={"DLQUEUE_LOG": "journal"}, secrets=["canary"])
    assert logs._handler is not None
    logs._handler.journal = Path(journald.getsockname())
    with task_context(7, "corr\nPRIORITY=0"):
        LOG.warning("a\nPRIORITY=0 canary %s", "http://u:p@h/")
    fields = decode(journald.recv(65536))
    assert fields["MESSAGE"] == b"task 7 (corr\\nPRIORITY=0): a\\nPRIORITY=0 *** http://***@h/"
    assert (fields["PRIORITY"], fields["SYSLOG_IDENTIFIER"]) == (b"4", b"dlqueue")
    assert (fields["DLQUEUE_TASK_ID"], fields["DLQUEUE_CORRELATION_ID"]) == (b"7", b"corr\\nPRIORITY=0")
    assert fields["LOGGER"] == b"dlqueue.test_logs"
    assert fields["CODE_FILE"].endswith(b"test_logs.py") and int(fields["CODE_LINE"]) > 0
    assert fields["CODE_FUNC"] == b"test_the_journal_gets_fields"
    LOG.info("no task")
    assert not {name for name in decode(journald.recv(65536)) if name.startswith("DLQUEUE_")}
    assert stream.getvalue() == "", "once, not twice"


def test_an_endless_record_fits_into_the_journal(stream: io.StringIO, journald: socket.socket) -> None:
    logs.configure(stream=stream, environ={"DLQUEUE_LOG": "journal"})
    assert logs._handler is not None
    logs._handler.journal = Path(journald.getsockname())
    LOG.info("ü" * 1_000_000)
    assert len(decode(journald.recv(1 << 20))["MESSAGE"]) < 50_000


def test_without_a_journal_the_lines_are_on_stderr(stream: io.StringIO, tmp_path: Path) -> None:
    logs.configure(stream=stream, environ={"DLQUEUE_LOG": "journal"})
    assert logs._handler is not None
    logs._handler.journal = tmp_path / "nobody"
    LOG.error("still said")
    assert stream.getvalue() == "<3>dlqueue.test_logs: still said\n"


@given(st.dictionaries(st.sampled_from(["MESSAGE", "A", "B_1"]), st.text()))
def test_no_value_forges_a_field(fields: dict[str, str]) -> None:
    expected = {name: value.encode("utf-8", "backslashreplace") for name, value in fields.items()}
    assert decode(journal.encode(fields)) == expected


def test_records_tell_their_task_only_inside(stream: io.StringIO) -> None:
    logs.configure(stream=stream, environ={})
    with task_context(7, "corr"):
        LOG.info("in")
        with task_context(8):
            LOG.info("deeper")
        inside = copy_context()
    LOG.info("out")
    thread = Thread(target=lambda: inside.run(LOG.info, "thread"))
    thread.start()
    thread.join(10)
    ends = [line.partition("test_logs: ")[2] for line in stream.getvalue().splitlines()]
    assert ends == ["task 7 (corr): in", "task 8: deeper", "out", "task 7 (corr): thread"]


def test_a_log_call_that_does_not_fit_costs_nothing() -> None:
    formatter = logs.LineFormatter("text", logs.Redaction())
    record = logging.LogRecord("dlqueue.x", logging.INFO, "f", 1, "%d items", ("three",), None)
    assert formatter.format(record).endswith("%d items (this log call has arguments that do not fit)")


def test_set_up_twice_is_set_up_once(stream: io.StringIO) -> None:
    before = io.StringIO()
    logs.configure(stream=before, environ={})
    logs.configure(stream=stream, environ={}, level=logging.WARNING)
    LOG.info("quiet")
    LOG.warning("once")
    assert (len(stream.getvalue().splitlines()), before.getvalue()) == (1, "")


def test_a_style_that_does_not_exist_is_told(stream: io.StringIO) -> None:
    logs.configure(stream=stream, environ={"DLQUEUE_LOG": "yaml"})
    assert "DLQUEUE_LOG=yaml is none of auto, text, json, journal: not used" in stream.getvalue()


def test_secrets_are_left_out_in_every_form() -> None:
    redaction = logs.Redaction(["pass", "password/1", "abc"])
    assert redaction.clean("x password/1 y") == "x *** y"  # the longer one first
    assert redaction.clean("?p=password%2F1") == "?p=***"
    assert redaction.clean("abc") == "abc"  # too short to look for
    redaction.learn(["later"])
    assert redaction.clean("later") == "***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("get http://u:p@host/f now", "get http://***@host/f now"),
        ("ftp://u@host", "ftp://***@host"),
        ("http://u:p@ss@host:1/", "http://***@host:1/"),
        ("http://host/a@b and http://host/?x=a@b", "http://host/a@b and http://host/?x=a@b"),
        ("mail@host", "mail@host"),
    ],
)
def test_user_and_password_of_urls_are_hidden(text: str, shown: str) -> None:
    assert hide_userinfo(text) == shown


@given(st.text())
def test_no_text_makes_two_lines(text: str) -> None:
    shown = logs.escape(text)
    assert len(("x" + shown).splitlines()) == 1
    shown.encode()  # nothing is left that cannot be written


def test_an_endless_message_is_cut() -> None:
    assert logs.escape("x" * 100_000).endswith("x… (100000 characters)")


def test_a_line_about_another_task_does_not_take_the_correlation_of_this_one(stream: io.StringIO) -> None:
    logs.configure(stream=stream, environ={"DLQUEUE_LOG": "json"})
    with task_context(7, "corr"):
        LOG.info("task %d: looked after by somebody else", 8)
        LOG.info("task %d: this one", 7)
        LOG.info("by hand", extra={"task_id": 9})
    first, second, third = map(json.loads, stream.getvalue().splitlines())
    assert (first["task_id"], first.get("correlation_id")) == (8, None)
    assert (second["task_id"], second["correlation_id"]) == (7, "corr")
    assert (third["task_id"], third.get("correlation_id")) == (9, None)


def test_a_task_is_named_once_in_its_line(stream: io.StringIO) -> None:
    logs.configure(stream=stream, environ={})
    with task_context(7, "corr"):
        LOG.info("task %d: written", 7)
    assert stream.getvalue().rstrip().endswith("test_logs: task 7 (corr): written")
