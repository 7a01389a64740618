"""Where downloads go: room, mounts, and whether delivery is a rename. What is said to work is tried."""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from dlqueue.config import Config
from dlqueue.daemon.doctor.finding import Finding, listed
from dlqueue.downloads.examine import nearest
from dlqueue.downloads.request import DownloadParams
from dlqueue.downloads.space import FileSystem, Ledger, Measure, measure
from dlqueue.units import format_size

LEFT = re.compile(r"(?:\d+-|proof-)([0-9a-f]{16})")
"""What the folder of a transfer in staging is called: it ends with the creation key."""
FSTAB = Path("/etc/fstab")


def pairs(config: Config, staging: Callable[[DownloadParams], Path]) -> dict[Path, Path]:
    """Destination → where unfinished bytes for it go."""
    roots = {root: root for root in config.daemon.allow_destinations}
    if config.daemon.downloads is not None:
        inside = [root for root in roots if config.daemon.downloads.is_relative_to(root)]
        roots.setdefault(config.daemon.downloads, inside[0] if inside else config.daemon.downloads)
    return {
        place: staging(DownloadParams(urls=("",), directory=str(place), root=str(root)))
        for place, root in roots.items()
    }


def space(
    folders: Iterable[Path], keep_free: int | None, ledger: Ledger | None, measure: Measure = measure
) -> list[Finding]:
    """
    :param ledger: what the daemon has promised; None = there is no daemon.
    """
    book = ledger or Ledger(keep_free)
    seen: dict[int, FileSystem] = {}
    found: list[Finding] = []
    for folder in folders:
        try:
            one = measure(folder)
        except OSError as error:
            text = f"the file system of {folder} cannot be asked: {error.strerror or error}"
            found.append(Finding("space", "error", text, "mount it, or let the user that runs dlqueue look into it"))
            continue
        seen.setdefault(one.device, one)
    for one in seen.values():
        found.append(_room(one, book))
    return found


def _room(seen: FileSystem, book: Ledger) -> Finding:
    floor, promised = book.floor(seen), book.promised(seen.device)
    has = f"{seen.mount} has {format_size(seen.free)} free"
    taken = f", {format_size(promised)} of that for transfers that run" if promised else ""
    stays = f"{format_size(floor)} stay free (keep_free)"
    if seen.free < floor or seen.device in book.low:
        enough = format_size(book.enough(seen))
        text = f"{has}, and {stays}: transfers there are paused and nothing begins until {enough} are free"
        return Finding("space", "error", text, f"make room on {seen.mount}, or lower [daemon] keep_free")
    if seen.free - promised < floor:
        text = f"{has}{taken}, and {stays}: nothing else begins there before some of them are done"
        return Finding("space", "warning", text, f"make room on {seen.mount}")
    return Finding("space", "ok", f"{has}{taken}; {stays}")


def renames(places: Mapping[Path, Path]) -> list[Finding]:
    """A file is made in each staging folder and renamed into its destination. Nothing of it stays behind."""
    found = []
    for destination, staging in places.items():
        if destination.is_dir():  # one that is missing is told as a doubt of the configuration
            found.append(_tried(destination, staging))
    return found


def _tried(destination: Path, staging: Path) -> Finding:
    name = f".dlqueue-doctor-{secrets.token_hex(8)}"
    there = nearest(staging)  # it may have still to be made: nothing is, since downloaders are looked at meanwhile
    source, target = there / name, destination / name
    try:
        os.close(os.open(source, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        source.rename(target)
    except OSError as error:
        if error.errno == errno.EXDEV:
            text = (
                f"{staging} and {destination} are on different file systems: what is fetched is copied, not renamed, \
and needs its space twice for that time"
            )
            cure = "leave [daemon] staging unset, so that it lies on the file system of each destination"
            return Finding("rename", "warning", text, cure)
        if isinstance(error, FileNotFoundError) and not there.exists():
            return _tried(destination, staging)  # a download has ended meanwhile, and its folder with it
        where = error.filename if source.exists() is False else destination
        text = f"nothing can be delivered to {destination}: {where}: {error.strerror or error}"
        return Finding("rename", "error", text, f"let the user that runs dlqueue write in {staging} and {destination}")
    finally:
        for left in (source, target):
            with suppress(OSError):
                left.unlink()
    return Finding("rename", "ok", f"what lies in {staging} is delivered to {destination} by a rename")


def mounts(folders: Iterable[Path], waited_for: Mapping[str, int], fstab: Path = FSTAB) -> list[Finding]:
    """File systems that ought to be there.

    :param waited_for: mount → tasks that wait for it.
    """
    found = []
    for mount, count in waited_for.items():
        if not os.path.ismount(mount):
            tasks = "a task waits" if count == 1 else f"{count} tasks wait"
            text = f"nothing is mounted on {mount} now, where downloads were going: {tasks} for it"
            cure = f"mount {mount}; if it is gone for good, cancel those tasks and add them again"
            found.append(Finding("mounts", "error", text, cure))
    for mount in _listed(fstab):
        inside = [str(folder) for folder in folders if folder.is_relative_to(mount)]
        if inside and mount not in waited_for and not os.path.ismount(mount):
            below = f"{listed(inside)} lies there: downloads would fill the disk below"
            text = f"{mount} is in {fstab} and not mounted, and {below}"
            found.append(Finding("mounts", "error", text, f"mount {mount}"))
    return found


def _listed(fstab: Path) -> list[str]:
    """Where something is to be mounted; see fstab(5)."""
    try:
        lines = fstab.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    fields = (line.split() for line in lines if not line.lstrip().startswith("#"))
    places = (row[1].replace("\\040", " ") for row in fields if len(row) > 3 and "noauto" not in row[3].split(","))
    return [place for place in places if place.startswith("/") and place != "/"]


def leftovers(folders: Iterable[Path], known: Callable[[Collection[str]], Collection[str]]) -> list[Finding]:
    """Folders in staging that belong to no task.

    :param known: answers which of these creation keys a task, or a debt, still knows.
    """
    there: dict[str, Path] = {}
    for folder in dict.fromkeys(folders):
        for path in _inside(folder):
            match = LEFT.fullmatch(path.name)
            if match is not None:
                there[match[1]] = path
    lost = [there[key] for key in sorted(set(there) - set(known(set(there))))] if there else []
    if not lost:
        return []
    size = sum(_size(path) for path in lost)
    many = "a folder in staging belongs" if len(lost) == 1 else f"{len(lost)} folders in staging belong"
    text = f"{many} to no task any more ({format_size(size)}): {listed([str(path) for path in lost])}"
    cure = "look whether anything in them is wanted, then remove them: rm -r FOLDER"
    return [Finding("staging", "warning", text, cure)]


def _inside(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        if not folder.is_symlink():
            yield from (path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())


def _size(folder: Path) -> int:
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(where) / name).lstat().st_size
    return total
