"""What a download is asked for: the params of `remote_download`, checked and made whole at submit."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import msgspec
from msgspec import UNSET, UnsetType

from dlqueue.downloads import upload
from dlqueue.downloads.policy import Policy, PolicyRefused, check_name, harmless_name
from dlqueue.downloads.space import mount_of
from dlqueue.downloads.torrent import Contents, decoded, read_magnet, read_metalink, read_torrent
from dlqueue.protocol.errors import did_you_mean
from dlqueue.queue import InvalidTask, Submitter

DIGESTS = {"sha-256": 64, "sha-1": 40, "sha-512": 128, "md5": 32}
"""Checksum algorithms and the length of their hexadecimal digests."""
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]*")

_TORRENT_URL = re.compile(r"https?://[^?#]*\.torrent(?:[?#]|$)", re.IGNORECASE)
_PORTS = {"http": 80, "https": 443, "ftp": 21, "sftp": 22}

OnExists = Literal["rename", "skip", "overwrite", "fail"]


class SeedWish(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What the submitter says of seeding: a rule for a measure, None = no rule on it, left out = the configured one."""

    ratio: float | UnsetType | None = UNSET
    time: float | UnsetType | None = UNSET
    """Seconds."""
    idle: float | UnsetType | None = UNSET
    """Seconds without a byte going out."""


class DownloadParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """As stored: ``urls`` are mirrors of one file, ``directory`` is absolute."""

    urls: tuple[str, ...]
    directory: str
    root: str
    """The allowed destination that ``directory`` is in."""
    mount: str | None = None
    """Where the file system of ``directory`` was mounted at the submit; None = it is that of ``/``."""
    name: str | None = None
    on_exists: OnExists = "rename"
    downloader: str | None = None
    headers: dict[str, str] = {}
    options: dict[str, str] = {}
    checksum: str | None = None
    torrent: str | None = None
    """The file's name in the daemon's own folder (`dlqueue.downloads.upload.Uploads`)."""
    metalink: str | None = None
    select: tuple[int, ...] | None = None
    match: str | None = None
    """In place of ``select``: a glob over the paths of its files, to be applied when they are known."""
    seed: SeedWish | None = None
    title: str | None = None
    """What it calls itself, until its downloader knows better."""
    info_hash: str | None = None
    size: int | None = None
    """Bytes that are wanted of it, where the file that was sent tells."""

    @property
    def schemes(self) -> frozenset[str]:
        """What a downloader must be able to fetch, in the words of `Downloader.schemes`."""
        given = {url.partition(":")[0].lower() for url in self.urls}
        files = {"torrent": self.torrent, "metalink": self.metalink}
        return frozenset(given | {kind for kind, file in files.items() if file is not None})

    @property
    def names_torrent(self) -> bool:
        """Does it look as if the URLs lead to .torrent files? Then a downloader that takes such files may have one."""
        return bool(self.urls) and all(_TORRENT_URL.match(url) for url in self.urls)


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
    torrent: str | None = None
    metalink: str | None = None
    select: list[int] | None = None
    seed: SeedWish | Literal[0] | None = None


def normalised(
    params: Any, submitter: Submitter, policy: Policy, default_directory: Path | None
) -> tuple[DownloadParams, bytes | None]:
    """Params as they are stored, and the .torrent or .metalink file that has to be kept for them, if there is one.

    :raises InvalidTask: a field cannot be right; `PolicyRefused`: it is not allowed.
    """
    given = _read(params)
    urls, contents, file = _source(given, policy)
    if given.name is not None:
        check_name(given.name)
    for name, value in (given.headers or {}).items():
        if not _HEADER_NAME.fullmatch(name):
            raise InvalidTask("a header name has characters that are not allowed in it", "headers")
        if not _HEADER_VALUE.fullmatch(value):
            raise InvalidTask(f"the value of {name} has a line break or control character in it", "headers")
    directory, root = _destination(given, submitter, policy, default_directory)
    select = None if given.select is None else selection(given.select, contents.files)
    kept = None if file is None else upload.name_of(file)
    made = DownloadParams(
        torrent=kept if given.torrent is not None else None,
        metalink=kept if given.metalink is not None else None,
        select=select,
        seed=SeedWish(ratio=0.0) if given.seed == 0 else given.seed,
        title=None if contents.name is None else harmless_name(contents.name),
        info_hash=contents.hash,
        size=_size(contents.sizes, select),
        urls=tuple(urls),
        directory=str(directory),
        root=str(root),
        mount=mount_of(directory),
        name=given.name,
        on_exists=given.on_exists or "rename",
        downloader=given.downloader,
        headers=given.headers or {},
        options=given.options or {},
        checksum=None if given.checksum is None else _checksum(given.checksum),
    )
    return made, file


def _size(sizes: tuple[int, ...] | None, select: tuple[int, ...] | None) -> int | None:
    if sizes is None:
        return None
    total = sum(sizes if select is None else (sizes[index - 1] for index in select))
    return total if total < 2**63 else None  # what the database can hold


def _source(given: _Given, policy: Policy) -> tuple[list[str], Contents, bytes | None]:
    """Where it comes from: URLs, what is known of it, and the file that was sent, if one was."""
    sources = [name for name in ("url", "urls", "torrent", "metalink") if getattr(given, name) is not None]
    if len(sources) != 1:
        raise InvalidTask("give one of url, urls (mirrors of one file), torrent and metalink", "url")
    (field,) = sources
    if given.torrent is not None:
        if "magnet" not in policy.schemes:
            raise PolicyRefused("BitTorrent is not allowed (policy.schemes has no magnet)", field, "scheme")
        file = decoded(given.torrent, field)
        return [], read_torrent(file), file
    if given.metalink is not None:
        file = decoded(given.metalink, field)
        contents, urls = read_metalink(file)
        for url in urls:
            policy.check_url(url, field)
        return [], contents, file
    urls = given.urls if given.urls is not None else [given.url or ""]
    if not urls:
        raise InvalidTask("must not be empty", field)
    for url in urls:
        policy.check_url(url, field)
    magnets = [url for url in urls if url.partition(":")[0].lower() == "magnet"]
    if not magnets:
        return urls, Contents(None, None, None), None
    if len(urls) > 1:
        raise InvalidTask("a magnet link cannot be a mirror", field)
    return urls, read_magnet(urls[0]), None


def selection(indexes: list[int], files: int | None) -> tuple[int, ...]:
    """Wanted files, sorted and each once.

    :param files: how many there are, if that is known.
    :raises InvalidTask: none, or one that cannot be.
    """
    wanted = tuple(sorted(set(indexes)))
    if not wanted:
        raise InvalidTask("must name at least one file", "select")
    if wanted[0] < 1:
        raise InvalidTask("files are numbered from 1", "select")
    if files is not None and wanted[-1] > files:
        raise InvalidTask(f"there is no file {wanted[-1]}: it has {files}", "select")
    return wanted


def _read(params: Any) -> _Given:
    if not isinstance(params, dict):
        raise InvalidTask("must be an object", "params")
    for name in params:
        if name not in _Given.__struct_fields__:
            known = _Given.__struct_fields__
            hint = did_you_mean(str(name), known) or f" (known: {', '.join(known)})"
            raise InvalidTask(f"no such param{hint}", str(name))
    try:
        return msgspec.convert(params, _Given)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        raise InvalidTask(message, path.rstrip("`").partition("[")[0] or "params") from error


def _destination(given: _Given, submitter: Submitter, policy: Policy, default: Path | None) -> tuple[Path, Path]:
    cwd = None if submitter.cwd is None else _path(submitter.cwd, "cwd")
    if cwd is not None and not cwd.is_absolute():
        raise InvalidTask("must be absolute", "cwd")
    default = policy.default(default, submitter.owner)
    wanted = _path(given.directory, "directory") if given.directory is not None else default or cwd
    if wanted is None:
        raise InvalidTask("say where to put it; the daemon has no default (daemon.downloads)", "directory")
    if not wanted.is_absolute():
        if cwd is None:
            raise InvalidTask("must be absolute", "directory")
        wanted = cwd / wanted
    # Lexically, without following links: the name that the user knows is the one that is shown and used.
    wanted = Path(os.path.normpath(wanted))
    return wanted, policy.check_destination(wanted, cwd, owner=submitter.owner)


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


def source_mark(params: DownloadParams) -> str:
    """Another one if the URLs are others than they were."""
    return hashlib.blake2b("\n".join(params.urls).encode(), digest_size=4).hexdigest()


def join_key(params: DownloadParams, owner: str) -> str:
    """Equal for downloads that would fetch the same thing to the same place."""
    # A torrent is the same wherever its description came from; the name of a file that is kept is the digest of it.
    what = params.info_hash or params.metalink or params.torrent or sorted(map(_plain, params.urls))
    facts: list[object] = [owner, params.directory, params.name, what, params.checksum, params.downloader]
    if params.select is not None:
        facts.append(params.select)
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()


def _plain(url: str) -> str:
    """The same for URLs that ask the same server for the same thing (RFC 3986, 6.2.2.1 and 6.2.3; the fragment is never
    sent)."""
    parts = urlsplit(url)
    scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
    if scheme not in _PORTS or not host:
        return url
    user, at, _ = parts.netloc.rpartition("@")
    port = "" if parts.port in (None, _PORTS[scheme]) else f":{parts.port}"
    host = f"[{host}]" if ":" in host else host
    return urlunsplit((scheme, f"{user}{at}{host}{port}", parts.path or "/", parts.query, ""))
