"""Who may see and steer what: everybody their own tasks; root, the daemon's own user and the admin groups all."""

from __future__ import annotations

import grp
import os
import pwd
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from dlqueue.protocol.caller import Caller
from dlqueue.protocol.errors import Forbidden, NotFound
from dlqueue.queue import TaskRecord

KNOWN = 5.0
"""Seconds for which the groups of a user are taken for known: a subscriber is asked about for each event."""


_CALLERS = 1000


class Access:
    """
    :param admins: names of groups whose members may see and steer everybody's tasks.
    :param monotonic: the time, for what is known for a while.
    """

    def __init__(self, admins: Iterable[str], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self.appoint(admins)

    def appoint(self, admins: Iterable[str]) -> None:
        """From now on these groups, and no others."""
        self._admins = frozenset(admins)
        self._known: dict[tuple[str, int, frozenset[int]], tuple[float, bool]] = {}

    def is_admin(self, caller: Caller) -> bool:
        if caller.uid in (0, os.geteuid()):
            return True
        if not self._admins:
            return False
        key, now = (caller.name, caller.gid, caller.groups), self._monotonic()
        known = self._known.get(key)
        if known is None or now >= known[0]:
            if len(self._known) >= _CALLERS:
                self._known.clear()
            known = self._known[key] = now + KNOWN, not self._admins.isdisjoint(_groups(caller))
        return known[1]

    def administers(self, name: str) -> bool:
        """Would a user of this name be one of those who may do everything?"""
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            # A uid that has no name is its own.
            return name.isdecimal() and int(name) in (0, os.geteuid())
        return self.is_admin(Caller(uid=user.pw_uid, gid=user.pw_gid, name=name))

    def require_admin(self, caller: Caller, what: str) -> None:
        """:raises Forbidden: the caller may not do ``what``."""
        if not self.is_admin(caller):
            raise Forbidden(f"{what} is for the daemon's own user, root, and members of daemon.admins")

    def sees(self, caller: Caller, owner: str) -> bool:
        return owner == caller.name or self.is_admin(caller)

    def require(self, caller: Caller, record: TaskRecord) -> TaskRecord:
        """:raises NotFound: somebody else's task; that it exists is not told either."""
        if not self.sees(caller, record.owner):
            raise NotFound(f"task {record.id} not found", task_id=record.id)
        return record

    def owner_condition(self, caller: Caller, wanted: str | None) -> str | None:
        """The owner whose tasks a list shows. :raises Forbidden: another's tasks were asked for by name."""
        if self.is_admin(caller):
            return wanted
        if wanted is not None and wanted != caller.name:
            raise Forbidden(f"the tasks of {wanted} are not yours to see")
        return caller.name


def _groups(caller: Caller) -> set[str]:
    ids = {caller.gid, *caller.groups}
    with suppress(OSError, KeyError):
        ids.update(os.getgrouplist(caller.name, caller.gid))
    names = set()
    for gid in ids:
        try:
            names.add(grp.getgrgid(gid).gr_name)
        except KeyError:
            continue
    return names
