"""The machine (or the folder of a machine to be) on which things are installed, one step at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

_SECONDS = 120.0
_LINKS = 40  # as many as Linux follows


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was done (or would be), or found to be right already."""

    what: str
    changed: bool


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a file is."""

    uid: int
    gid: int


@dataclass(slots=True)
class Site:
    """Everything is idempotent: what is right already is said, and left as it is.

    :param root: ``/``, or the folder that will once be the root of a machine. Paths are given as they will be then.
    :param dry_run: say what would be done, and do nothing.
    :param tell: is told each step.
    """

    root: Path
    dry_run: bool
    tell: Callable[[Step], None]
    steps: list[Step] = field(default_factory=list)

    @property
    def is_real(self) -> bool:
        """Is it the machine we run on?"""
        return self.root == Path("/")

    def at(self, path: Path) -> Path:
        """Where a path of the machine is for us. In a folder that will be a machine its links lead to where they will
        lead then: one to ``/usr`` must not lead to our own.

        :raises OSError: they lead in a circle.
        """
        return self.root / path.relative_to("/") if self.is_real else _inside(self.root, path)

    def note(self, what: str, *, changed: bool = False) -> None:
        """Something a person should read."""
        step = Step(what, changed)
        self.steps.append(step)
        self.tell(step)

    def folder(self, path: Path, mode: int | None, owner: Owner | None = None, *, new: int = 0o755) -> bool:
        """A folder with this mode and owner. ``mode=None``: one that is there is left as it is, and a new one gets the
        mode ``new``."""
        there = self.at(path)
        if there.is_dir():
            if mode is None or _is(there, mode, owner):
                return self._done(f"folder {path}", None)
            return self._done(f"folder {path}: mode {mode:04o}", lambda: _own(there, mode, owner))

        def make() -> None:
            there.mkdir(parents=True)
            _own(there, new if mode is None else mode, owner)

        return self._done(f"folder {path}", make)

    def write(
        self, path: Path, text: str, mode: int = 0o644, owner: Owner | None = None, *, keep: bool = False
    ) -> bool:
        """A file with this content. Answers whether something was (or would be) changed.

        :param keep: leave one that is there, whatever is in it.
        """
        there = self.at(path)
        if there.exists() and (keep or (there.read_bytes() == text.encode() and _is(there, mode, owner))):
            return self._done(str(path), None)
        return self._done(str(path), lambda: _write(there, text, mode, owner), verb="write")

    def run(self, *command: str, why: str) -> bool:
        """Run a program. Answers whether it went well."""
        shown = " ".join(command)
        if self.dry_run:
            self.note(f"would run: {shown} ({why})", changed=True)
            return True
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            self.note(f"FAILED: {shown}: {error}", changed=True)
            return False
        if done.returncode == 0:
            self.note(f"ran: {shown} ({why})", changed=True)
            return True
        said = " ".join((done.stderr or done.stdout).split()) or f"exit code {done.returncode}"
        self.note(f"FAILED: {shown}: {said}", changed=True)
        return False

    def user(self, name: str) -> Owner | None:
        """The user of the machine, if there is one."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            if self.is_real:
                with contextlib.suppress(KeyError):
                    found = pwd.getpwnam(name)
                    return Owner(found.pw_uid, found.pw_gid)
                return None
            for line in self.at(Path("/etc/passwd")).read_text("utf-8").splitlines():
                parts = line.split(":")
                if parts[0] == name:
                    return Owner(int(parts[2]), int(parts[3]))
        return None

    def _done(self, what: str, act: Callable[[], None] | None, verb: str = "make") -> bool:
        if act is None:
            self.note(f"{what}: is there")
        elif self.dry_run:
            self.note(f"would {verb} {what}", changed=True)
        else:
            act()
            self.note(f"{'wrote' if verb == 'write' else 'made'} {what}", changed=True)
        return act is not None


def _inside(root: Path, path: Path) -> Path:
    found, rest, links = root, [*reversed(path.parts[1:])], 0
    while rest:
        part = rest.pop()
        if part == "..":
            found = found if found == root else found.parent
            continue
        found = found / part
        if found.is_symlink():
            links += 1
            if links > _LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(found))
            target = found.readlink()
            found = root if target.is_absolute() else found.parent
            rest += [one for one in reversed(target.parts) if one != "/"]
    return found


def has_program(name: str) -> bool:
    """Is there such a program on the PATH?"""
    return shutil.which(name) is not None


def hindrance(path: Path, owner: Owner, wanted: int) -> str | None:
    """Why a user cannot get at something, by the modes of it and of the folders above; ``None`` = nothing hinders.
    Knows neither further groups nor access control lists.

    :param wanted: `os.R_OK`, `os.W_OK` and `os.X_OK` of the thing itself.
    """
    for one in [*reversed(path.parents), path]:
        bits = wanted if one == path else os.X_OK
        try:
            found = one.stat()
        except OSError as error:
            return f"{one}: {error.strerror}"
        shift = 6 if found.st_uid == owner.uid else 3 if found.st_gid == owner.gid else 0
        if (stat.S_IMODE(found.st_mode) >> shift) & bits != bits:
            return f"{one} has mode {stat.S_IMODE(found.st_mode):04o} and belongs to {_name(found.st_uid)}"
    return None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _is(path: Path, mode: int, owner: Owner | None) -> bool:
    found = path.stat()
    owned = owner is None or os.geteuid() != 0 or (found.st_uid, found.st_gid) == (owner.uid, owner.gid)
    return owned and stat.S_IMODE(found.st_mode) == mode


def _own(path: Path, mode: int, owner: Owner | None) -> None:
    if owner is not None and os.geteuid() == 0:
        os.chown(path, owner.uid, owner.gid)
    path.chmod(mode)


def _write(path: Path, text: str, mode: int, owner: Owner | None) -> None:
    """Whole or not at all, and at no moment readable by more people than at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        _own(Path(name), mode, owner)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
