"""Is a downloader as it should be? What a person is told who asks, with a cure for what is not."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dlqueue.downloads.coordinator import Coordinator
from dlqueue.downloads.delivery import STAGING
from dlqueue.downloads.endpoints import Endpoints
from dlqueue.downloads.proof import prove
from dlqueue.sdk import AuthFailed, DownloaderError, Rejected

FOLDER_TIMEOUT = 10.0
"""Seconds that a file system may take to show that it can be written to."""


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    ok: bool
    message: str
    cure: str | None = None


async def examine(endpoints: Endpoints, name: str, folders: Iterable[Path]) -> list[Check]:
    """Every check, passed or not. It is asked now, even if it has refused our credentials before.

    :param folders: where unfinished bytes would go.
    """
    coordinator = endpoints[name]
    found = await _reach(coordinator)
    return [*found, await _path_map(endpoints, name, folders, all(check.ok for check in found))]


async def _reach(coordinator: Coordinator) -> list[Check]:
    name, section = coordinator.name, f"[downloaders.{coordinator.name}]"
    if not coordinator.opened:
        problem = coordinator.last_error or "it could not be opened"
        return [Check("reach", False, problem, f"correct {section}, then: dlqueue config reload")]
    try:
        version = await coordinator.ask()
    except DownloaderError as error:
        if isinstance(error.__cause__, AuthFailed):
            cure = f"correct the user name, password or secret in {section}, then: dlqueue config reload"
            return [Check("reach", True, f"{name} answers"), Check("credentials", False, str(error), cure)]
        cure = f"start it, or correct its address in {section}"
        unknown = f"not known, because {name} does not answer"
        return [Check("reach", False, str(error), cure), Check("credentials", False, unknown, "first make it answer")]
    return [
        Check("reach", True, f"{name} answers: version {version}"),
        Check("credentials", True, "accepted, or none are needed"),
    ]


async def _path_map(endpoints: Endpoints, name: str, folders: Iterable[Path], reached: bool) -> Check:
    """Can we write in its folders? If so, and it answers: does it write there too?"""
    paths = endpoints[name].paths
    try:
        own = paths.folder
    except Rejected as error:
        return Check("path map", False, error.message, f"correct directory and paths in [downloaders.{name}]")
    if own is not None:
        folders = [own]
        if not await asyncio.to_thread(own.is_dir):
            cure = f"mount it or make it, or correct directory and paths in [downloaders.{name}]"
            return Check("path map", False, f"there is no folder {own}", cure)
    proven: list[str] = []
    for folder in folders:
        try:
            async with asyncio.timeout(FOLDER_TIMEOUT):
                problem = await asyncio.to_thread(_prove, folder)
        except TimeoutError:
            problem = f"{folder}: the file system did not answer within {FOLDER_TIMEOUT:g} s"
        if problem is not None:
            return Check("path map", False, problem, "let the user that runs dlqueue write there")
        proven.append(str(folder))
    if proven and reached:
        verdict = await prove(endpoints, name, Path(proven[0]))
        return Check("path map", verdict.ok, verdict.message, verdict.cure)
    where = " and ".join(proven) or "the folder of each download"
    return Check("path map", True, f"dlqueue can write in {where}; that {name} sees the same, its first transfer shows")


def _prove(folder: Path) -> str | None:
    """What is wrong with it, or, where it has still to be made, with the folder that it will be made in.

    Makes no folder: several downloaders are looked at together, and would take it away from each other.
    """
    if folder.name == STAGING and folder.is_symlink():  # as `delivery.make_staging` sees it
        return f"{folder}: is a symbolic link"
    there = nearest(folder)
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"dlqueue")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not there.exists():
            return _prove(folder)  # a download has ended meanwhile, and its folder with it
        return f"{there}: {error.strerror or error}"
    return None


def nearest(folder: Path) -> Path:
    """The folder itself, or the first above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())
