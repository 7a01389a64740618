"""Ending a transfer so that nothing revives it, and deleting what it wrote."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dlqueue.sdk import Unavailable
from dlqueue_aria2.content import delete
from dlqueue_aria2.entries import Entry, Fault, File, TooLarge
from dlqueue_aria2.look import Sight, everything, take_in

if TYPE_CHECKING:
    from dlqueue_aria2.rpc import Rpc

_KEYS = ["gid", "status", "followedBy", "following", "dir"]
_AGAIN = 0.01
"""Seconds between two looks whether something has ended."""


def remove(rpc: Rpc, gid: str, *, is_ours: Callable[[str, str], bool], patience: float) -> list[tuple[str, list[File]]]:
    """End it and all it has led to, and make aria2 forget them. Answers what they wrote: folder and files of each.

    :param is_ours: is given the GID and the folder of a transfer; nothing else is touched.

    :param patience: seconds until `Unavailable` is raised because it does not end.
    """
    family = [entry for entry in _family(rpc, gid) if is_ours(gid, entry.dir)]
    if not family:
        return []
    written = _written(rpc, family)
    alive = [entry.gid for entry in family if entry.alive]
    if alive:
        rpc.multicall([("forceRemove", [one]) for one in alive])
        wait_until_ended(rpc, alive, patience)
        written |= _written(rpc, family)
    calls: list[tuple[str, list[object]]] = [("removeDownloadResult", [entry.gid]) for entry in family]
    # What is in a saved session would be downloaded again after a crash of aria2; also what was saved while it ran and
    # is complete since. There may be no session.
    rpc.multicall([*calls, ("saveSession", [])])
    return list(written.values())


def delete_written(written: Sequence[tuple[str, list[File]]], local: Callable[[str], Path]) -> None:
    """Raises `Rejected`.

    :param local: see `Context.local`.
    """
    for folder, files in written:
        delete(folder, files, local(folder))


def wait_until_ended(rpc: Rpc, gids: Sequence[str], patience: float) -> None:
    """Raises `Unavailable`."""
    until = time.monotonic() + patience
    while True:
        answers = rpc.multicall([("tellStatus", [gid, _KEYS]) for gid in gids])
        if not any(rpc.read(answer, Entry).alive for answer in answers if not isinstance(answer, Fault)):
            return
        if time.monotonic() > until:
            raise Unavailable(f"aria2 does not end the transfer {gids[0]}")
        time.sleep(_AGAIN)


def _family(rpc: Rpc, gid: str) -> list[Entry]:
    sight = Sight("", 0)
    take_in(rpc, sight, rpc.multicall([("tellStatus", [gid, _KEYS])]))
    root = sight.entries.get(gid)
    if root is not None and not root.followed_by:
        return [root]
    take_in(rpc, sight, rpc.multicall(everything(_KEYS)))
    members = {gid}
    for _ in range(len(sight.entries)):
        more = {entry.gid for entry in sight.entries.values() if entry.following in members} - members
        if not more:
            break
        members |= more
    return [entry for entry in sight.entries.values() if entry.gid in members]


def _written(rpc: Rpc, family: Sequence[Entry]) -> dict[str, tuple[str, list[File]]]:
    # With too many files to list, what is in the folder stays for whoever owns the folder.
    with contextlib.suppress(TooLarge):
        answers = rpc.multicall([("tellStatus", [entry.gid, ["gid", "dir", "files"]]) for entry in family])
        found = [rpc.read(answer, Entry) for answer in answers if not isinstance(answer, Fault)]
        return {entry.gid: (entry.dir, entry.files) for entry in found}
    return {}
