"""What a download is asked for: the params of `remote_download`, checked and made whole at submit."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec

from dlqueue.downloads.policy import Policy, check_name
from dlqueue.queue import InvalidTask, Submitter

DIGESTS = {"sha-256": 64, "sha-1": 40, "sha-512": 128, "md5": 32}
"""Checksum algorithms and the length of their hexadecimal digests."""
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]*")

OnExists = Literal["rename", "skip", "overwrite", "fail"]


class DownloadParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """As stored: ``urls`` are mirrors of one file, ``directory`` is absolute."""

    urls: tuple[str, ...]
    directory: str
    root: str
    """The allowed destination that ``directory`` is in."""
    name: str | None = None
    on_exists: OnExists = "rename"
    downloader: str | None = None
    headers: dict[str, str] = {}
    options: dict[str, str] = {}
    checksum: str | None = None


class _Given(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """As submitted."""

    url: str | None = None
    urls: list[str] | None = None
    directory: str | None = None
    name: str | None = None
    on_exists: OnExists | None = None
    downloader: str | None = None
    headers: dict[str, str] | None = None
    options: dict[str, str] | None = None
    checksum: str | None = None
    cwd: str | None = None


def normalised(params: Any, submitter: Submitter, policy: Policy, default_directory: Path | None) -> DownloadParams:
    """Params as they are stored.

    :raises InvalidTask: a field cannot be right; `PolicyRefused`: it is not allowed.
    """
    given = _read(params)
    urls = given.urls if given.urls is not None else [given.url] if given.url is not None else []
    if not urls or (given.url is not None and given.urls is not None):
        raise InvalidTask("give either url or urls (mirrors of one file)", "url")
    for url in urls:
        policy.check_url(url, "url" if given.urls is None else "urls")
    if len({url.partition(":")[0].lower() == "magnet" for url in urls}) > 1:
        raise InvalidTask("a magnet link cannot be a mirror", "urls")
    if given.name is not None:
        check_name(given.name)
    for name, value in (given.headers or {}).items():
        if not _HEADER_NAME.fullmatch(name):
            raise InvalidTask("a header name has characters that are not allowed in it", "headers")
        if not _HEADER_VALUE.fullmatch(value):
            raise InvalidTask(f"the value of {name} has a line break or control character in it", "headers")
    directory, root = _destination(given, submitter, policy, default_directory)
    return DownloadParams(
        urls=tuple(urls),
        directory=str(directory),
        root=str(root),
        name=given.name,
        on_exists=given.on_exists or "rename",
        downloader=given.downloader,
        headers=given.headers or {},
        options=given.options or {},
        checksum=None if given.checksum is None else _checksum(given.checksum),
    )


def _read(params: Any) -> _Given:
    if not isinstance(params, dict):
        raise InvalidTask("must be an object", "params")
    for name in params:
        if name not in _Given.__struct_fields__:
            raise InvalidTask(f"unknown (known: {', '.join(_Given.__struct_fields__)})", str(name))
    try:
        return msgspec.convert(params, _Given)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        raise InvalidTask(message, path.rstrip("`").partition("[")[0] or "params") from error


def _destination(given: _Given, submitter: Submitter, policy: Policy, default: Path | None) -> tuple[Path, Path]:
    cwd = None if submitter.cwd is None else _path(submitter.cwd, "cwd")
    if cwd is not None and not cwd.is_absolute():
        raise InvalidTask("must be absolute", "cwd")
    wanted = _path(given.directory, "directory") if given.directory is not None else default or cwd
    if wanted is None:
        raise InvalidTask("say where to put it; the daemon has no default (daemon.downloads)", "directory")
    if not wanted.is_absolute():
        if cwd is None:
            raise InvalidTask("must be absolute", "directory")
        wanted = cwd / wanted
    # Lexically, without following links: the name that the user knows is the one that is shown and used.
    wanted = Path(os.path.normpath(wanted))
    return wanted, policy.check_destination(wanted, cwd)


def _path(text: str, field: str) -> Path:
    if "\x00" in text:
        raise InvalidTask("must not have NUL in it", field)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidTask("is not valid text", field) from None
    return Path(text)


def _checksum(text: str) -> str:
    algorithm, _, digest = text.partition("=")
    algorithm = algorithm.strip().lower()
    digest = digest.strip().lower()
    length = DIGESTS.get(algorithm)
    if length is None:
        raise InvalidTask(f"must be ALGORITHM=HEX with one of {', '.join(DIGESTS)}", "checksum")
    if len(digest) != length or any(character not in "0123456789abcdef" for character in digest):
        raise InvalidTask(f"a {algorithm} digest has {length} hexadecimal digits", "checksum")
    return f"{algorithm}={digest}"


def new_digest(checksum: str) -> tuple[Callable[[bytes], object], Callable[[], str]]:
    """To verify a checksum of the form that `_checksum` gives: a function that takes data, and one that answers."""
    hasher = hashlib.new(checksum.partition("=")[0].replace("-", ""), usedforsecurity=False)
    return hasher.update, hasher.hexdigest


def join_key(params: DownloadParams, owner: str) -> str:
    """Equal for downloads that would fetch the same thing to the same place."""
    facts = [owner, params.directory, params.name, sorted(params.urls), params.checksum, params.downloader]
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()
