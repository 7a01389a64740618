"""The service's units as they are shipped, filled in for a machine."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

_PACKAGE = Path(__file__).parent.parent
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_MARK = "/usr/bin/env dlqueue "


def shipped(name: str) -> str:
    """One of the files of the folder ``systemd``: in the installed package, or beside it in a checkout."""
    for folder in (_PACKAGE / "systemd", _PACKAGE.parent / "systemd"):
        if (folder / name).is_file():
            return (folder / name).read_text("utf-8")
    raise FileNotFoundError(2, "is missing: this installation of dlqueue is not complete", name)


def program() -> list[str]:
    """The command that starts this very installation."""
    script = Path(sysconfig.get_path("scripts")) / "dlqueue"
    return [str(script)] if script.is_file() else [sys.executable, "-m", "dlqueue"]


def service(name: str, command: Iterable[str]) -> str:
    """A shipped service that runs this command."""
    return shipped(name).replace(_MARK, f"{' '.join(map(_quoted_command, command))} ")


def writable(folders: Iterable[Path]) -> str:
    """The drop-in that lets the system's service write into these folders. One that is missing does not stop it."""
    folders = sorted(set(folders))
    homes = [folder for folder in folders if any(folder.is_relative_to(home) for home in _HOMES)]
    lines = ["# Written by dlqueue setup from allow_destinations and staging: after a change there, run it again."]
    lines += ["[Service]", *(f"ReadWritePaths={quoted(f'-{folder}')}" for folder in folders)]
    if homes:
        # Of the home directories nothing is seen but these folders.
        escaped = (str(folder).replace(":", "\\:") for folder in homes)
        lines += ["ProtectHome=tmpfs", *(f"BindPaths={quoted(f'-{folder}')}" for folder in escaped)]
    return "\n".join(lines) + "\n"


def quoted(word: str) -> str:
    """One word of a unit file (systemd.syntax(7)); ``%`` begins a specifier there."""
    plain = word.replace("%", "%%")
    if all(character.isalnum() or character in "-_./%@+,=" for character in plain):
        return plain
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _quoted_command(word: str) -> str:
    return quoted(word.replace("$", "$$"))
