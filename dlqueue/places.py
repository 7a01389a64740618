"""Where an instance keeps its things, and where a client looks for one. Standard library only; quick to import."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PROGRAMS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The PATH of programs that are started for others: whoever started us has no part in it."""

Mode = Literal["user", "system"]
Staging = Literal["root", "beside"]

_CONFIG = "dlqueue.toml"
_CONF_D = "conf.d"
_SOCKET = "dlqueue.sock"


@dataclass(frozen=True, slots=True)
class Places:
    """The default places of one instance. Nothing is created here, and nothing has to exist."""

    mode: Mode
    config_file: Path
    conf_d: Path
    """The folder of further config files, beside the config file."""
    socket: Path
    state: Path
    """Private folder (0700) of the daemon: the database, control files, locks."""
    database_url: str
    downloads: Path | None
    """Default destination; ``None`` = the current directory of the client that asks."""
    staging: Staging
    """Where ``.dlqueue/`` is: at the ``root`` of each allowed destination, or ``beside`` the destination."""


def places(mode: Mode, environ: Mapping[str, str] | None = None) -> Places:
    """The places of the user's or the system's instance.

    ``DLQUEUE_CONFIG`` and ``DLQUEUE_SOCKET`` replace the config file (with the ``conf.d`` beside it) and the socket.
    """
    env = os.environ if environ is None else environ
    if mode == "system":
        config, state, run = Path("/etc/dlqueue"), Path("/var/lib/dlqueue"), Path("/run/dlqueue")
    else:
        config = (_xdg(env, "XDG_CONFIG_HOME") or home(env) / ".config") / "dlqueue"
        state = (_xdg(env, "XDG_STATE_HOME") or home(env) / ".local" / "state") / "dlqueue"
        runtime = _xdg(env, "XDG_RUNTIME_DIR")
        run = runtime / "dlqueue" if runtime else state
    config_file = _named(env, "DLQUEUE_CONFIG") or config / _CONFIG
    return Places(
        mode=mode,
        config_file=config_file,
        conf_d=config_file.parent / _CONF_D,
        socket=_named(env, "DLQUEUE_SOCKET") or run / _SOCKET,
        state=state,
        database_url=f"sqlite:///{state / 'dlqueue.db'}",
        downloads=state / "downloads" if mode == "system" else None,
        staging="root" if mode == "system" else "beside",
    )


def socket_candidates(flag: str | None = None, environ: Mapping[str, str] | None = None) -> list[Path]:
    """The sockets a client tries, in this order: the flag alone, else ``DLQUEUE_SOCKET`` alone, else the user's
    instance and then the system's."""
    env = os.environ if environ is None else environ
    named = Path(flag).expanduser().absolute() if flag else _named(env, "DLQUEUE_SOCKET")
    if named:
        return [named]
    return [places("user", env).socket, places("system", env).socket]


def home(environ: Mapping[str, str]) -> Path:
    """The home directory: ``HOME`` if it is an absolute path, else what the user database says."""
    named = environ.get("HOME", "")
    return Path(named) if named.startswith("/") else Path(f"~{_user_name()}").expanduser()


def _user_name() -> str:
    import pwd  # only without HOME: a service manager or a bare container

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        raise RuntimeError("no home directory: set HOME to an absolute path") from None


def _xdg(environ: Mapping[str, str], name: str) -> Path | None:
    # The base directory specification: a path that is not absolute is invalid and must be ignored.
    value = environ.get(name, "")
    return Path(value) if value.startswith("/") else None


def _named(environ: Mapping[str, str], name: str) -> Path | None:
    value = environ.get(name, "")
    # Made absolute here: a daemon that is started by a client does not run in the client's directory.
    return Path(value).expanduser().absolute() if value else None
