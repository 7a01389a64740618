"""The tokens of the HTTP gateway: made and taken back at any time, kept as hashes in a file of their own."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import hmac
import secrets
from collections.abc import Callable
from pathlib import Path

import msgspec

from dlqueue.protocol import tokens as messages
from dlqueue.protocol.caller import Caller, Role
from dlqueue.protocol.errors import Conflict, LimitExceeded, NotFound, StorageError
from dlqueue.protocol.times import instant_text
from dlqueue.runtime.files import read_whole, write_whole
from dlqueue.service.access import Access

PREFIX = "dlq_"
"""How tokens begin: programs that look for secrets in files find them by it."""
MOST = 100
"""Tokens that one user may have."""
_LARGEST = 64 << 20


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token as it is kept. It acts as the user who made it."""

    name: str
    role: Role
    sha256: str
    uid: int
    gid: int
    owner: str
    created_at: float
    last_used: float | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    tokens: list[Kept]


class Tokens:
    """What `Service` has as ``tokens_*``, and who a token is.

    :param path: where they are kept.
    :param now: Unix seconds.
    :param is_user: has this uid still this name? A token ends with the account of who made it: its uid may be given
        to somebody else.
    :raises OSError: the file cannot be read, or is none of ours.
    """

    def __init__(
        self, path: Path, access: Access, now: Callable[[], float], is_user: Callable[[int, str], bool]
    ) -> None:
        self._path = path
        self._access = access
        self._now = now
        self._is_user = is_user
        self._lock = asyncio.Lock()
        self._kept = {one.name: one for one in _read(path)}
        self._used: dict[str, float] = {}
        self.on_revoked: Callable[[str], None] = lambda name: None
        """Told the name of a token that is worth nothing any more."""
        self.url: str | None = None
        """Where the gateway answers; ``None`` while it does not."""

    def caller(self, token: str) -> Caller | None:
        """Who may come in with this token; ``None`` = nobody."""
        digest = _digest(token)
        found = None
        for one in self._kept.values():  # all of them: how long it takes tells nothing
            if hmac.compare_digest(digest, one.sha256):
                found = one
        if found is None or not self._is_user(found.uid, found.owner):
            return None
        self._used[found.name] = self._now()
        return Caller(uid=found.uid, gid=found.gid, name=found.owner, role=found.role, token=found.name)

    def knows(self, caller: Caller) -> bool:
        """Has the token of this caller not been revoked?"""
        return caller.token in self._kept

    async def list(self, caller: Caller) -> messages.TokenPage:
        items = [self._view(one) for _, one in sorted(self._kept.items()) if self._sees(caller, one)]
        return {"items": items, "next_cursor": None, "total": len(items)}

    async def create(self, caller: Caller, params: messages.CreateToken) -> messages.NewToken:
        async with self._lock:
            if params.name in self._kept:
                taken = f'there is a token "{params.name}" already; take another name, or revoke that one first'
                raise Conflict(taken, kind="token_name")
            if sum(one.uid == caller.uid for one in self._kept.values()) >= MOST:
                raise LimitExceeded(f"a user has at most {MOST} tokens; revoke one first", kind="tokens")
            secret = PREFIX + secrets.token_urlsafe(32)
            made = Kept(
                name=params.name,
                role=params.role,
                sha256=_digest(secret),
                uid=caller.uid,
                gid=caller.gid,
                owner=caller.name,
                created_at=self._now(),
            )
            await self._save({**self._kept, made.name: made})
            return {**self._view(made), "token": secret, "url": self.url}

    async def revoke(self, caller: Caller, params: messages.TokenName) -> messages.Token:
        async with self._lock:
            found = self._kept.get(params.name)
            if found is None or not self._sees(caller, found):
                raise NotFound(f'no token has the name "{params.name}"', kind="token", field="name")
            told = self._view(found)
            await self._save({name: one for name, one in self._kept.items() if one is not found})
            self._used.pop(found.name, None)
            self.on_revoked(found.name)
            return told

    async def close(self) -> None:
        """Keep when they were used last. :raises StorageError: it cannot be written."""
        async with self._lock:
            if self._used:
                await self._save(self._kept)

    def _sees(self, caller: Caller, one: Kept) -> bool:
        return one.uid == caller.uid or self._access.is_admin(caller)

    def _view(self, one: Kept) -> messages.Token:
        used = self._used.get(one.name, one.last_used)
        return {
            "name": one.name,
            "role": one.role,
            "owner": one.owner,
            "created_at": instant_text(one.created_at),
            "last_used": None if used is None else instant_text(used),
        }

    async def _save(self, kept: dict[str, Kept]) -> None:
        """In force as soon as it is on disk, and not before."""
        kept = {
            name: msgspec.structs.replace(one, last_used=self._used.get(name, one.last_used))
            for name, one in kept.items()
        }
        data = msgspec.json.format(msgspec.json.encode(_File(version=1, tokens=list(kept.values()))))
        try:
            await asyncio.to_thread(write_whole, self._path, data)
        except OSError as error:
            raise StorageError(f"the tokens cannot be kept: {error.filename}: {error.strerror}") from error
        self._kept = kept


def _digest(token: str) -> str:
    # Tokens are 256 random bits: nothing is gained by a hash that is slow.
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _read(path: Path) -> list[Kept]:
    try:
        data = read_whole(path, _LARGEST)
    except FileNotFoundError:
        return []
    try:
        found = msgspec.json.decode(data, type=_File)
    except msgspec.DecodeError:
        found = None
    if found is None or found.version != 1:
        cure = "is no file of tokens that this version knows; restore it, or remove it and make new tokens"
        raise OSError(errno.EINVAL, cure, str(path))
    return found.tokens
