"""``[owners.NAME]``: what each person may have, in the words of the rooms below."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dlqueue.config import Config, OwnerSection
from dlqueue.queue import Quota
from dlqueue.service.access import Access

EVERYBODY = "*"
"""The section for those who have none of their own."""


class Owners:
    """The rules in force. Asked with every submit, so that what was found is kept."""

    def __init__(self, access: Access, config: Config) -> None:
        self._access = access
        self.adapt(config)

    def adapt(self, config: Config) -> None:
        """From now on. Call it after `Access.appoint`."""
        self._sections: Mapping[str, OwnerSection] = config.owners
        self._found: dict[str, tuple[str, OwnerSection] | None] = {}
        self._quotas: dict[str, Quota | None] = {}

    @property
    def any(self) -> bool:
        """Is there any rule?"""
        return bool(self._sections)

    def _of(self, owner: str) -> tuple[str, OwnerSection] | None:
        """The section that counts, and its name. Root, the daemon's own user and admins have only what names them."""
        if owner not in self._found:
            name = owner if owner in self._sections else EVERYBODY
            section = self._sections.get(name)
            exempt = section is None or (name == EVERYBODY and self._access.administers(owner))
            self._found[owner] = None if exempt or section is None else (name, section)
        return self._found[owner]

    def quota(self, owner: str) -> Quota | None:
        """Tasks and bytes."""
        if not self._sections:
            return None
        if owner not in self._quotas:
            found = self._of(owner)
            limited = found is not None and (found[1].max_tasks is not None or found[1].max_bytes is not None)
            quota = None
            if found is not None and limited:
                name, section = found
                named = f'owners."{name}"' if name == EVERYBODY else f"owners.{name}"
                quota = Quota(section.max_tasks, section.max_bytes, named)
            self._quotas[owner] = quota
        return self._quotas[owner]

    def max_active(self, owner: str) -> int | None:
        """Transfers at once."""
        found = self._of(owner) if self._sections else None
        return None if found is None else found[1].max_active

    def level(self, owner: str) -> float:
        """Each is worth 10 points of priority."""
        found = self._of(owner) if self._sections else None
        return 0.0 if found is None else found[1].level

    def destinations(self, owner: str) -> tuple[Path, ...]:
        """In place of ``daemon.allow_destinations``; empty = those."""
        found = self._of(owner) if self._sections else None
        return () if found is None else found[1].allow_destinations
