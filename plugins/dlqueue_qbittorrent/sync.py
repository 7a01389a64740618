"""What qBittorrent has, kept up to date with one request a look: `sync/maindata` tells what changed since the last."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from dlqueue.sdk import Handle
from dlqueue_qbittorrent.orders import TAG
from dlqueue_qbittorrent.torrents import Identity

if TYPE_CHECKING:
    from dlqueue_qbittorrent.api import Api
    from dlqueue_qbittorrent.session import Client

_STAGING = re.compile(r"([0-9a-f]{16})/*$")


class Entry(msgspec.Struct, frozen=True):
    """A torrent over there. The names are qBittorrent's; sizes are bytes, -1 = not known."""

    hash: str
    """What qBittorrent calls it by: the v1 info-hash, of others the first 40 digits of the v2."""
    state: str = ""
    name: str = ""
    total_size: int = -1
    """Of all files. Not known before the metadata is."""
    size: int = -1
    """Of the selected ones."""
    completed: int = 0
    """Of these."""
    uploaded: int = 0
    dlspeed: int = 0
    upspeed: int = 0
    save_path: str = ""
    tags: str = ""
    infohash_v1: str = ""
    ratio_limit: float = -1
    seeding_time_limit: int = -1

    @property
    def keys(self) -> set[str]:
        """The creation keys of ours that it may have been created with: by its tags, which a person can remove, and by
        its folder, which the core names after the key, and a person can change."""
        found = {tag.strip()[len(TAG) :] for tag in self.tags.split(",") if tag.strip().startswith(TAG)}
        if match := _STAGING.search(self.save_path[-17:]):
            found.add(match[1])
        return found


_WANTED = frozenset(Entry.__struct_fields__)


class _MainData(msgspec.Struct):
    rid: int
    full_update: bool = False
    torrents: dict[str, dict[str, Any]] = {}
    torrents_removed: list[str] = []


class Message(msgspec.Struct):
    """A line of its log."""

    id: int
    timestamp: int
    message: str


@dataclass(frozen=True, slots=True)
class Sight:
    """All that is there."""

    instance: str | None = None
    """Names the running program; ``None`` = it cannot be told."""
    entries: dict[str, Entry] = field(default_factory=dict)
    by_key: dict[str, str] = field(default_factory=dict)
    by_v1: dict[str, str] = field(default_factory=dict)

    def torrent(self, identity: Identity) -> Entry | None:
        names = (identity.v1, self.by_v1.get(identity.v1 or ""), identity.v2)
        return next((self.entries[name] for name in names if name in self.entries), None)

    def find(self, handle: Handle) -> Entry | None:
        """The transfer of ours, or the one that we are attached to."""
        if handle.attached:
            return self.entries.get(handle.id)
        return self.entries.get(self.by_key.get(handle.id, ""))


class Sync:
    """Any thread may look; what one has seen the next one knows."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._lock = threading.Lock()
        self._rid = 0
        self._raw: dict[str, dict[str, Any]] = {}
        self._sight = Sight()

    def seen(self) -> Sight:
        """What the last look has shown."""
        return self._sight

    def look(self) -> Sight:
        """One request; a few when the program or our login there is new. Raises `Unavailable`, `AuthFailed`."""
        with self._lock:
            rid, self._rid = self._rid, 0  # if anything goes wrong, the next look asks for everything
            answer = self._api.call(lambda client: client.sync_maindata(rid=rid))
            changes = self._api.read(answer, _MainData)
            instance = self._sight.instance
            if changes.full_update:
                self._raw, self._sight = {}, Sight()
                instance = self._api.call(self._instance)
            self._sight = self._taken_in(changes, instance)
            self._rid = changes.rid
            return self._sight

    def _taken_in(self, changes: _MainData, instance: str | None) -> Sight:
        former = self._sight
        if not changes.torrents and not changes.torrents_removed and instance == former.instance:
            return former
        entries, by_key, by_v1 = dict(former.entries), dict(former.by_key), dict(former.by_v1)
        for name in (*changes.torrents_removed, *changes.torrents):
            entry = entries.pop(name, None)
            for key in entry.keys if entry is not None else ():
                by_key.pop(key, None)
        for name in changes.torrents_removed:
            self._raw.pop(name, None)
        for name, change in changes.torrents.items():
            raw = self._raw.setdefault(name, {})
            raw.update((key, value) for key, value in change.items() if key in _WANTED)
            entries[name] = entry = self._api.read({**raw, "hash": name}, Entry)
            by_key |= dict.fromkeys(entry.keys, name)
            if entry.infohash_v1 not in ("", name):
                by_v1[entry.infohash_v1] = name
        return Sight(instance, entries, by_key, by_v1)

    def _instance(self, client: Client) -> str | None:
        """Its start: 5.2 and newer tell it; before, the first line of its log does, as long as that is kept (of the
        last 20,000)."""
        about: Any = client.app_process_info()
        if isinstance(about, dict) and "launch_time" in about:
            return f"launched {about['launch_time']}"
        messages = self._api.read(client.log_main(last_known_id=-1), list[Message])
        return f"started {messages[0].timestamp}" if messages and messages[0].id == 0 else None
