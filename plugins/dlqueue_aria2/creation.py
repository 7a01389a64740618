"""Starting a transfer, or finding that it is there: what aria2 has decides, never its answer to the call.

Adding a GID that is in use fails with the same words as a bad URL; adding a torrent that is there already succeeds and
fails a moment later. So we look first, and after any refusal look again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlqueue.sdk import Handle, Rejected, Request, TransferState
from dlqueue_aria2.content import clear
from dlqueue_aria2.entries import Entry, Fault
from dlqueue_aria2.errors import BAD_CHECKSUM, SAME_TORRENT, explain_refusal
from dlqueue_aria2.look import KEYS, Sight, everything, take_in
from dlqueue_aria2.status import ask_details, tell

if TYPE_CHECKING:
    from dlqueue_aria2.memory import Memory
    from dlqueue_aria2.orders import Order
    from dlqueue_aria2.rpc import Rpc

_KEYS = [*KEYS, "dir"]
_SMALL = 1024 * 1024
"""Bytes; every aria2 takes a request of this size."""


def create(rpc: Rpc, order: Order, request: Request, key: str, memory: Memory, local: Callable[[str], Path]) -> Handle:
    """See `Downloader.create`. Not to be called twice at once with one key.

    :param local: see `Context.local`.
    """
    handle = Handle(key, order.hash)
    memory.note_folder(key, request.directory)
    sight = _look(rpc, key, crowd=order.names_torrent)
    own = _own(sight, key, request, memory)
    digest, code = order.hash, 0
    if own is not None:
        if _goes_on(rpc, own):
            return handle
        code = own.error_code
        if code == SAME_TORRENT and digest is None:
            digest = own.info_hash
            sight = _look(rpc, key, crowd=True)
        memory.forget(key, own.gid)
    if key in sight.entries or own is not None:
        ended = dict.fromkeys([key, *([own.gid] if own is not None else [])])
        rpc.multicall([("removeDownloadResult", [gid]) for gid in ended])
    other = _same_torrent(sight, digest, key) if digest else None
    if other is not None:
        return Handle(other.gid, digest, attached=True)
    if not order.names_torrent:
        clear(local(str(request.directory)), everything=code == BAD_CHECKSUM)
    _check_size(rpc, order)
    try:
        rpc.call(order.method, *order.params)
    except Fault as fault:
        # It may have been an earlier call that succeeded, and only its answer was lost.
        if _own(_look(rpc, key, crowd=False), key, request, memory) is None:
            raise explain_refusal(str(fault), torrent=request.torrent is not None) from None
    return handle


def _look(rpc: Rpc, key: str, *, crowd: bool) -> Sight:
    """What aria2 has of this transfer; with ``crowd`` of all others too."""
    sight = Sight("", 0)
    calls: list[tuple[str, list[Any]]] = [("tellStatus", [key, _KEYS])]
    take_in(rpc, sight, rpc.multicall([*calls, *(everything(_KEYS) if crowd else [])]))
    root = sight.entries.get(key)
    if not crowd and root is not None and root.followed_by:
        take_in(rpc, sight, rpc.multicall([("tellStatus", [gid, _KEYS]) for gid in root.followed_by]))
    return sight


def _own(sight: Sight, key: str, request: Request, memory: Memory) -> Entry | None:
    """The transfer, or what it has led to. Raises `Rejected` if the GID is somebody else's."""
    found = sight.current(key) or sight.entries.get(key)
    if found is None:
        return None
    if os.path.normpath(found.dir) != os.path.normpath(request.directory):
        memory.note_foreign(key)
        raise Rejected(
            "somebody else uses the GID that was meant for this transfer; theirs is left alone",
            "downloader",
            kind="gid_taken",
        )
    return found


def _goes_on(rpc: Rpc, own: Entry) -> bool:
    """Is there nothing to be done? It may also be whole."""
    if own.alive:
        return True
    if own.status != "complete" or own.followed_by:
        return False
    details = ask_details(rpc, [own]).get(own.gid)
    return details is not None and tell(own, details).state is TransferState.COMPLETED


def _same_torrent(sight: Sight, digest: str, key: str) -> Entry | None:
    """Another download with this info-hash: aria2 runs only one."""
    for status in ("active", "paused", "waiting"):
        for entry in sight.entries.values():
            if entry.info_hash == digest and entry.status == status and key not in (entry.gid, entry.following):
                return entry
    return None


def _check_size(rpc: Rpc, order: Order) -> None:
    """aria2 closes the connection in the middle of a request that is too large for it. Raises `Rejected`."""
    if order.size <= _SMALL:
        return
    limit = rpc.read(rpc.call("getGlobalOption"), dict[str, str]).get("rpc-max-request-size", "")
    if limit.isdigit() and order.size > int(limit):
        raise Rejected(
            f"the .torrent file is too large for this aria2: raise its rpc-max-request-size above {limit}",
            "downloader",
            kind="too_large",
        )
