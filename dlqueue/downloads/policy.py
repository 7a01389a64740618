"""What may be fetched, from where, and where it may be put. Checked at submit, at every redirect, and at delivery."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from dlqueue.queue import InvalidTask

URL_MAX = 16 * 1024
NAME_MAX = 255
"""Bytes of a file name, the limit of Linux file systems."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029]")
_WITH_HOST = frozenset({"http", "https", "ftp", "sftp"})
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NO_AUTHORITY = "is not a valid URL: its host or port cannot be read (write / @ : \\ in a password percent-encoded)"

_UNFIT_FOR_NAMES = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


class PolicyRefused(InvalidTask):
    """It could be done but is not allowed; ``kind`` is ``scheme``, ``address`` or ``destination``."""

    def __init__(self, message: str, field: str, kind: str) -> None:
        super().__init__(message, field)
        self.kind = kind


@dataclass(slots=True)
class Policy:
    """The rules of one daemon. Many hold this one object: a reload changes it in place.

    :param schemes: URL schemes that may be fetched.
    :param private_addresses: may loopback, LAN and link-local addresses be connected to?
    :param destinations: nothing is written outside these folders.
    """

    schemes: frozenset[str]
    private_addresses: bool
    destinations: tuple[Path, ...]
    of_owner: Callable[[str], tuple[Path, ...]] = lambda owner: ()
    """In place of ``destinations``, for owners to whom it answers any."""

    def check_url(self, url: str, field: str = "url") -> SplitResult:
        """:raises InvalidTask: it is no URL; `PolicyRefused`: it is not allowed. No message repeats the URL, which
        may hold a password."""
        if _UNPRINTABLE.search(url):
            raise InvalidTask("has a space or a control character in it (write them percent-encoded)", field)
        if len(url) > URL_MAX:
            raise InvalidTask(f"is longer than {URL_MAX} characters", field)
        match = _SCHEME.match(url)
        if match is None:
            raise InvalidTask("is not a URL: it has no scheme such as https://", field)
        scheme = match[1].lower()
        if scheme not in self.schemes:
            allowed = ", ".join(sorted(self.schemes))
            raise PolicyRefused(f"scheme {scheme!r} is not allowed (policy.schemes: {allowed})", field, "scheme")
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            # Python's own words repeat the host part, and with it the password.
            raise InvalidTask(_NO_AUTHORITY, field) from None
        if "\\" in parts.netloc:  # programs do not agree on where such a host begins
            raise InvalidTask(_NO_AUTHORITY, field)
        if scheme in _WITH_HOST:
            if not host:
                raise InvalidTask("has no host", field)
            address = numeric_address(host)
            if address is not None:
                self.check_address(address, field)
        return parts

    def check_address(self, address: str, field: str = "url") -> None:
        """:raises PolicyRefused: an address that must not be connected to."""
        if not self.private_addresses and not is_public(address):
            raise PolicyRefused(
                f"address {address} is not public (policy.private_addresses is false)", field, "address"
            )

    def default(self, directory: Path | None, owner: str) -> Path | None:
        """Where downloads of this owner go that name no place.

        :param directory: where those of everybody go.
        """
        own = self.of_owner(owner)
        if not own or (directory is not None and any(directory.is_relative_to(root) for root in own)):
            return directory
        return own[0]

    def check_destination(
        self, directory: Path, extra: Path | None = None, field: str = "directory", owner: str | None = None
    ) -> Path:
        """The allowed root that ``directory`` is in, links resolved.

        :param extra: one more root (the folder that the client stands in); not for owners with folders of their own.
        :param owner: whose download it is; None = it was checked before.
        :raises PolicyRefused: it is in none of them, or cannot be written to.
        """
        folder = real_folder(directory)
        real = folder or Path(os.path.realpath(directory))
        own = () if owner is None else self.of_owner(owner)
        roots = own or (*self.destinations, *(() if extra is None else (extra,)))
        root: Path | None = next((root for root in roots if real.is_relative_to(resolved(root))), None)
        if root is None:
            allowed = ", ".join(dict.fromkeys(map(str, roots))) or "none"
            which = f"allow_destinations of [owners] for {owner}" if own else "daemon.allow_destinations"
            raise PolicyRefused(
                f"{directory} is outside the allowed destinations ({allowed}); to allow it, name it in"
                f" {which} (which file that is: dlqueue config path)",
                field,
                "destination",
            )
        if any(len(os.fsencode(part)) > NAME_MAX for part in real.parts):
            raise PolicyRefused(f"has a folder name of more than {NAME_MAX} bytes in it", field, "destination")
        try:
            existing = folder or _existing(real)
            is_folder = folder is not None or existing.is_dir()
        except OSError as error:
            raise PolicyRefused(f"{directory} cannot be a folder: {error.strerror}", field, "destination") from error
        if not is_folder:
            raise PolicyRefused(f"{existing} is not a folder", field, "destination")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise PolicyRefused(f"the daemon may not write to {existing}", field, "destination")
        return root


def real_folder(path: Path) -> Path | None:
    """An existing folder, links resolved; None if there is no folder. Three system calls, where `os.path.realpath`
    needs one for each part of the path: this is asked several times for every download."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        return Path(f"/proc/self/fd/{descriptor}").readlink()
    finally:
        os.close(descriptor)


def resolved(path: Path) -> Path:
    """Links resolved, whether it exists or not."""
    return real_folder(path) or Path(os.path.realpath(path))


def _existing(path: Path) -> Path:
    """The nearest folder above that is there (or the path itself). :raises OSError: no file system could have it."""
    while True:
        try:
            path.stat()
            return path
        except (FileNotFoundError, NotADirectoryError):
            path = path.parent


def numeric_address(host: str) -> str | None:
    """The address that a host name in figures means, in all the ways that a resolver understands (``127.1``,
    ``0x7f000001``, ``2130706433``, ``::1``, ``localhost``); None if it is a name."""
    # Other forms of digits and dots are the same to whoever resolves international names.
    host = unicodedata.normalize("NFKC", host).replace("\u3002", ".").removesuffix(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


def is_public(address: str) -> bool:
    """Is it an address of the public internet, also when it is wrapped in an IPv6 one?"""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            wrapped = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if ip.teredo is not None:
            wrapped = ip.teredo[1]
        if wrapped is not None:
            return is_public(str(wrapped))
        if ip not in _GLOBAL_UNICAST:
            return False
    return ip.is_global and not ip.is_multicast


def check_name(name: str, field: str = "name") -> None:
    """:raises InvalidTask: not the name of one file."""
    if not name or name in (".", ".."):
        raise InvalidTask("must be a file name", field)
    if "/" in name or "\x00" in name:
        raise InvalidTask("must be a file name without '/' and NUL; the folder goes into directory", field)
    if _UNFIT_FOR_NAMES.search(name):
        raise InvalidTask("must not have control characters, nor such as turn the direction of text", field)
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidTask("is not valid text", field) from None
    if size > NAME_MAX:
        raise InvalidTask(f"has {size} bytes, {NAME_MAX} are possible", field)


def harmless_name(name: str) -> str:
    """A file name that a stranger chose, without what confuses terminals and readers (control characters, line breaks,
    turned text)."""
    return _UNFIT_FOR_NAMES.sub("_", name)
