"""Who may see and steer what: everybody their own tasks; root, the daemon's own user and the admin groups all."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterable

from dlqueue.protocol.caller import Caller
from dlqueue.protocol.errors import Forbidden, NotFound
from dlqueue.queue import TaskRecord


class Access:
    """:param admins: names of groups whose members may see and steer everybody's tasks."""

    def __init__(self, admins: Iterable[str]) -> None:
        self.appoint(admins)

    def appoint(self, admins: Iterable[str]) -> None:
        """From now on these groups, and no others."""
        self._admins = frozenset(admins)

    def is_admin(self, caller: Caller) -> bool:
        if caller.uid in (0, os.geteuid()):
            return True
        return bool(self._admins) and not self._admins.isdisjoint(_groups(caller))

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
    try:
        ids = os.getgrouplist(caller.name, caller.gid)
    except (OSError, KeyError):
        ids = [caller.gid]
    names = set()
    for gid in ids:
        try:
            names.add(grp.getgrgid(gid).gr_name)
        except KeyError:
            continue
    return names
