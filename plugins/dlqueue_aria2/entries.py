"""What goes to aria2 and comes back, as types."""

from __future__ import annotations

from typing import Any

import msgspec

from dlqueue.sdk import Unavailable

Call = tuple[str, list[Any]]
"""A method, without ``aria2.``, and its params, without the secret."""


class TooLarge(Unavailable):
    """An answer that was cut off."""


class Fault(Exception):
    """aria2 says no to one call. Its code is always 1; only the text tells why."""


class File(msgspec.Struct, rename="camel"):
    """One file of a transfer."""

    index: int
    path: str
    length: int
    completed_length: int = 0
    selected: bool = True


class Entry(msgspec.Struct, rename="camel"):
    """What aria2 tells of a transfer; only the keys that were asked for are filled."""

    gid: str = ""
    status: str = ""
    total_length: int = 0
    completed_length: int = 0
    upload_length: int = 0
    download_speed: int = 0
    upload_speed: int = 0
    error_code: int = 0
    error_message: str = ""
    followed_by: list[str] = []
    following: str = ""
    info_hash: str = ""
    seeder: bool = False
    verified_length: int | None = None
    verify_integrity_pending: bool = False
    dir: str = ""
    files: list[File] = []

    @property
    def alive(self) -> bool:
        """Could it still move bytes?"""
        return self.status in ("active", "waiting", "paused")
