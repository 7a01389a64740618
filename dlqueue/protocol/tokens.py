"""Params and results of `tokens.*`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from dlqueue.protocol.caller import Role
from dlqueue.protocol.checks import named


@dataclass(frozen=True, kw_only=True)
class TokenName:
    name: str

    def __post_init__(self) -> None:
        named(self, "name")


@dataclass(frozen=True, kw_only=True)
class CreateToken(TokenName):
    """The token acts as its maker, with at most the rights of ``role``."""

    role: Role


class Token(TypedDict):
    """``last_used`` is since the daemon started, or as it was known then."""

    name: str
    role: Role
    owner: str
    created_at: str
    last_used: str | None


class NewToken(Token):
    """``token`` is the secret itself: it is told this once. ``url``: where the gateway answers; None = it is off."""

    token: str
    url: str | None


class TokenPage(TypedDict):
    items: list[Token]
    next_cursor: str | None
    total: int | None
