"""The configuration, and who may read and change what is private."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dlqueue.config import Config, ConfigError, difference
from dlqueue.config.files import LARGEST_FILE
from dlqueue.config.secrets import expand_home
from dlqueue.daemon.doctor.finding import Finding, listed
from dlqueue.daemon.reading import Reader
from dlqueue.places import Places
from dlqueue.runtime.files import read_whole

CHANGED_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_TASKS = "the tasks, and the passwords in their URLs"
PRIVATE = {"dlqueue.db": _TASKS, "dlqueue.db-wal": _TASKS, "tokens.json": "the tokens of the HTTP gateway"}
"""What is in the state folder."""
EXTRA_MODULES = {
    "http": ("starlette", "uvicorn", "sse_starlette", "prometheus_client"),
    "notify": ("apprise",),
    "tui": ("textual",),
}
"""What the libraries of an extra are called when they are imported."""
LOOKED_INTO = re.compile(r"notify|notify\.targets|hooks\..+\.command")
"""Doubts about these the checks of extras and of notices settle."""


def configuration(read: Reader, in_force: Config | None) -> tuple[Config | None, list[Finding]]:
    """What the files say now, if it can be used.

    :param in_force: what the daemon goes by; None = there is no daemon.
    """
    try:
        config = read()
    except ConfigError as error:
        goes_on = "; the daemon goes on with what it read before, and would not start again" if in_force else ""
        cure = "correct it, then: dlqueue config check" + (" && dlqueue config reload" if in_force else "")
        return None, [Finding("config", "error", f"{problem}{goes_on}", cure) for problem in error.problems]
    found = [
        Finding(
            "config", "warning", str(warning), "correct it, then: dlqueue config reload; or leave it if it is meant"
        )
        for warning in config.warnings
        if not LOOKED_INTO.fullmatch(warning.key)
    ]
    changed = [] if in_force is None else difference(in_force, config)
    if changed:
        keys = listed([one.key for one in changed])
        text = f"the files say something else than what is in force: {keys}"
        found.append(Finding("config", "warning", text, "dlqueue config reload"))
    found += _kinds(read)
    found += _extras(config)
    if not found:
        where = ", ".join(map(str, config.files)) or "no file, so the defaults hold"
        found.append(Finding("config", "ok", f"no problem ({where})"))
    return config, found


def _kinds(read: Reader) -> Iterator[Finding]:
    for kind, why in read.kinds.broken.items():
        text = f"the downloader kind {kind} is installed and cannot be used: it {why}"
        yield Finding("extras", "info", text, "nothing, unless you want to use it")


def _extras(config: Config) -> Iterator[Finding]:
    asked = {
        "http": ("http.listen", config.http.listen is not None, "the daemon will not start"),
        "notify": ("notify.targets", bool(config.notify.targets), "nobody there gets a message"),
    }
    for extra, modules in EXTRA_MODULES.items():
        missing = ", ".join(name for name in modules if importlib.util.find_spec(name) is None)
        setting, wanted, result = asked.get(extra, ("", False, ""))
        if missing and wanted:
            text = f"{setting} is set, and {result}: it needs {missing}"
            yield Finding("extras", "error", text, f"pip install 'dlqueue[{extra}]', or remove {setting}")
        elif missing and extra == "tui":
            text = f"dlqueue top cannot be used: it needs {missing}"
            yield Finding("extras", "info", text, f"nothing, unless you want to use it: pip install 'dlqueue[{extra}]'")


def permissions(places: Places, files: list[Path], system: bool) -> list[Finding]:
    """Of the configuration and of what the daemon keeps.

    :param files: of the configuration.
    """
    found = [finding for file in files for finding in _config_file(file)]
    for secret in sorted({secret for file in files for secret in secret_files(file)}):
        found += _private(secret, "a secret", "0640" if system else "0600", stat.S_IWGRP | stat.S_IRWXO)
    found += _private(places.state, "the daemon's state", "0700", stat.S_IRWXG | stat.S_IRWXO)
    if places.state.is_dir():
        for name, what in PRIVATE.items():
            found += _private(places.state / name, what, "0600", stat.S_IRWXG | stat.S_IRWXO)
    found += _socket(places.socket)
    if not found:
        found.append(Finding("permissions", "ok", "nobody else may read or change what is private"))
    return found


def _config_file(file: Path) -> Iterator[Finding]:
    for path in (file, file.parent):
        mode = _mode(path)
        if mode is not None and mode & CHANGED_BY_OTHERS and not mode & stat.S_ISVTX and not _own_group(path, mode):
            text = f"{path} has mode {mode & 0o7777:04o}: others may change what the daemon does"
            yield Finding("permissions", "error", text, f"chmod go-w {shlex.quote(str(path))}")


def _own_group(path: Path, mode: int) -> bool:
    """Is the group, which may write, that of one user only? Many systems give everybody one, and a umask of 002."""
    if mode & stat.S_IWOTH:
        return False
    import grp
    import pwd

    try:
        status = path.stat()
        name = pwd.getpwuid(status.st_uid).pw_name
        group = grp.getgrgid(status.st_gid)
    except (KeyError, OSError):
        return False
    return group.gr_name == name and not set(group.gr_mem) - {name}


def secret_files(file: Path) -> Iterator[Path]:
    """The files that a config file names for its secrets."""
    try:
        data = tomllib.loads(read_whole(file, LARGEST_FILE).decode())
    except (OSError, ValueError, RecursionError):
        return  # a problem of the configuration, which is told there

    def walk(value: Any) -> Iterator[Path]:
        if isinstance(value, Mapping):
            name = value.get("file")
            if len(value) == 1 and isinstance(name, str):
                yield expand_home(name, os.environ)
            else:
                for inner in value.values():
                    yield from walk(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from walk(inner)

    yield from walk(data)


def _private(path: Path, what: str, wanted: str, forbidden: int) -> Iterator[Finding]:
    mode = _mode(path)
    if mode is not None and mode & forbidden:
        others = "anybody on this machine" if mode & stat.S_IRWXO else "others"
        text = f"{path} has mode {mode & 0o7777:04o}: {others} may get at {what}"
        yield Finding("permissions", "error", text, f"chmod {wanted} {shlex.quote(str(path))}")


def _socket(socket: Path) -> Iterator[Finding]:
    mode = _mode(socket)
    if mode is not None and mode & stat.S_IRWXO:
        text = f"the socket {socket} has mode {mode & 0o7777:04o}: anybody on this machine may give orders"
        yield Finding("permissions", "error", text, "restart the daemon, which sets it right; or chmod o= that socket")
    folder = _mode(socket.parent)
    if folder is not None and folder & stat.S_IWOTH and not folder & stat.S_ISVTX:
        text = (
            f"{socket.parent} has mode {folder & 0o7777:04o}: anybody may put another socket in place of the daemon's"
        )
        yield Finding("permissions", "error", text, f"chmod o-w {shlex.quote(str(socket.parent))}")


def _mode(path: Path) -> int | None:
    """None = there is no such thing, or it is not ours to look at."""
    try:
        return path.stat().st_mode
    except OSError:
        return None
