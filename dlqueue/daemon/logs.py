"""The daemon's log: one line per record, whatever is in the message, and without secrets.

It goes to stderr: text, JSON, or with colours for a person at a terminal; under systemd with its fields to the journal.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TextIO, get_args
from urllib.parse import quote

from dlqueue.daemon import journal
from dlqueue.runtime.logcontext import TaskFilter
from dlqueue.runtime.redaction import HIDDEN, hide_userinfo

_log = logging.getLogger(__name__)

Style = Literal["text", "terminal", "json", "journal"]
Wish = Literal["auto", "text", "json", "journal"]
Level = Literal["debug", "info", "warning", "error"]

_SHORTEST_SECRET = 4  # a shorter "secret" would blacken half of the log and hides nothing
_LONGEST_LINE = 16 * 1024

# Control characters, line separators, bidirectional overrides and lone surrogates: none may reach a terminal.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_COLOURS = {"debug": "2", "warning": "33", "error": "31", "critical": "1;31"}

_handler: _Handler | None = None


class Redaction:
    """Takes URL credentials and known secrets out of text."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: frozenset[str] = frozenset()
        self._pattern: re.Pattern[str] | None = None
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """From now on these are hidden too, also percent-encoded. Those of fewer than four characters are not
        looked for."""
        fit = {secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}
        self._secrets |= fit | {quote(secret, safe="") for secret in fit}
        # The longest first: one secret may be a part of another.
        ordered = sorted(self._secrets, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def clean(self, text: str) -> str:
        """The text without secrets."""
        return hide_userinfo(self._pattern.sub(HIDDEN, text) if self._pattern else text)


class LineFormatter(logging.Formatter):
    """One record, one line, no secret; everything that could end or forge a line is escaped."""

    def __init__(self, style: Style, redaction: Redaction, *, colours: bool = False) -> None:
        super().__init__()
        self.style = style
        self.redaction = redaction
        self.colours = colours

    def format(self, record: logging.LogRecord) -> str:
        if self.style == "json":
            message = self.redaction.clean(_message(record))
            return json.dumps(_as_json(record, message, self._trace(record)), ensure_ascii=True)
        line = f"{record.name}: {self.message(record)}"
        if self.style == "journal":
            return f"<{_priority(record.levelno)}>{line}"
        level = record.levelname.lower()
        if self.style == "text":
            return f"{_time(record)} {level:<8} {line}"
        at = f"{datetime.datetime.fromtimestamp(record.created):%H:%M:%S}"  # a person's clock shows local time
        colour = _COLOURS.get(level)
        shown = f"\x1b[{colour}m{level:<8}\x1b[0m" if self.colours and colour else f"{level:<8}"
        return f"{at} {shown} {line}"

    def message(self, record: logging.LogRecord) -> str:
        """What it says and which task it is about, with the traceback if there is one: one line."""
        task, correlation = getattr(record, "task_id", None), getattr(record, "correlation_id", None)
        about = "" if task is None else f"task {task}: " if correlation is None else f"task {task} ({correlation}): "
        said = _message(record).removeprefix(f"task {task}: ")
        trace = self._trace(record)
        return escape(about + self.redaction.clean(said) + (f"\n{trace}" if trace else ""))

    def fields(self, record: logging.LogRecord) -> dict[str, object]:
        """The record as the journal keeps it."""
        fields: dict[str, object] = {
            "MESSAGE": self.message(record),
            "PRIORITY": _priority(record.levelno),
            "SYSLOG_IDENTIFIER": "dlqueue",
            "LOGGER": record.name,
            "CODE_FILE": record.pathname,
            "CODE_LINE": record.lineno,
            "CODE_FUNC": record.funcName,
        }
        for name in ("task_id", "correlation_id"):
            if (value := getattr(record, name, None)) is not None:
                fields[f"DLQUEUE_{name.upper()}"] = escape(str(value))
        return fields

    def _trace(self, record: logging.LogRecord) -> str:
        raised = record.exc_info if record.exc_info and record.exc_info[0] else None
        text = self.formatException(raised) if raised else record.exc_text
        return self.redaction.clean("\n".join(filter(None, (text, record.stack_info))))


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to a stream, or to the journal as long as that takes it."""

    def __init__(self, stream: TextIO, redaction: Redaction) -> None:
        super().__init__(stream)
        self.redaction = redaction
        self.journal = journal.SOCKET
        # On the handler, so that records of other libraries' loggers pass them too.
        self.addFilter(TaskFilter())

    def dress(self, wish: Wish, environ: Mapping[str, str]) -> None:
        style = style_for(wish, environ, terminal=self.stream.isatty())
        self.setFormatter(LineFormatter(style, self.redaction, colours="NO_COLOR" not in environ))

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(self.formatter, LineFormatter) and self.formatter.style == "journal":
            try:
                journal.send(self.formatter.fields(record), self.journal)
            except OSError:
                pass  # our stderr leads there too, with the priority and without the fields
            else:
                return
        super().emit(record)


def configure(
    *,
    level: int = logging.INFO,
    secrets: Iterable[str] = (),
    environ: Mapping[str, str] | None = None,
    stream: TextIO | None = None,
) -> Redaction:
    """Send the log of the whole program to stderr. Answers the redaction, which can learn further secrets.
    Called again it replaces what it set up before."""
    global _handler
    redaction = Redaction(secrets)
    env = os.environ if environ is None else environ
    handler = _Handler(stream if stream is not None else sys.stderr, redaction)
    handler.dress("auto", env)
    root = logging.getLogger()
    if _handler is not None:
        root.removeHandler(_handler)
    root.addHandler(handler)
    root.setLevel(level)
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)  # its own parts, at each migration
    logging.captureWarnings(True)
    _handler = handler
    wanted = env.get("DLQUEUE_LOG", "")
    if wanted and wanted not in get_args(Wish):
        _log.warning("DLQUEUE_LOG=%s is none of %s: not used", wanted, ", ".join(get_args(Wish)))
    return redaction


def adapt(wish: Wish, level: Level, environ: Mapping[str, str] | None = None) -> None:
    """Go over to what the configuration says. ``debug`` is of dlqueue only: other libraries would write out what we
    hide, such as the paths of URLs."""
    if _handler is not None:
        _handler.dress(wish, os.environ if environ is None else environ)
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger().setLevel(max(number, logging.INFO))
    logging.getLogger("dlqueue").setLevel(number)


def style_for(wish: Wish, environ: Mapping[str, str], *, terminal: bool = False) -> Style:
    """What ``DLQUEUE_LOG`` says, else what is wished for; ``auto`` is the journal's form if stderr is the journal, and
    a person's at a terminal."""
    named = environ.get("DLQUEUE_LOG", "")
    for one in get_args(Wish):
        if named == one:
            wish = one
    if wish != "auto":
        return wish
    if journal.is_stderr(environ.get("JOURNAL_STREAM", "")):
        return "journal"
    return "terminal" if terminal else "text"


def escape(text: str) -> str:
    r"""The text on one line: control and direction characters become ``\n``, ``\x1b``, ``\u202e`` …"""
    shown = _UNSAFE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)
    return shown if len(shown) <= _LONGEST_LINE else f"{shown[:_LONGEST_LINE]}… ({len(shown)} characters)"


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - a wrong format string must cost neither the line nor the program
        return f"{record.msg} (this log call has arguments that do not fit)"


def _as_json(record: logging.LogRecord, message: str, trace: str) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "at": _time(record),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": message,
    }
    for name in ("task_id", "correlation_id"):
        if getattr(record, name, None) is not None:
            entry[name] = getattr(record, name)
    if trace:
        entry["traceback"] = trace
    return entry


def _time(record: logging.LogRecord) -> str:
    at = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _priority(level: int) -> int:
    if level >= logging.CRITICAL:
        return 2
    if level >= logging.ERROR:
        return 3
    if level >= logging.WARNING:
        return 4
    return 6 if level >= logging.INFO else 7
