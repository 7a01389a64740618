"""Lists of downloads: a link on a line, or what aria2 calls an input file.

The format is the one of aria2's ``--input-file`` (https://aria2.github.io/manual/en/html/aria2c.html#input-file):
mirrors of one file on a line with a TAB between them, and below it, indented, options of that file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dlqueue.cli.ids import numbers
from dlqueue.cli.options import MOST_FILES, folder
from dlqueue.protocol.errors import did_you_mean

_OPTION = re.compile(r"([A-Za-z0-9-]+)\s*=\s*(.*)")


@dataclass
class Read:
    """What a list holds."""

    entries: list[tuple[dict[str, Any], int]] = field(default_factory=list)
    """Params of `downloads.add`, and on which line they stand."""
    problems: list[tuple[int, str]] = field(default_factory=list)
    """What can never be right, with its line."""
    unused: dict[str, list[int]] = field(default_factory=dict)
    """Options of aria2 that do not matter here, with their lines."""


def read_list(text: str, links: Callable[[list[str]], dict[str, Any]]) -> Read:
    """Everything in ``text``, right or wrong.

    :param links: makes params of the links of one line; raises ``ValueError`` for what is none.
    """
    found = Read()
    wrong = False
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        option = _OPTION.fullmatch(stripped) if line[0] in " \t" else None
        try:
            if option is None:
                wrong = True
                found.entries.append((links([part.strip() for part in stripped.split("\t") if part.strip()]), number))
                wrong = False
            elif not found.entries and not wrong:
                raise ValueError("an option without a URL above it")
            elif not wrong and not _set(found.entries[-1][0], option[1], option[2].strip()):
                found.unused.setdefault(option[1], []).append(number)
        except ValueError as error:
            found.problems.append((number, str(error)))
    return found


def header(text: str) -> tuple[str, str]:
    """`Name: value` as a pair. Raises ``ValueError``, which does not repeat it: it may be a secret."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ValueError("a header is written as 'Name: value'")
    return name.strip(), value.strip(" ")


def _set(params: dict[str, Any], name: str, value: str) -> bool:
    """One option; is it used? Raises ``ValueError``."""
    if name in _UNUSED:
        return False
    use = _USED.get(name)
    if use is None:
        raise ValueError(f'the option "{name[:40]}" is not understood{did_you_mean(name, _USED)}')
    use(params, value)
    return True


def _directory(params: dict[str, Any], value: str) -> None:
    params["directory"] = str(folder(value).absolute())


def _name(params: dict[str, Any], value: str) -> None:
    params["name"] = value


def _checksum(params: dict[str, Any], value: str) -> None:
    params["checksum"] = value


def _header(params: dict[str, Any], value: str) -> None:
    name, content = header(value)
    params.setdefault("headers", {})[name] = content


def _referer(params: dict[str, Any], value: str) -> None:
    _header(params, f"Referer: {value}")


def _user_agent(params: dict[str, Any], value: str) -> None:
    _header(params, f"User-Agent: {value}")


def _select(params: dict[str, Any], value: str) -> None:
    params["select"] = numbers(value, "the number of a file", MOST_FILES)


def _overwrite(params: dict[str, Any], value: str) -> None:
    if _switch(value):
        params["on_exists"] = "overwrite"


def _pause(params: dict[str, Any], value: str) -> None:
    if _switch(value):
        params["paused"] = True


def _seed_ratio(params: dict[str, Any], value: str) -> None:
    # aria2 means by 0.0 "whatever the ratio is"; here that is no rule.
    params.setdefault("seed", {})["ratio"] = _amount(value) or None


def _seed_time(params: dict[str, Any], value: str) -> None:
    params.setdefault("seed", {})["time"] = 60 * _amount(value)  # aria2 counts it in minutes


def _amount(value: str) -> float:
    try:
        amount = float(value)
    except ValueError:
        amount = -1.0
    if not 0 <= amount < 1e9:
        raise ValueError(f'not a number: "{value[:40]}"')
    return amount


def _switch(value: str) -> bool:
    if value not in ("true", "false"):
        raise ValueError(f'neither true nor false: "{value[:40]}"')
    return value == "true"


_USED: dict[str, Callable[[dict[str, Any], str], None]] = {
    "dir": _directory,
    "out": _name,
    "checksum": _checksum,
    "header": _header,
    "referer": _referer,
    "user-agent": _user_agent,
    "select-file": _select,
    "allow-overwrite": _overwrite,
    "pause": _pause,
    "seed-ratio": _seed_ratio,
    "seed-time": _seed_time,
}
_UNUSED = frozenset(
    {"allow-piece-length-change", "always-resume", "async-dns", "auto-file-renaming", "conditional-get"}
    | {"connect-timeout", "content-disposition-default-utf8", "continue", "enable-http-keep-alive"}
    | {"enable-http-pipelining", "enable-mmap", "enable-peer-exchange", "file-allocation", "force-save", "gid"}
    | {"http-accept-gzip", "http-no-cache", "lowest-speed-limit", "max-connection-per-server", "max-download-limit"}
    | {"max-file-not-found", "max-mmap-limit", "max-resume-failure-tries", "max-tries", "max-upload-limit"}
    | {"min-split-size", "no-file-allocation-limit", "no-netrc", "piece-length", "realtime-chunk-checksum"}
    | {"remote-time", "remove-control-file", "retry-wait", "reuse-uri", "rpc-save-upload-metadata", "save-not-found"}
    | {"split", "stream-piece-selector", "timeout", "uri-selector", "use-head", "check-integrity"}
    | {"bt-enable-hook-after-hash-check", "bt-enable-lpd", "bt-hash-check-seed", "bt-load-saved-metadata"}
    | {"bt-max-peers", "bt-prioritize-piece", "bt-remove-unselected-file", "bt-request-peer-speed-limit"}
    | {"bt-save-metadata", "bt-seed-unverified", "bt-stop-timeout", "bt-tracker-connect-timeout"}
    | {"bt-tracker-interval", "bt-tracker-timeout", "follow-metalink", "follow-torrent"}
)
"""How aria2 goes about it: set for a downloader, not for a task. What would fetch something else, or by another way (a
proxy, a password), is none of these: it is refused."""
