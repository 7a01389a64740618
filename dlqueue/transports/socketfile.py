"""A listening socket at a path, for those only who may have it."""

from __future__ import annotations

import grp
import os
import socket
import stat
from pathlib import Path

from dlqueue.transports.unix import SocketError


def socket_file(path: Path, mode: int, group: str | None) -> socket.socket:
    """Listen at ``path``; a socket file that nobody answers on is replaced.

    Raises :class:`SocketError`: somebody answers there, or something else is in the way; :class:`OSError`.
    """
    path.parent.mkdir(mode=0o700 if group is None else 0o750, parents=True, exist_ok=True)
    _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # The file is made with the mode of the socket: at no moment may others connect.
        os.fchmod(listening.fileno(), 0o600)
        listening.bind(str(path))
        if group is not None:
            os.chown(path, -1, grp.getgrnam(group).gr_gid)
        path.chmod(mode)
    except BaseException:
        listening.close()
        raise
    return listening


def _remove_stale(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise SocketError(f"{path} is in the way: it is not a socket; remove it or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
    raise SocketError(f"another program is listening on the socket {path}")
