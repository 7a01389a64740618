"""Exit codes, and how an error is told: one line of what happened, one of what to do."""

from __future__ import annotations

import os
import sys

import click

from dlqueue.client import DaemonForbidden, DaemonUnreachable
from dlqueue.protocol.errors import Code, RpcError

OK = 0
FAILURE = 1
USAGE = 2
UNREACHABLE = 3
NOT_FOUND = 4
TASK_FAILED = 5
TIMED_OUT = 6
REFUSED = 7
PERMISSION = 8
INTERRUPTED = 130

_BY_CODE: dict[int, int] = {
    Code.INVALID_PARAMS: USAGE,
    Code.NOT_FOUND: NOT_FOUND,
    Code.UNAUTHENTICATED: PERMISSION,
    Code.FORBIDDEN: PERMISSION,
    Code.CONFLICT: REFUSED,
    Code.LIMIT: REFUSED,
    Code.POLICY: REFUSED,
    Code.TIMED_OUT: TIMED_OUT,
}

_HINTS: dict[int, str] = {
    Code.NOT_FOUND: "see what there is: dlqueue ls",
    Code.STOPPING: "try again when the daemon runs again; nothing that was accepted is lost",
    Code.STORAGE: "the daemon's log has the details",
    Code.INTERNAL: "please report this, with the daemon's log",
    Code.NO_METHOD: "the daemon may be older than this program; compare: dlqueue version",
}


_HINTS_BY_KIND = {
    "downloader": "see what there is: dlqueue downloader ls",
    "queue": "see what there is: dlqueue queue ls",
    "capacity": "try again later, or wait for room: --on-full wait",
    "receiver": "see what there is: dlqueue config show",
    "schedule": "see what there is: dlqueue schedule ls",
    "token": "see what there is: dlqueue token ls",
}


class Failed(Exception):
    """A command that did not do what was asked. ``code`` is the exit code."""

    def __init__(self, message: str, code: int = FAILURE, hint: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


def say(line: str) -> None:
    """One line on stderr: everything that is not data. On a terminal it is broken between words."""
    try:
        print(_fitted(line), file=sys.stderr, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _fitted(line: str) -> str:
    try:
        width = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError, AttributeError):
        return line
    if len(line) <= width or width < 20:
        return line
    import textwrap

    # What is longer than a line (a URL, a path) stays whole, to be copied.
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def code_of(error: RpcError) -> int:
    """The exit code for a refusal of the daemon."""
    return _BY_CODE.get(error.code, FAILURE)


def report(error: Exception) -> int:
    """Tell what went wrong; answers the exit code."""
    message, code, hint = _explained(error)
    say(f"dlqueue: {_one_line(message)}")
    if hint:
        say(f"  {hint}")
    return code


def _explained(error: Exception) -> tuple[str, int, str | None]:
    match error:
        case Failed():
            return str(error), error.code, error.hint
        case RpcError():
            return error.message, code_of(error), _HINTS_BY_KIND.get(error.kind) or _HINTS.get(error.code)
        case DaemonForbidden():
            return str(error), PERMISSION, None
        case DaemonUnreachable():
            message, _, hint = str(error).partition("; ")
            return message, UNREACHABLE, hint or None
        case click.UsageError():
            command = error.ctx.command_path if error.ctx else "dlqueue"
            return error.format_message(), USAGE, f"see: {command} --help"
        case click.ClickException():
            return error.format_message(), FAILURE, None
        case UnicodeEncodeError():
            return "an argument or the current directory is not valid UTF-8", USAGE, None
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return f"{where}{error.strerror or error}", FAILURE, None
        case _:
            hint = "please report this; DLQUEUE_DEBUG=1 shows where it happened"
            if os.environ.get("DLQUEUE_DEBUG"):
                raise error
            return f"a defect in this program: {type(error).__name__}: {error}", FAILURE, hint


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
