"""The users of this machine, as it knows them now: a uid may be given to somebody else while the daemon runs."""

from __future__ import annotations

import pwd


def user_name(uid: int) -> str:
    """The name of a user; the uid as text when nobody has it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def is_user(uid: int, name: str) -> bool:
    """Is this the user who had that name? False once the account is gone, or the uid is somebody else's."""
    return user_name(uid) == name
