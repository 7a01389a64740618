"""Does a downloader write where we think that it does? It is given a tiny transfer with a name that nobody can guess,
and we look whether that turns up where we expect it; if it does not, where else. Nothing of it stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dlqueue.downloads.coordinator import Coordinator
from dlqueue.downloads.delivery import drop_staging
from dlqueue.downloads.endpoints import Endpoints
from dlqueue.downloads.pathmap import make_folder
from dlqueue.downloads.probe import Offer, offered
from dlqueue.downloads.search import Found, search
from dlqueue.downloads.state import Obligation
from dlqueue.runtime.failpoint import reach
from dlqueue.sdk import DownloaderError, Handle, Rejected, Request, TransferState, TransferStatus

PROOF_TIMEOUT = 35.0
"""Seconds that the transfer may take: libtorrent asks a web seed that did not answer at once again after 30."""
_AGAIN = 0.1
_SETTLE = 1.0
"""Seconds that a network file system may show a file later than it was written."""


@dataclass(frozen=True, slots=True)
class Verdict:
    ok: bool
    message: str
    cure: str | None = None


async def prove(endpoints: Endpoints, name: str, folder: Path) -> Verdict:
    """
    :param folder: where transfers get their folders, as we see it.
    """
    coordinator = endpoints[name]
    schemes = coordinator.downloader.schemes
    if not schemes & {"http", "torrent"}:
        return Verdict(True, f"dlqueue can write in {folder}; that {name} sees the same, its first transfer shows")
    key = secrets.token_hex(8)
    own = folder / f"proof-{key}"
    # Written down before: whatever ends us in between, it is removed when its downloader is looked at next.
    owed = Obligation(name, key, key, str(own), delete_data=True)
    await endpoints.borrow(owed)
    try:
        async with offered(endpoints.configs[name].options, key, torrent="http" not in schemes) as offer:
            return await _prove(coordinator, offer, own, key)
    except OSError as error:
        return Verdict(False, f"the proof cannot be offered to {name}: {error.strerror or error}")
    finally:
        await asyncio.shield(asyncio.ensure_future(_clear(endpoints, owed)))


async def _clear(endpoints: Endpoints, owed: Obligation) -> None:
    with contextlib.suppress(DownloaderError, OSError):  # then it stays written down
        drop = partial(drop_staging, Path(owed.staging))
        await endpoints[owed.downloader].remove(owed.key, Handle(owed.key), True, drop)
        await endpoints.returned(owed)
        return
    with contextlib.suppress(OSError):
        await asyncio.to_thread(drop_staging, Path(owed.staging))


async def _prove(coordinator: Coordinator, offer: Offer, own: Path, key: str) -> Verdict:
    name, paths = coordinator.name, coordinator.paths
    request = Request(offer.urls, own, torrent=offer.torrent, seed=False)
    status: TransferStatus | None = None
    try:
        handle, _ = await coordinator.create(request, key, partial(make_folder, paths, own))
        reach("proving")
        until = time.monotonic() + PROOF_TIMEOUT
        while time.monotonic() < until:
            status = await coordinator.glance(handle)
            if await asyncio.to_thread(_shows, own):
                return Verdict(True, f"{name} writes where dlqueue looks: {_named(coordinator, own.parent)}")
            if status is not None and (status.whole or status.state is TransferState.ERROR):
                break
            await asyncio.sleep(_AGAIN)
    except Rejected as error:
        return _failed(coordinator, own.parent, error)
    except (DownloaderError, OSError) as error:
        return Verdict(False, str(error), _cure(name))
    if status is not None and status.whole and status.content:
        return await _elsewhere(coordinator, own, status.content)
    if status is not None and status.error is not None:
        return _failed(coordinator, own.parent, status.error)
    return Verdict(
        False,
        f"{name} has written nothing into {_named(coordinator, own.parent)} within {PROOF_TIMEOUT:g} s, nor fetched"
        f" the proof from {offer.address}",
        f"if {name} may not connect to this machine, add a small download instead, and see whether it is delivered",
    )


def _failed(coordinator: Coordinator, folder: Path, error: Rejected) -> Verdict:
    name = coordinator.name
    if error.kind == "policy":
        # That is no fault of its paths.
        return Verdict(True, f"dlqueue can write in {folder}; whether {name} does cannot be tried: {error.message}")
    return Verdict(False, f"{name} cannot write into {_named(coordinator, folder)}: {error.message}", _cure(name))


async def _elsewhere(coordinator: Coordinator, own: Path, content: Iterable[str]) -> Verdict:
    """It has written it somewhere. Where?"""
    name, paths = coordinator.name, coordinator.paths
    remote = Path(next(iter(content)))
    until = time.monotonic() + _SETTLE
    while time.monotonic() < until:
        if await asyncio.to_thread(_shows, own):
            return Verdict(True, f"{name} writes where dlqueue looks: {_named(coordinator, own.parent)}")
        await asyncio.sleep(_AGAIN)
    message = f"{name} has written into {remote.parent.parent}, and dlqueue does not find it in {own.parent}"
    near = [*(local for _, local in paths.pairs), *own.parents]
    found = await _patiently(asyncio.to_thread(search, remote, near))
    if found is None:
        return Verdict(False, message, _cure(name))
    if found.place.parent.name == own.name and not found.place.parent.is_symlink():
        # The downloader may not be able to remove the folder, or what is in it, itself.
        await asyncio.to_thread(drop_staging, found.place.parent)
    return Verdict(False, message, f"in [downloaders.{name}] write {_proposal(found)}")


async def _patiently(search: Awaitable[Found | None]) -> Found | None:
    try:
        async with asyncio.timeout(PROOF_TIMEOUT):
            return await search
    except TimeoutError:
        return None


def _proposal(found: Found) -> str:
    if found.remote == found.local:
        return "no paths: it has the same names as dlqueue"
    return f'paths = [{{ remote = "{found.remote}", local = "{found.local}" }}]'


def _shows(own: Path) -> bool:
    """Is anything in the folder that we have made for it?"""
    try:
        return any(own.iterdir())
    except OSError:
        return False


def _named(coordinator: Coordinator, folder: Path) -> str:
    """Under both names."""
    try:
        remote = coordinator.paths.to_remote(folder)
    except Rejected:
        return str(folder)
    return str(folder) if remote == folder else f"{folder}, which it calls {remote}"


def _cure(name: str) -> str:
    return (
        f"let {name} write there; as another user it needs a folder that both may write to (docs/operations.md, A"
        " downloader that runs as another user); if it sees that folder under another name, say in"
        f" [downloaders.{name}] with directory and paths where it writes and what that is called here"
    )
