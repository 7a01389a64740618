"""The downloaders: do they answer, are they of a version that was tried, what of ours is left in them?"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from dlqueue.daemon.doctor.finding import Finding, listed
from dlqueue.downloads.debts import Debts
from dlqueue.downloads.endpoints import Endpoints
from dlqueue.downloads.examine import examine
from dlqueue.sdk import DownloaderError
from dlqueue.units import format_duration

OLD_DEBT = 3600.0
"""Seconds after which a downloader that answers ought to have removed what it was to remove."""
AGAIN = 1.0
"""Seconds after which what looks lost is looked at once more."""
_NUMBER = re.compile(r"\d+(?:\.\d+)+")

Known = Callable[[Collection[str]], Collection[str]]


async def each(endpoints: Endpoints, folders: Iterable[Path], known: Known) -> list[Finding]:
    """
    :param folders: where unfinished bytes would go.
    :param known: answers which of these creation keys a task, or a debt, still knows. Blocks.
    """
    folders = list(folders)
    answers = await asyncio.gather(*(_one(endpoints, name, folders, known) for name in endpoints.names()))
    found = [finding for answer in answers for finding in answer]
    if not endpoints.names():
        cure = "configure one: see which there could be with dlqueue downloader kinds"
        found.append(Finding("downloaders", "error", "no downloader is configured: nothing can be downloaded", cure))
    for name in sorted(endpoints.disabled):
        found.append(Finding(name, "info", f"{name} is disabled (enabled = false): its transfers wait"))
    return found


async def _one(endpoints: Endpoints, name: str, folders: list[Path], known: Known) -> list[Finding]:
    checks = await examine(endpoints, name, folders)
    found = [Finding(name, "error", check.message, check.cure) for check in checks if not check.ok]
    coordinator = endpoints[name]
    if not found:
        messages = [check.message for check in checks if check.name != "credentials"]
        found.append(Finding(name, "ok", "; ".join(messages)))
    if coordinator.paused is not None:
        text = f"{coordinator.paused.by} has paused {name}: nothing new begins there"
        found.append(Finding(name, "info", text, f"dlqueue downloader resume {name}"))
    if coordinator.version is not None and not coordinator.down:
        found += _version(name, coordinator.version, coordinator.downloader.tried_versions)
    if not coordinator.down:
        found += await _orphans(endpoints, name, known)
    return found


def _version(name: str, told: str, tried: tuple[str, str] | None) -> list[Finding]:
    match = _NUMBER.search(told)
    if match is None or tried is None:
        return []
    oldest, newest = (_parts(one) for one in tried)
    number = _parts(match[0])
    if number < oldest:
        text = f"{name} is {told}; the oldest version that was tried is {tried[0]}"
        return [Finding(name, "warning", text, f"update it to {tried[0]} or newer")]
    # A later patch of the newest one is no news.
    if number[: len(newest)] > newest:
        text = f"{name} is {told}, which is newer than what was tried ({tried[1]}): it will most likely do"
        return [Finding(name, "info", text, "if something does not work as it ought to, look for a newer dlqueue")]
    return []


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


async def _orphans(endpoints: Endpoints, name: str, known: Known) -> list[Finding]:
    coordinator = endpoints[name]
    try:
        owned = await coordinator.call(coordinator.downloader.owned)
        lost = await _lost(owned or {}, known)
        if lost:  # one that was just begun may not be written down yet, and one that was just removed may be listed
            await asyncio.sleep(AGAIN)
            again = await coordinator.call(coordinator.downloader.owned)
            lost = await _lost({key: name for key, name in (again or {}).items() if key in lost}, known)
    except DownloaderError as error:
        return [Finding(name, "warning", f"{name} does not tell what it has of ours: {error}")]
    if not lost:
        return []
    shown = listed([f"{title or key} ({key})" for key, title in lost.items()])
    many = "a transfer" if len(lost) == 1 else f"{len(lost)} transfers"
    text = f"{name} has {many} that dlqueue has begun and no task knows any more: {shown}"
    return [Finding(name, "warning", text, f"if nobody needs them, remove them in {name}")]


async def _lost(owned: Mapping[str, str], known: Known) -> dict[str, str]:
    there = set(await asyncio.to_thread(known, set(owned))) if owned else set()
    return {key: title for key, title in owned.items() if key not in there}


def debts(debts: Debts, configured: Collection[str], up: Collection[str] | None) -> list[Finding]:
    """Transfers that are to be removed and cannot be.

    :param up: downloaders that answer; None = there is no daemon.
    """
    found = []
    for name in debts.names():
        owed = len(debts.of(name))
        count = "a transfer" if owed == 1 else f"{owed} transfers"
        if not owed:
            continue
        if name not in configured:
            text = f"{count} in {name} ought to be removed, and {name} is not configured any more"
            cure = f"configure {name} again until that is done; or, if it is gone for good: rm -r {debts.folder(name)}"
            found.append(Finding("debts", "warning", text, cure))
        elif up is not None and name in up and (age := time.time() - debts.since(name)) > OLD_DEBT:
            text = f"{name} answers, and has not removed {count} for {format_duration(age)}"
            found.append(
                Finding("debts", "warning", text, f"remove them in {name}; its log, and ours, say why it refuses")
            )
        else:
            text = f"{count} in {name} will be removed when it answers"
            found.append(Finding("debts", "info", text))
    return found
