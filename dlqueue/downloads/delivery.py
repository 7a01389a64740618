"""From the staging folder to the destination: verify, name, move; never over somebody's file by accident.

Every function here blocks and is called in a thread. What is to be moved is written down first (the manifest, with
device and inode), so that after a crash it can be told whether a file has arrived.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import itertools
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from dlqueue.downloads.deletion import seals
from dlqueue.downloads.folders import check_below, make_folders
from dlqueue.downloads.policy import NAME_MAX, harmless_name, resolved
from dlqueue.downloads.request import DownloadParams, new_digest
from dlqueue.downloads.state import Entry, MadeFolder
from dlqueue.queue import CriticalError

BLOCK = 1 << 20
STAGING = ".dlqueue"
"""The name of staging folders."""
_RENAME_NOREPLACE = 1
_AT_FDCWD = -100


class Exists(Exception):
    """Something has the target's name."""


class OtherFileSystem(Exception):
    """The target is on another file system than the source: `bring_over` comes first."""


def find_content(staging: Path | None, content: tuple[str, ...]) -> list[Path]:
    """The files and folders that were fetched, proven to lie in their staging folder.

    :param staging: None = the transfer was there before us, in a folder of its own.
    :raises CriticalError: the downloader names something outside of it, or a link or device, or a name that is no
        text.
    :raises FileNotFoundError: it is not there.
    """
    if staging is not None and staging.is_symlink():
        raise CriticalError("the folder of the transfer has become a symbolic link", "unsafe_path")
    found = []
    for name in content:
        path = Path(name)
        # Usually the very folder that we named; links are followed only for a downloader that names it otherwise.
        inside = staging is None or path.parent == staging or resolved(path.parent) == resolved(staging)
        if path.name in ("", "..") or not path.is_absolute() or not inside:
            raise CriticalError("the downloader names content outside the folder it was given", "unsafe_path")
        try:
            name.encode()
        except UnicodeEncodeError:
            raise CriticalError("the downloader delivered a file whose name is not valid text", "bad_name") from None
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise CriticalError("the downloader delivered neither a file nor a folder", "unsafe_path")
        found.append(path if staging is None else staging / path.name)
    if not found:
        raise CriticalError("the downloader says it is complete but names no file", "no_content")
    return found


def verify(path: Path, checksum: str) -> None:
    """:raises CriticalError: the content is not what the checksum says (kind ``checksum``)."""
    update, hexdigest = new_digest(checksum)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            update(block)
    wanted = checksum.partition("=")[2]
    if hexdigest() != wanted:
        raise CriticalError(f"the content does not match its checksum: {hexdigest()} instead of {wanted}", "checksum")


def wanted_in(source: Path, wanted: frozenset[str]) -> tuple[str, ...]:
    """Those of the wanted files that are in a folder, relative to it, or the one that it is.

    :param wanted: relative to the folder that ``source`` is in.
    """
    inside = f"{source.name}/"
    return tuple(sorted(path.removeprefix(inside) for path in wanted if path.startswith(inside) or path == source.name))


def plan(
    source: Path, params: DownloadParams, keep: bool = False, only: tuple[str, ...] | None = None, tag: str = ""
) -> Entry:
    """What it is, and where it goes.

    :param keep: it is delivered as a clone, and stays.
    :param only: see `Entry`.
    :param tag: see `Entry`.
    """
    seen = source.lstat()
    folder = stat.S_ISDIR(seen.st_mode)
    if not folder:
        only = None
    name = params.name or harmless_name(source.name)
    target = Path(params.directory) / numbered(name, 0, folder)
    size = sum(path.lstat().st_size for path in _files(source, only)) if folder else seen.st_size
    keep = keep or only is not None
    return Entry(
        str(source), str(target), seen.st_dev, seen.st_ino, size, name, keep=keep, only=only, tag=tag,
        modified=0 if folder else seen.st_mtime_ns, seals=seals(source) if folder and not keep else "",
    )  # fmt: skip


def stay(source: Path, ours: bool, only: tuple[str, ...] | None = None) -> Entry:
    """It is where it goes already.

    :param ours: False = it was there before us, and is not to be deleted.
    :param only: see `Entry`.
    """
    seen = source.lstat()
    folder = stat.S_ISDIR(seen.st_mode)
    size = sum(path.lstat().st_size for path in _files(source, only)) if folder else seen.st_size
    return Entry(
        str(source), str(source), seen.st_dev, seen.st_ino, size, source.name, keep=not ours,
        only=only if folder else None, modified=0 if folder else seen.st_mtime_ns,
        seals=seals(source) if folder else "",
    )  # fmt: skip


def _files(folder: Path, only: tuple[str, ...] | None) -> Iterator[Path]:
    """The files in a folder, or those of ``only`` that are there. Links lead nowhere."""
    wanted = None if only is None else frozenset(only)
    for where, _, names in os.walk(folder):
        for name in names:
            path = Path(where, name)
            if stat.S_ISREG(path.lstat().st_mode) and (wanted is None or str(path.relative_to(folder)) in wanted):
                yield path


def is_taken(entry: Entry) -> bool:
    """Has something the target's name, as it looks now?"""
    return os.path.lexists(entry.target)


def plan_again(entry: Entry) -> Entry:
    """The same under the first name that is free: ``NAME.1.EXT`` and so on."""
    folder, target = Path(entry.source).is_dir(), Path(entry.target)
    free = (target.with_name(numbered(entry.name, number, folder)) for number in itertools.count(1))
    return msgspec.structs.replace(entry, target=str(next(path for path in free if not os.path.lexists(path))))


def numbered(name: str, number: int, folder: bool = False) -> str:
    """``a.tar`` → ``a.1.tar``; never longer than a file name may be."""
    stem, dot, suffix = (name, "", "") if folder else _split(name)
    middle = f".{number}" if number else ""
    room = NAME_MAX - len((middle + dot + suffix).encode())
    return stem.encode()[:room].decode(errors="ignore") + middle + dot + suffix


def _split(name: str) -> tuple[str, str, str]:
    stem, dot, suffix = name.rpartition(".")
    if not stem or len(suffix.encode()) > 32:
        return name, "", ""
    return stem, dot, suffix


def _same_file(path: Path, entry: Entry) -> bool:
    """Is the very file that the manifest names here?"""
    try:
        seen = path.lstat()
    except OSError:
        return False
    return (seen.st_dev, seen.st_ino) == (entry.device, entry.inode)


def move(entry: Entry, overwrite: bool, root: Path | None = None, made: list[MadeFolder] | None = None) -> None:
    """Rename it into place and make that durable. What has arrived in an earlier try stays as it is.

    :param root: the allowed destination that the target must still be in, wherever links lead by now.
    :param made: gets the folders that were not there before.
    :raises Exists: the target's name is taken (and not to be overwritten, or it is a folder).
    :raises OtherFileSystem: a rename cannot do it.
    :raises PolicyRefused: the target's folder is not below ``root`` any more.
    :raises OSError: full disk, missing rights.
    """
    source, target = Path(entry.source), Path(entry.target)
    make_folders(target.parent, root, made)
    with _anchored(target.parent, root) as (descriptor, folder):
        place = folder / target.name
        there = _same_file(place, entry)
        if there and _is_clone(entry) and os.path.lexists(source):
            # Not our clone, which still waits: somebody's name for the very file that it is a link to. (A rename of one
            # name of a file onto another would do nothing.)
            if not overwrite:
                raise Exists(str(target))
            place.unlink()
            there = False
        if not there:
            sync_tree(source)
            try:
                _rename(source, place, overwrite)
            except Exists as error:
                raise Exists(str(target)) from error
            except OSError as error:
                # A folder that belongs to another user may be read, and not be moved.
                foreign = error.errno in (errno.EACCES, errno.EPERM) and not _is_clone(entry)
                if error.errno == errno.EXDEV or foreign:
                    raise OtherFileSystem(str(target)) from error
                raise
        os.fsync(descriptor)


@contextlib.contextmanager
def _anchored(folder: Path, root: Path | None) -> Iterator[tuple[int, Path]]:
    """A folder held open, and a path that leads through what is held: whoever swaps a link in its path meanwhile swaps
    it for others."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        held = Path(f"/proc/self/fd/{descriptor}")
        if root is not None:
            check_below(held.readlink(), folder, root)
        yield descriptor, held
    finally:
        os.close(descriptor)


def bring_over(entry: Entry, root: Path | None = None, made: list[MadeFolder] | None = None) -> Entry:
    """Clone it beside its target; answers an entry with the clone as its source, to be written down before the rename.
    The first source stays where it is. Files are linked where that can be; then they cost neither time nor space.
    ``root`` and ``made`` as for `move`.

    :raises FileNotFoundError: a wanted file is not there.
    """
    source, target = Path(entry.source), Path(entry.target)
    clone = clone_of(entry)
    make_folders(target.parent, root, made)
    with _anchored(target.parent, root) as (_, folder):
        place = folder / clone.name
        _drop(place)
        try:
            if source.is_dir():
                _clone_folder(source, place, entry.only)
            else:
                _clone(source, place)
            sync_tree(place)
            seen = place.lstat()
            marks = seals(place) if stat.S_ISDIR(seen.st_mode) else ""
        except BaseException:
            _drop(place)
            raise
    return msgspec.structs.replace(
        entry, source=str(clone), device=seen.st_dev, inode=seen.st_ino, keep=False, only=None,
        modified=0 if marks else seen.st_mtime_ns, seals=marks,
    )  # fmt: skip


def clone_of(entry: Entry) -> Path:
    """Where `bring_over` puts it: the same after a crash, and another one for every task and target."""
    target = Path(entry.target)
    told = f"{entry.tag}\0{entry.source}\0{target.name}" if entry.tag else f"{entry.source}\0{target.name}"
    mark = hashlib.blake2b(told.encode(errors="surrogateescape"), digest_size=8).hexdigest()
    return target.with_name(f"{STAGING}-{mark}")


def _is_clone(entry: Entry) -> bool:
    source = Path(entry.source)
    return source.parent == Path(entry.target).parent and source.name.startswith(f"{STAGING}-")


def _clone_folder(source: Path, place: Path, only: tuple[str, ...] | None) -> None:
    place.mkdir()
    if only is None:
        for where, _, _ in os.walk(source):
            (place / Path(where).relative_to(source)).mkdir(exist_ok=True)
    found = 0
    for path in _files(source, only):
        target = place / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        _clone(path, target)
        found += 1
    if only is not None and found < len(only):
        raise FileNotFoundError(errno.ENOENT, f"{len(only) - found} of the wanted files are not there", str(source))


def _clone(source: Path, target: Path) -> None:
    """Link a file; copy it where that cannot be: another file system, or one without links, somebody else's file."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES):
            raise
        shutil.copy2(source, target, follow_symlinks=False)


def drop_copies(manifest: list[Entry]) -> None:
    """Remove what `bring_over` has made and nobody has renamed."""
    for entry in manifest:
        # One that is made and not written down yet has the place that it will have.
        _drop(Path(entry.source) if _is_clone(entry) else clone_of(entry))


def _drop(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _rename(source: Path, target: Path, overwrite: bool) -> None:
    if overwrite:
        try:
            source.replace(target)
        except (IsADirectoryError, NotADirectoryError) as error:
            raise Exists(str(target)) from error
        except OSError as error:
            if error.errno == errno.ENOTEMPTY:
                raise Exists(str(target)) from error
            raise
        return
    try:
        _rename_noreplace(source, target)
    except FileExistsError as error:
        raise Exists(str(target)) from error


def _rename_noreplace(source: Path, target: Path) -> None:
    """renameat2(RENAME_NOREPLACE); where the file system lacks it, link and unlink, which is as strict."""
    failed = _renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE)
    if not failed:
        return
    number = ctypes.get_errno()
    if number not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        raise OSError(number, os.strerror(number), str(target))
    if source.is_dir():
        target.mkdir()  # fails if it exists; an empty folder may be renamed onto
        source.rename(target)
    else:
        os.link(source, target)
        source.unlink()


_libc = ctypes.CDLL(None, use_errno=True)
_renameat2 = _libc.renameat2
_renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)


def sync_tree(path: Path) -> None:
    """Flush a file, or a folder with all that is in it, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            for inner in path.iterdir():
                if not inner.is_symlink() and (inner.is_dir() or inner.is_file()):
                    sync_tree(inner)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_shared(folder: Path) -> None:
    """The folder of one creation key where a downloader, perhaps as another user, writes: its group may do so too."""
    if not folder.parent.is_dir():
        # Never make it: where nothing is mounted, the downloader would not see it.
        raise OSError(errno.ENOENT, "there is no such folder; is it mounted?", str(folder.parent))
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o770)
        mode = stat.S_IMODE(folder.stat().st_mode)
        if mode & 0o070 != 0o070:  # a service that may not touch setgid bits has a umask that leaves these alone
            folder.chmod(mode | 0o070)
    if folder.is_symlink():
        raise OSError(errno.ELOOP, "is a symbolic link", str(folder))


def make_staging(staging: Path) -> None:
    """The folder of one creation key, for nobody else to read."""
    while True:
        # Whoever may write to the destination could have laid a link that leads out of it.
        if staging.parent.name == STAGING and staging.parent.is_symlink():
            raise OSError(errno.ELOOP, "is a symbolic link", str(staging.parent))
        try:
            staging.mkdir(mode=0o700)
        except FileExistsError:
            pass
        except FileNotFoundError:
            # The first one, or another download has just removed the folder above, which was empty.
            staging.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            continue
        if staging.is_symlink():
            raise OSError(errno.ELOOP, "is a symbolic link", str(staging))
        return


def drop_staging(staging: Path) -> None:
    """Remove the folder of one creation key with all that is in it. Only ever called with a folder that we made."""
    try:
        staging.rmdir()  # delivered: nothing is left in it
    except FileNotFoundError:
        pass
    except OSError:
        shutil.rmtree(staging)
    drop_empty(staging)


def drop_empty(staging: Path) -> None:
    """Remove the folder of one creation key if it is empty, and ``.dlqueue`` above it if that is empty then (a staging
    folder that the configuration names is the user's, and stays)."""
    with contextlib.suppress(OSError):
        staging.rmdir()
    if staging.parent.name == STAGING:
        with contextlib.suppress(OSError):
            staging.parent.rmdir()


def was_delivered(entry: Entry) -> bool:
    """As far as the manifest knows; if not, the target may be another name of the file that was to be linked."""
    return not entry.keep and not (_is_clone(entry) and os.path.lexists(entry.source))
