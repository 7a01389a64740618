"""The daemon's log: one line per record on stderr, whatever is in the message, and without secrets.

Text by default, with a priority in front under systemd; ``DLQUEUE_LOG=json`` for JSON.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TextIO
from urllib.parse import quote

from dlqueue.runtime.logcontext import TaskFilter
from dlqueue.runtime.redaction import HIDDEN, hide_userinfo

_log = logging.getLogger(__name__)

Style = Literal["text", "json", "journal"]

_SHORTEST_SECRET = 4  # a shorter "secret" would blacken half of the log and hides nothing
_LONGEST_LINE = 16 * 1024

# Control characters, line separators, bidirectional overrides and lone surrogates: none may reach a terminal.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_handler: logging.Handler | None = None


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

    def __init__(self, style: Style, redaction: Redaction) -> None:
        super().__init__()
        self.style = style
        self.redaction = redaction

    def format(self, record: logging.LogRecord) -> str:
        message = self.redaction.clean(_message(record))
        trace = self.redaction.clean(self._trace(record))
        if self.style == "json":
            return json.dumps(_as_json(record, message, trace), ensure_ascii=True)
        task = getattr(record, "task_id", None)
        about = f"task {task}: " if task is not None else ""
        line = escape(f"{record.name}: {about}{message}" + (f"\n{trace}" if trace else ""))
        if self.style == "journal":
            return f"<{_priority(record.levelno)}>{line}"
        return f"{_time(record)} {record.levelname.lower():<8} {line}"

    def _trace(self, record: logging.LogRecord) -> str:
        raised = record.exc_info if record.exc_info and record.exc_info[0] else None
        return "\n".join(filter(None, (self.formatException(raised) if raised else record.exc_text, record.stack_info)))


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
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    # On the handler, so that records of other libraries' loggers pass them too.
    handler.addFilter(TaskFilter())
    handler.setFormatter(LineFormatter(style_for(env), redaction))
    root = logging.getLogger()
    if _handler is not None:
        root.removeHandler(_handler)
    root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(True)
    _handler = handler
    if env.get("DLQUEUE_LOG", "") not in ("", "json", "text"):
        _log.warning("DLQUEUE_LOG=%s is neither text nor json: not used", env["DLQUEUE_LOG"])
    return redaction


def style_for(environ: Mapping[str, str]) -> Style:
    """``DLQUEUE_LOG=json`` or ``text`` decides; else the journal's form if stderr is the journal."""
    wanted = environ.get("DLQUEUE_LOG", "")
    if wanted in ("json", "text"):
        return "json" if wanted == "json" else "text"
    return "journal" if _is_journal(environ.get("JOURNAL_STREAM", "")) else "text"


def escape(text: str) -> str:
    r"""The text on one line: control and direction characters become ``\n``, ``\x1b``, ``\u202e`` …"""
    shown = _UNSAFE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)
    return shown if len(shown) <= _LONGEST_LINE else f"{shown[:_LONGEST_LINE]}… ({len(shown)} characters)"


def _is_journal(stream: str) -> bool:
    # systemd sets the variable for all children; it counts only if our stderr is still that very stream.
    try:
        device, inode = map(int, stream.split(":"))
        status = os.fstat(2)
    except (ValueError, OSError):
        return False
    return (status.st_dev, status.st_ino) == (device, inode)


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
