"""Who asks: what the kernel said about the other end of the socket, or what a token of the gateway stands for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Role = Literal["read", "submit", "operate", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Each may do what those before it may."""


@dataclass(frozen=True, slots=True)
class Caller:
    """``name`` is the user's name, or the uid as text when nobody has it.

    ``trusted_cwd`` is true when the caller's uid is the daemon's own: then the working directory it states is believed.
    ``role`` and ``token`` (its name) are those of a caller who came with a token of the gateway. On the Unix socket
    there are no roles.
    """

    uid: int
    gid: int
    name: str
    trusted_cwd: bool = False
    role: Role | None = None
    token: str | None = None
    groups: frozenset[int] = frozenset()
    """Beyond ``gid``, those of the process that asks, as far as the kernel tells; the account may have more."""

    def has_role(self, needed: Role) -> bool:
        """Whether the role of the token, if it came with one, is enough."""
        return self.role is None or ROLES.index(self.role) >= ROLES.index(needed)
