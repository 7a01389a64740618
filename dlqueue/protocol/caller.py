"""Who asks: what the kernel said about the other end of the socket."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """``name`` is the user's name, or the uid as text when nobody has it.

    ``trusted_cwd`` is true when the caller's uid is the daemon's own: then the working directory it states is believed.
    """

    uid: int
    gid: int
    name: str
    trusted_cwd: bool = False
