"""One look at many transfers, in one request where that is enough.

A transfer is known by the GID we chose. What a magnet link or the URL of a .torrent leads to is another download of
aria2, with a GID of aria2's choice, a new one after each restart: it is found again at every look, by ``followedBy`` of
the one and ``following`` of the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from dlqueue_aria2.entries import Call, Entry, Fault

if TYPE_CHECKING:
    from dlqueue_aria2.rpc import Rpc

KEYS = ["gid", "status", "totalLength", "completedLength", "uploadLength", "downloadSpeed", "uploadSpeed"]
KEYS += ["errorCode", "errorMessage", "followedBy", "following", "infoHash", "seeder", "verifiedLength"]
KEYS += ["verifyIntegrityPending"]
"""What a look asks for: nothing that can be large, such as ``files`` and ``bittorrent``."""
LIMIT = 10_000
"""Entries of a list that one look takes in; others are asked for by name."""
_HOPS = 3


class _Session(msgspec.Struct, rename="camel"):
    session_id: str


class _Stat(msgspec.Struct, rename="camel"):
    num_active: int
    num_waiting: int
    num_stopped: int


class Sight:
    """What was seen."""

    def __init__(self, instance: str, crowd: int) -> None:
        self.instance = instance
        """Names the running aria2."""
        self.crowd = crowd
        """How many transfers it has."""
        self.entries: dict[str, Entry] = {}
        self._children: dict[str, str] = {}

    def add(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.entries[entry.gid] = entry
            if entry.following:
                self._children[entry.following] = entry.gid

    def current(self, gid: str) -> Entry | None:
        """The transfer itself, or what it has led to."""
        entry = self.entries.get(gid)
        for _ in range(_HOPS):
            if entry is not None and not (entry.status == "complete" and entry.followed_by):
                return entry
            child = entry.followed_by[0] if entry is not None else ""
            entry = self.entries.get(child) or self.entries.get(self._children.get(gid, ""))
            if entry is None:
                return None
        return entry


class Look:
    """Remembers which way of asking is the cheaper one. Any thread may look."""

    def __init__(self) -> None:
        self._children: dict[str, str] = {}
        self._crowd = 0

    def at(self, rpc: Rpc, gids: Sequence[str]) -> Sight:
        """One request, unless something is not where it was at the last look."""
        # A snapshot of everything costs half as much as asking for each by name, but everything may be much more.
        by_name = self._crowd > 2 * len(gids) + 10
        calls = self._by_name(gids) if by_name else everything()
        session, stat, *answers = rpc.multicall([("getSessionInfo", []), ("getGlobalStat", []), *calls])
        counts = rpc.read(stat, _Stat)
        self._crowd = counts.num_active + counts.num_waiting + counts.num_stopped
        sight = Sight(rpc.read(session, _Session).session_id, self._crowd)
        take_in(rpc, sight, answers)
        if by_name and _lacking(sight, gids):
            take_in(rpc, sight, rpc.multicall(everything()))
        if counts.num_waiting > LIMIT or counts.num_stopped > LIMIT:
            take_in(rpc, sight, rpc.multicall(self._by_name(_lacking(sight, gids))))
        for gid in gids:
            entry = sight.current(gid)
            if entry is not None and entry.gid != gid:
                self._children[gid] = entry.gid
        return sight

    def forget(self, gid: str) -> None:
        self._children.pop(gid, None)

    def _by_name(self, gids: Iterable[str]) -> list[Call]:
        known = [name for gid in gids for name in (gid, self._children.get(gid)) if name]
        return [("tellStatus", [name, KEYS]) for name in known]


def everything(keys: Sequence[str] = KEYS) -> list[Call]:
    """The calls for a snapshot."""
    return [("tellActive", [keys]), ("tellWaiting", [0, LIMIT, keys]), ("tellStopped", [0, LIMIT, keys])]


def take_in(rpc: Rpc, sight: Sight, answers: Iterable[object]) -> None:
    """Add the answers to `tellStatus` and to the calls of `everything`."""
    for answer in answers:
        if isinstance(answer, Fault):
            continue  # not found
        if isinstance(answer, list):
            sight.add(rpc.read(answer, list[Entry]))
        else:
            sight.add([rpc.read(answer, Entry)])


def _lacking(sight: Sight, gids: Sequence[str]) -> list[str]:
    return [gid for gid in gids if sight.current(gid) is None]
